"""One strategy's part of a search: its ranked candidates, or the reason why it has none.

A strategy that fails never takes the others with it; what a failure means for the whole search is
decided in ``search``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from merganser.errors import MerganserError, SnapshotMismatchError, StoreError
from merganser.retrieval.bm25 import DEFAULT_B, DEFAULT_K1, Ranking
from merganser.retrieval.dense import DenseIndex
from merganser.retrieval.lexical import LexicalIndex, LexicalMatches
from merganser.store.resident import ResidentTables
from merganser.store.tokens import TOKENISER_VERSION
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
    from merganser.config.rag_definition import StrategyDefinition
    from merganser.retrieval.hits import PassageKey
    from merganser.store.filters import Filter
    from merganser.store.reader import Snapshot
    from merganser.store.rows import ChunkPlace, StoredChunk

MOST_EQUALS = 256
"""Equal scores at the cut are ordered by path, which costs reading the chunks that are equal. More
than this many are cut by key: such a query tells nothing apart anyway."""


POOL = 30
"""Scores by which a strategy's scale is measured: those of passages that are near the query."""


class QueryEmbedder(Protocol):
    """Embeds queries; ``merganser.embedding.embedder.Embedder`` is one."""

    @property
    def fingerprint(self) -> str:
        """What must equal the snapshot's, so that vectors can be compared."""
        ...

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """Return the query's vector (dim,), L2-normalized."""
        ...


if TYPE_CHECKING:
    EmbedderFor: TypeAlias = Callable[[EmbeddingDefinition], Awaitable[QueryEmbedder]]


@dataclass(frozen=True, slots=True, eq=False)
class OpenIndex:
    """An index with its served snapshot.

    Attributes:
        definition: Where it is and what it holds.
        snapshot: Open.
        dense: Its vectors.
        lexical: Its postings.
        tables: What is kept in memory, or None.
    """

    definition: IndexDefinition
    snapshot: Snapshot
    dense: DenseIndex
    lexical: LexicalIndex
    tables: ResidentTables | None

    @classmethod
    def over(cls, definition: IndexDefinition, snapshot: Snapshot, *, resident: bool) -> OpenIndex:
        """Prepare a snapshot for searching, many times when it is to be resident."""
        tables = ResidentTables(snapshot) if resident else None
        dense, lexical = DenseIndex(snapshot, tables), LexicalIndex(snapshot, tables)
        return cls(definition, snapshot, dense, lexical, tables)

    def places(self, keys: Sequence[int]) -> list[ChunkPlace]:
        """Return where chunks are, in the order of their keys."""
        return (self.tables or self.snapshot).places(keys)

    def symbols(self, keys: Sequence[int]) -> list[str]:
        """Return what chunks define, in the order of their keys."""
        return (self.tables or self.snapshot).symbols(keys)

    def chunks(self, keys: Sequence[int]) -> list[StoredChunk]:
        """Return chunks with their texts, in the order of their keys."""
        return (self.tables or self.snapshot).chunks(keys)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk in the index that it comes from."""

    chunk: ChunkPlace
    index: OpenIndex

    @property
    def passage(self) -> PassageKey:
        """What makes it the same passage as a candidate of another strategy."""
        chunk = self.chunk
        return (chunk.path, chunk.start_line, chunk.end_line, chunk.text_hash)


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """What a strategy found.

    Attributes:
        strategy: As configured; the kind is ``bm25`` where a dense one had to fall back.
        index: What was searched.
        candidates: With scores, best first, equal ones by path and line; at most the limit.
        first: The first ``POOL`` scores, best first, whatever the limit: how scores are spread.
        matches: What the query's terms matched, for explanations; None for a dense strategy.
        vector: The query's, (dim,); None for BM25.
        method: Whether the nearest were found exactly or approximately; empty for BM25.
        seconds: Wall time per step.
        notes: What the reader must know.
    """

    strategy: StrategyDefinition
    index: OpenIndex
    candidates: tuple[tuple[Candidate, float], ...]
    _: KW_ONLY
    first: tuple[float, ...] = ()
    matches: LexicalMatches | None = None
    vector: NDArray[np.float32] | None = None
    method: str = ""
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()

    def score(self, keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the strategy's score of some chunks of its index, found by it or not."""
        if self.matches is not None:
            return self.matches.score(keys)
        embedding = self.index.definition.embedding
        assert self.vector is not None, "a dense result has its query's vector"
        assert embedding is not None, "a dense strategy has an embedding"
        return self.index.dense.score(self.vector, keys, similarity=embedding.similarity)


@dataclass(frozen=True, slots=True)
class StrategyFailure:
    """Why a strategy could not take part."""

    strategy: StrategyDefinition
    index: OpenIndex
    error: MerganserError


async def run_strategy(
    strategy: StrategyDefinition,
    index: OpenIndex,
    query: str,
    *,
    embedder_for: EmbedderFor | None,
    where: Filter | None,
) -> StrategyResult | StrategyFailure:
    """Let one strategy search.

    Args:
        strategy: How.
        index: Where.
        query: The question.
        embedder_for: Returns the embedder of a dense strategy; None where there is no model server.
        where: What may be found.
    """
    about = {
        "merganser.strategy": strategy.name,
        "merganser.index": index.definition.name,
        "gen_ai.request.top_k": strategy.limit,
    }
    try:
        with span(f"strategy {strategy.kind}", about) as searching:
            if strategy.kind == "bm25":
                found = await asyncio.to_thread(_run_bm25, strategy, index, query, where)
            else:
                found = await _run_dense(strategy, index, query, embedder_for, where)
            searching.set_attributes({"merganser.candidates": len(found.candidates)})
            return found
    except MerganserError as error:
        return StrategyFailure(strategy, index, error)


async def fall_back(failure: StrategyFailure, query: str, where: Filter | None) -> StrategyResult:
    """Let BM25 answer for a dense strategy that cannot.

    Raises:
        StoreError: The postings cannot be used either.
    """
    # A threshold for cosines means nothing for BM25.
    strategy = replace(failure.strategy, kind="bm25", threshold=None, k1=DEFAULT_K1, b=DEFAULT_B)
    return await asyncio.to_thread(_run_bm25, strategy, failure.index, query, where)


def _run_bm25(
    strategy: StrategyDefinition, index: OpenIndex, query: str, where: Filter | None
) -> StrategyResult:
    started = time.perf_counter()
    made_with = index.snapshot.meta.get("tokeniser", "")
    if made_with != str(TOKENISER_VERSION):
        raise StoreError(
            f"the index {index.definition.name!r} was made with version {made_with or '?'} of the "
            f"tokeniser, this is version {TOKENISER_VERSION}: run `merganser index`"
        )
    matches = index.lexical.match(query, k1=strategy.k1, b=strategy.b, where=where)
    notes = () if matches.terms else (f"{strategy.name}: the query has no words",)
    # A threshold cuts from below, so the best are the same with and without it.
    ranking = matches.rank(max(strategy.limit, POOL))
    candidates = choose(strategy, index, ranking)
    # A chunk without any of the words scores 0, and is as good a neighbour as any.
    others = max(min(POOL, index.snapshot.chunk_count) - len(ranking), 0)
    return StrategyResult(
        strategy,
        index,
        candidates,
        first=(*ranking.scores[:POOL].tolist(), *[0.0] * others),
        matches=matches,
        seconds={strategy.name: time.perf_counter() - started},
        notes=notes,
    )


async def _run_dense(
    strategy: StrategyDefinition,
    index: OpenIndex,
    query: str,
    embedder_for: EmbedderFor | None,
    where: Filter | None,
) -> StrategyResult:
    embedding = index.definition.embedding
    assert embedding is not None, "a dense strategy has an embedding"
    if index.snapshot.dimensions is None:
        raise StoreError(
            f"the index {index.definition.name!r} holds no vectors: run `merganser index` while "
            "the embedding model can be reached"
        )
    if embedder_for is None:
        raise StoreError(
            f"there is no model server to embed the query with {embedding.model.model!r}"
        )
    started = time.perf_counter()
    embedder = await embedder_for(embedding)
    check_embedder(index, embedder.fingerprint, embedding.model.model)
    vector = await embedder.embed_query(query)
    embedded = time.perf_counter()

    def find_nearest() -> tuple[tuple[tuple[Candidate, float], ...], tuple[float, ...]]:
        ranking = index.dense.nearest(
            vector,
            max(strategy.limit, POOL),
            similarity=embedding.similarity,
            equals=MOST_EQUALS,
            where=where,
        )
        return choose(strategy, index, ranking), tuple(ranking.scores[:POOL].tolist())

    candidates, first = await asyncio.to_thread(find_nearest)
    seconds = {
        f"{strategy.name}.embed": embedded - started,
        strategy.name: time.perf_counter() - embedded,
    }
    return StrategyResult(
        strategy,
        index,
        candidates,
        first=first,
        vector=vector,
        method=index.dense.describe(where),
        seconds=seconds,
        notes=index.dense.notes,
    )


def check_embedder(index: OpenIndex, fingerprint: str, model: str) -> None:
    """Refuse an embedder that is not the one that made the snapshot.

    Raises:
        SnapshotMismatchError: With both models and what to do.
    """
    meta = index.snapshot.meta
    # A suffix stands for weights that changed behind the fingerprint; only an index run sees that.
    if meta.get("embedding", "").partition("+")[0] == fingerprint:
        return
    name = meta.get("model_name") or "another model"
    raise SnapshotMismatchError(
        f"snapshot {index.snapshot.generation} of the index {index.definition.name!r} was embedded "
        f"with {name!r} (fingerprint {meta.get('embedding', '')[:12]}), the query would be with "
        f"{model!r} (fingerprint {fingerprint[:12]}), and their vectors cannot be compared: run "
        "`merganser index` to embed the documents anew, or serve the former model"
    )


def choose(
    strategy: StrategyDefinition, index: OpenIndex, ranking: Ranking
) -> tuple[tuple[Candidate, float], ...]:
    """Apply a strategy's threshold and limit, and order equal scores by path and line."""
    if strategy.threshold is not None:
        reached = ranking.scores >= strategy.threshold
        ranking = Ranking(ranking.keys[reached], ranking.scores[reached])
    best = ranking.head(strategy.limit)
    most = strategy.limit + MOST_EQUALS
    keys, scores = best.keys[:most].tolist(), best.scores[:most].tolist()
    found = [
        (Candidate(chunk, index), score)
        for chunk, score in zip(index.places(keys), scores, strict=True)
    ]
    found.sort(key=lambda one: (-one[1], one[0].chunk.path, one[0].chunk.ord, one[0].chunk.key))
    return tuple(found[: strategy.limit])
