"""Fusion: several strategies' ranked lists made into one.

Every function takes, per strategy, a list of (item, score) with the best first, and returns one
list sorted by descending score. Equal scores are ordered by the items, never by chance. An item is
whatever the caller takes for the same passage; searches use ``hits.PassageKey``.

Strategies take part with a weight, 1 unless given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Sortable(Protocol):
    """An item that can be sorted among its kind and be a key of a dict."""

    def __lt__(self, other: Any, /) -> bool: ...
    def __hash__(self) -> int: ...


ItemT = TypeVar("ItemT", bound=Sortable)

RRF_K = 60
"""The constant of Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and
individual Rank Learning Methods", SIGIR 2009, who found the choice uncritical around it."""


@dataclass(frozen=True, slots=True)
class Fused(Generic[ItemT]):
    """One item of the fused list.

    Attributes:
        item: What was ranked.
        score: Higher is better; its scale depends on the method.
        terms: What each strategy that found the item added (for ``max``: offered).
    """

    item: ItemT
    score: float
    terms: Mapping[str, float]


def reciprocal_rank_fusion(
    lists: Mapping[str, Sequence[tuple[ItemT, float]]],
    *,
    k: float = RRF_K,
    weights: Mapping[str, float] | None = None,
) -> list[Fused[ItemT]]:
    """Add up ``weight / (k + rank)``, ranks from 1; the strategies' scores do not count.

    Args:
        lists: Per strategy, best first.
        k: Damps the lead of the top ranks, at least 0.
        weights: Per strategy.

    Returns:
        The union of the lists.

    >>> lists = {"bm25": [("a.py", 7.1), ("b.py", 5.0)], "dense": [("b.py", 0.8), ("c.py", 0.7)]}
    >>> [one.item for one in reciprocal_rank_fusion(lists)]
    ['b.py', 'a.py', 'c.py']
    """
    return _combine(lists, weights, lambda weight, rank, _: weight / (k + rank), sum)


def weighted_fusion(
    lists: Mapping[str, Sequence[tuple[ItemT, float]]],
    *,
    weights: Mapping[str, float] | None = None,
) -> list[Fused[ItemT]]:
    """Add up ``weight * score``; the scores must be on comparable scales.

    Args:
        lists: Per strategy, best first.
        weights: Per strategy.

    Returns:
        The union of the lists.

    >>> lists = {"bm25": [("a.py", 1.0), ("b.py", 0.5)], "dense": [("b.py", 0.75)]}
    >>> [(one.item, one.score) for one in weighted_fusion(lists, weights={"dense": 2})]
    [('b.py', 2.0), ('a.py', 1.0)]
    """
    return _combine(lists, weights, lambda weight, _, score: weight * score, sum)


def max_fusion(
    lists: Mapping[str, Sequence[tuple[ItemT, float]]],
    *,
    weights: Mapping[str, float] | None = None,
) -> list[Fused[ItemT]]:
    """Take the largest ``weight * score``; the scores must be on comparable scales.

    Args:
        lists: Per strategy, best first.
        weights: Per strategy.

    Returns:
        The union of the lists.

    >>> lists = {"bm25": [("a.py", 1.0), ("b.py", 0.5)], "dense": [("b.py", 0.75)]}
    >>> [(one.item, one.score) for one in max_fusion(lists)]
    [('a.py', 1.0), ('b.py', 0.75)]
    """
    return _combine(lists, weights, lambda weight, _, score: weight * score, max)


@dataclass(frozen=True, slots=True)
class Scale:
    """How one strategy's scores are spread within a query.

    Attributes:
        mean: Of the first scores.
        deviation: Their standard deviation; 0 where they are equal, so that they tell nothing.
        floor: The score of an item that the strategy knows nothing of.
    """

    mean: float
    deviation: float
    floor: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Scale:
        """Measure the first scores of a strategy, best first.

        >>> Scale.of([3.0, 1.0])
        Scale(mean=2.0, deviation=1.0, floor=1.0)
        """
        if not scores:
            return cls(0.0, 0.0, 0.0)
        mean = math.fsum(scores) / len(scores)
        variance = math.fsum((score - mean) ** 2 for score in scores) / len(scores)
        return cls(mean, math.sqrt(variance), scores[-1])

    def standardise(self, score: float) -> float:
        """Return by how many standard deviations a score is above the mean."""
        # Equal scores differ by the rounding of their sums.
        is_flat = self.deviation <= 1e-9 * max(abs(self.mean), 1.0)
        return 0.0 if is_flat else (score - self.mean) / self.deviation


def standardised_fusion(
    lists: Mapping[str, Sequence[tuple[ItemT, float]]],
    scales: Mapping[str, Scale],
    *,
    weights: Mapping[str, float] | None = None,
) -> list[Fused[ItemT]]:
    """Add up ``weight * z``: how far each score is above the mean of its strategy.

    Scores of any scale can be compared by it, and a first hit that is far ahead of the others
    counts for more than one that is not, which ranks do not tell.

    Args:
        lists: Per strategy, with the scores of items that only others found where it knows them;
            an item that is missing gets the floor.
        scales: Per strategy.
        weights: Per strategy.

    Returns:
        The union of the lists.

    >>> lists = {"bm25": [("a.py", 9.0), ("b.py", 3.0)], "dense": [("b.py", 0.8), ("a.py", 0.7)]}
    >>> scales = {"bm25": Scale(3.0, 2.0, 3.0), "dense": Scale(0.7, 0.1, 0.7)}
    >>> [one.item for one in standardised_fusion(lists, scales)]
    ['a.py', 'b.py']
    """
    items = sorted({item for scores in lists.values() for item, _ in scores})
    full = {name: dict(scores) for name, scores in lists.items()}
    completed = {
        name: [(item, scales[name].standardise(scores.get(item, scales[name].floor)))
               for item in items]
        for name, scores in full.items()
    }  # fmt: skip
    return weighted_fusion(completed, weights=weights)


def _combine(
    lists: Mapping[str, Sequence[tuple[ItemT, float]]],
    weights: Mapping[str, float] | None,
    term: Callable[[float, int, float], float],
    reduce: Callable[[list[float]], float],
) -> list[Fused[ItemT]]:
    terms: dict[ItemT, dict[str, float]] = {}
    # Sorted, because floating-point sums depend on their order and the mapping's order on YAML's.
    for name in sorted(lists):
        weight = (weights or {}).get(name, 1.0)
        for rank, (item, score) in enumerate(lists[name], start=1):
            terms.setdefault(item, {}).setdefault(name, term(weight, rank, score))
    fused = [Fused(item, reduce(list(parts.values())), parts) for item, parts in terms.items()]
    fused.sort(key=lambda one: one.item)
    fused.sort(key=lambda one: one.score, reverse=True)  # stable: equal scores stay in item order
    return fused
