"""A snapshot's catalogue: which files it holds and in which segments their chunks are.

The catalogue is the snapshot. It is small (about 100 bytes a file), written once and never
changed; segments are shared by the catalogues that name them.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from merganser.errors import StoreFormatError
from merganser.store import arrow
from merganser.store.database import (
    CATALOGUE_TABLES,
    DRIFT_TABLE,
    SCHEMA_VERSION,
    attach,
    attach_new,
    borrow,
    finish,
    first_line,
)
from merganser.store.folder import is_segment_name
from merganser.store.identity import damaged

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class FileRow:
    """One live file of a snapshot.

    Attributes:
        path: As users see it, relative to the config's folder.
        language: Language, or "" when not known.
        size_bytes: Size when it was last looked at.
        mtime_ns: Modification time then, in nanoseconds since the epoch.
        inode: Inode then.
        stat_ns: When it was looked at, in nanoseconds since the epoch.
        content_hash: Hex of the 16-byte BLAKE2b of its bytes.
        segment: Number of the segment with its chunks.
        file_id: Number of the file in that segment.
        first_row: Row of its first chunk in the segment.
        row_count: Number of its chunks.
        term_count: Terms in its chunks, with repetitions.
        ctime_ns: When its content or status changed last by the system's clock, in nanoseconds
            since the epoch; 0 when not known, as in snapshots before there was this column.
        kind: What sort of document it is, see ``DocumentText.kind``; empty as above.
        encoding: Name of the codec that it was decoded with; empty as above, and for formats
            without one.
        note: A remark on how it was read, mostly empty.
    """

    path: str
    language: str
    size_bytes: int
    mtime_ns: int
    inode: int
    stat_ns: int
    content_hash: str
    segment: int
    file_id: int
    first_row: int
    row_count: int
    term_count: int
    ctime_ns: int = 0
    kind: str = ""
    encoding: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One segment of a snapshot.

    Attributes:
        segment: Number of the segment.
        file: File name in the index folder.
        row_count: Chunks in it.
        live_rows: Chunks of this snapshot in it.
        size_bytes: Size of the file.
        embedding: Fingerprint of the model that embedded it, or "".
        dimensions: Length of its vectors, 0 without.
        identity: What the segment calls itself, see ``identity``; "" before there were any.
        checksum: Of the file, see ``compute_checksum``; "" as above.
        dead_since_ns: When the first of its chunks left the served snapshot, in nanoseconds since
            the epoch; 0 while all are live.
    """

    segment: int
    file: str
    row_count: int
    live_rows: int
    size_bytes: int
    embedding: str
    dimensions: int
    identity: str = ""
    checksum: str = ""
    dead_since_ns: int = 0


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A file that was found and is not indexed, with the reason."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class RedactionRow:
    """A secret that was replaced in the chunks of a live file.

    Attributes:
        path: Of the file.
        line: Where in it, from 1.
        kind: What it was.
    """

    path: str
    line: int
    kind: str


@dataclass(frozen=True, slots=True, eq=False)
class DriftSample:
    """Texts with the vectors the snapshot's model gave them, to notice another model.

    Attributes:
        texts: Usually 8.
        vectors: (n_texts, dimensions) float32.
    """

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """All of a snapshot but its chunks."""

    meta: Mapping[str, str]
    files: tuple[FileRow, ...]
    segments: tuple[SegmentRow, ...]
    skipped: tuple[SkippedRow, ...] = ()
    redactions: tuple[RedactionRow, ...] = ()
    drift_sample: DriftSample | None = None


_Row = FileRow | SegmentRow | SkippedRow | RedactionRow

_NUMBER_TYPES = {"inode": np.uint64, "size_bytes": np.int64, "mtime_ns": np.int64,
                 "stat_ns": np.int64, "term_count": np.int64, "ctime_ns": np.int64,
                 "dead_since_ns": np.int64}  # fmt: skip


def write_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Make the file of a snapshot."""
    with borrow("new", path.parent) as connection:
        attach_new(connection, path, "new")
        connection.execute(CATALOGUE_TABLES.format("new")).fetchall()
        cursor = connection.cursor()
        meta = {"schema_version": str(SCHEMA_VERSION), **catalogue.meta}
        arrow.insert(cursor, "new.meta", {"key": list(meta), "value": list(meta.values())})
        for table, kind, rows in (
            ("new.files", FileRow, catalogue.files),
            ("new.segments", SegmentRow, catalogue.segments),
            ("new.skipped", SkippedRow, catalogue.skipped),
            ("new.redactions", RedactionRow, catalogue.redactions),
        ):
            _insert_rows(cursor, table, kind, rows)
        if catalogue.drift_sample is not None:
            texts, vectors = catalogue.drift_sample.texts, catalogue.drift_sample.vectors
            connection.execute(DRIFT_TABLE.format("new", vectors.shape[1])).fetchall()
            order = np.arange(len(texts), dtype=np.int32)
            arrow.insert(cursor, "new.canaries", {"ord": order, "text": texts, "v": vectors})
        cursor.close()
        finish(connection, "new")


def _insert_rows(
    cursor: duckdb.DuckDBPyConnection,
    table: str,
    kind: type[_Row],
    rows: Sequence[_Row],
) -> None:
    if not rows:
        return
    columns: dict[str, NDArray[Any] | list[str]] = {}
    for field in fields(kind):
        values = [getattr(row, field.name) for row in rows]
        if field.type == "str":
            columns[field.name] = values
        else:
            columns[field.name] = np.array(values, _NUMBER_TYPES.get(field.name, np.int32))
    arrow.insert(cursor, table, columns)


def attach_catalogue(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, str]:
    """Attach a catalogue as ``g`` and give its meta.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: A newer merganser wrote it.
        DamagedIndexError: It is damaged, or no catalogue.
    """
    attach(connection, path, "g")
    try:
        meta = dict(connection.cursor().execute("SELECT key, value FROM g.meta").fetchall())
        version = int(meta["schema_version"])
    except (duckdb.Error, KeyError, ValueError) as error:
        raise damaged(path, f"is not a snapshot of merganser ({first_line(error)})") from error
    if version > SCHEMA_VERSION:
        raise StoreFormatError(
            f"{str(path)!r} has schema {version}, this merganser knows up to {SCHEMA_VERSION}: "
            "upgrade merganser, or name another folder with `database`"
        )
    return meta


def read_files(cursor: duckdb.DuckDBPyConnection) -> tuple[FileRow, ...]:
    """Return the files of the attached catalogue, by path."""
    return tuple(FileRow(*row) for row in _read_rows(cursor, "files", FileRow))


def read_segments(cursor: duckdb.DuckDBPyConnection) -> tuple[SegmentRow, ...]:
    """Return the segments of the attached catalogue, by number.

    Raises:
        StoreFormatError: One is not a file of the index folder.
    """
    rows = tuple(SegmentRow(*row) for row in _read_rows(cursor, "segments", SegmentRow))
    for row in rows:
        if not is_segment_name(row.file):
            raise StoreFormatError(
                f"a snapshot names the segment {row.file!r}, which merganser calls no file: index "
                "again with --full, or name another folder with `database`"
            )
    return rows


def read_skipped(cursor: duckdb.DuckDBPyConnection) -> tuple[SkippedRow, ...]:
    """Return the skipped files of the attached catalogue, by path."""
    return tuple(SkippedRow(*row) for row in _read_rows(cursor, "skipped", SkippedRow))


def merge_redactions(
    base: Catalogue | None,
    files: Iterable[FileRow],
    found: Mapping[str, Sequence[tuple[int, str]]],
) -> tuple[RedactionRow, ...]:
    """Return what was replaced in a new snapshot's files, by path.

    Args:
        base: The snapshot before, for files that were not read again.
        files: The live ones.
        found: Lines and kinds by path, of the files that were read.
    """
    kept = {file.path for file in files} - found.keys()
    old = (row for row in base.redactions if row.path in kept) if base else ()
    new = (RedactionRow(path, line, kind) for path, rows in found.items() for line, kind in rows)
    return tuple(sorted((*old, *new), key=lambda row: (row.path, row.line)))


def read_redactions(cursor: duckdb.DuckDBPyConnection) -> tuple[RedactionRow, ...]:
    """Return the redactions of the attached catalogue, by path."""
    if not _has_table(cursor, "redactions"):
        return ()
    return tuple(RedactionRow(*row) for row in _read_rows(cursor, "redactions", RedactionRow))


def _has_table(cursor: duckdb.DuckDBPyConnection, table: str) -> bool:
    query = "SELECT 1 FROM duckdb_tables() WHERE database_name = 'g' AND table_name = $1"
    return bool(cursor.execute(query, [table]).fetchall())


def read_columns(cursor: duckdb.DuckDBPyConnection, table: str) -> frozenset[str]:
    """Return the names of a table's columns, such as ``g.files``: older files have fewer."""
    return frozenset(row[0] for row in cursor.execute(f"DESCRIBE {table}").fetchall())


def _read_rows(
    cursor: duckdb.DuckDBPyConnection, table: str, kind: type[_Row]
) -> list[tuple[Any, ...]]:
    """Read a table of the attached catalogue in the order of its first column."""
    present = read_columns(cursor, f"g.{table}")
    # What came later has a default, a number or "".
    names = [
        f.name if f.name in present or f.default is MISSING else str(f.default or f"{f.default!r}")
        for f in fields(kind)
    ]
    query = f"SELECT {', '.join(names)} FROM g.{table} ORDER BY {names[0]}"  # noqa: S608 - names of our own
    return cursor.execute(query).fetchall()


def read_drift_sample(
    cursor: duckdb.DuckDBPyConnection, meta: Mapping[str, str]
) -> DriftSample | None:
    """Return the drift sample of the attached catalogue with that meta, or None."""
    if not _has_table(cursor, "canaries"):
        return None
    rows = cursor.execute("SELECT text FROM g.canaries ORDER BY ord").fetchall()
    dimensions = int(meta.get("dimensions", "0"))
    vectors = arrow.fetch_vectors(cursor, "SELECT v FROM g.canaries ORDER BY ord", dimensions)
    return DriftSample(tuple(row[0] for row in rows), vectors)


@contextmanager
def _attached(path: Path) -> Generator[tuple[duckdb.DuckDBPyConnection, dict[str, str]]]:
    """Attach a catalogue for as long as the block runs; yields a cursor and the meta."""
    with borrow("g", path.parent) as connection:
        try:
            meta = attach_catalogue(connection, path)
            yield connection.cursor(), meta
        except duckdb.Error as error:
            raise damaged(path, f"cannot be read ({first_line(error)})") from error


def read_segment_rows(path: Path) -> tuple[SegmentRow, ...]:
    """Read which segments a snapshot is made of.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: A newer merganser wrote it.
        DamagedIndexError: It is damaged, or no catalogue.
    """
    with _attached(path) as (cursor, _):
        return read_segments(cursor)


def read_model(path: Path) -> tuple[str, DriftSample | None]:
    """Read which embedding model a snapshot has, by fingerprint, and its drift sample.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: A newer merganser wrote it.
        DamagedIndexError: It is damaged, or no catalogue.
    """
    with _attached(path) as (cursor, meta):
        return meta.get("embedding", ""), read_drift_sample(cursor, meta)


def read_catalogue(path: Path) -> Catalogue:
    """Read a snapshot's catalogue.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: A newer merganser wrote it.
        DamagedIndexError: It is damaged, or no catalogue.
    """
    with _attached(path) as (cursor, meta):
        return Catalogue(
            meta=meta,
            files=read_files(cursor),
            segments=read_segments(cursor),
            skipped=read_skipped(cursor),
            redactions=read_redactions(cursor),
            drift_sample=read_drift_sample(cursor, meta),
        )
