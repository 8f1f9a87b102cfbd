"""What a rag is once its models, indexes and weights are found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from merganser.config.index_definition import resolve_indexes
from merganser.config.resolve_model import resolve_model, unknown_name
from merganser.config.spec_rag import Bm25Spec, safe_name
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_rag import ResultsSpec, StrategySpec
    from merganser.models.ref import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyDefinition:
    """One way to search a rag.

    Attributes:
        name: Unique in its rag.
        kind: Whether it compares embeddings or words.
        index: The index that it searches.
        limit: Most hits that it contributes.
        threshold: Lowest score of a hit; None for no limit.
        k1: BM25: how soon repeated words stop adding to the score.
        b: BM25: how much long chunks are marked down, 0 to 1.
    """

    name: str
    kind: Literal["chunked-embeddings", "bm25"]
    index: IndexDefinition
    limit: int
    threshold: float | None
    k1: float = 1.5
    b: float = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankDefinition:
    """How the best hits are scored again.

    Attributes:
        model: The reranker.
        top_k: How many of the best hits are scored.
        threshold: Lowest normalized score of a hit, 0 to 1; None for no limit.
        criteria: What counts as relevant, for a chat model that reranks; or None.
    """

    model: ModelRef
    top_k: int
    threshold: float | None
    criteria: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RagDefinition:
    """One searchable collection.

    Attributes:
        name: As in the config.
        description: What the search tool is for, or None.
        instruction: Part of the model's system prompt, or None.
        tool_name: Name of the search tool; letters, digits, ``-`` and ``_``, at most 64.
        strategies: Ways to search, at least one.
        indexes: The distinct indexes of the strategies.
        results: What is done with the hits, as the config says it.
        rerank: The reranker of ``results`` with its model, or None.
    """

    name: str
    description: str | None
    instruction: str | None
    tool_name: str
    strategies: tuple[StrategyDefinition, ...]
    indexes: tuple[IndexDefinition, ...]
    results: ResultsSpec = field(hash=False)  # it has a dict of weights
    rerank: RerankDefinition | None = None


def resolve_rag(config: Config, name: str) -> RagDefinition:
    """Return a rag with its indexes, strategies and models.

    Raises:
        PlanError: There is no rag of that name.
    """
    if name not in config.spec.rag:
        raise PlanError(unknown_name(config, "rag", name, config.spec.rag))
    spec = config.spec.rag[name]
    indexes = resolve_indexes(config, name)
    return RagDefinition(
        name=name,
        description=spec.tool.description,
        instruction=spec.tool.instruction,
        tool_name=spec.tool.name or safe_name(name),
        strategies=tuple(map(_strategy, spec.strategies, spec.strategy_names, indexes)),
        indexes=tuple(dict.fromkeys(indexes)),
        results=spec.results,
        rerank=_rerank(config, spec.results),
    )


def _strategy(spec: StrategySpec, name: str, index: IndexDefinition) -> StrategyDefinition:
    bm25 = {"k1": spec.k1, "b": spec.b} if isinstance(spec, Bm25Spec) else {}
    return StrategyDefinition(
        name=name,
        kind=spec.type,
        index=index,
        limit=spec.limit,
        threshold=spec.threshold,
        **bm25,
    )


def _rerank(config: Config, results: ResultsSpec) -> RerankDefinition | None:
    spec = results.reranking
    if spec is None:
        return None
    model = resolve_model(config, spec.model)
    return RerankDefinition(
        model=replace(model, score_normalization=spec.score_normalization),
        top_k=spec.top_k or results.limit,
        threshold=spec.threshold or None,
        criteria=spec.criteria,
    )
