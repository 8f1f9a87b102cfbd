"""A whole run, one stage after the other, without an orchestrator.

::

    model = await recognise_model(embedder, definition)
    bring_repositories(definition)
    changes = find_changes(definition, fingerprint=model.fingerprint)
    if not changes.has_work:
        return finish_unchanged(changes)
    with begin_run(changes, model=model) as workspace:  # abandons what is not published
        for shard in workspace.shards:                  # in any number of threads
            await embed_shard(workspace, shard, embedder)
        await confirm_run(workspace, embedder)          # it is still the same model
        return publish(workspace, build_snapshot(workspace))
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from merganser.errors import DriftedError
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import confirm_model, recognise_model
from merganser.indexing.publishing import drop_old_snapshots, finish_unchanged, publish
from merganser.indexing.shard_plan import load_result
from merganser.indexing.shards import embed_shard
from merganser.indexing.sources import bring_repositories
from merganser.indexing.workspace import begin_run
from merganser.store.snapshots import KEEP_SNAPSHOTS

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.indexing.drift import EmbedsDocuments
    from merganser.indexing.run_report import IndexReport
    from merganser.indexing.workspace import Workspace


def index_once(
    definition: IndexDefinition,
    embedder: EmbedsDocuments | None,
    *,
    full: bool = False,
    repair: bool = False,
    keep_snapshots: int = KEEP_SNAPSHOTS,
) -> IndexReport:
    """Bring an index up to date; see ``index_once_async``."""
    return asyncio.run(
        index_once_async(
            definition, embedder, full=full, repair=repair, keep_snapshots=keep_snapshots
        )
    )


async def index_once_async(
    definition: IndexDefinition,
    embedder: EmbedsDocuments | None,
    *,
    full: bool = False,
    repair: bool = False,
    keep_snapshots: int = KEEP_SNAPSHOTS,
) -> IndexReport:
    """Bring an index up to date: find changes, embed, build and publish.

    Args:
        definition: The index.
        embedder: The embedding model, or None for an index of words alone.
        full: Do everything anew.
        repair: Read all of the index, and do anew what is damaged; ``repair_files`` comes first.
        keep_snapshots: How many snapshots to keep, at least 1.

    Raises:
        SpecErrors: An entry of ``docs`` names nothing.
        RepositoryError: A repository is not here and cannot be cloned.
        PlanError: There is nothing to index, or the model's vectors have another length.
        DriftedError: The model changed meanwhile.
        StoreError: The folder is busy, foreign, damaged or full, or too many files failed.
        ModelRunnerError: The server could not embed.
    """
    model = await recognise_model(embedder, definition) if embedder else None
    fingerprint = model.fingerprint if model else ""
    bring_repositories(definition)
    changes = find_changes(definition, fingerprint=fingerprint, full=full, repair=repair)
    if not changes.has_work:
        drop_old_snapshots(definition.folder, keep_snapshots)
        return finish_unchanged(changes)
    with begin_run(changes, model=model) as workspace:
        for shard in workspace.shards:
            await embed_shard(workspace, shard, embedder)
        if embedder is not None:
            await confirm_run(workspace, embedder)
        return publish(workspace, build_snapshot(workspace), keep_snapshots=keep_snapshots)


async def confirm_run(workspace: Workspace, embedder: EmbedsDocuments) -> None:
    """Make sure that what a run embedded is of one model; call it when all shards are done.

    Raises:
        DriftedError: It is of two; what the run embedded is thrown away.
        ModelRunnerError: The server could not embed.
    """
    if workspace.model is None or not has_embedded(workspace):
        return
    try:
        await confirm_model(embedder, workspace.model)
    except DriftedError:
        workspace.forget_embedded()
        raise


def has_embedded(workspace: Workspace) -> bool:
    """Return whether a run has asked its model for vectors."""
    results = (load_result(workspace, shard.number) for shard in workspace.shards)
    return any(result is not None and result.texts_embedded for result in results)
