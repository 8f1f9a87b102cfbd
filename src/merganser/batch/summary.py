"""What the rows of a batch come to: outcomes with their reasons, time, tokens and metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from merganser.batch.answer_metrics import mean_metrics
from merganser.batch.journal import tokens_of
from merganser.batch.selection import ANSWERED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """Some rows of an answers table.

    Attributes:
        rows: How many.
        answered: Of them, those with the outcome ``answered``.
        outcomes: How many rows have each, ``answered`` first, then the most frequent.
        turns: Turns that gave the rows: equal questions share one.
        tokens: Of the turns, in and out.
        seconds: Sum of the turns' wall times, in which waiting for a place counts.
        median_seconds: Of a turn.
        p95_seconds: Nineteen of twenty turns took at most so long.
        metrics: Mean of each over the rows that have it; failed questions count as 0.
        models: Who answered, the most frequent first.
    """

    rows: int
    answered: int
    outcomes: Mapping[str, int]
    turns: int
    tokens: tuple[int, int]
    seconds: float
    median_seconds: float
    p95_seconds: float
    metrics: Mapping[str, float]
    models: tuple[str, ...]


def summarize(rows: Iterable[Mapping[str, Any]]) -> BatchSummary:
    """Sum rows up; there need not be any."""
    rows = list(rows)
    counts = Counter(outcome_of(row) for row in rows)
    by_count = sorted(counts, key=lambda one: (one != ANSWERED, -counts[one], one))
    turns = list({str(row.get("key") or row.get("id")): row for row in rows}.values())
    tokens = [tokens_of(row) for row in turns]
    seconds = [float(row.get("seconds") or 0.0) for row in turns]
    models = Counter(str(row["model"]) for row in turns if row.get("model"))
    return BatchSummary(
        rows=len(rows),
        answered=counts[ANSWERED],
        outcomes={outcome: counts[outcome] for outcome in by_count},
        turns=len(turns),
        tokens=(sum(t[0] for t in tokens), sum(t[1] for t in tokens)),
        seconds=sum(seconds),
        median_seconds=median(seconds) if seconds else 0.0,
        p95_seconds=sorted(seconds)[ceil(0.95 * len(seconds)) - 1] if seconds else 0.0,
        metrics=mean_metrics(rows),
        models=tuple(name for name, _ in models.most_common()),
    )


def outcome_of(row: Mapping[str, Any]) -> str:
    """Give a row's outcome; a table that was edited may hold none."""
    return str(row.get("outcome") or "no outcome")


def reason_of(row: Mapping[str, Any]) -> str:
    """Say why a row has no answer to rely on, beyond its outcome; empty when there is no more."""
    if outcome_of(row) == ANSWERED:
        return ""
    if row.get("error"):
        return str(row["error"])
    invalid = row.get("invalid_citations")
    return ", ".join(map(str, cast("list[Any]", invalid))) if isinstance(invalid, list) else ""


def places_of(row: Mapping[str, Any], *, cited: bool) -> list[str]:
    """Give the places ``path:line-line`` that a row's answer cites, or those it does not."""
    sources = row.get("sources")
    found = cast("list[Any]", sources) if isinstance(sources, list) else []
    return [
        f"{source['path']}:{source['lines']}"
        for source in (cast("dict[str, Any]", one) for one in found if isinstance(one, dict))
        if {"path", "lines"} <= source.keys() and bool(source.get("cited")) == cited
    ]
