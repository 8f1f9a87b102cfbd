"""Write a segment: chunks, vectors and postings of some files, in one immutable DuckDB file.

A segment never changes after it is finished. Which of its files are live is said by the
catalogue of each snapshot, so an edit writes a small segment and leaves the large ones alone.
Rows of a file are contiguous. A chunk's key is ``segment << 32 | row``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.store import arrow
from merganser.store.database import (
    SEGMENT_TABLES,
    VECTORS_TABLE,
    attach,
    attach_new,
    connect_writer,
    finish,
)
from merganser.store.identity import SegmentIdentity, sign
from merganser.store.term_counts import TermCounter, TermNumbers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.catalogue import FileRow

_COMMIT_ROWS = 65_536
# A transaction keeps what it has not committed in memory, some 4 kB a chunk of 384 dimensions;
# each commit writes the last, unfinished group of rows twice.
_POSTINGS_BATCH = 4_000_000
# A posting is packed in 64 bits while it is sorted, which numpy does 20 times faster than a sort
# by several columns: 24 bits of term, 32 of row, 8 of frequency.
_TERM_SHIFT, _ROW_SHIFT = np.uint64(40), np.uint64(8)
_ROW_AND_TF, _TF = np.uint64((1 << 40) - 1), np.uint64(255)
_MAX_TERMS = 1 << 24

KEY_SHIFT = 32
"""A chunk's key is ``segment << KEY_SHIFT | row``."""


CHUNK_NUMBERS = ("ord", "start_line", "end_line", "start_char", "end_char")


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRows:
    """Chunks of some files as columns, file after file.

    Attributes:
        file: (n,) int32, which of the files the chunk belongs to, ascending from 0, no gaps but
            for files without chunks.
        numbers: (n,) int32 each, by the names in ``CHUNK_NUMBERS``.
        symbols: n strings.
        kinds: n strings.
        hashes: (n, 2) uint64, of the texts.
        texts: n strings.
        places: n strings, mostly empty.
    """

    file: NDArray[np.int32]
    numbers: dict[str, NDArray[np.int32]]
    symbols: Sequence[str]
    kinds: Sequence[str]
    hashes: NDArray[np.uint64]
    texts: Sequence[str]
    places: Sequence[str]

    def take(self, rows: NDArray[np.intp]) -> ChunkRows:
        """Return the chunks at some positions."""
        listed: list[int] = rows.tolist()
        return ChunkRows(
            file=self.file[rows],
            numbers={name: column[rows] for name, column in self.numbers.items()},
            symbols=[self.symbols[i] for i in listed],
            kinds=[self.kinds[i] for i in listed],
            hashes=self.hashes[rows],
            texts=[self.texts[i] for i in listed],
            places=[self.places[i] for i in listed],
        )

    @classmethod
    def join(cls, parts: Sequence[ChunkRows]) -> ChunkRows:
        """Put chunks one after the other; their ``file`` has to fit already."""
        return cls(
            file=np.concatenate([part.file for part in parts]),
            numbers={n: np.concatenate([part.numbers[n] for part in parts]) for n in CHUNK_NUMBERS},
            symbols=[*chain.from_iterable(part.symbols for part in parts)],
            kinds=[*chain.from_iterable(part.kinds for part in parts)],
            hashes=np.concatenate([part.hashes for part in parts]),
            texts=[*chain.from_iterable(part.texts for part in parts)],
            places=[*chain.from_iterable(part.places for part in parts)],
        )


_NO_NUMBERS = np.zeros(0, dtype=np.int32)
NO_CHUNKS = ChunkRows(
    file=_NO_NUMBERS,
    numbers=dict.fromkeys(CHUNK_NUMBERS, _NO_NUMBERS),
    symbols=(),
    kinds=(),
    hashes=np.zeros((0, 2), dtype=np.uint64),
    texts=(),
    places=(),
)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a file's chunks are in its segment."""

    file_id: int
    first_row: int
    row_count: int
    term_count: int


class SegmentWriter:
    """Fill a new segment, batch by batch, with bounded memory.

    Args:
        path: The file to make.
        folder: Of the index; segments below it can be copied from.
        dimensions: Length of the vectors, or None for a segment without.
        embedding: Fingerprint of the model that embedded it, or "".

    Attributes:
        row_count: Chunks so far.
        identity: What the segment calls itself.
    """

    def __init__(
        self, path: Path, folder: Path, *, dimensions: int | None, embedding: str = ""
    ) -> None:
        self.row_count = 0
        self.identity = SegmentIdentity.new(embedding, dimensions)
        self._dimensions = dimensions
        self._file_count = 0
        self._terms = TermNumbers()
        self._counter = TermCounter(self._terms)
        self._packed: list[NDArray[np.uint64]] = []
        self._sources = 0
        self._uncommitted = 0
        self._connection = connect_writer(path.parent / "spill", path.parent, folder)
        # Transactions that are checkpointed as they commit: they go to the file directly, where
        # single statements go through the write-ahead log first and write every byte twice.
        self._connection.execute("SET checkpoint_threshold = '1KB'").fetchall()
        # For decimals; analysing unit vectors for it takes a tenth of the writing and never wins.
        self._connection.execute("SET disabled_compression_methods = 'alp'").fetchall()
        attach_new(self._connection, path, "new")
        self._connection.execute("BEGIN").fetchall()
        self._connection.execute(SEGMENT_TABLES.format("new")).fetchall()
        sign(self._connection, "new", self.identity)
        if dimensions is not None:
            self._connection.execute(VECTORS_TABLE.format("new", dimensions)).fetchall()

    def add(
        self, paths: Sequence[str], rows: ChunkRows, vectors: NDArray[np.float32] | None
    ) -> list[Placed]:
        """Append the chunks of new files.

        Args:
            paths: Paths of the files; their words are found together with the text's.
            rows: The chunks.
            vectors: (n, dimensions) float32, or None in a segment without.

        Returns:
            One place a path.
        """
        count = len(rows.texts)
        row = np.arange(self.row_count, self.row_count + count, dtype=np.int32)
        file_id = rows.file + np.int32(self._file_count)
        doc_len = self._count_terms(paths, rows)
        cursor = self._connection
        arrow.insert(
            cursor,
            "new.chunks",
            {
                "row": row,
                "file_id": file_id,
                **rows.numbers,
                "symbol": rows.symbols,
                "kind": rows.kinds,
                "hash_high": rows.hashes[:, 0],
                "hash_low": rows.hashes[:, 1],
                "doc_len": doc_len,
                "text": rows.texts,
                "place": rows.places,
            },
        )
        if vectors is not None:
            arrow.insert(cursor, "new.vectors", {"row": row, "file_id": file_id, "v": vectors})
        return self._place(
            np.bincount(rows.file, minlength=len(paths)),
            np.bincount(rows.file, weights=doc_len, minlength=len(paths)),
        )

    def copy(self, segment: Path, files: Sequence[FileRow]) -> list[Placed]:
        """Append files of an older segment, without their sources and without embedding.

        Args:
            segment: File of the older segment.
            files: Those to take, by ascending ``first_row``.

        Returns:
            One place a file.
        """
        self._sources += 1
        old = f"old{self._sources}"
        attach(self._connection, segment, old)
        counts = np.array([file.row_count for file in files], dtype=np.int64)
        starts = self.row_count + np.cumsum(counts) - counts
        shifts = starts - np.array([file.first_row for file in files], dtype=np.int64)
        cursor = self._connection
        cursor.register(
            "moves",
            arrow.make_table(
                {
                    "file_id": np.array([file.file_id for file in files], dtype=np.int32),
                    "new_id": np.arange(len(files), dtype=np.int32) + np.int32(self._file_count),
                    "shift": shifts.astype(np.int32),
                }
            ),
        )
        tables = ["chunks"] if self._dimensions is None else ["chunks", "vectors"]
        for table in tables:
            cursor.execute(
                f"INSERT INTO new.{table} BY NAME SELECT o.* REPLACE (o.row + m.shift AS row, "  # noqa: S608 - our own name
                f"m.new_id AS file_id) FROM {old}.{table} o JOIN moves m ON o.file_id = m.file_id"
            ).fetchall()
        cursor.unregister("moves")
        self._copy_postings(old, counts, starts, shifts)
        return self._place(counts, np.array([file.term_count for file in files]))

    def finish(self) -> None:
        """Write the postings and bring the file to disk."""
        cursor = self._connection
        terms = sorted(self._terms)
        rank = np.empty(len(terms), dtype=np.uint64)
        rank[np.fromiter(map(self._terms.__getitem__, terms), dtype=np.intp, count=len(terms))] = (
            np.arange(len(terms), dtype=np.uint64)
        )
        arrow.insert(
            cursor, "new.terms", {"term_id": np.arange(len(terms), dtype=np.int32), "term": terms}
        )
        packed = self._take_packed()
        for at in range(0, len(packed), _POSTINGS_BATCH):
            part = packed[at : at + _POSTINGS_BATCH]
            part[:] = (rank[part >> _TERM_SHIFT] << _TERM_SHIFT) | (part & _ROW_AND_TF)
        packed.sort()
        for at in range(0, len(packed), _POSTINGS_BATCH):
            part = packed[at : at + _POSTINGS_BATCH]
            arrow.insert(
                cursor,
                "new.postings",
                {
                    "term_id": (part >> _TERM_SHIFT).astype(np.int32),
                    "row": ((part & _ROW_AND_TF) >> _ROW_SHIFT).astype(np.int32),
                    "tf": (part & _TF).astype(np.uint8),
                },
            )
        self._connection.execute("COMMIT").fetchall()
        finish(self._connection, "new")
        self._connection.close()

    def abandon(self) -> None:
        """Let go of the unfinished file."""
        self._connection.close()

    def _count_terms(self, paths: Sequence[str], rows: ChunkRows) -> NDArray[np.int32]:
        """Add the chunks' postings and give their lengths in terms."""
        counts = self._counter.count(
            [
                f"{paths[file]}\n{symbol}\n{text}"
                for file, symbol, text in zip(
                    rows.file.tolist(), rows.symbols, rows.texts, strict=True
                )
            ]
        )
        self._pack(counts.term_id, counts.chunk_row + np.int64(self.row_count), counts.tf)
        return counts.doc_len

    def _copy_postings(
        self,
        old: str,
        counts: NDArray[np.int64],
        starts: NDArray[np.int64],
        shifts: NDArray[np.int64],
    ) -> None:
        cursor = self._connection
        size, total = cursor.execute(
            f"SELECT (SELECT coalesce(max(row), -1) + 1 FROM {old}.chunks), "  # noqa: S608 - our own name
            f"(SELECT count(*) FROM {old}.postings)"
        ).fetchall()[0]
        new_row = np.full(size, -1, dtype=np.int64)
        targets: NDArray[np.int64] = np.repeat(
            starts - np.cumsum(counts) + counts, counts
        ) + np.arange(int(counts.sum()), dtype=np.int64)
        new_row[targets - np.repeat(shifts, counts)] = targets
        vocabulary = arrow.fetch_strings(
            self._connection,
            f"SELECT term FROM {old}.terms ORDER BY term_id",  # noqa: S608 - our own name
        )
        for at in range(0, total, _POSTINGS_BATCH):
            part = arrow.fetch_columns(
                self._connection,
                f"SELECT term_id, row, tf FROM {old}.postings WHERE rowid >= ? AND rowid < ?",  # noqa: S608 - our own name
                [at, at + _POSTINGS_BATCH],
            )
            rows = new_row[part["row"]]
            live = rows >= 0
            used, term = np.unique(part["term_id"][live].astype(np.int64), return_inverse=True)
            numbers = [self._terms[vocabulary[number]] for number in used.tolist()]
            terms = np.array(numbers, dtype=np.int64)[term]
            self._pack(terms, rows[live], part["tf"][live])

    def _pack(self, term: NDArray[np.int64], row: NDArray[np.int64], tf: NDArray[np.uint8]) -> None:
        if len(self._terms) > _MAX_TERMS:
            raise OverflowError(f"a segment holds at most {_MAX_TERMS} terms")
        if len(term):
            self._packed.append(
                (term.astype(np.uint64) << _TERM_SHIFT)
                | (row.astype(np.uint64) << _ROW_SHIFT)
                | tf.astype(np.uint64)
            )

    def _take_packed(self) -> NDArray[np.uint64]:
        """Join the postings part by part, in any order, so that they are not in memory twice."""
        packed = np.empty(sum(map(len, self._packed)), dtype=np.uint64)
        end = len(packed)
        while self._packed:
            part = self._packed.pop()
            packed[end - len(part) : end] = part
            end -= len(part)
        return packed

    def _place(self, counts: NDArray[Any], terms: NDArray[Any]) -> list[Placed]:
        ends = self.row_count + np.cumsum(counts)
        places = [
            Placed(self._file_count + i, int(end) - int(count), int(count), int(term_count))
            for i, (end, count, term_count) in enumerate(zip(ends, counts, terms, strict=True))
        ]
        self._file_count += len(places)
        self.row_count += int(counts.sum())
        self._uncommitted += int(counts.sum())
        if self._uncommitted >= _COMMIT_ROWS:
            self._connection.execute("COMMIT").fetchall()
            self._connection.execute("BEGIN").fetchall()
            self._uncommitted = 0
        return places
