"""What a rag is once its models, indexes and weights are found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import TYPE_CHECKING, Literal

from merganser.config.index_definition import resolve_indexes
from merganser.config.resolve_model import resolve_model, unknown_name
from merganser.config.spec_rag import Bm25Spec, RankingSpec, safe_name
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_rag import ResultsSpec, StrategySpec
    from merganser.models.ref import ModelRef


FUSED_LIMIT = 15
"""Hits of each strategy of several whose scores are fused, where none is written and the results
have no more. Twice as many change no figure of the quality benchmark."""


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
        results: What is done with the hits: as the config says it, and by cagent's defaults for
            the rest where it asks for those.
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

    @property
    def fuses_standardised(self) -> bool:
        """Whether fused scores are in standard deviations."""
        return len(self.strategies) > 1 and self.results.fusion.method == "standardised"


def resolve_rag(config: Config, name: str) -> RagDefinition:
    """Return a rag with its indexes, strategies and models.

    Raises:
        PlanError: There is no rag of that name.
    """
    if name not in config.spec.rag:
        raise PlanError(unknown_name(config, "rag", name, config.spec.rag))
    spec = config.spec.rag[name]
    indexes = resolve_indexes(config, name)
    results = _results(config, spec.results)
    is_fused = len(spec.strategies) > 1 and results.fusion.method == "standardised"
    limit = max(FUSED_LIMIT, results.limit) if is_fused else None
    return RagDefinition(
        name=name,
        description=spec.tool.description,
        instruction=spec.tool.instruction,
        tool_name=spec.tool.name or safe_name(name),
        strategies=tuple(
            map(_strategy, spec.strategies, spec.strategy_names, indexes, repeat(limit))
        ),
        indexes=tuple(dict.fromkeys(indexes)),
        results=results,
        rerank=_rerank(config, spec.results),
    )


def _results(config: Config, spec: ResultsSpec) -> ResultsSpec:
    """Fill in cagent's defaults where the config asks for them."""
    if config.spec.defaults != "cagent":
        return spec
    changes: dict[str, object] = {}
    if spec.fusion.strategy is None:
        changes["fusion"] = spec.fusion.model_copy(update={"strategy": "rrf"})
    if "ranking" not in spec.model_fields_set:
        changes["ranking"] = RankingSpec.none()
    return spec.model_copy(update=changes)


def with_budget(config: Config, tokens: int | None) -> Config:
    """Return a config all of whose rags have that ``results.budget``; None changes nothing."""
    if tokens is None:
        return config
    rags = {
        name: rag.model_copy(update={"results": rag.results.model_copy(update={"budget": tokens})})
        for name, rag in config.spec.rag.items()
    }
    return replace(config, spec=config.spec.model_copy(update={"rag": rags}))


def _strategy(
    spec: StrategySpec, name: str, index: IndexDefinition, limit: int | None
) -> StrategyDefinition:
    bm25 = {"k1": spec.k1, "b": spec.b} if isinstance(spec, Bm25Spec) else {}
    return StrategyDefinition(
        name=name,
        kind=spec.type,
        index=index,
        limit=spec.limit if limit is None or "limit" in spec.model_fields_set else limit,
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
