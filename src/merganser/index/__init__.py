"""The indexing engine: from files to a published snapshot, in stages that anyone may orchestrate.

::

    model = await recognise_model(embedder, definition)
    found = survey(definition, fingerprint=model.fingerprint)
    if not found.has_work: return finish_unchanged(found)
    with begin_run(found, model=model) as workspace:    # abandons what is not published
        for shard in workspace.shards:                  # in any number of threads
            await embed_shard(workspace, shard, embedder)
        built = build_snapshot(workspace)
        published = publish(workspace, built)

``index_once`` is exactly that.
"""

from merganser.index.build import (
    MAX_FAILED_SHARE,
    BuiltSnapshot,
    build_snapshot,
    open_built,
)
from merganser.index.elsewhere import embed_shard_elsewhere
from merganser.index.model import EmbedsDocuments, SnapshotModel, recognise_model
from merganser.index.once import index_once, index_once_async
from merganser.index.publishing import (
    Published,
    drop_old_snapshots,
    finish_unchanged,
    publish,
)
from merganser.index.report import FailedFile, IndexReport
from merganser.index.shards import (
    FileOutcome,
    Shard,
    ShardResult,
    embed_shard,
    fail_shard,
    plan_shards,
)
from merganser.index.sharing import ShardReceipt, SharedRun, receive_shard, share_run
from merganser.index.surveys import Moved, Survey, survey
from merganser.index.workspace import Workspace, abandon, begin_run

__all__ = [
    "MAX_FAILED_SHARE",
    "BuiltSnapshot",
    "EmbedsDocuments",
    "FailedFile",
    "FileOutcome",
    "IndexReport",
    "Moved",
    "Published",
    "Shard",
    "ShardReceipt",
    "ShardResult",
    "SharedRun",
    "SnapshotModel",
    "Survey",
    "Workspace",
    "abandon",
    "begin_run",
    "build_snapshot",
    "drop_old_snapshots",
    "embed_shard",
    "embed_shard_elsewhere",
    "fail_shard",
    "finish_unchanged",
    "index_once",
    "index_once_async",
    "open_built",
    "plan_shards",
    "publish",
    "receive_shard",
    "recognise_model",
    "share_run",
    "survey",
]
