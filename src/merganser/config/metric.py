"""The names of retrieval metrics: ``recall@5``, ``mrr@10``, ``ndcg@10`` and their like.

What they measure is defined and computed in ``merganser.evaluation.metrics``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

Measure = Literal["recall", "precision", "success", "mrr", "ndcg"]

MEASURES: tuple[Measure, ...] = get_args(Measure)
MOST_HITS = 100
"""Greatest cut-off: no reader looks further, and every hit costs a search its time."""

PATTERN = rf"^({'|'.join(MEASURES)})@(100|[1-9][0-9]?)$"
_NAME = re.compile(PATTERN)


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """A measure with its cut-off.

    Attributes:
        measure: What is measured.
        k: How many of the first hits count, 1 to 100.
    """

    measure: Measure
    k: int

    def __str__(self) -> str:
        """Give the name as it is written in configs and on the command line."""
        return f"{self.measure}@{self.k}"


def parse_metric(name: str) -> Metric | None:
    """Read ``measure@k``; None for what names no metric."""
    found = _NAME.match(name)
    return Metric(cast("Measure", found[1]), int(found[2])) if found else None


def suggest_metric(name: str) -> str:
    """Say how to write what was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for it

    word, _, k = name.casefold().partition("@")
    near = get_close_matches(word, MEASURES, n=1)
    cut = k if k.isdecimal() and 1 <= int(k) <= MOST_HITS else "5"
    if near:
        return f"write {near[0]}@{cut}"
    return f"write {', '.join(MEASURES)} with a cut-off from 1 to {MOST_HITS}, such as recall@5"
