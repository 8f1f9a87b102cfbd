"""Find the models of a search where no flow has made them ready: look, never pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.config.resolve import resolve_rag
from merganser.errors import ModelRunnerError
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner, token_of
from merganser.models.names import canonical
from merganser.retrieval.opening import ModelPlace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.config.load import Config
    from merganser.models.ref import ModelRef, Role
    from merganser.retrieval.opening import FindModel


async def locate_models(
    config: Config, rags: Iterable[str], *, base_url: str | None
) -> tuple[FindModel, tuple[str, ...]]:
    """Look where the models of rags are.

    Args:
        config: With the rags.
        rags: Their names.
        base_url: A model server's address, or None to look for one.

    Returns:
        What finds a model in a role, and a note for each that is not there.
    """
    places: dict[tuple[Role, str], ModelPlace] = {}
    notes: list[str] = []
    for role, model in _models(config, rags):
        try:
            address = await resolve_address(base_url=model.base_url or base_url)
            async with ModelRunner(address, token=token_of(model)) as runner:
                served = await runner.model(model.model)
        except ModelRunnerError as error:
            notes.append(f"{role} model {model.model!r}: {error}")
            continue
        if served is None:
            notes.append(f"{role} model {model.model!r} is not local at {address.shown}")
            continue
        if served.note:
            notes.append(served.note)
        places[role, canonical(model.model)] = ModelPlace(address, served)
    return lambda role, model: places.get((role, canonical(model.model))), tuple(notes)


def _models(config: Config, rags: Iterable[str]) -> list[tuple[Role, ModelRef]]:
    found: list[tuple[Role, ModelRef]] = []
    for name in rags:
        rag = resolve_rag(config, name)
        embeddings = (index.embedding for index in rag.indexes)
        found.extend(("embedding", embedding.model) for embedding in embeddings if embedding)
        if rag.rerank is not None:
            found.append(("reranking", rag.rerank.model))
    return list(dict.fromkeys(found))
