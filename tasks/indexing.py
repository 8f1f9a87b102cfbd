"""Tasks of an index run: find changes, embed shards, build, publish.

The run is a ``Workspace`` of this process, which the tasks hand on to each other. Vectors and
chunks are in its files and never pass through Prefect.
"""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from merganser.documents.skipping import group_skipped
from merganser.embedding.service import EmbedService
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import recognise_model
from merganser.indexing.forecast import work_of
from merganser.indexing.publishing import finish_unchanged, publish
from merganser.indexing.run import confirm_run
from merganser.indexing.shards import embed_shard
from merganser.indexing.sources import bring_repositories
from merganser.indexing.workspace import begin_run
from merganser.models.outage import waiting_for_server
from merganser.planning.explain import describe_work
from merganser.progress import report
from merganser.tasks.artifacts import artifact_key, code, nested_list, report_markdown
from merganser.tasks.models import embedder_of, open_runner
from merganser.tasks.options import LOCAL_TASK, MODEL_TASK
from merganser.threads import limiting_threads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from merganser.config.index_definition import IndexDefinition
    from merganser.embedding.embedder import Embedder
    from merganser.indexing.build import BuiltSnapshot
    from merganser.indexing.run_report import IndexReport
    from merganser.indexing.shard_plan import Shard, ShardResult
    from merganser.indexing.workspace import Workspace
    from merganser.remote.sharing import ShardReceipt, SharedRun
    from merganser.tasks.models import ReadyModel


_MOST_ROWS = 2_000  # of a table in the UI; `merganser files` lists all
_SHARDS_PER_COLLECTION = 16
# httpx ties each answer to itself, with the texts that were sent and the vectors that came. That is
# few objects and much memory: left to the collector's own time, 0.5 GB of it piles up.


class TaskBatch(NamedTuple):
    """The shards of one task.

    Attributes:
        first: Number of the first shard.
        last: Number of the last one.
    """

    first: int
    last: int

    def __str__(self) -> str:
        """Name the shards for the UI."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"

    @property
    def numbers(self) -> range:
        """The shards."""
        return range(self.first, self.last + 1)


@dataclass(frozen=True, slots=True)
class EmbeddedShards:
    """What became of a batch, in numbers.

    Attributes:
        batch: The shards.
        chunks: In all of them.
        texts_embedded: Texts sent to the model.
        texts_reused: Distinct texts whose vectors were there or came from another shard.
        seconds: Wall time.
    """

    batch: TaskBatch
    chunks: int
    texts_embedded: int
    texts_reused: int
    seconds: float


@task(**MODEL_TASK, task_run_name="survey {index.name}")
def find_index_changes(
    index: IndexDefinition, model: ReadyModel | None, *, full: bool, repair: bool
) -> Workspace | IndexReport:
    """Compare the files with the served snapshot and lay the run out; show the plan.

    Returns:
        The run, or a report when there is nothing to do.

    Raises:
        RepositoryError: A repository is not here and cannot be cloned.
        PlanError: There is nothing to index, or the model's vectors have another length.
        StoreError: The folder is busy, foreign, damaged or full.
    """
    return asyncio.run(_find_changes(index, model, full=full, repair=repair))


@task(**MODEL_TASK, task_run_name="embed {batch}")
def embed_shards(
    run: Workspace, batch: TaskBatch, index: IndexDefinition, model: ReadyModel | None
) -> EmbeddedShards:
    """Chunk and embed the files of some shards and commit the vectors of each.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one file's.
        StoreError: The disk is full or the folder cannot be written.
    """
    began = monotonic()
    results = asyncio.run(_embed_shards(run, batch, index, model))
    return EmbeddedShards(
        batch,
        sum(result.chunks for result in results),
        sum(result.texts_embedded for result in results),
        sum(result.texts_reused for result in results),
        monotonic() - began,
    )


@task(**MODEL_TASK, task_run_name="embed {shard.number}")
def embed_shard_remotely(
    run: SharedRun,
    shard: Shard,
    index: IndexDefinition,
    model: ReadyModel | None,
    *,
    wait_seconds: float = 0.0,
    threads: int | None = None,
) -> ShardReceipt:
    """Chunk and embed the files of one shard, wherever this runs.

    Args:
        run: The run.
        shard: The files.
        index: Their index.
        model: The embedding model, or None for an index of words alone.
        wait_seconds: How long a model server that is away is waited for.
        threads: How many it may use; None for what it likes.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one file's.
        StoreError: The shared folder cannot be reached from here, read or written.
    """
    # A run that embeds here does not pay for importing this.
    from merganser.remote.worker import embed_remote_shard  # noqa: PLC0415 - as above

    start = (lambda: embed_service(index, model)) if model is not None else None
    logger = get_run_logger()
    with limiting_threads(threads), waiting_for_server(wait_seconds, tell=logger.warning):
        receipt, result = asyncio.run(embed_remote_shard(run, shard, start))
    logger.info(
        "%d chunks, %d texts embedded, %d reused",
        result.chunks,
        result.texts_embedded,
        result.texts_reused,
    )
    return receipt


@task(**MODEL_TASK, task_run_name="confirm {model.use.model.model}")
def confirm_model(run: Workspace, index: IndexDefinition, model: ReadyModel) -> None:
    """Embed the drift texts once more: what the run embedded must be of one model.

    Raises:
        DriftedError: The model changed meanwhile; what the run embedded is thrown away.
    """
    asyncio.run(confirm_run(run, run.service(lambda: embed_service(index, model))))


@task(**LOCAL_TASK, task_run_name="build {run.definition.name}")
def build(run: Workspace) -> BuiltSnapshot:
    """Write the new snapshot beside the served one.

    Raises:
        PlanError: The index would be empty.
        StoreError: Too many files failed, the disk is full, or the index is damaged.
    """
    built = build_snapshot(run)
    get_run_logger().info(
        "built a snapshot of %s: %d chunks", built.report.name, built.report.chunks
    )
    return built


@task(**LOCAL_TASK, task_run_name="publish {run.definition.name}")
def publish_snapshot(run: Workspace, built: BuiltSnapshot, keep_snapshots: int) -> IndexReport:
    """Switch readers to the new snapshot and remove what is not kept any more.

    Raises:
        StoreError: A file cannot be moved or written; the old snapshot is served.
    """
    published = publish(run, built, keep_snapshots=keep_snapshots)
    get_run_logger().info("%s serves snapshot %s", published.name, published.served)
    return published


@task(**LOCAL_TASK, task_run_name="report {result.name}")
def show_report(result: IndexReport) -> IndexReport:
    """Leave the report as two artifacts of the run: what happened, and each file that was not."""
    key = artifact_key("index", result.name)
    create_markdown_artifact(
        report_markdown(result), key=key, description=f"Index {result.name}: {result.status}"
    )
    groups = group_skipped(result.skipped, {*result.new_skips})
    skipped = chain.from_iterable(group.files for group in groups)
    left_out = [*(("failed", f) for f in result.failed), *(("skipped", f) for f in skipped)]
    rows = [
        {"path": file.path, "what": what, "why": f"{file.reason}: {file.detail}".rstrip(": ")}
        for what, file in left_out[:_MOST_ROWS]
    ]
    if rows:
        create_table_artifact(
            rows,
            key=artifact_key("left-out", result.name),
            description=f"Files left out, and why: {len(rows):,} of {len(left_out):,}",
        )
    return result


def embed_service(index: IndexDefinition, model: ReadyModel) -> EmbedService:
    """Start the embedder that all shards of a process share."""
    return EmbedService(lambda: _embedder(index, model))


async def _find_changes(
    index: IndexDefinition, model: ReadyModel | None, *, full: bool, repair: bool
) -> Workspace | IndexReport:
    bring_repositories(index)
    recognised = None
    if model is not None and index.embedding is not None:
        async with _embedder(index, model) as embedder:
            recognised = await recognise_model(embedder, index)
    fingerprint = recognised.fingerprint if recognised else ""
    found = find_changes(index, fingerprint=fingerprint, full=full, repair=repair)
    work = work_of(found)
    lines = "\n".join(nested_list(describe_work(work)))
    create_markdown_artifact(
        f"## Plan for {code(index.name)}\n\n{lines}",
        key=artifact_key("plan", index.name),
        description=f"What this run does to {index.name}",
    )
    report(f"survey {index.name}", found.scanned, found.scanned, unit="files")
    if not found.has_work:
        return finish_unchanged(found)
    return begin_run(found, model=recognised)


async def _embed_shards(
    run: Workspace, batch: TaskBatch, index: IndexDefinition, model: ReadyModel | None
) -> list[ShardResult]:
    service = None
    if model is not None and index.embedding is not None:
        service = run.service(lambda: embed_service(index, model))
    results: list[ShardResult] = []
    for number in batch.numbers:
        results.append(await embed_shard(run, run.shards[number], service))
        if number % _SHARDS_PER_COLLECTION == 0:
            gc.collect()
    return results


@asynccontextmanager
async def _embedder(index: IndexDefinition, model: ReadyModel) -> AsyncGenerator[Embedder]:
    assert index.embedding is not None, "only an index with a model embeds"
    async with open_runner(model.address, model.use.model) as runner:
        runner.keep_configured(model.use, model.served)
        yield embedder_of(model, index.embedding, runner)
