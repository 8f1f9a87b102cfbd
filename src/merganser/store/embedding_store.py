"""Embeddings by content: a text that was ever embedded by the same model is not embedded again.

The key is the 16-byte BLAKE2b of the exact text together with the model's fingerprint. Vectors
live in the segments of the kept snapshots; those that are paid for but not in a segment yet lie in
journals, one file a shard, written beside and renamed. While a shard is embedded each answer of the
model is appended to a partial journal, so that a run that is killed loses at most the requests that
were under way. A journal goes when a published snapshot holds its vectors.

Beside the journals of a model lies its drift sample, by which a later run sees whether its model is
still the same: a run that died left no snapshot that has them.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from merganser.errors import StoreError
from merganser.store import arrow
from merganser.store.catalogue import read_segment_rows
from merganser.store.database import attach, first_line
from merganser.store.folder import replace_file
from merganser.store.identity import damaged
from merganser.store.journals import (
    DRIFT_FILE,
    PARTIAL,
    append_vectors,
    journal_folder,
    read_drift_sample,
    read_journal,
    read_partial,
    save_arrays,
)
from merganser.store.segment_check import read_identity
from merganser.store.snapshots import check_segments
from merganser.store.text_hashes import TextPlaces, keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.catalogue import DriftSample, SegmentRow
    from merganser.store.folder import IndexFolder

_RECENT_BLOCKS = 32
# Lookups search this many small sorted blocks before they are merged into the large one: merging
# at every commit would sort everything once a shard.


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What has to be done for some texts.

    Attributes:
        mine: Positions of the texts that the caller now has to embed, and to ``release``.
        elsewhere: Positions of the texts that another shard of this process is embedding.
        waits: Done when those shards are through, well or badly.
    """

    mine: NDArray[np.intp]
    elsewhere: NDArray[np.intp]
    waits: tuple[Future[None], ...]


@dataclass(frozen=True, slots=True)
class SegmentSource:
    """A segment whose vectors may be reused."""

    path: Path
    dimensions: int


def segments_of(
    index: IndexFolder, fingerprint: str, *, damaged: Collection[int] = ()
) -> list[SegmentSource]:
    """Find the segments that a model embedded: of all kept snapshots, and those without one.

    Args:
        index: The index.
        fingerprint: Fingerprint of the model.
        damaged: Numbers of segments to leave out.
    """
    current = index.read_current()
    rows: dict[int, SegmentRow] = {}
    for generation in current.kept if current else ():
        with contextlib.suppress(StoreError, FileNotFoundError):  # damaged: embed again
            rows |= {r.segment: r for r in read_segment_rows(index.catalogue(generation))}
    found: list[SegmentSource] = []
    for number, row in rows.items():
        if row.embedding == fingerprint and number not in damaged:
            with contextlib.suppress(StoreError):
                check_segments(index, [row])
                found.append(SegmentSource(index.path / row.file, row.dimensions))
    for number in {*index.segments_on_disk()} - {*rows, *damaged}:
        identity = read_identity(index.segment(number))
        if identity is not None and identity.embedding == fingerprint:
            found.append(SegmentSource(index.segment(number), identity.dimensions))
    return found


class EmbeddingStore:
    """All vectors of one model that an index has; shared by the threads of one run.

    Attributes:
        fingerprint: Fingerprint of the model.
        dimensions: Length of the vectors, or None while there are none.
        on_commit: Told of every journal that was written here, or None.
        on_missing: Told of texts without a vector before they are claimed, so that it may commit
            some of them from elsewhere; or None.
        kept: Texts that got a vector in this run and are written down.
    """

    def __init__(
        self,
        folder: IndexFolder,
        fingerprint: str,
        segments: Iterable[SegmentSource],
        *,
        connect: Callable[[], duckdb.DuckDBPyConnection],
        drift_sample: DriftSample | None = None,
    ) -> None:
        """Look at what is there.

        Args:
            folder: The index.
            fingerprint: Fingerprint of the model.
            segments: The segments of the kept snapshots that this model embedded.
            connect: Gives the one database to which the segments are attached, at each call;
                not called where there are none, as making one costs 20 ms of CPU.
            drift_sample: Drift sample of the model, needed to commit.
        """
        self.dimensions: int | None = None
        self.fingerprint = fingerprint
        self._drift_sample = drift_sample
        self.journal_folder = journal_folder(folder, fingerprint)
        self._lock = threading.Lock()
        self._claims: dict[bytes, Future[None]] = {}
        self._sources: list[Path] = []
        self._recent: list[TextPlaces] = []
        self.on_commit: Callable[[Path], None] | None = None
        self.on_missing: Callable[[NDArray[np.uint64]], None] | None = None
        self.kept = 0
        self._is_named = False
        self._main = TextPlaces.make(_NO_HASHES, _NO_ROWS, _NO_ROWS)
        self._connect = connect
        self._attached: set[int] = set()
        for segment in segments:
            self._add_segment(segment)
        if read_drift_sample(self.journal_folder / DRIFT_FILE) is not None:
            for path in sorted(self.journal_folder.glob("*.npz")):
                self._add_journal(path)
        self._merge()

    def reserve(self, hashes: NDArray[np.uint64]) -> Reservation:
        """Find the texts without a vector, and claim those that no other shard is embedding.

        Args:
            hashes: (n, 2) uint64, without repetitions.
        """
        mine: list[int] = []
        elsewhere: list[int] = []
        waits: set[Future[None]] = set()
        own = Future[None]()
        if self.on_missing is not None and not (there := self.has(hashes)).all():
            self.on_missing(hashes[~there])
        with self._lock:
            source, _ = self._locate(hashes)
            missing = np.flatnonzero(source < 0)
            for position, key in zip(missing.tolist(), keys_of(hashes[missing]), strict=True):
                claim = self._claims.setdefault(key, own)
                if claim is own:
                    mine.append(position)
                else:
                    elsewhere.append(position)
                    waits.add(claim)
        return Reservation(
            np.array(mine, dtype=np.intp), np.array(elsewhere, dtype=np.intp), tuple(waits)
        )

    def release(self, hashes: NDArray[np.uint64]) -> None:
        """Give up the claims on the texts of one reservation, committed or not."""
        with self._lock:
            claims = {self._claims.pop(key, None) for key in keys_of(hashes)}
        for claim in claims:
            if claim is not None and not claim.done():
                claim.set_result(None)

    def has(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return for each text whether it has a vector."""
        with self._lock:
            return self._locate(hashes)[0] >= 0

    def commit(self, name: str, hashes: NDArray[np.uint64], vectors: NDArray[np.float32]) -> Path:
        """Store vectors for good; after this returns, no crash loses them.

        Args:
            name: Name of the journal; one that is there already stays, and this gets another name.
            hashes: (n, 2) uint64.
            vectors: (n, dimensions) float32.

        Returns:
            The journal.
        """
        self.name_model()
        # Rows of a journal are remembered by its name. A partial one that a power cut brought back,
        # or that got a late answer, must not take the place of the whole one beside it.
        paths = (self.journal_folder / f"{name}{suffix}.npz" for suffix in _suffixes())
        path = next(path for path in paths if not path.exists())
        save_arrays(path, hashes=hashes, vectors=vectors, fingerprint=np.array(self.fingerprint))
        (self.journal_folder / f"{name}{PARTIAL}").unlink(missing_ok=True)
        with self._lock:
            self.dimensions = vectors.shape[1]
            self._add_block(path, hashes)
        if self.on_commit is not None:
            self.on_commit(path)
        return path

    def keep(self, name: str, hashes: NDArray[np.uint64], vectors: NDArray[np.float32]) -> None:
        """Write vectors down as they come: a process that is killed loses none of them.

        They are found by the next run alone, and only ``commit`` makes them outlast a power cut:
        flushing every answer of the model to the disk would take longer than many an answer.

        Args:
            name: Name of the journal that they will be committed in; its own for each thread.
            hashes: (n, 2) uint64.
            vectors: (n, dimensions) float32.

        Raises:
            OSError: They cannot be written.
        """
        if not self._is_named:  # for each answer: reading the file takes longer than appending
            self.name_model()
            self._is_named = True
        path = self.journal_folder / f"{name}{PARTIAL}"
        append_vectors(path, self.fingerprint, hashes, vectors)
        with self._lock:
            self.kept += len(hashes)

    def recover(self) -> None:
        """Take in what dead runs had written down and not committed; call it in the writing run.

        Raises:
            OSError: It cannot be written as a journal.
        """
        for path in sorted(self.journal_folder.glob(f"*{PARTIAL}")):
            if read_drift_sample(self.journal_folder / DRIFT_FILE) is not None:
                hashes, vectors = read_partial(path, self.fingerprint)
                if len(hashes) and self.dimensions in {None, vectors.shape[1]}:
                    self.commit(path.stem, hashes, vectors)
            path.unlink(missing_ok=True)

    def adopt(self, name: str, content: bytes) -> None:
        """Take in a journal that another process wrote.

        Args:
            name: Name of the file, without suffix; one that is here already is not written again.
            content: Content of the file.
        """
        path = self.journal_folder / f"{name}.npz"
        self.name_model()
        with self._lock:
            if path in self._sources:
                return
            replace_file(path, content)
            self.kept += self._add_journal(path)

    def assume(self, hashes: NDArray[np.uint64]) -> None:
        """Take texts for embedded whose vectors another process has; they cannot be fetched.

        Args:
            hashes: (n, 2) uint64.
        """
        with self._lock:
            self._add_block(self.journal_folder, hashes)

    def hashes(self) -> NDArray[np.uint64]:
        """Return the texts that have vectors, (n, 2) uint64."""
        with self._lock:
            self._merge()
            return np.stack([self._main.high, self._main.low], axis=1)

    def name_model(self) -> Path:
        """Leave the drift sample before the first journal; journals without one belong to no model.

        Returns:
            The file with them.
        """
        assert self._drift_sample is not None, "who commits knows the model"
        path = self.journal_folder / DRIFT_FILE
        with self._lock:
            if read_drift_sample(path) is not None:
                return path
            self.journal_folder.mkdir(parents=True, exist_ok=True)
            for journal in self._journals():
                journal.unlink()
            save_arrays(
                path,
                fingerprint=np.array(self.fingerprint),
                texts=np.array(self._drift_sample.texts),
                vectors=self._drift_sample.vectors,
            )
        return path

    def fetch(self, hashes: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Return the vectors of texts, all of which must be there.

        Args:
            hashes: (n, 2) uint64, repetitions allowed.

        Returns:
            (n, dimensions) float32.

        Raises:
            KeyError: A text has no vector.
        """
        with self._lock:
            source, row = self._locate(hashes)
        if (source < 0).any():
            raise KeyError(hashes[source < 0][0].tobytes().hex())
        vectors = np.empty((len(hashes), self.dimensions or 0), dtype=np.float32)
        for number in np.unique(source).tolist():
            wanted = np.flatnonzero(source == number)
            vectors[wanted] = self._read(number, row[wanted])
        return vectors

    def _locate(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        source = np.full(len(hashes), -1, dtype=np.int32)
        row = np.zeros(len(hashes), dtype=np.int32)
        for block in (self._main, *self._recent):
            block.locate(hashes, source, row)
        return source, row

    def _add_block(self, path: Path, hashes: NDArray[np.uint64]) -> None:
        number = len(self._sources)
        self._sources.append(path)
        source = np.full(len(hashes), number, dtype=np.int32)
        self._recent.append(TextPlaces.make(hashes, source, np.arange(len(hashes), dtype=np.int32)))
        if len(self._recent) > _RECENT_BLOCKS:
            self._merge()

    def _merge(self) -> None:
        blocks = [self._main, *self._recent]
        low = np.concatenate([block.low for block in blocks])
        hashes = np.stack([np.concatenate([block.high for block in blocks]), low], axis=1)
        source = np.concatenate([block.source for block in blocks])
        self._main = TextPlaces.make(hashes, source, np.concatenate([b.row for b in blocks]))
        self._recent = []

    def _add_segment(self, segment: SegmentSource) -> None:
        number = len(self._sources)
        connection = self._connect()
        attach(connection, segment.path, f"e{number}")
        try:
            columns = arrow.fetch_columns(
                connection.cursor(),
                f"SELECT hash_high, hash_low FROM e{number}.chunks ORDER BY row",  # noqa: S608 - a number of our own
            )
        except duckdb.Error as error:
            raise damaged(segment.path, f"cannot be read ({first_line(error)})") from error
        self._attached.add(number)
        self.dimensions = segment.dimensions
        self._add_block(segment.path, np.stack([columns["hash_high"], columns["hash_low"]], axis=1))

    def _journals(self) -> list[Path]:
        return [*self.journal_folder.glob("*.npz"), *self.journal_folder.glob(f"*{PARTIAL}")]

    def _add_journal(self, path: Path) -> int:
        """Take in a journal; return how many texts it has for us."""
        journal = read_journal(path)
        if journal is None or not journal.is_of(self.fingerprint):
            path.unlink(missing_ok=True)  # its texts are embedded again
            return 0
        hashes, dimensions = journal.hashes, journal.vectors.shape[1]
        if self.dimensions not in {None, dimensions}:
            return 0
        self.dimensions = dimensions
        self._add_block(path, hashes)
        return len(hashes)

    def _read(self, number: int, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        if number not in self._attached:
            with np.load(self._sources[number]) as file:
                return file["vectors"][rows]
        distinct, position = np.unique(rows, return_inverse=True)
        cursor = self._connect().cursor()
        cursor.register("wanted", arrow.make_table({"row": distinct}))
        try:
            found = arrow.fetch_vectors(
                cursor,
                f"SELECT v FROM e{number}.vectors JOIN wanted USING (row) ORDER BY row",  # noqa: S608 - a number of our own
                self.dimensions or 0,
            )
        except duckdb.Error as error:
            path = self._sources[number]
            raise damaged(path, f"cannot be read ({first_line(error)})") from error
        cursor.unregister("wanted")
        return found[position]


def _suffixes() -> Iterator[str]:
    yield ""
    yield from (f"-{number}" for number in itertools.count(1))


_NO_HASHES = np.zeros((0, 2), dtype=np.uint64)
_NO_ROWS = np.zeros(0, dtype=np.int32)
