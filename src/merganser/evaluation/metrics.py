"""Retrieval metrics over judged hits; all are 0 to 1 and higher is better.

``k`` counts hits as the search gives them. With R relevant labels of a query:

- ``recall@k``: labels found among the first k hits, divided by R.
- ``precision@k``: hits among the first k that match a label, divided by k, also where there are
  fewer than k hits.
- ``success@k``: 1 when any label is found among the first k hits, else 0.
- ``mrr@k``: 1 / rank of the first relevant hit, 0 when it is not among the first k.
- ``ndcg@k``: the sum of grade / log2(place + 1) over the labels found at places up to k, divided
  by the same sum for the best order of all R labels, cut at k. A label's place is the rank of the
  hit that finds it; where one hit finds several labels, or the place is taken, it is the next free
  one, highest grade first. So each place holds one label, and the value never exceeds 1.

Where no hit finds two labels these are the values of trec_eval and ir-measures (R, P, Success, RR,
nDCG with linear gain). The value of a query set is the mean over its queries; a query that
failed counts 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from merganser.config.metric import Metric
    from merganser.evaluation.relevance import Judgement

RESAMPLES = 2000
CONFIDENCE = 0.95
_SEED = 20
# Any fixed seed: the same values give the same interval in every run.


def measure(metric: Metric, judged: Judgement) -> float:
    """Give a metric of one query.

    Args:
        metric: What to measure.
        judged: At least ``metric.k`` hits, or all there are.
    """
    k = metric.k
    found = sum(rank is not None and rank <= k for rank in judged.ranks)
    match metric.measure:
        case "recall":
            return found / len(judged.ranks)
        case "precision":
            return sum(judged.relevant[:k]) / k
        case "success":
            return float(found > 0)
        case "mrr":
            return 1.0 / judged.first if judged.first is not None and found else 0.0
        case "ndcg":
            return _ndcg(judged, k)
        case _:
            assert_never(metric.measure)


def places(judged: Judgement) -> list[tuple[int, int]]:
    """Give place and grade of every label that was found, by place; see ``ndcg`` above."""
    found = sorted(
        (rank, -grade)
        for rank, grade in zip(judged.ranks, judged.grades, strict=True)
        if rank is not None
    )
    taken: list[tuple[int, int]] = []
    for rank, negative in found:
        after = taken[-1][0] + 1 if taken else 1
        taken.append((max(rank, after), -negative))
    return taken


def _ndcg(judged: Judgement, k: int) -> float:
    gained = sum(grade / math.log2(place + 1) for place, grade in places(judged) if place <= k)
    best = sorted(judged.grades, reverse=True)[:k]
    ideal = sum(grade / math.log2(place + 1) for place, grade in enumerate(best, 1))
    return gained / ideal


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Give the 95 % confidence interval of a mean by the percentile bootstrap over queries.

    Args:
        values: One a query, at least one.

    Returns:
        Low and high; the mean twice for a single query, of which nothing can be said.
    """
    sample: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    random = np.random.default_rng(_SEED)
    drawn = random.integers(0, len(sample), size=(RESAMPLES, len(sample)))
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(sample[drawn].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)
