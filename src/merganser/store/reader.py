"""Read a published snapshot: chunks, vectors and postings of the live files, nothing else.

A snapshot is immutable, so readers take no lock and never wait. Scoring is ``retrieval``'s
business; here are raw rows by key, and by ``scans`` those that a filter lets through.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

import duckdb
import numpy as np

from merganser.errors import DamagedIndexError, NoSnapshotError, StoreBusyError, StoreError
from merganser.store.catalogue import (
    DriftSample,
    FileRow,
    RedactionRow,
    SkippedRow,
    attach_catalogue,
    read_drift_sample,
    read_files,
    read_redactions,
    read_segments,
    read_skipped,
)
from merganser.store.database import attach, connect, first_line, refuse_macros
from merganser.store.folder import IndexFolder
from merganser.store.identity import check_identity, check_size, damaged, read_identities
from merganser.store.rows import TEXT_COLUMNS, ChunkPlace, StoredChunk
from merganser.store.scans import (
    key_of_row,
    scan_cosines,
    scan_keys,
    scan_nearest,
    scan_postings,
    scan_spellings,
)
from merganser.store.segment_check import find_problems
from merganser.store.segments import KEY_SHIFT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.filters import Filter
    from merganser.store.rows import Postings
    from merganser.store.scans import Similarity

_CLOSE_SECONDS = 30.0
_OPEN_ATTEMPTS = 5
# So many chunks are looked up one by one, and one more for so many rows of the segment.
_POINTS, _ROWS_PER_POINT = 24, 10_000
_PLACE_COLUMNS = ("ord", "start_line", "end_line")
_ROW = (1 << KEY_SHIFT) - 1


class Snapshot:
    """A snapshot that is open for reading; use it as a context manager.

    Any number of threads may call it at once. It stays whole and readable while newer snapshots
    are published and this one is collected.

    Attributes:
        generation: Number of the snapshot.
        meta: ``schema_version``, ``generation``, ``created``, ``embedding`` (the model's
            fingerprint, "" without embeddings), ``model_name``, ``model_id``, ``dimensions``,
            ``chunking``, ``tokeniser``, ``scope``, ``run_id`` and more; all text.
        chunk_count: Live chunks.
        total_terms: Sum of their lengths in terms.
        segments: What it is made of.
        paths: File of each segment, by its number.
    """

    def __init__(self, catalogue: Path, folders: Iterable[Path]) -> None:
        """Open a catalogue; ``open_snapshot`` finds it.

        Args:
            catalogue: File of the catalogue.
            folders: Where its segments may lie, first come first served.

        Raises:
            FileNotFoundError: A file is not there (any more).
            StoreFormatError: A newer merganser wrote it, or it is no catalogue.
            StoreError: It cannot be opened.
        """
        places = tuple(folders)
        self._connection = connect(catalogue.parent, *places)
        self._guard = threading.Lock()
        self._cursors: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        try:
            self.meta: Mapping[str, str] = attach_catalogue(self._connection, catalogue)
            self.generation = int(self.meta["generation"])
            self.segments = read_segments(self.cursor())
            self.paths: dict[int, Path] = {}
            for segment in self.segments:
                paths = [place / segment.file for place in places]
                path = next((path for path in paths if path.exists()), paths[-1])
                check_size(path, segment.size_bytes)
                attach(self._connection, path, f"s{segment.segment}")
                self.paths[segment.segment] = path
            identities = read_identities(self._connection)
            for segment in self.segments:
                found = identities.get(f"s{segment.segment}")
                check_identity(self.paths[segment.segment], segment.identity, found)
            refuse_macros(self._connection)
            [(chunks, terms)] = self._rows(
                "SELECT coalesce(sum(row_count), 0), coalesce(sum(term_count), 0) FROM g.files"
            )
            self.chunk_count, self.total_terms = int(chunks), int(terms)
        except duckdb.Error as error:
            self._connection.close()
            raise damaged(catalogue, f"cannot be read ({first_line(error)})") from error
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.close()
        if isinstance(error, duckdb.Error):
            raise self.explain(error) from error

    def explain(self, error: duckdb.Error) -> StoreError:
        """Return what to raise for an error that DuckDB met while it read: it names the file.

        Reads all of the segments, so that the right one is named.
        """
        if isinstance(error, duckdb.InterruptException | duckdb.ConnectionException):
            return StoreBusyError(f"snapshot {self.generation} was closed under a search: {error}")
        for segment in self.segments:
            path = self.paths[segment.segment]
            if problems := find_problems(path, segment, read_data=True):
                return damaged(path, problems[0])
        return StoreError(f"snapshot {self.generation} cannot be read: {first_line(error)}")

    def close(self) -> None:
        """Let go of the files; what other threads are reading fails with a ``duckdb.Error``.

        Raises:
            StoreBusyError: A reader could not be interrupted for half a minute.
        """
        # A thread of a search that was given up may still be reading, or begin to: DuckDB 1.5 cuts
        # it off, 2.0 refuses to close meanwhile.
        deadline = time.monotonic() + _CLOSE_SECONDS
        while time.monotonic() < deadline:
            with self._guard:
                cursors = list(self._cursors)
            for cursor in cursors:
                with suppress(duckdb.Error):  # it is closed
                    cursor.interrupt()
            with suppress(duckdb.Error):
                self._connection.close()
                return
            time.sleep(0.01)
        raise StoreBusyError(
            f"readers of snapshot {self.generation} did not end within {_CLOSE_SECONDS:.0f} s"
        )

    @property
    def dimensions(self) -> int | None:
        """Length of the vectors, or None for a snapshot without embeddings."""
        return int(self.meta["dimensions"]) or None

    @cached_property
    def _later_columns(self) -> frozenset[str]:
        """What is there of the columns that older files lack, as ``s7.place`` and ``g.kind``."""
        return frozenset(
            f"{name}.{column}"
            for name, column in self._rows(
                "SELECT database_name, column_name FROM duckdb_columns() WHERE "
                "(table_name, column_name) IN (('chunks', 'place'), ('files', 'kind'))"
            )
        )

    def select(self, segment: int, columns: Iterable[str]) -> str:
        """List columns of a segment's chunks for a query; one that it lacks is empty."""
        lacks = f"s{segment}.place" not in self._later_columns
        return ", ".join("'' AS place" if c == "place" and lacks else c for c in columns)

    @property
    def _kind(self) -> str:
        """The column of a file's kind, or what stands for it in an older catalogue."""
        return "f.kind" if "g.kind" in self._later_columns else "''"

    def files(self) -> tuple[FileRow, ...]:
        """Return the live files, by path."""
        return read_files(self.cursor())

    def content_hash(self, path: str) -> str:
        """Return the hash of a live file's bytes, as in ``FileRow``; "" for any other."""
        rows = self._rows("SELECT content_hash FROM g.files WHERE path = ?", [path])
        return str(rows[0][0]) if rows else ""

    def skipped(self) -> tuple[SkippedRow, ...]:
        """Return the files that were found and not indexed, with the reasons, by path."""
        return read_skipped(self.cursor())

    def redactions(self) -> tuple[RedactionRow, ...]:
        """Return the secrets that were replaced in the live files, by path."""
        return read_redactions(self.cursor())

    def drift_sample(self) -> DriftSample | None:
        """Return the texts whose vectors tell whether a model is still the same, or None."""
        return read_drift_sample(self.cursor(), self.meta)

    def chunks(self, keys: Sequence[int]) -> list[StoredChunk]:
        """Look chunks up.

        Args:
            keys: In any order; repetitions are given once a mention.

        Returns:
            One chunk a key, in the order of the keys.

        Raises:
            KeyError: A key is not of this snapshot.
        """
        found: dict[int, StoredChunk] = {}
        by_segment: dict[int, list[int]] = {}
        for key in keys:
            by_segment.setdefault(key >> KEY_SHIFT, []).append(key & _ROW)
        for segment, rows in by_segment.items():
            if segment in self.paths:
                found |= {chunk.key: chunk for chunk in self._read_chunks(segment, rows)}
        return [found[key] for key in keys]

    def texts(self, keys: Sequence[int]) -> list[dict[str, Any]]:
        """Return what ``places`` leaves out of ``chunks``, ``TEXT_COLUMNS`` by name.

        Args:
            keys: As for ``chunks``.

        Returns:
            One mapping a key, in the order of the keys.

        Raises:
            KeyError: A key is not of this snapshot.
        """
        found = {
            (segment << KEY_SHIFT) + row: values
            for segment in {key >> KEY_SHIFT for key in keys} & self.paths.keys()
            for row, values in self._look_up(
                segment, TEXT_COLUMNS, (key & _ROW for key in keys if key >> KEY_SHIFT == segment)
            ).items()
        }
        return [found[key] for key in keys]

    def symbols(self, keys: Sequence[int]) -> list[str]:
        """Return what chunks define, "" for none, in the order of their keys.

        Raises:
            KeyError: A key is not of this snapshot.
        """
        found = {
            (segment << KEY_SHIFT) + row: values["symbol"]
            for segment in {key >> KEY_SHIFT for key in keys} & self.paths.keys()
            for row, values in self._look_up(
                segment, ("symbol",), (key & _ROW for key in keys if key >> KEY_SHIFT == segment)
            ).items()
        }
        return [found[key] for key in keys]

    def places(self, keys: Sequence[int]) -> list[ChunkPlace]:
        """Return one place a key, in the order of the keys, without reading texts.

        Args:
            keys: In any order; repetitions are given once a mention.

        Raises:
            KeyError: A key is not of this snapshot.
        """
        found: dict[int, ChunkPlace] = {}
        for segment in {key >> KEY_SHIFT for key in keys} & self.paths.keys():
            listed = ",".join(str(key & _ROW) for key in keys if key >> KEY_SHIFT == segment)
            for key, path, language, ord_, start, end, high, low, *file in self._rows(
                f"SELECT {key_of_row(segment, 'c.row')}, f.path, f.language, c.ord, c.start_line, "  # noqa: S608 - names and numbers of our own
                f"c.end_line, c.hash_high, c.hash_low, f.mtime_ns, f.size_bytes, {self._kind} "
                f"FROM s{segment}.chunks c JOIN g.files f ON f.segment = {segment} "
                f"AND f.file_id = c.file_id WHERE c.row IN ({listed})"
            ):
                found[key] = ChunkPlace(key, path, language, ord_, start, end, (high, low), *file)
        return [found[key] for key in keys]

    def file_chunks(self, path: str) -> list[StoredChunk]:
        """Return all chunks of a file in order; none when the snapshot does not hold it."""
        rows = self._rows(
            "SELECT segment, first_row, row_count FROM g.files WHERE path = ?", [path]
        )
        return [
            chunk
            for segment, first, count in rows
            for chunk in sorted(
                self._read_chunks(segment, range(first, first + count)), key=lambda c: c.ord
            )
        ]

    def dense_top_k(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        where: Filter | None = None,
        similarity: Similarity = "cosine_similarity",
        but: Collection[int] = (),
    ) -> list[tuple[int, float]]:
        """Return the chunks nearest to a vector, exactly, by scanning them in SQL.

        Args:
            vector: (dimensions,) float32.
            k: How many, at least 1.
            where: Restricts the chunks before the best are taken.
            similarity: ``cosine_similarity`` and ``dot_product`` as they are; ``euclidean`` gives
                1 / (1 + distance), so that higher is nearer for all three.
            but: Numbers of segments to leave out.

        Returns:
            At most ``k`` pairs of key and score, best first, ties by ascending key; none for a
            snapshot without embeddings.

        Raises:
            StoreError: The vector has another length than the snapshot's.
        """
        if self.dimensions is None or not self.segments:
            return []
        if len(vector) != self.dimensions:
            raise StoreError(
                f"the query has {len(vector)} dimensions, the snapshot has {self.dimensions}"
            )
        return scan_nearest(
            self.cursor(), self.segments, vector, k, where=where, similarity=similarity, but=but
        )

    def cosines(self, vector: NDArray[np.float32], keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the cosines of some live chunks to a vector, (n,) in the order of their keys."""
        found = scan_cosines(self.cursor(), vector, keys.tolist())
        return np.array([found[key] for key in keys.tolist()], dtype=np.float64)

    def allowed(self, where: Filter | None = None) -> NDArray[np.int64]:
        """Return the keys of the live chunks that a filter lets through, ascending."""
        return scan_keys(self.cursor(), self.segments, where)

    def live(self, segment: int) -> NDArray[np.int64]:
        """Return the live rows of a segment, ascending."""
        wanted = [one for one in self.segments if one.segment == segment]
        return scan_keys(self.cursor(), wanted) & np.int64(_ROW)

    def postings(self, terms: Sequence[str], *, where: Filter | None = None) -> Postings:
        """Find where terms occur; only live chunks count, so document frequencies are exact.

        Args:
            terms: Distinct, from ``parse_query`` and ``spellings``.
            where: Restricts the chunks. A filter changes the frequencies that can be counted from
                the answer; ask without one for those of the whole snapshot.
        """
        return scan_postings(self.cursor(), self.segments, terms, where)

    def spellings(self, bases: Sequence[str]) -> dict[str, list[str]]:
        """Return by base term the terms that say how its words are spelled."""
        return scan_spellings(self.cursor(), self.segments, bases)

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a cursor; the catalogue is ``g``, segments are ``s<number>``. Read all of it."""
        cursor = self._connection.cursor()
        with self._guard:
            self._cursors.add(cursor)
        return cursor

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return self.cursor().execute(query, list(parameters)).fetchall()

    def _look_up(
        self, segment: int, columns: Sequence[str], rows: Iterable[int]
    ) -> dict[int, dict[str, Any]]:
        """Read columns of some chunks, by row."""
        wanted = sorted({int(row) for row in rows})
        select = f"SELECT row, {self.select(segment, columns)} FROM s{segment}.chunks"  # noqa: S608 - our own names
        [total] = [s.row_count for s in self.segments if s.segment == segment]
        if len(wanted) <= _POINTS + total // _ROWS_PER_POINT:
            # A list decompresses the texts of everything between its ends; equality, which is
            # pushed into the scan, those of one vector. Ten of a million: 6 ms in place of 140.
            # In one statement, as each takes 0.4 ms by itself.
            query = " UNION ALL ".join(f"{select} WHERE row = {row}" for row in wanted)
        else:
            query = f"{select} WHERE row IN ({','.join(map(str, wanted))})"
        found = self._rows(query) if wanted else []
        return {values[0]: dict(zip(columns, values[1:], strict=True)) for values in found}

    def _read_chunks(self, segment: int, rows: Iterable[int]) -> list[StoredChunk]:
        found = self._look_up(segment, ("file_id", *_PLACE_COLUMNS, *TEXT_COLUMNS), rows)
        files = ",".join({str(values["file_id"]) for values in found.values()})
        if not files:
            return []
        file_of = {
            row[0]: row[1:]
            for row in self._rows(
                f"SELECT file_id, path, language, mtime_ns, size_bytes, {self._kind} "  # noqa: S608 - numbers
                f"FROM g.files f WHERE segment = {segment} AND file_id IN ({files})"
            )
        }
        chunks: list[StoredChunk] = []
        for row, values in found.items():
            file = file_of.get(values.pop("file_id"))
            if file is not None:
                path, language, mtime_ns, size_bytes, kind = file
                chunks.append(
                    StoredChunk(
                        key=(segment << KEY_SHIFT) + row,
                        path=path,
                        language=language,
                        file_mtime_ns=mtime_ns,
                        file_size_bytes=size_bytes,
                        file_kind=kind,
                        **values,
                    )
                )
        return chunks


def open_snapshot(folder: Path, *, generation: int | None = None) -> Snapshot:
    """Open a snapshot for reading.

    Args:
        folder: The index folder.
        generation: Which one, or None for the one that is served.

    Raises:
        NoSnapshotError: Nothing has been published, or not that generation.
        StoreFormatError: A foreign or too new file stands there.
        StoreError: The index is damaged; the message says what can be done.
    """
    index = IndexFolder(folder)
    missing = index.path
    for _ in range(_OPEN_ATTEMPTS):
        current = index.read_current()
        if current is None:
            raise NoSnapshotError(
                f"nothing has been indexed in {str(folder)!r} yet: run `merganser index`"
            )
        if generation is not None and generation not in current.kept:
            there = ", ".join(map(str, sorted(current.kept)))
            raise NoSnapshotError(
                f"snapshot {generation} is not kept in {str(folder)!r}; there are: {there}"
            )
        wanted = generation or current.generation
        path, mark = index.catalogue(wanted), current.marks.get(wanted)
        try:
            if mark is not None:
                check_size(path, mark.size_bytes)
            snapshot = Snapshot(path, (folder,))
        except FileNotFoundError as error:
            # A writer published and collected between the two reads: look again.
            missing = Path(error.filename or error.args[0])
            continue
        try:
            if mark is not None:
                mark.check(path, snapshot.meta)
        except DamagedIndexError:
            snapshot.close()
            raise
        return snapshot
    raise damaged(missing, "is missing from the index")
