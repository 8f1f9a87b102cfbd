"""Evaluate a rag: search every query of a set, mark the relevant hits, take the means."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import KW_ONLY, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from merganser.errors import MerganserError, StoreError, TransientError
from merganser.evaluation.metrics import Locator, bootstrap_interval, mark_relevant, measure
from merganser.progress import report
from merganser.retrieval.budget import fill_budget

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.spec_evaluation import Metric
    from merganser.evaluation.queries import LabelledQuery, QuerySet
    from merganser.retrieval import Retriever


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric over a query set.

    Attributes:
        metric: What was measured.
        value: Mean over the queries, 0 to 1.
        low: Low end of the 95 % confidence interval.
        high: High end of it.
    """

    metric: Metric
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """The result of one query.

    Attributes:
        query: With its labels.
        values: By metric; all 0 when it failed.
        first: Rank of the first relevant hit, from 1; None when there is none.
        missed: Labels that no hit matches, stale ones included.
        stale: Labels that cannot be in any hit, each with the reason.
        hits: What was found, as ``path:start-end``, best first.
        error: Why it failed; empty when it did not.
        seconds: Wall time.
    """

    query: LabelledQuery
    values: Mapping[Metric, float]
    first: int | None = None
    missed: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    hits: tuple[str, ...] = ()
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well a rag finds what it should.

    Attributes:
        rag: Its name.
        queries: What was asked.
        figures: One per metric, in the order in which they were asked for.
        results: One per query, in the set's order.
        snapshots: The generation that was searched, by index.
        runs: The runs that made them, by index; they identify a snapshot before it is published.
        started: With time zone.
        seconds: Wall time.
        notes: What a reader must know, above all that reranking was skipped.
    """

    rag: str
    queries: QuerySet
    figures: tuple[Figure, ...]
    results: tuple[QueryResult, ...]
    _: KW_ONLY
    snapshots: Mapping[str, int]
    runs: Mapping[str, str]
    started: datetime
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[QueryResult, ...]:
        """The queries that could not be searched."""
        return tuple(result for result in self.results if result.error)

    @property
    def stale(self) -> tuple[str, ...]:
        """The labels that cannot be found, with query and reason."""
        return tuple(f"{one.query.id}: {why}" for one in self.results for why in one.stale)

    def worst(self, metric: Metric, count: int) -> tuple[QueryResult, ...]:
        """Return the queries with the lowest values of a metric, lowest first."""
        imperfect = [result for result in self.results if result.values[metric] < 1.0]
        return tuple(sorted(imperfect, key=lambda result: result.values[metric])[:count])


async def evaluate(
    retriever: Retriever, queries: QuerySet, metrics: Sequence[Metric]
) -> Evaluation:
    """Search every query and measure.

    A search returns as many hits as the metric with the greatest cut-off needs, whatever the
    config's ``results.limit`` says. Unlike a search, an evaluation does not go on without a
    strategy that fails: figures of another pipeline than the configured one would mislead.

    Args:
        retriever: Open, with the snapshots to be evaluated.
        queries: What to ask.
        metrics: At least one, distinct.

    Raises:
        TransientError: The model server cannot be reached or is busy, so there are no figures.
        StoreError: An index cannot be read, or another model embedded it.
        MerganserError: Every query failed, which says nothing of the index; the first reason.
    """
    started, began = datetime.now(UTC), time.perf_counter()
    locator = Locator(retriever.snapshots.values())
    results: list[QueryResult] = []
    rerank = Counter[str]()
    for number, query in enumerate(queries.queries, 1):
        results.append(await _run_query(retriever, query, locator, metrics, rerank))
        activity = f"evaluate {retriever.definition.name}"
        report(activity, number, len(queries.queries), unit="queries")
    if all(result.error for result in results):
        raise MerganserError(f"no query could be searched: {results[0].error}")
    return Evaluation(
        retriever.definition.name,
        queries,
        tuple(_figure(metric, results) for metric in metrics),
        tuple(results),
        snapshots={name: s.generation for name, s in retriever.snapshots.items()},
        runs={name: s.meta.get("run_id", "") for name, s in retriever.snapshots.items()},
        started=started,
        seconds=time.perf_counter() - began,
        notes=tuple(f"rerank {why} for {n} queries" for why, n in sorted(rerank.items())),
    )


async def _run_query(
    retriever: Retriever,
    query: LabelledQuery,
    locator: Locator,
    metrics: Sequence[Metric],
    rerank: Counter[str],
) -> QueryResult:
    limit = max(metric.k for metric in metrics)
    targets = [locator.locate(label) for label in query.labels]
    stale = tuple(f"{target.label}: {target.stale}" for target in targets if target.stale)
    began = time.perf_counter()
    try:
        found = await retriever.search(
            query.query, limit=limit, budget=0, where=query.where, strict=True
        )
    except (TransientError, StoreError):
        raise
    except MerganserError as error:
        return QueryResult(
            query=query,
            values=dict.fromkeys(metrics, 0.0),
            missed=tuple(str(label) for label in query.labels),
            stale=stale,
            error=str(error),
            seconds=time.perf_counter() - began,
        )
    if found.rerank.startswith("skipped"):
        rerank[found.rerank] += 1
    relevance = mark_relevant(found.hits, targets)
    return QueryResult(
        query=query,
        values={
            metric: measure(metric, relevance)
            if metric.tokens is None
            else measure(
                metric,
                mark_relevant(fill_budget(found.hits, query.query, metric.tokens)[0], targets),
            )
            for metric in metrics
        },
        first=relevance.first,
        missed=tuple(
            str(label)
            for label, rank in zip(query.labels, relevance.ranks, strict=True)
            if rank is None
        ),
        stale=stale,
        hits=tuple(hit.source for hit in found.hits),
        seconds=time.perf_counter() - began,
    )


def _figure(metric: Metric, results: Sequence[QueryResult]) -> Figure:
    values = [result.values[metric] for result in results]
    low, high = bootstrap_interval(values)
    return Figure(metric, sum(values) / len(values), low, high)
