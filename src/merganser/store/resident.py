"""A snapshot's vectors, postings and places in memory, for a process that answers many queries.

Live chunks are numbered from 0 by ascending key: a chunk's *position*. All arrays are by position,
so that strategies, filters and hits need no look-up by key. Each table is loaded when it is first
asked for, batch by batch into arrays of their final size: what is in memory is what is needed.
At a million chunks of 384 dimensions that is 1.5 GB of vectors (none where an approximate index
stands in), 5 bytes a posting (about 220 MB) and 40 MB of places. Texts are kept as well while all
of them are small, see ``_MOST_TEXT_BYTES``.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.store import arrow
from merganser.store.filters import live_rows
from merganser.store.rows import TEXT_COLUMNS, ChunkPlace, StoredChunk
from merganser.store.segments import KEY_SHIFT
from merganser.store.tokens import SPELLED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from merganser.store.catalogue import SegmentRow
    from merganser.store.filters import Filter
    from merganser.store.reader import Snapshot

_BATCH_ROWS = 1 << 22
_VECTOR_ROWS = 61_440  # two of DuckDB's row groups
_MASKS = 16

_MOST_TEXT_BYTES = 256 << 20
"""Texts of a snapshot that are kept in memory at most, by the sizes of its files.

Reading ten chunks of 33,000 from the file takes DuckDB 7 ms, looking them up here 0.1.
"""


@dataclass(frozen=True, slots=True, eq=False)
class _SegmentPostings:
    """The postings of one segment's live chunks, ordered by term, then by position.

    Attributes:
        terms: The segment's vocabulary, ascending, in UTF-8 without separators.
        term_ends: (n_terms + 1,) int64, where each term begins in ``terms``.
        offsets: (n_terms + 1,) int64, where each term's postings begin.
        position: (n,) int32.
        tf: (n,) uint8.
    """

    terms: bytes
    term_ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    position: NDArray[np.int32]
    tf: NDArray[np.uint8]

    def find(self, term: str) -> slice:
        """Return where a term's postings are; empty for one that does not occur."""
        at = self._first_from(term)
        if at == len(self.term_ends) - 1 or self._term(at) != term.encode("utf-8", "surrogatepass"):
            return slice(0, 0)
        return slice(int(self.offsets[at]), int(self.offsets[at + 1]))

    def spellings(self, base: str) -> list[str]:
        """Return the terms that say how the words of a base term are spelled."""
        first, end = (self._first_from(base + c) for c in (SPELLED, chr(ord(SPELLED) + 1)))
        return [self._term(at).decode("utf-8", "surrogatepass") for at in range(first, end)]

    def _term(self, at: int) -> bytes:
        return self.terms[self.term_ends[at] : self.term_ends[at + 1]]

    def _first_from(self, term: str) -> int:
        """Return the number of the first term that is not before another."""
        wanted = term.encode("utf-8", "surrogatepass")
        return bisect_left(range(len(self.term_ends) - 1), wanted, key=self._term)


class ResidentPostings:
    """All postings of a snapshot.

    Attributes:
        lengths: (n_chunks,) int32, terms of each live chunk with repetitions, by position.
    """

    def __init__(self, parts: Sequence[_SegmentPostings], lengths: NDArray[np.int32]) -> None:
        self._parts = parts
        self.lengths = lengths

    def find(self, term: str) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Return the positions with a term, ascending, and how often it occurs in each."""
        found = [(part, part.find(term)) for part in self._parts]
        there = [(part, at) for part, at in found if at.stop > at.start]
        if len(there) == 1:  # a view, without copying
            [(part, at)] = there
            return part.position[at], part.tf[at]
        none = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.uint8)
        return (
            np.concatenate([none[0], *(part.position[at] for part, at in there)]),
            np.concatenate([none[1], *(part.tf[at] for part, at in there)]),
        )

    def spellings(self, base: str) -> list[str]:
        """Return the terms that say how the words of a base term are spelled."""
        found = (term for part in self._parts for term in part.spellings(base))
        return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """Numbers by position, and files by the number in ``file_id``."""

    numbers: dict[str, NDArray[Any]]
    files: list[tuple[str, str, int, int, str]]


class _Texts:
    """What ``_Places`` leaves out of chunks, as the Arrow columns that DuckDB gives.

    Args:
        parts: The columns by name, in the order of positions; each of at least one row.
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        self._parts = parts
        lengths = (len(next(iter(part.values()))) for part in parts)
        self._starts = np.cumsum([0, *lengths]).tolist()

    def at(self, position: int) -> dict[str, Any]:
        """Return the values of a chunk."""
        part = bisect_right(self._starts, position) - 1
        row = position - self._starts[part]
        return {name: column[row].as_py() for name, column in self._parts[part].items()}


class ResidentTables:
    """What a snapshot holds, loaded on demand; any number of threads may ask.

    Args:
        snapshot: Open.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._lock = threading.RLock()
        self._loaded: dict[str, Any] = {}
        self._masks: OrderedDict[Filter, NDArray[np.bool_]] = OrderedDict()

    @property
    def keys(self) -> NDArray[np.int64]:
        """(n_chunks,) int64, the key of each position, ascending."""
        return self._once("keys", self._snapshot.allowed)

    def mask(self, where: Filter) -> NDArray[np.bool_]:
        """(n_chunks,) bool, which positions a filter lets through; the last ones are kept."""
        with self._lock:
            if where not in self._masks:
                mask = np.zeros(len(self.keys), dtype=np.bool_)
                mask[np.searchsorted(self.keys, self._snapshot.allowed(where))] = True
                self._masks[where] = mask
                while len(self._masks) > _MASKS:
                    self._masks.popitem(last=False)
            self._masks.move_to_end(where)
            return self._masks[where]

    def matrix(self, but: Collection[int] = ()) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Read the vectors; they are the caller's to keep.

        Args:
            but: Numbers of segments to leave out.

        Returns:
            (n,) int64 positions, ascending, and (n, dimensions) float32 in the same order.
        """
        dimensions = self._snapshot.dimensions or 0
        wanted = [s.segment for s in self._snapshot.segments if s.segment not in but]
        inside = np.isin(self.keys >> KEY_SHIFT, np.array(wanted, dtype=np.int64))
        positions = np.flatnonzero(inside) if dimensions else np.zeros(0, dtype=np.int64)
        vectors = np.empty((len(positions), dimensions), dtype=np.float32)
        if not len(positions):
            return positions, vectors
        cursor, filled = self._snapshot.cursor(), 0
        sizes = {segment.segment: segment.row_count for segment in self._snapshot.segments}
        for number, condition in live_rows(cursor, self._snapshot.segments, None):
            if number in but:
                continue
            # In parts: all vectors at once would be in memory twice.
            for start in range(0, sizes[number], _VECTOR_ROWS):
                part = arrow.fetch_vectors(
                    cursor,
                    f"SELECT v FROM s{number}.vectors {condition or 'WHERE true'} AND "  # noqa: S608 - our own names
                    f"row >= {start} AND row < {start + _VECTOR_ROWS} ORDER BY row",
                    dimensions,
                )
                vectors[filled : filled + len(part)] = part
                filled += len(part)
        return positions, vectors

    @property
    def postings(self) -> ResidentPostings:
        """Where terms occur."""
        return self._once("postings", self._load_postings)

    def places(self, keys: Sequence[int]) -> list[ChunkPlace]:
        """Return where chunks are, see ``Snapshot.places``."""
        loaded: _Places = self._once("places", self._load_places)
        at = np.searchsorted(self.keys, np.asarray(keys, dtype=np.int64))
        numbers = [loaded.numbers[name][at].tolist() for name in _PLACE_COLUMNS]
        places: list[ChunkPlace] = []
        for key, file, ord_, start, end, high, low in zip(keys, *numbers, strict=True):
            path, language, mtime_ns, size_bytes, kind = loaded.files[int(file)]
            found = (key, path, language, ord_, start, end, (high, low))
            places.append(ChunkPlace(*found, mtime_ns, size_bytes, kind))
        return places

    def symbols(self, keys: Sequence[int]) -> list[str]:
        """Return what chunks define, see ``Snapshot.symbols``."""
        loaded: _Texts = self._once("symbols", lambda: self._load_columns(("symbol",)))
        at = np.searchsorted(self.keys, np.asarray(keys, dtype=np.int64)).tolist()
        return [loaded.at(position)["symbol"] for position in at]

    def chunks(self, keys: Sequence[int]) -> list[StoredChunk]:
        """Look chunks up, see ``Snapshot.chunks``."""
        texts: _Texts | None = self._once("texts", self._load_texts)
        if texts is None:
            columns = self._snapshot.texts(keys)
        else:
            at = np.searchsorted(self.keys, np.asarray(keys, dtype=np.int64)).tolist()
            columns = [texts.at(position) for position in at]
        return [
            StoredChunk(
                key=place.key,
                path=place.path,
                language=place.language,
                ord=place.ord,
                start_line=place.start_line,
                end_line=place.end_line,
                file_mtime_ns=place.file_mtime_ns,
                file_size_bytes=place.file_size_bytes,
                file_kind=place.file_kind,
                **values,
            )
            for place, values in zip(self.places(keys), columns, strict=True)
        ]

    def _once(self, name: str, load: Callable[[], Any]) -> Any:
        if name not in self._loaded:
            with self._lock:
                if name not in self._loaded:
                    self._loaded[name] = load()
        return self._loaded[name]

    def _live(self) -> list[tuple[SegmentRow, NDArray[np.int64]]]:
        """Return each segment with its live rows, ascending."""
        segments = self._snapshot.segments
        numbers = np.array([s.segment for s in segments], dtype=np.int64)
        starts = np.searchsorted(self.keys, numbers << KEY_SHIFT)
        ends = np.searchsorted(self.keys, (numbers + 1) << KEY_SHIFT)
        rows = self.keys & np.int64((1 << KEY_SHIFT) - 1)
        return [(s, rows[a:b]) for s, a, b in zip(segments, starts, ends, strict=True)]

    def _load_postings(self) -> ResidentPostings:
        lengths = np.zeros(len(self.keys), dtype=np.int32)
        parts: list[_SegmentPostings] = []
        cursor, filled = self._snapshot.cursor(), 0
        for segment, rows in self._live():
            position = np.full(segment.row_count, -1, dtype=np.int32)
            position[rows] = np.arange(filled, filled + len(rows), dtype=np.int32)
            filled += len(rows)
            name = f"s{segment.segment}"
            found = arrow.fetch_columns(cursor, f"SELECT row, doc_len FROM {name}.chunks")  # noqa: S608 - our own name
            at = position[found["row"]]
            lengths[at[at >= 0]] = found["doc_len"][at >= 0]
            parts.append(self._load_segment_postings(name, position))
        return ResidentPostings(parts, lengths)

    def _load_segment_postings(self, name: str, position: NDArray[np.int32]) -> _SegmentPostings:
        cursor = self._snapshot.cursor()
        terms = [
            term.encode("utf-8", "surrogatepass")
            for term in arrow.fetch_strings(
                cursor,
                f"SELECT term FROM {name}.terms ORDER BY term_id",  # noqa: S608 - our own name
            )
        ]
        ends = np.zeros(len(terms) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, terms), dtype=np.int64, count=len(terms)), out=ends[1:])
        [[total]] = cursor.execute(f"SELECT count(*) FROM {name}.postings").fetchall()  # noqa: S608 - our own name
        where = np.empty(total, dtype=np.int32)
        tf = np.empty(total, dtype=np.uint8)
        counts = np.zeros(len(terms), dtype=np.int64)
        filled = 0
        # In the order in which the segment was written, which is by term, then by row.
        for start in range(0, total, _BATCH_ROWS):
            part = arrow.fetch_columns(
                cursor,
                f"SELECT term_id, row, tf FROM {name}.postings WHERE rowid >= ? AND rowid < ?",  # noqa: S608 - our own name
                [start, start + _BATCH_ROWS],
            )
            at = position[part["row"]]
            live = at >= 0
            end = filled + int(np.count_nonzero(live))
            where[filled:end], tf[filled:end] = at[live], part["tf"][live]
            counts += np.bincount(part["term_id"][live], minlength=len(terms))
            filled = end
        offsets = np.zeros(len(terms) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        return _SegmentPostings(b"".join(terms), ends, offsets, where[:filled], tf[:filled])

    def _load_texts(self) -> _Texts | None:
        """Read the texts, or give None where there are too many."""
        if sum(file.size_bytes for file in self._snapshot.files()) > _MOST_TEXT_BYTES:
            return None
        return self._load_columns(TEXT_COLUMNS)

    def _load_columns(self, columns: Sequence[str]) -> _Texts:
        cursor = self._snapshot.cursor()
        parts: list[dict[str, Any]] = []
        for segment, condition in live_rows(cursor, self._snapshot.segments, None):
            names = self._snapshot.select(segment, columns)
            query = f"SELECT {names} FROM s{segment}.chunks {condition} ORDER BY row"  # noqa: S608 - our own names
            parts += arrow.fetch_batches(cursor, query)
        return _Texts(parts)

    def _load_places(self) -> _Places:
        files = self._snapshot.files()
        number = {(file.segment, file.file_id): i for i, file in enumerate(files)}
        cursor = self._snapshot.cursor()
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _PLACE_COLUMNS}
        names = ", ".join(_PLACE_COLUMNS)
        for segment, condition in live_rows(cursor, self._snapshot.segments, None):
            found = arrow.fetch_columns(
                cursor,
                f"SELECT {names} FROM s{segment}.chunks {condition} ORDER BY row",  # noqa: S608 - our own names
            )
            ids, inverse = np.unique(found["file_id"], return_inverse=True)
            numbers = np.array([number[segment, int(i)] for i in ids.tolist()], dtype=np.int32)
            found["file_id"] = numbers[inverse]
            for name in _PLACE_COLUMNS:
                parts[name].append(found[name])
        return _Places(
            {name: np.concatenate([np.zeros(0, np.int32), *part]) if name not in _HASHES
             else np.concatenate([np.zeros(0, np.uint64), *part])
             for name, part in parts.items()},
            [(f.path, f.language, f.mtime_ns, f.size_bytes, f.kind) for f in files],
        )  # fmt: skip


_HASHES = ("hash_high", "hash_low")
_PLACE_COLUMNS = ("file_id", "ord", "start_line", "end_line", *_HASHES)
