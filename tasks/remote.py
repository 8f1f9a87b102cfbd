"""The task that embeds a shard in another process; names of files come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefect import get_run_logger, task

from merganser.remote.worker import embed_remote_shard
from merganser.tasks.indexing import embed_service
from merganser.tasks.options import MODEL_TASK

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.indexing.shard_plan import Shard
    from merganser.remote.sharing import ShardReceipt, SharedRun
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
