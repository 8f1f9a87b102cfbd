"""Open rags for searching: find their models, open their snapshots, connect to the servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from merganser.config.rag_definition import resolve_rag
from merganser.embedding.embedder import Embedder
from merganser.errors import ModelNotFoundError, ModelRunnerError
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelUse, canonical, pull_command, token_of
from merganser.retrieval.search import Retriever

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

    from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
    from merganser.config.load import Config
    from merganser.models.address import Address
    from merganser.models.ref import ModelRef, Role
    from merganser.models.wire import ServedModel
    from merganser.store.reader import Snapshot


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """A model that is ready.

    Attributes:
        address: Its server's address.
        served: The model as the server has it.
    """

    address: Address
    served: ServedModel


FindModel: TypeAlias = Callable[["Role", "ModelRef"], "ModelPlace | None"]
"""Returns the place of a model in a role, or None when the search goes on without it."""


async def locate_models(
    config: Config, rags: Iterable[str], *, base_url: str | None
) -> tuple[FindModel, tuple[str, ...]]:
    """Find where the models of rags are served, without pulling any.

    Args:
        config: With the rags.
        rags: Their names.
        base_url: A model server's address, or None to look for one.

    Returns:
        A function that finds a model in a role, and a note for each model that is not there.
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


@asynccontextmanager
async def open_retrievers(
    config: Config,
    rags: Iterable[str],
    find_model: FindModel,
    *,
    resident: bool = False,
    open_index: Callable[[IndexDefinition], Snapshot] | None = None,
) -> AsyncGenerator[dict[str, Retriever]]:
    """Open rags for searching within one event loop.

    Where a reranker or an embedding model cannot be found, searches go on without it, and every
    result says so.

    Args:
        config: With the rags.
        rags: Their names.
        find_model: Finds the models.
        resident: Keep vectors in memory, for more than about ten searches.
        open_index: Opens the snapshot of an index; None for the served one.

    Yields:
        A retriever for each rag, by its name.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
        StoreError: An index cannot be read.
    """
    async with AsyncExitStack() as stack:
        servers = _Servers(stack)
        retrievers: dict[str, Retriever] = {}
        for name in dict.fromkeys(rags):
            definition = resolve_rag(config, name)
            rerank = definition.rerank
            place = rerank and find_model("reranking", rerank.model)
            retrievers[name] = stack.enter_context(
                Retriever.open(
                    definition,
                    runner=(
                        await servers.client(place, "reranking", rerank.model)
                        if place and rerank
                        else None
                    ),
                    embedder_for=_Embedders(servers, find_model),
                    resident=resident,
                    open_index=open_index,
                )
            )
        yield retrievers


class _Servers:
    """One client per server and token, open as long as the stack."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._clients: dict[tuple[Address, str | None], ModelRunner] = {}

    async def client(self, place: ModelPlace, role: Role, model: ModelRef) -> ModelRunner:
        key = place.address, token_of(model)
        if key not in self._clients:
            runner = ModelRunner(place.address, token=token_of(model))
            self._clients[key] = await self._stack.enter_async_context(runner)
        use = ModelUse(model=model, role=role, used_by="a search")
        self._clients[key].keep_configured(use, place.served)
        return self._clients[key]


class _Embedders:
    """One embedder per model, made when a search first asks for it."""

    def __init__(self, servers: _Servers, find_model: FindModel) -> None:
        self._servers = servers
        self._find = find_model
        self._made: dict[EmbeddingDefinition, Embedder] = {}

    async def __call__(self, definition: EmbeddingDefinition) -> Embedder:
        if definition not in self._made:
            ref = definition.model
            place = self._find("embedding", ref)
            if place is None:
                raise ModelNotFoundError(
                    f"the embedding model {canonical(ref.model)!r} is not ready; pull it with "
                    f"`{pull_command(ref.model)}`"
                )
            client = await self._servers.client(place, "embedding", ref)
            self._made[definition] = Embedder(
                client,
                await client.as_configured(ref, "embedding"),
                place.served,
                dimensions=definition.dimensions,
                batch_size=definition.batch_size,
                concurrency=definition.concurrency,
            )
        return self._made[definition]
