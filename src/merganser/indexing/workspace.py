"""The working folder of one run, and the right to write that goes with it.

Everything that crosses from one stage to the next is in ``build/<run id>/`` or named by an id, so
that a stage may run in another thread; ``Workspace.open`` finds the run again. The process that
began a run holds the writer's lock until the run is published or abandoned.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from merganser.errors import PlanError, StoreError
from merganser.indexing.changes import find_changes as find_again
from merganser.indexing.shard_progress import ShardProgress
from merganser.indexing.shards import CHUNKS_PER_SHARD, Shard, expected_chunks, plan_shards
from merganser.remote.shared_journals import exchange_journals
from merganser.remote.sharing import journals_folder
from merganser.store.catalogue import read_segment_rows
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore, SegmentSource
from merganser.store.folder import IndexFolder, replace_file
from merganser.store.history import RunRow, record_run
from merganser.store.snapshots import collect, collect_builds
from merganser.store.writer_lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    import duckdb

    from merganser.config.index_definition import IndexDefinition
    from merganser.embedding.drift import SnapshotModel
    from merganser.embedding.service import EmbedService
    from merganser.indexing.changes import Changes

_RESERVE_BYTES = 64 << 20
_CHARACTERS_PER_CHUNK = 400  # on the low side, so that the estimate of the vectors is on the high

_open: dict[tuple[Path, str], Workspace] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What a run was set out to do.

    Attributes:
        run_id: Its name.
        started: When it began.
        changes: What differs.
        model: The embedding model, or None for an index without embeddings.
        shards: The changed files in groups.
    """

    run_id: str
    started: datetime
    changes: Changes
    model: SnapshotModel | None
    shards: tuple[Shard, ...]


class Workspace:
    """One run in progress; make it by ``begin_run``, find it again by ``Workspace.open``.

    As a context manager it abandons a run that was not published.

    Attributes:
        index: The index folder.
        plan: What is to be done.
        path: The run's working folder.
        progress: How far its shards are.
        cutting: Held by the one shard that reads and cuts its files. Cutting holds the interpreter,
            so several at once gain nothing, switch to and fro, and bring the first texts to the
            model later.
    """

    def __init__(self, index: IndexFolder, plan: RunPlan, lock: WriterLock) -> None:
        self.index = index
        self.plan = plan
        self.path = index.build / plan.run_id
        chunking = plan.changes.definition.chunking
        self.progress = ShardProgress(
            plan.changes.definition.name,
            {shard.number: expected_chunks(shard, chunking) for shard in plan.shards},
            embeds=bool(plan.changes.fingerprint),
        )
        self.cutting = threading.Lock()
        self._lock = lock
        self._guard = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._embeddings: EmbeddingStore | None = None
        self._service: EmbedService | None = None
        self._closed = False

    @classmethod
    def open(cls, folder: Path, run_id: str) -> Workspace:
        """Find a run that this process began.

        Raises:
            StoreError: It is over, or another process began it.
        """
        try:
            return _open[folder.resolve(), run_id]
        except KeyError:
            raise StoreError(
                f"the run {run_id} of {str(folder)!r} is not in progress in this process"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        abandon(self, error=str(error or kind.__name__) if kind else "not published")

    @property
    def run_id(self) -> str:
        """Name of the run; with the folder it is all that a stage needs."""
        return self.plan.run_id

    @property
    def folder(self) -> Path:
        """The index folder."""
        return self.index.path

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The groups of files that ``embed_shard`` takes."""
        return self.plan.shards

    @property
    def model(self) -> SnapshotModel | None:
        """The embedding model, or None for an index without embeddings."""
        return self.plan.model

    @property
    def definition(self) -> IndexDefinition:
        """The index."""
        return self.plan.changes.definition

    @property
    def dimensions(self) -> int | None:
        """Length of the model's vectors, or None without a model."""
        return self.plan.model.dimensions if self.plan.model else None

    @property
    def is_open(self) -> bool:
        """Whether the run was neither published nor abandoned."""
        return not self._closed

    def _connect(self) -> duckdb.DuckDBPyConnection:
        """Give the database in memory to which the run's older segments are attached."""
        if self._connection is None:
            self._connection = connect_writer(self.path / "spill")
        return self._connection

    def embeddings(self) -> EmbeddingStore:
        """Give the vectors that are there; the first call looks for them.

        Raises:
            StoreError: The run has no embedding model, or the folder that machines share for
                their shards cannot be reached.
        """
        if self.plan.model is None:
            raise StoreError("this run has no embedding model")
        with self._guard:
            if self._embeddings is None:
                model = self.plan.model
                store = EmbeddingStore(
                    self.index,
                    model.fingerprint,
                    segments_of(self.index, model.fingerprint),
                    connect=self._connect,
                    drift_sample=model.drift_sample,
                )
                if self.definition.shards is not None:
                    exchange_journals(store, journals_folder(self, store))
                self._embeddings = store
            return self._embeddings

    def service(self, start: Callable[[], EmbedService]) -> EmbedService:
        """Give the run's one embedder; the first call starts it, the end of the run ends it.

        Raises:
            MerganserError: It could not be started.
        """
        with self._guard:
            if self._closed:
                raise StoreError(f"the run {self.run_id} is over")
            if self._service is None:
                self._service = start()
            return self._service

    def close(self) -> None:
        """Give up what is being embedded, remove the working folder and let the next run write."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
        if self._service is not None:
            self._service.close()
        _open.pop((self.folder.resolve(), self.run_id), None)
        if self._connection is not None:
            self._connection.close()
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
            changes = find_again(changes.definition, fingerprint=fingerprint, full=changes.full)
        collect_builds(index)
        collect(index, current)
        started = datetime.now(UTC)
        plan = RunPlan(
            run_id=f"{started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
            started=started,
            changes=changes,
            model=model,
            shards=plan_shards(changes, chunks_per_shard=chunks_per_shard),
        )
        require_space(index, _estimate_bytes(plan))
        workspace = Workspace(index, plan, lock)
        _write_plan(workspace)
    except OSError as error:
        lock.release()
        raise StoreError(f"cannot begin a run in {str(index.path)!r}: {error}") from error
    except BaseException:
        lock.release()
        raise
    _open[index.path.resolve(), plan.run_id] = workspace
    return workspace


def abandon(workspace: Workspace, *, error: str = "") -> None:
    """Give a run up: nothing is published, embedded vectors stay for the next run.

    Does nothing after ``publish`` or a second time.
    """
    if not workspace.is_open:
        return
    try:
        run = RunRow(
            run_id=workspace.run_id,
            started=workspace.plan.started,
            finished=datetime.now(UTC),
            status="failed",
            error=error,
        )
        with contextlib.suppress(StoreError):  # a full disk must not hide what ended the run
            record_run(workspace.index, run)
    finally:
        workspace.close()


def require_space(index: IndexFolder, needed: int) -> None:
    """Stop before a disk gets full.

    Raises:
        StoreError: Less is free than needed and a reserve.
    """
    free = shutil.disk_usage(index.path).free
    if free < needed + _RESERVE_BYTES:
        raise StoreError(
            f"about {needed / 1e6:,.0f} MB are needed on the disk of {str(index.path)!r} and "
            f"{free / 1e6:,.0f} MB are free; the served snapshot is as it was. Free space, keep "
            "fewer snapshots, or name another folder with `database`"
        )


def _estimate_bytes(plan: RunPlan) -> int:
    """Estimate what the journals, the shard files and a new segment will take, at most."""
    source = sum(document.size_bytes for document in plan.changes.pending)
    vectors = 4 * (plan.model.dimensions if plan.model else 0) * source // _CHARACTERS_PER_CHUNK
    return 4 * source + 2 * vectors


def segments_of(index: IndexFolder, fingerprint: str) -> list[SegmentSource]:
    """Find the segments of all kept snapshots that a model embedded."""
    current = index.read_current()
    found: dict[Path, SegmentSource] = {}
    for generation in current.kept if current else ():
        with contextlib.suppress(StoreError, FileNotFoundError):  # damaged: embed again
            for row in read_segment_rows(index.catalogue(generation)):
                path = index.path / row.file
                if row.embedding == fingerprint and path.exists():
                    found[path] = SegmentSource(path, row.dimensions)
    return list(found.values())


def _write_plan(workspace: Workspace) -> None:
    """Leave a note of what the run is about, for people who find its folder."""
    workspace.path.mkdir(parents=True)
    data = {
        "run_id": workspace.run_id,
        "started": workspace.plan.started.isoformat(),
        "shards": [[d.path for d in shard.documents] for shard in workspace.shards],
        "removed": workspace.plan.changes.removed,
        "reasons": workspace.plan.changes.reasons,
    }
    replace_file(workspace.path / "plan.json", json.dumps(data).encode(), is_durable=False)
