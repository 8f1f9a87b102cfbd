"""Look at the world for ``merganser plan``: models, changes, chunks, time; nothing is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from merganser.embedding.drift import recognise_model
from merganser.embedding.embedder import Embedder
from merganser.errors import MerganserError, ModelRunnerError, RunnerUnreachableError, SpecErrors
from merganser.indexing import find_changes
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner, token_of
from merganser.models.names import canonical
from merganser.planning.explain import IndexWork, World, work_of
from merganser.planning.index_forecast import forecast
from merganser.planning.plan import CheckModel, SurveySources
from merganser.store import IndexFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
    from merganser.models.ref import ModelRef
    from merganser.models.wire import ServedModel
    from merganser.planning.plan import Plan


async def look_ahead(plans: Iterable[Plan], *, base_url: str | None, full: bool = False) -> World:
    """Find out what is known of the models and indexes of plans.

    Args:
        plans: What would be run.
        base_url: A model server's address, or None to look for one.
        full: As if everything were indexed anew.
    """
    stages = [stage for plan in plans for stage in plan.stages]
    words: dict[str, str] = {}
    served: dict[str, ServedModel] = {}
    for stage in stages:
        if isinstance(stage, CheckModel) and stage.use.model.model not in words:
            model = stage.use.model
            words[model.model], found = await _look_at_model(model, base_url)
            if found is not None:
                served[canonical(model.model)] = found
    work: dict[str, IndexWork] = {}
    for stage in stages:
        if isinstance(stage, SurveySources) and stage.index.name not in work:
            work[stage.index.name] = await _look_at_index(
                stage.index, served, base_url=base_url, full=full
            )
    return World(words, work)


async def _look_at_model(model: ModelRef, base_url: str | None) -> tuple[str, ServedModel | None]:
    try:
        address = await resolve_address(base_url=model.base_url or base_url)
        async with ModelRunner(address, token=token_of(model)) as runner:
            found = await runner.model(model.model)
    except RunnerUnreachableError:
        return (
            "unknown: no model server answers; `merganser doctor` says where it was looked for",
            None,
        )
    except (ModelRunnerError, SpecErrors) as error:
        return f"unknown: {str(error).splitlines()[0]}", None
    if found is None:
        return f"not local at {address.shown}: a run pulls it", None
    alias = f", an alias of {found.alias_of}" if found.alias_of else ""
    return f"local at {address.shown}{alias}", found


async def _look_at_index(
    index: IndexDefinition, served: dict[str, ServedModel], *, base_url: str | None, full: bool
) -> IndexWork:
    """Changes and forecast; without the model nobody knows whether its vectors are still good."""
    fingerprint = ""
    try:
        if index.embedding is not None:
            model = index.embedding.model
            found = served.get(canonical(model.model))
            if found is None:
                return IndexWork(problem=f"unknown until {model.model!r} is there")
            fingerprint = await _recognise(index, index.embedding, found, base_url)
        changes = find_changes(index, fingerprint=fingerprint, full=full)
        costs = forecast(changes)
    except MerganserError as error:
        return IndexWork(problem=str(error))
    return replace(
        work_of(changes),
        chunks=costs.chunks,
        texts_to_embed=costs.texts_to_embed if fingerprint else None,
        seconds=costs.seconds,
    )


async def _recognise(
    index: IndexDefinition,
    embedding: EmbeddingDefinition,
    served: ServedModel,
    base_url: str | None,
) -> str:
    """Give the model's fingerprint; where there is a snapshot, eight drift texts are embedded."""
    model = embedding.model
    address = await resolve_address(base_url=model.base_url or base_url)
    async with ModelRunner(address, token=token_of(model)) as runner:
        embedder = Embedder(runner, model, served, dimensions=embedding.dimensions)
        if IndexFolder(index.folder).read_current() is None:
            return embedder.fingerprint
        return (await recognise_model(embedder, index)).fingerprint
