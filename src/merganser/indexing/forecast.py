"""What runs would do and cost, found out without doing it, for ``merganser plan``.

Models are looked up, sources are scanned, and changed files are read and chunked; nothing is
embedded, written or pulled. A model that is not there yet hinders only what it alone can tell:
whether it is the one of the served snapshot.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from merganser.documents.scanning import Skipped
from merganser.embedding.embedder import Embedder
from merganser.errors import (
    MerganserError,
    ModelRunnerError,
    RunnerUnreachableError,
    SpecErrors,
)
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import recognise_model
from merganser.indexing.shards import read_file
from merganser.indexing.siblings import Siblings
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelUse, canonical, token_of
from merganser.models.slots import describe_shortage
from merganser.planning.contents import Contents, ReadFile
from merganser.planning.explain import IndexWork, PlanState
from merganser.planning.plan import CheckModel, SurveySources
from merganser.store.catalogue import read_model
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore, segments_of
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.text_hashes import hash_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
    from merganser.indexing.changes import Changes
    from merganser.indexing.shard_plan import FileOutcome
    from merganser.models.address import Address
    from merganser.models.ref import ModelRef
    from merganser.models.wire import ServedModel
    from merganser.planning.plan import Plan


async def forecast_plans(
    plans: Iterable[Plan], *, base_url: str | None, full: bool = False
) -> PlanState:
    """Find out the state of the models of some plans, and what would be done to the indexes.

    Args:
        plans: What would be run.
        base_url: A model server's address, or None to look for one.
        full: As if everything were indexed again.
    """
    models: dict[str, str] = {}
    places: dict[str, Address] = {}
    served: dict[str, ServedModel] = {}
    indexes: dict[str, IndexWork] = {}
    plans = tuple(plans)
    stages = [stage for plan in plans for stage in plan.stages]
    for stage in stages:
        if isinstance(stage, CheckModel) and stage.use.model.model not in models:
            model = stage.use.model
            models[model.model], place, found = await _find_model(model, base_url)
            if place is not None:
                places[model.model] = place
            if found is not None:
                served[canonical(model.model)] = found
    for stage in stages:
        if isinstance(stage, SurveySources) and stage.index.name not in indexes:
            indexes[stage.index.name] = await _forecast_index(
                stage.index, served, base_url=base_url, full=full
            )
    shortages = {plan.flow.name: tuple(_shortages(plan, places)) for plan in plans}
    return PlanState(models, indexes, shortages)


def _shortages(plan: Plan, places: Mapping[str, Address]) -> Iterator[str]:
    """Yield what a plan says of servers that cannot keep all its models at a time."""
    uses = [stage.use for stage in plan.stages if isinstance(stage, CheckModel)]
    at = {use: places[use.model.model] for use in uses if use.model.model in places}
    for address in {place.shown: place for place in at.values()}.values():
        here = [use for use, place in at.items() if place.shown == address.shown]
        if told := describe_shortage(here, address):
            yield told


async def _find_model(
    model: ModelRef, base_url: str | None
) -> tuple[str, Address | None, ServedModel | None]:
    """Return the state of a model in words, its server's address, and the model if it is local."""
    try:
        address = await resolve_address(base_url=model.base_url or base_url)
        async with ModelRunner(address, token=token_of(model)) as runner:
            found = await runner.model(model.model)
    except RunnerUnreachableError:
        problem = "no model server answers; `merganser doctor` says where it was looked for"
        return f"unknown: {problem}", None, None
    except (ModelRunnerError, SpecErrors) as error:
        return f"unknown: {str(error).splitlines()[0]}", None, None
    if found is None:
        return f"not local at {address.shown}: a run pulls it", address, None
    alias = f", an alias of {found.alias_of}" if found.alias_of else ""
    return f"local at {address.shown}{alias}", address, found


async def _forecast_index(
    index: IndexDefinition, served: dict[str, ServedModel], *, base_url: str | None, full: bool
) -> IndexWork:
    """Return what a run would do."""
    fingerprint, assumed = "", ()
    try:
        if index.embedding is not None:
            found = served.get(canonical(index.embedding.model.model))
            try:
                if found is not None:
                    fingerprint = await _fingerprint(index, index.embedding, found, base_url)
            except ModelRunnerError as error:
                assumed = (str(error).splitlines()[0],)
            if not fingerprint:
                fingerprint, assumption = _assume_model(index)
                assumed = (*assumed, *assumption)
        work = estimate_work(find_changes(index, fingerprint=fingerprint, full=full))
        return replace(work, notes=(*work.notes, *assumed))
    except MerganserError as error:
        return IndexWork(problem=str(error))


_UNKNOWN_MODEL = "unknown"
"""Stands for the fingerprint of a model that no snapshot and no server tells."""


def _assume_model(index: IndexDefinition) -> tuple[str, tuple[str, ...]]:
    """Return the fingerprint to count with while the model is not there, and what is assumed."""
    folder = IndexFolder(index.folder)
    current = folder.read_current()
    if current is None:
        return _UNKNOWN_MODEL, ()
    known, _ = read_model(folder.catalogue(current.generation))
    if not known:
        return _UNKNOWN_MODEL, ()
    name = index.embedding.model.model if index.embedding else ""
    told = f"{name!r} does not answer: counted as if it were the model of the served snapshot"
    return known, (told,)


async def _fingerprint(
    index: IndexDefinition,
    embedding: EmbeddingDefinition,
    served: ServedModel,
    base_url: str | None,
) -> str:
    """Return the model's fingerprint; where there is a snapshot, eight drift texts are embedded."""
    model = embedding.model
    address = await resolve_address(base_url=model.base_url or base_url)
    async with ModelRunner(address, token=token_of(model)) as runner:
        embedder = Embedder(runner, model, served, dimensions=embedding.dimensions)
        if IndexFolder(index.folder).read_current() is None:
            return embedder.fingerprint
        use = ModelUse(model=model, role="embedding", used_by=f"the index {index.name}")
        runner.keep_configured(use, served)
        model = await runner.as_configured(model, "embedding")
        embedder = Embedder(runner, model, served, dimensions=embedding.dimensions)
        return (await recognise_model(embedder, index)).fingerprint


def work_of(changes: Changes) -> IndexWork:
    """Return what a run would do about some changes, without its cost."""
    return IndexWork(
        added=tuple(document.path for document in changes.added),
        changed=tuple(document.path for document in changes.changed),
        moved=tuple((move.origin, move.document.path) for move in changes.moved),
        removed=changes.removed,
        unchanged=changes.unchanged,
        skipped=dict(Counter(skipped.reason for skipped in changes.skipped)),
        skipped_files=changes.skipped,
        new_skips=tuple(sorted(changes.find_new(changes.skipped))),
        served=changes.base_generation,
        notes=changes.barren,
        reasons=changes.reasons,
        pending_bytes=sum(document.size_bytes for document in changes.pending),
    )


def estimate_work(changes: Changes) -> IndexWork:
    """Read and chunk what a run would read, to count chunks and texts without a vector.

    Raises:
        StoreError: The index is damaged.
    """
    texts: list[str] = []
    outcomes: list[FileOutcome] = []
    for document in changes.pending:
        outcome, chunks = read_file(document, changes.definition)
        outcomes.append(outcome)
        texts += (chunk.text for chunk in chunks)
    work = replace(_without_unread(work_of(changes), changes, outcomes), chunks=len(texts))
    if not changes.fingerprint:
        return work
    if not texts:
        return replace(work, texts_to_embed=0)
    index = IndexFolder(changes.definition.folder)
    hashes = np.unique(hash_texts(texts), axis=0)
    if changes.fingerprint == _UNKNOWN_MODEL:
        return replace(work, texts_to_embed=len(hashes))
    segments = segments_of(index, changes.fingerprint)
    with connect_writer(index.build / "spill", index.path) as connection:
        store = EmbeddingStore(index, changes.fingerprint, segments, connect=lambda: connection)
        hashes = hashes[~store.has(hashes)]
    with closing(Siblings(changes.definition, changes.fingerprint, index.build / "spill")) as other:
        missing = int((~other.has(hashes)).sum()) if len(hashes) else 0
    return replace(work, texts_to_embed=missing, seconds=_seconds(index, missing))


def _without_unread(
    work: IndexWork, changes: Changes, outcomes: Sequence[FileOutcome]
) -> IndexWork:
    """Move the files that turn out to be none for an index to those that are left out."""
    told = {
        status: tuple(Skipped(o.path, o.reason, o.detail) for o in outcomes if o.status == status)
        for status in ("skipped", "failed")
    }
    unread = {skip.path for skips in told.values() for skip in skips}
    skipped = sorted((*work.skipped_files, *told["skipped"]), key=lambda skip: skip.path)
    documents = {document.path: document for document in changes.pending}
    read = [(documents[outcome.path], outcome) for outcome in outcomes if outcome.status == "read"]
    contents = Contents.of(
        (ReadFile(d.path, o.kind or d.kind, o.language, o.encoding, o.note) for d, o in read),
        ((o.path, line, kind) for _, o in read for line, kind in o.redactions),
    )
    return replace(
        work,
        added=tuple(path for path in work.added if path not in unread),
        skipped=dict(Counter(skip.reason for skip in skipped)),
        skipped_files=tuple(skipped),
        new_skips=tuple(sorted(changes.find_new(skipped))),
        failed=told["failed"],
        contents=contents,
    )


def _seconds(index: IndexFolder, texts: int) -> float | None:
    """Return the time of embedding at the last run's rate, or None if none embedded anything."""
    if not index.history.exists():
        return None
    for run in list_runs(index):
        if run.texts_embedded:
            return texts * (run.finished - run.started).total_seconds() / run.texts_embedded
    return None
