"""Tasks of an index run whose shards are embedded in other processes; names of files come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from merganser.indexing import Workspace
from merganser.remote.sharing import ShardReceipt, receive_shard, share_run
from merganser.remote.worker import embed_remote_shard
from merganser.tasks.indexing import embed_service
from merganser.tasks.options import MODEL_TASK

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.indexing import Shard
    from merganser.remote.sharing import SharedRun
    from merganser.tasks.indexing import IndexRun
    from merganser.tasks.models import ReadyModel


@task(**MODEL_TASK, task_run_name="embed {shard.number}")
def embed_shard_remotely(
    run: SharedRun, shard: Shard, index: IndexDefinition, model: ReadyModel | None
) -> ShardReceipt:
    """Chunk and embed the files of one shard, wherever this runs.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one file's.
        StoreError: The shared folder cannot be reached from here, read or written.
    """
    start = (lambda: embed_service(index, model)) if model is not None else None
    receipt, result = asyncio.run(embed_remote_shard(run, shard, start))
    get_run_logger().info(
        "%d chunks, %d texts embedded, %d reused",
        result.chunks,
        result.texts_embedded,
        result.texts_reused,
    )
    return receipt


def share(run: IndexRun) -> tuple[SharedRun, tuple[Shard, ...]]:
    """Leave what other processes need of a run; give it with the shards.

    Raises:
        StoreError: The shared folder cannot be reached, read or written.
    """
    workspace = Workspace.open(run.folder, run.run_id)
    return share_run(workspace), workspace.shards


def receive(run: IndexRun, receipt: ShardReceipt) -> None:
    """Take in what a shard left.

    Raises:
        StoreError: A file is not there or not whole.
    """
    receive_shard(Workspace.open(run.folder, run.run_id), receipt)
