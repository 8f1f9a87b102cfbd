"""The run in progress: its working folder, its changes and shards, and the right to write.

Everything that crosses from one stage to the next is in ``build/<run id>/`` or in the
``Workspace``, which any thread of the process may use. The process that began a run holds the
writer's lock until the run is published or abandoned.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Self

import numpy as np

from merganser.errors import PlanError, StoreError
from merganser.indexing.changes import find_changes
from merganser.indexing.shard_plan import (
    CHUNKS_PER_SHARD,
    ShardProgress,
    expected_chunks,
    plan_shards,
)
from merganser.indexing.siblings import Siblings
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore, segments_of
from merganser.store.folder import IndexFolder, replace_file
from merganser.store.history import RunRow, record_run
from merganser.store.segment_check import read_identity, salvage_vectors
from merganser.store.shared_journals import exchange_journals, shared_root
from merganser.store.snapshots import collect, collect_builds
from merganser.store.writer_lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    import duckdb
    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition
    from merganser.embedding.service import EmbedService
    from merganser.indexing.changes import Changes
    from merganser.indexing.drift import SnapshotModel
    from merganser.store.shared_folder import SharedFolder

_RESERVE_BYTES = 64 << 20
_CHARACTERS_PER_CHUNK = 400  # on the low side, so that the estimate of the vectors is on the high


class Workspace:
    """One run in progress; make it by ``begin_run``.

    As a context manager it abandons a run that was not published.

    Attributes:
        run_id: Name of the run.
        started: When it began.
        index: The index folder.
        changes: What differs.
        model: The embedding model, or None for an index without embeddings.
        shards: The changed files in groups, for ``embed_shard``.
        path: The run's working folder.
        progress: How many texts of the shards are done.
        chunking: Held by the one shard that reads and chunks its files. Chunking holds the
            interpreter, so several at once gain nothing, switch to and fro, and bring the first
            texts to the model later.
    """

    def __init__(
        self,
        changes: Changes,
        model: SnapshotModel | None,
        lock: WriterLock,
        *,
        chunks_per_shard: int,
    ) -> None:
        options = changes.definition.chunking
        self.index = IndexFolder(changes.definition.folder)
        self.changes = changes
        self.model = model
        self.shards = plan_shards(changes.pending, options, chunks_per_shard=chunks_per_shard)
        self.started = datetime.now(UTC)
        self.run_id = f"{self.started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        self.path = self.index.build / self.run_id
        self.progress = ShardProgress(
            changes.definition.name,
            {shard.number: expected_chunks(shard, options) for shard in self.shards},
            embeds=model is not None,
        )
        self.chunking = threading.Lock()
        self._lock = lock
        self._guard = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._embeddings: EmbeddingStore | None = None
        self._siblings: Siblings | None = None
        self._copied = 0
        self._copying = threading.Lock()
        self._service: EmbedService | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.abandon(error=str(error or kind.__name__) if kind else "not published")

    @property
    def folder(self) -> Path:
        """The index folder."""
        return self.index.path

    @property
    def definition(self) -> IndexDefinition:
        """The index."""
        return self.changes.definition

    @property
    def dimensions(self) -> int | None:
        """Length of the model's vectors, or None without a model."""
        return self.model.dimensions if self.model else None

    @property
    def shared(self) -> SharedFolder:
        """Folder for other processes: the one in the config, or a part of the working folder."""
        place = self.definition.shards or str(self.path / "shared")
        return shared_root(place, self.definition.name)

    def embeddings(self) -> EmbeddingStore:
        """Return the vectors that are there; the first call looks for them.

        Raises:
            StoreError: The run has no embedding model, or the folder that machines share for
                their shards cannot be reached.
        """
        if self.model is None:
            raise StoreError("this run has no embedding model")
        with self._guard:
            if self._embeddings is None:
                store = EmbeddingStore(
                    self.index,
                    self.model.fingerprint,
                    segments_of(self.index, self.model.fingerprint, damaged=self.changes.damaged),
                    connect=self._connect,
                    drift_sample=self.model.drift_sample,
                )
                store.recover()
                self._salvage(store)
                if self.definition.shards is not None:
                    exchange_journals(store, self.shared.below(store.journal_folder.name))
                self._siblings = Siblings(
                    self.definition, store.fingerprint, self.path / "siblings", model=self.model
                )
                store.on_missing = partial(self._copy_from_siblings, store, self._siblings)
                self._embeddings = store
            return self._embeddings

    @property
    def kept_texts(self) -> int:
        """Texts that were embedded in this run and are kept, published or not."""
        return self._embeddings.kept if self._embeddings else 0

    def _salvage(self, store: EmbeddingStore) -> None:
        """Take what can be read of damaged segments' vectors into journals."""
        for number in sorted(self.changes.damaged):
            path = self.index.segment(number)
            identity = read_identity(path)
            if identity is None or identity.embedding != store.fingerprint:
                continue
            for part, (hashes, vectors) in enumerate(salvage_vectors(path, identity.dimensions)):
                if len(missing := np.flatnonzero(~store.has(hashes))):
                    name = f"{self.run_id}-salvage-{number}-{part}"
                    store.commit(name, hashes[missing], vectors[missing])

    def _copy_from_siblings(
        self, store: EmbeddingStore, siblings: Siblings, missing: NDArray[np.uint64]
    ) -> None:
        """Take vectors of other indexes of the same repository into journals."""
        with self._copying:
            for hashes, vectors in siblings.find(missing[~store.has(missing)]):
                store.commit(f"{self.run_id}-copied-{self._copied}", hashes, vectors)
                self._copied += 1

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """Return the database in memory to which the run's older segments are attached."""
        if self._connection is None:
            self._connection = connect_writer(self.path / "spill", self.index.path)
        return self._connection

    def service(self, start: Callable[[], EmbedService]) -> EmbedService:
        """Return the run's one embedder; the first call starts it, the end of the run ends it.

        Raises:
            MerganserError: It could not be started.
        """
        with self._guard:
            if self._closed:
                raise StoreError(f"the run {self.run_id} is over")
            if self._service is None:
                self._service = start()
            return self._service

    def forget_embedded(self) -> None:
        """Throw away what this run embedded: its vectors cannot be trusted.

        Raises:
            StoreError: The folder that machines share for their shards cannot be reached.
        """
        if self.model is None:
            return
        store = self.embeddings()
        for path in store.journal_folder.glob(f"{self.run_id}-*"):
            path.unlink(missing_ok=True)
        store.kept = 0
        if self.definition.shards is not None:
            shared = self.shared.below(store.journal_folder.name)
            for name in shared.names():
                if name.startswith(f"{self.run_id}-"):
                    shared.remove(name)

    def abandon(self, *, error: str) -> None:
        """Publish nothing; vectors that were embedded stay for the next run.

        Does nothing after ``publish`` or a second time.

        Args:
            error: What ended the run, for the history.
        """
        if self._closed:
            return
        try:
            run = RunRow(
                run_id=self.run_id,
                started=self.started,
                finished=datetime.now(UTC),
                status="failed",
                error=error,
            )
            with contextlib.suppress(StoreError):  # a full disk must not hide what ended the run
                record_run(self.index, run)
        finally:
            self.close()

    def close(self) -> None:
        """Stop the embedder, remove the working folder and let the next run write."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        if self._service is not None:
            self._service.close()
        if self._connection is not None:
            self._connection.close()
        if self._siblings is not None:
            self._siblings.close()
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


def begin_run(
    changes: Changes,
    *,
    model: SnapshotModel | None = None,
    chunks_per_shard: int = CHUNKS_PER_SHARD,
) -> Workspace:
    """Take the right to write and lay out a run; remains of dead runs are cleared away.

    When another run published meanwhile, the changes are found again.

    Args:
        changes: What differs.
        model: The embedding model, or None for an index without embeddings.
        chunks_per_shard: About how many chunks one shard has.

    Raises:
        StoreBusyError: Another run is writing; the message says which.
        StoreFormatError: Something else stands where the index should be.
        StoreError: The folder cannot be written, the disk is nearly full, or the index is damaged.
    """
    fingerprint = model.fingerprint if model else ""
    if fingerprint != changes.fingerprint:
        raise PlanError("the changes were found for another embedding model than the run")
    index = IndexFolder(changes.definition.folder)
    lock = WriterLock(index)
    try:
        current = index.read_current()
        if (current.generation if current else None) != changes.base_generation:
            changes = find_changes(
                changes.definition,
                fingerprint=fingerprint,
                full=changes.full,
                repair=changes.repair,
            )
        collect_builds(index)
        if current is not None and not changes.repair:
            # Where no snapshot can be read, the vectors of its segments may be all there is.
            collect(index, current)
        require_space(index, _estimate_bytes(changes, model))
        workspace = Workspace(changes, model, lock, chunks_per_shard=chunks_per_shard)
        _write_plan(workspace)
    except OSError as error:
        lock.release()
        raise StoreError(f"cannot begin a run in {str(index.path)!r}: {error}") from error
    except BaseException:
        lock.release()
        raise
    return workspace


def require_space(index: IndexFolder, needed: int) -> None:
    """Stop before a disk gets full.

    Raises:
        StoreError: Less is free than needed and a reserve.
    """
    free = shutil.disk_usage(index.path).free
    if free < needed + _RESERVE_BYTES:
        raise StoreError(
            f"{(needed + _RESERVE_BYTES) / 1e6:,.1f} MB are needed on the disk of "
            f"{str(index.path)!r}, about {needed / 1e6:,.1f} MB for the index and a reserve of "
            f"{_RESERVE_BYTES / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free; the served "
            "snapshot is as it was. Free space, keep fewer snapshots, or name another folder with "
            "`database`"
        )


def _estimate_bytes(changes: Changes, model: SnapshotModel | None) -> int:
    """Estimate what the journals, the shard files and a new segment will take, at most."""
    source = sum(document.size_bytes for document in changes.pending)
    vectors = 4 * (model.dimensions if model else 0) * source // _CHARACTERS_PER_CHUNK
    return 4 * source + 2 * vectors


def _write_plan(workspace: Workspace) -> None:
    """Leave a note of what the run is about, for people who find its folder."""
    workspace.path.mkdir(parents=True)
    data = {
        "run_id": workspace.run_id,
        "started": workspace.started.isoformat(),
        "shards": [[d.path for d in shard.documents] for shard in workspace.shards],
        "removed": workspace.changes.removed,
        "reasons": workspace.changes.reasons,
    }
    replace_file(workspace.path / "plan.json", json.dumps(data).encode(), is_durable=False)
