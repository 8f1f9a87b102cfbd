"""``gate`` and ``metrics``: what retrieval must reach, and with which queries that is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    Strict,
    WithJsonSchema,
    model_validator,
)

from merganser.config.spec_base import StrictModel, Text, Unit, fault

Measure = Literal["recall", "precision", "success", "mrr", "ndcg"]

MEASURES: tuple[Measure, ...] = get_args(Measure)
MOST_HITS = 100
"""Largest k: users do not read further, and every hit costs search time."""

PATTERN = rf"^(?:({'|'.join(MEASURES)})@(100|[1-9][0-9]?)|(recall)@([1-9][0-9]{{2,5}})tok)$"
_NAME = re.compile(PATTERN)


@dataclass(frozen=True, slots=True, order=True)
class Metric:
    """A measure of retrieval over the first hits; ``merganser.evaluation.metrics`` computes it.

    Attributes:
        measure: What is measured.
        k: How many of the first hits are looked at, 1 to 100.
        tokens: The budget that these hits are fitted into, trimmed as a search does; None for none.
    """

    measure: Measure
    k: int
    tokens: int | None = None

    def __str__(self) -> str:
        """Return the name as configs and the command line write it."""
        return f"{self.measure}@{self.k if self.tokens is None else f'{self.tokens}tok'}"


def parse_metric(name: str) -> Metric | None:
    """Return the metric of a name such as ``recall@5`` or ``recall@2000tok``, or None."""
    found = _NAME.match(name)
    if not found:
        return None
    if found[3]:
        return Metric("recall", MOST_HITS, int(found[4]))
    return Metric(cast("Measure", found[1]), int(found[2]))


def suggest_metric(name: str) -> str:
    """Return how to write the metric that was probably meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - only errors pay for it

    word, _, k = name.casefold().partition("@")
    near = get_close_matches(word, MEASURES, n=1)
    cut = k if k.isdecimal() and 1 <= int(k) <= MOST_HITS else "5"
    if near:
        return f"write {near[0]}@{cut}"
    return f"write {', '.join(MEASURES)} with a cut-off from 1 to {MOST_HITS}, such as recall@5"


def check_jsonl(value: str) -> str:
    """Refuse a path that does not end in ``.jsonl``."""
    if not value.endswith(".jsonl"):
        raise fault(f"must be a .jsonl file, got {value!r}", fix="write one JSON object a line")
    return value


def _read_metric(value: Any) -> Metric:
    if isinstance(value, Metric):
        return value
    metric = parse_metric(value) if isinstance(value, str) else None
    if metric is None:
        raise fault(f"{value!r} is no metric", fix=suggest_metric(str(value)))
    return metric


def _read_threshold(value: Any) -> Any:
    return {"metric": value} if isinstance(value, str) else value


def _read_gates(value: Any) -> Any:
    # A cast says nothing about what is in it: pydantic finds out.
    return cast("Any", value) if isinstance(value, list | tuple) else (value,)


MetricName = Annotated[
    Metric,
    PlainValidator(_read_metric),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": PATTERN}),
]
QueriesPath = Annotated[Text, AfterValidator(check_jsonl)]


class ThresholdSpec(StrictModel):
    """A metric and what it must reach. A name alone is the ``metric``, with nothing required."""

    metric: MetricName
    """``recall@k``, ``precision@k``, ``success@k``, ``mrr@k`` or ``ndcg@k``, k from 1 to 100; or
    ``recall@2000tok``: of the passages that fill a budget of so many tokens, from 100."""

    min: Unit | None = None
    """Lowest value, 0 to 1; nothing is required when left out."""

    max_drop: Unit | None = None
    """Largest allowed drop below the last evaluation of the same queries, 0 to 1; any when left
    out."""

    def __str__(self) -> str:
        """Return what must be reached, for example ``recall@5 at least 0.8``."""
        least = None if self.min is None else f"at least {self.min:g}"
        drop = None if self.max_drop is None else f"at most {self.max_drop:g} lower than before"
        required = " and ".join(part for part in (least, drop) if part)
        return f"{self.metric} {required}".strip()


_GATE = "{queries: ./evals/code.jsonl, metric: recall@5, min: 0.8}"


class GateSpec(StrictModel):
    """What a new snapshot must reach to be published; otherwise the served one stays."""

    queries: QueriesPath | None = None
    """Queries with the passages that answer them, one JSON object a line, relative to the config.
    """

    secrets: Annotated[int, Strict(), Field(ge=0)] | None = None
    """How many secrets may have been found in the files of the new snapshot, 0 for none; any number
    when left out. It needs no ``queries``, and rags whose ``secrets`` is not ``keep``."""

    metric: Annotated[MetricName, Field(json_schema_extra={"default": "recall@5"})] = Metric(
        "recall", 5
    )
    """``recall@k``, ``precision@k``, ``success@k``, ``mrr@k`` or ``ndcg@k``; k from 1 to 100."""

    min: Unit | None = None
    """Lowest value, 0 to 1."""

    max_drop: Unit | None = None
    """Largest allowed drop below the served snapshot's value, 0 to 1. When left out, the two are
    compared and shown, and any drop is allowed: with few queries, one query whose passage moves by
    a place would otherwise stop every new snapshot."""

    @property
    def threshold(self) -> ThresholdSpec:
        """The metric and what it must reach."""
        return ThresholdSpec(metric=self.metric, min=self.min, max_drop=self.max_drop)

    @model_validator(mode="after")
    def _holds_something(self) -> Self:
        measured = self.model_fields_set & {"metric", "min", "max_drop"}
        if self.queries is None and (measured or self.secrets is None):
            fix = "add 'queries: ...'" if measured else f"for example: {_GATE} or {{secrets: 0}}"
            raise fault("must have queries" + ("" if measured else " or secrets"), fix=fix)
        if self.queries is not None and self.min is None and self.max_drop is None:
            raise fault("must have min, max_drop or both", fix=f"for example: {_GATE}")
        return self


DEFAULT_METRICS = tuple(
    ThresholdSpec(metric=metric)
    for metric in (Metric("recall", 5), Metric("mrr", 10), Metric("ndcg", 10))
)
"""Whether the right passage is found, how high it ranks, and how good the whole order is."""

Metrics = tuple[
    Annotated[
        ThresholdSpec,
        BeforeValidator(_read_threshold, json_schema_input_type=MetricName | ThresholdSpec),
    ],
    ...,
]
"""Metrics by name, or with what they must reach."""

Gates = Annotated[
    tuple[GateSpec, ...],
    BeforeValidator(_read_gates, json_schema_input_type=GateSpec | list[GateSpec]),
    Field(min_length=1),
]
"""One gate, or a list of gates that must all hold."""
