"""Look at a segment from outside: is it whole, and is it the one that a snapshot names?

Reads with bounded memory, and raises nothing for what is wrong: every problem is a clause that is
read after the file's name.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from merganser.errors import DamagedIndexError, StoreError
from merganser.store import arrow
from merganser.store.database import attach, connect_writer, first_line, refuse_macros
from merganser.store.identity import (
    check_identity,
    check_size,
    compute_checksum,
    read_identities,
)
from merganser.store.text_hashes import hash_texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.catalogue import FileRow, SegmentRow
    from merganser.store.identity import SegmentIdentity

BATCH_ROWS = 8_192


def find_problems(
    path: Path, row: SegmentRow, *, read_data: bool, files: Sequence[FileRow] = ()
) -> list[str]:
    """Compare a segment with what a catalogue says of it.

    Args:
        path: The segment.
        row: By the catalogue.
        read_data: Whether to read every byte: checksum, texts with their hashes, vectors, postings.
        files: The snapshot's files; those of this segment are looked for when the data is read.

    Returns:
        What is wrong; nothing for a whole segment.
    """
    try:
        check_size(path, row.size_bytes)
        if read_data and row.checksum and compute_checksum(path) != row.checksum:
            return ["is altered: its checksum is another one"]
        with closing(_connect(path)) as connection:
            attach(connection, path, "s")
            refuse_macros(connection)
            check_identity(path, row.identity, read_identities(connection).get("s"))
            problems = [*_compare_counts(connection, row)]
            if read_data and not problems:
                mine = [file for file in files if file.segment == row.segment and file.row_count]
                problems += _read_chunks(connection, row, mine)
                problems += _read_vectors(connection, row) if row.dimensions else ()
                problems += _read_words(connection, row)
            return problems
    except FileNotFoundError:
        return ["is missing"]
    except DamagedIndexError as error:
        return [error.problem]
    except (StoreError, OSError) as error:
        return [f"cannot be read: {error}"]
    except duckdb.Error as error:
        return [f"cannot be read: {first_line(error)}"]


def read_identity(path: Path) -> SegmentIdentity | None:
    """Return what a segment says of itself, or None where it says nothing or cannot be opened."""
    try:
        with closing(_connect(path)) as connection:
            attach(connection, path, "s")
            return read_identities(connection).get("s")
    except (StoreError, OSError, duckdb.Error):
        return None


def salvage_vectors(
    path: Path, dimensions: int
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
    """Read what can be read of a damaged segment's vectors.

    DuckDB keeps a checksum with every block, so what it gives is what was written.

    Yields:
        (n, 2) uint64 hashes of texts with (n, dimensions) float32 vectors.
    """
    try:
        with closing(_connect(path)) as connection:
            attach(connection, path, "s")
            [[rows]] = connection.execute("SELECT count(*) FROM s.vectors").fetchall()
            for start in range(0, rows, 2_048):  # DuckDB's own unit
                part = f"WHERE row >= {start} AND row < {start + 2_048} ORDER BY row"
                try:
                    found = arrow.fetch_columns(
                        connection,
                        f"SELECT row, hash_high, hash_low FROM s.chunks {part}",  # noqa: S608 - numbers
                    )
                    of_vectors = arrow.fetch_columns(
                        connection,
                        f"SELECT row FROM s.vectors {part}",  # noqa: S608 - numbers
                    )
                    query = f"SELECT v FROM s.vectors {part}"  # noqa: S608 - numbers
                    vectors = arrow.fetch_vectors(connection, query, dimensions)
                except (duckdb.Error, ValueError):
                    continue
                if np.array_equal(found["row"], of_vectors["row"]) and _are_vectors(vectors):
                    yield np.stack([found["hash_high"], found["hash_low"]], axis=1), vectors
    except (StoreError, OSError, duckdb.Error):
        return


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    return connect_writer(path.parent / "build" / "spill", path.parent)


def _compare_counts(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> Iterator[str]:
    tables = {
        name: int(connection.execute(f"SELECT count(*) FROM s.{name}").fetchall()[0][0])  # noqa: S608 - a name of the catalogue, quoted by none
        for (name,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 's' "
            "AND table_name IN ('chunks', 'vectors', 'terms', 'postings')"
        ).fetchall()
    }
    expected = {"chunks", "terms", "postings", *(["vectors"] if row.dimensions else [])}
    if missing := sorted(expected - tables.keys()):
        yield f"lacks the table {missing[0]!r}"
        return
    for name in ("chunks", "vectors"):
        if name in expected and tables[name] != row.row_count:
            yield f"has {tables[name]:,} {name}, the snapshot says {row.row_count:,}"


def _read_chunks(
    connection: duckdb.DuckDBPyConnection, row: SegmentRow, files: Sequence[FileRow]
) -> Iterator[str]:
    file_ids = np.full(row.row_count, -1, dtype=np.int32)
    for part in _parts("chunks", row):
        found = arrow.fetch_columns(
            connection, f"SELECT row, file_id, hash_high, hash_low {part} ORDER BY rowid"
        )
        texts = arrow.fetch_strings(connection, f"SELECT text {part} ORDER BY rowid")
        connection.execute(
            "SELECT bit_xor(hash(COLUMNS(* EXCLUDE (row, file_id, hash_high, hash_low, text)))) "
            f"{part}"
        ).fetchall()
        hashes = np.stack([found["hash_high"], found["hash_low"]], axis=1)
        if not np.array_equal(hash_texts(texts), hashes):
            yield "has texts that are not those of their hashes"
            return
        if not _are_rows(found["row"], row):
            break
        file_ids[found["row"]] = found["file_id"]
    if (file_ids < 0).any():
        yield "has not one chunk for each of its rows"
        return
    for file in files:
        rows = file_ids[file.first_row : file.first_row + file.row_count]
        if len(rows) != file.row_count or not (rows == file.file_id).all():
            yield f"does not hold the chunks of {file.path!r} where the snapshot says"
            return


def _read_vectors(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> Iterator[str]:
    seen = np.zeros(row.row_count, dtype=np.bool_)
    for part in _parts("vectors", row):
        rows = arrow.fetch_columns(connection, f"SELECT row, file_id {part} ORDER BY rowid")["row"]
        try:
            vectors = arrow.fetch_vectors(
                connection, f"SELECT v {part} ORDER BY rowid", row.dimensions
            )
        except ValueError:
            vectors = np.zeros((0, row.dimensions), dtype=np.float32)
        if len(vectors) != len(rows) or not _are_rows(rows, row):
            break
        if not _are_vectors(vectors):
            yield "has vectors that are zero or no numbers"
            return
        seen[rows] = True
    if not seen.all():
        yield f"has not {row.dimensions} numbers for each of its rows"


def _parts(table: str, row: SegmentRow) -> Iterator[str]:
    """Divide a table, so that what is in memory is bounded."""
    for start in range(0, row.row_count, BATCH_ROWS):
        yield f"FROM s.{table} WHERE rowid >= {start} AND rowid < {start + BATCH_ROWS}"


def _are_rows(rows: NDArray[np.int32], row: SegmentRow) -> bool:
    return bool(((rows >= 0) & (rows < row.row_count)).all())


def _are_vectors(vectors: NDArray[np.float32]) -> bool:
    return bool(np.isfinite(vectors).all() and vectors.any(axis=1).all())


def _read_words(connection: duckdb.DuckDBPyConnection, row: SegmentRow) -> Iterator[str]:
    [(terms, distinct)] = connection.execute(
        "SELECT count(term), count(DISTINCT term) FROM s.terms"
    ).fetchall()
    [(last_row, last_term, _)] = connection.execute(
        "SELECT coalesce(max(row), -1), coalesce(max(term_id), -1), bit_xor(hash(tf)) "
        "FROM s.postings"
    ).fetchall()
    if distinct != terms or last_term >= terms or last_row >= row.row_count:
        yield "has words that its chunks do not have"
