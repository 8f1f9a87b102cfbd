"""The indexing engine: from files to a published snapshot, in stages that anyone may orchestrate.

::

    model = await recognise_model(embedder, definition)
    found = find_changes(definition, fingerprint=model.fingerprint)
    if not found.has_work: return finish_unchanged(found)
    with begin_run(found, model=model) as workspace:    # abandons what is not published
        for shard in workspace.shards:                  # in any number of threads
            await embed_shard(workspace, shard, embedder)
        built = build_snapshot(workspace)
        published = publish(workspace, built)

``index_once`` is exactly that.
"""

from merganser.indexing.build import MAX_FAILED_SHARE, BuiltSnapshot, build_snapshot, open_built
from merganser.indexing.changes import Changes, Moved, find_changes
from merganser.indexing.publishing import Published, drop_old_snapshots, finish_unchanged, publish
from merganser.indexing.run import index_once, index_once_async
from merganser.indexing.run_report import FailedFile, IndexReport
from merganser.indexing.shards import (
    FileOutcome,
    Shard,
    ShardResult,
    embed_shard,
    fail_shard,
    plan_shards,
)
from merganser.indexing.workspace import Workspace, abandon, begin_run

__all__ = [
    "MAX_FAILED_SHARE",
    "BuiltSnapshot",
    "Changes",
    "FailedFile",
    "FileOutcome",
    "IndexReport",
    "Moved",
    "Published",
    "Shard",
    "ShardResult",
    "Workspace",
    "abandon",
    "begin_run",
    "build_snapshot",
    "drop_old_snapshots",
    "embed_shard",
    "fail_shard",
    "find_changes",
    "finish_unchanged",
    "index_once",
    "index_once_async",
    "open_built",
    "plan_shards",
    "publish",
]
