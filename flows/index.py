"""The stages of one index within a flow run: find changes, embed, build, publish."""

from __future__ import annotations

from dataclasses import replace
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from merganser.indexing.publishing import drop_old_snapshots
from merganser.indexing.run import has_embedded
from merganser.indexing.run_report import IndexReport
from merganser.indexing.workspace import Workspace
from merganser.progress import remark
from merganser.tasks.indexing import (
    EmbeddedShards,
    TaskBatch,
    build,
    confirm_model,
    embed_shards,
    find_index_changes,
    publish_snapshot,
    show_report,
)
from merganser.tasks.options import submit
from merganser.threads import limiting_threads, within_limit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect import State
    from prefect.futures import PrefectFuture

    from merganser.config.index_definition import IndexDefinition
    from merganser.config.spec_flows import IndexFlowSpec, RunnerSpec
    from merganser.indexing.build import BuiltSnapshot
    from merganser.tasks.models import ReadyModel


DEFAULT_WORKERS = 4
"""Shards at a time: their texts are embedded in order, so the later ones are there to be taken when
the first is stored, and a server with many slots always has enough."""

_SECONDS = (1.0, 5.0)  # a task should take no less and no more
_GROWTH = 4  # no task is more times as large as the one that it was learnt from


def shard_workers(spec: IndexFlowSpec) -> int:
    """Return how many shards a flow embeds at a time in this process."""
    with limiting_threads(spec.threads):
        return within_limit(spec.concurrency or DEFAULT_WORKERS)


class TaskBatches:
    """Hand out the shards of a run in order, each once, as many a task as are seconds of work.

    A shard is what is committed and resumed: some 500 chunks, whatever embeds them. A task is what
    is seen in the UI and retried, and costs some 10 ms of CPU. With a small encoder on a CPU a
    shard is 5 to 10 s of work and a task of its own; with a fast server it is a fraction of a
    second, and a task takes several. How many is learnt from the tasks that are done.

    Args:
        shards: How many there are.
        workers: How many tasks run at a time, at least 1.
    """

    def __init__(self, shards: int, workers: int) -> None:
        self._next = 0
        self._shards = shards
        self._workers = workers
        self._least = self._most = 1

    def next(self) -> TaskBatch | None:
        """Return the next batch, or None when all shards are handed out."""
        left = self._shards - self._next
        if not left:
            return None
        # Smaller towards the end, so that all workers come to it at the same time.
        size = max(self._least, min(self._most, left // self._workers))
        first, self._next = self._next, self._next + min(size, left)
        return TaskBatch(first, self._next - 1)

    def learn(self, batch: TaskBatch, seconds: float) -> None:
        """Learn from a task that is done; what follows fits the time that it took.

        Args:
            batch: What it did.
            seconds: Wall time.
        """
        shards = len(batch.numbers)
        least, most = (int(shards * bound / max(seconds, 1e-3)) for bound in _SECONDS)
        self._most = max(1, min(most, shards * _GROWTH))
        self._least = max(1, min(least, self._most))


class IndexStages:
    """Brings one index up to date; each method is one stage of the plan.

    Args:
        index: The index.
        model: The embedding model, ready; None for an index of words alone.
        full: Do everything anew; vectors of equal texts are still reused.
        repair: Read all of the index, and do anew what is damaged.
        workers: How many tasks of the flow run at a time.
        deadline: When embedding stops, of ``time.monotonic``; None for never.

    Attributes:
        name: Name of the index.
        stopped: What is said of a run that was stopped by its deadline, or "".
        last: The tasks, or their states, that the next one comes after.
        report: What the run did, after ``publish``.
        embed_seconds: Wall time of the embedding stage.
    """

    def __init__(
        self,
        index: IndexDefinition,
        model: PrefectFuture[ReadyModel] | None,
        *,
        full: bool,
        repair: bool,
        workers: int,
        deadline: float | None = None,
    ) -> None:
        self._deadline = deadline
        self.stopped = ""
        self._index = index
        self._model = model
        self._full = full
        self._repair = repair
        self._workers = workers
        self._run: Workspace | None = None
        self._built: BuiltSnapshot | None = None
        self.name = index.name
        self.last: list[PrefectFuture[Any] | State[Any]] = []
        self.report: IndexReport | None = None
        self.embed_seconds = 0.0

    @property
    def built(self) -> BuiltSnapshot | None:
        """The snapshot that is not published yet, or None when there is none."""
        is_new = self._built is not None and self._built.catalogue is not None
        return self._built if is_new else None

    def find_changes(self) -> None:
        """Find what changed and lay the run out, or finish when nothing did."""
        found = submit(
            find_index_changes, self._index, self._model, full=self._full, repair=self._repair
        )
        self.last = [found]
        match found.result():
            case IndexReport() as report:
                self._show(report)
            case Workspace() as run:
                self._run = run

    def embed(self, runner: RunnerSpec | None = None, workers: int | None = None) -> None:
        """Chunk and embed the shards, as many at a time as the flow has workers.

        Args:
            runner: Embeds them in other processes.
            workers: How many processes; None for one for each core.
        """
        if self._run is None:
            return
        began = monotonic()
        # No future but a value: the edge from the stage before says it, one a shard.
        model = self._model.result() if self._model else None
        if runner is not None and self._run.shards:
            # A run that embeds here must not pay for importing this.
            from merganser.flows.remote import embed_remotely  # noqa: PLC0415 - only runs elsewhere pay for it

            self.last = [
                *embed_remotely(runner, workers, self._run, self._index, model, after=self.last)
            ]
        else:
            try:
                self._embed_here(self._run, model)
            except Empty:
                self._stop(self._run)
                return
        if model is not None:
            if has_embedded(self._run):
                confirmed = submit(confirm_model, self._run, self._index, model, after=self.last)
                confirmed.result()
                self.last = [confirmed]
            self.embed_seconds = monotonic() - began

    def _embed_here(self, run: Workspace, model: ReadyModel | None) -> None:
        """Start the next task when one is done, with as many shards as fit the time of a task.

        Raises:
            Empty: The time is over.
        """
        batches = TaskBatches(len(run.shards), self._workers)
        tasks: list[PrefectFuture[EmbeddedShards]] = []
        done: SimpleQueue[PrefectFuture[EmbeddedShards]] = SimpleQueue()

        def start_next() -> None:
            if batch := batches.next():
                task = submit(embed_shards, run, batch, self._index, model, after=self.last)
                task.add_done_callback(done.put)
                tasks.append(task)

        for _ in range(self._workers):
            start_next()
        finished = 0
        while finished < len(tasks):
            # Prefect's types do not say that a failed task gives its error here.
            embedded = cast(
                "EmbeddedShards | BaseException",
                done.get(timeout=self._seconds_left()).result(raise_on_failure=False),
            )
            finished += 1
            if isinstance(embedded, EmbeddedShards):
                batches.learn(embedded.batch, embedded.seconds)
            start_next()
        for task in tasks:
            task.result()
        self.last = [*tasks] or self.last

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    def _stop(self, run: Workspace) -> None:
        """End a run whose time is over: its requests are given up, what they brought is kept."""
        run.abandon(error="its time was over")
        self._run = None
        self.stopped = (
            f"{self.name}: stopped by its time limit, {run.kept_texts:,} embedded texts are kept "
            "for the next run; the served snapshot is as it was"
        )

    def build(self) -> None:
        """Write the new snapshot beside the served one."""
        if self._run is None:
            return
        built = submit(build, self._run, after=self.last)
        self._built = built.result()
        self.last = [built]

    def publish(self, keep_snapshots: int, *, after: Sequence[PrefectFuture[Any]] = ()) -> None:
        """Switch readers to the new snapshot if there is one, drop the oldest, leave the report.

        Args:
            keep_snapshots: How many are kept, the new one included.
            after: The gates that hold.
        """
        if self._run is None:
            drop_old_snapshots(self._index.folder, keep_snapshots)
            return
        published = submit(
            publish_snapshot,
            self._run,
            self._built,
            keep_snapshots,
            after=[*self.last, *after],
        )
        self.last = [published]
        report = published.result()
        self._run = self._built = None
        self._show(report)

    def give_up(self, reason: str) -> None:
        """Let the next run write; what was embedded is kept, and how much that is is said."""
        if self._run is not None:
            self._run.abandon(error=reason)
            if kept := self._run.kept_texts:
                remark(f"{self.name}: {kept:,} embedded texts are kept for the next run")

    def _show(self, report: IndexReport) -> None:
        if self._model is not None:
            report = replace(report, notes=(*report.notes, *self._model.result().left_out))
        self.report = submit(show_report, report, after=self.last).result()
