"""The stages of a run in a row, without an orchestrator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from merganser.embedding.drift import recognise_model
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.publishing import drop_old_snapshots, finish_unchanged, publish
from merganser.indexing.shards import embed_shard
from merganser.indexing.workspace import begin_run
from merganser.store.snapshots import KEEP_SNAPSHOTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.config.index_definition import IndexDefinition
    from merganser.embedding.drift import EmbedsDocuments
    from merganser.indexing.run_report import IndexReport

OnProgress = "Callable[[str, int, int], None]"


def index_once(
    definition: IndexDefinition,
    embedder: EmbedsDocuments | None,
    *,
    full: bool = False,
    keep_snapshots: int = KEEP_SNAPSHOTS,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> IndexReport:
    """Bring an index up to date; see ``index_once_async``."""
    return asyncio.run(
        index_once_async(
            definition,
            embedder,
            full=full,
            keep_snapshots=keep_snapshots,
            on_progress=on_progress,
        )
    )


async def index_once_async(
    definition: IndexDefinition,
    embedder: EmbedsDocuments | None,
    *,
    full: bool = False,
    keep_snapshots: int = KEEP_SNAPSHOTS,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> IndexReport:
    """Bring an index up to date: find changes, embed, build and publish.

    Args:
        definition: The index.
        embedder: Its model, or None for an index of words alone.
        full: Do everything anew.
        keep_snapshots: How many snapshots to keep.
        on_progress: Told the stage, shards done and shards in all.

    Raises:
        SpecErrors: An entry of ``docs`` names nothing.
        PlanError: There is nothing to index, or the model's vectors have another length.
        StoreError: The folder is busy, foreign, damaged or full, or too many files failed.
        ModelRunnerError: The server could not embed.
    """
    model = await recognise_model(embedder, definition) if embedder else None
    found = find_changes(definition, fingerprint=model.fingerprint if model else "", full=full)
    if not found.has_work:
        drop_old_snapshots(definition.folder, keep_snapshots)
        return finish_unchanged(found)
    with begin_run(found, model=model) as workspace:
        for shard in workspace.shards:
            if on_progress:
                on_progress("embed", shard.number, len(workspace.shards))
            await embed_shard(workspace, shard, embedder)
        if on_progress:
            on_progress("build", len(workspace.shards), len(workspace.shards))
        built = build_snapshot(workspace)
        return publish(workspace, built, keep_snapshots=keep_snapshots).report
