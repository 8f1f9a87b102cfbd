"""What the rows of an answers table say: outcome, places, tokens, metrics, and sums of them.

Exact match and token F1 are those of Rajpurkar et al. 2016 (SQuAD): lower case, no punctuation, no
English articles, single spaces; of several expected answers the best one counts. Citations do not
count as words of an answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from math import ceil
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, cast

from merganser.chunking.places import name_passage
from merganser.retrieval.hits import describe_freshness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ANSWERED = "answered"
"""Outcome of a row whose answer can be relied on."""

_CITATION = re.compile(
    r"\[\d+\]|`?[\w./-]+\.\w+"
    r"(?::\d+(?:-\d+)?|`? \([^()\n]*\b\d+(?:-\d+)?(?:, labelled [^()\n]*)?\))`?"
)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def outcome_of(row: Mapping[str, Any]) -> str:
    """Return a row's outcome; a table that was edited may hold none."""
    return str(row.get("outcome") or "no outcome")


def reason_of(row: Mapping[str, Any]) -> str:
    """Return why a row's answer cannot be relied on, beyond its outcome; "" when it does not say.

    >>> reason_of({"outcome": "failed: cites unknown source", "invalid_citations": ["[9]", "[8]"]})
    '[9], [8]'
    """
    if outcome_of(row) == ANSWERED:
        return ""
    return str(row.get("error") or ", ".join(map(str, as_list(row.get("invalid_citations")))))


def places_of(row: Mapping[str, Any], *, cited: bool) -> list[tuple[str, str]]:
    """Return the places that a row's answer cites, or the others it was given, with their links.

    A place whose lines were not fresh when it was found says so.

    A link is "" where there is none, and where a table that was edited has something else.

    >>> source = {"path": "docs/ducks.md", "lines": "3-4", "cited": True}
    >>> places_of({"sources": [source]}, cited=True)
    [('docs/ducks.md:3-4', '')]
    """
    return [
        (
            name_passage(source["path"], source["lines"], source.get("place") or "")
            + ((said := describe_freshness(str(source.get("freshness")))) and f" ({said})"),
            url if str(url := source.get("url") or "").startswith("https://") else "",
        )
        for source in _sources(row)
        if {"path", "lines"} <= source.keys() and bool(source.get("cited")) == cited
    ]


def rests_on_stale(row: Mapping[str, Any]) -> bool:
    """Return whether a source that a row's answer cites, or any where it cites none, was not fresh.

    >>> rests_on_stale({"sources": [{"cited": True, "freshness": "gone"}, {"cited": False}]})
    True
    """
    sources = _sources(row)
    used = [source for source in sources if source.get("cited")] or sources
    return any(source.get("freshness") in {"changed", "gone"} for source in used)


def tokens_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens of a row's turn, in and out; 0 where it does not say."""
    tokens = cast("dict[str, Any]", row.get("tokens") or {})
    return int(tokens.get("input") or 0), int(tokens.get("output") or 0)


def seconds_of(row: Mapping[str, Any]) -> float:
    """Return the wall time of a row's turn; 0 where it does not say."""
    return float(row.get("seconds") or 0.0)


def measure_answer(row: Mapping[str, Any], expected: Any) -> dict[str, float]:
    """Measure one answered row.

    Args:
        row: With ``answer``, ``sources`` and ``invalid_citations``.
        expected: A text, a list of texts of which one is enough, or None.

    Returns:
        ``citations`` is the share of cited sources among all citations, 0 to 1, and 0 without any;
        ``exact`` (0 or 1) and ``token_f1`` (0 to 1) only when something was expected.

    >>> measure_answer({"answer": "The cat [1].", "sources": [{"cited": True}]}, ["dog", "cat"])
    {'citations': 1.0, 'exact': 1.0, 'token_f1': 1.0}
    """
    cited = sum(bool(source.get("cited")) for source in _sources(row))
    invalid = len(as_list(row.get("invalid_citations")))
    found = {"citations": cited / (cited + invalid) if cited else 0.0}
    references = [str(one) for one in as_list(expected)]
    if references:
        answer = str(row.get("answer") or "")
        found["exact"] = float(any(words_of(answer) == words_of(one) for one in references))
        found["token_f1"] = max(token_f1(answer, one) for one in references)
    return found


def token_f1(answer: str, expected: str) -> float:
    """Return the harmonic mean of precision and recall of the answer's words, 0 to 1.

    >>> token_f1("cat", "the cat sat")  # precision 1, recall 1/2
    0.6666666666666666
    """
    given, wanted = words_of(answer), words_of(expected)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def words_of(text: str) -> list[str]:
    """Return a text's words as SQuAD's evaluation compares them.

    >>> words_of("The merganser eats fish (docs/ducks.md:3-4).")
    ['merganser', 'eats', 'fish']
    """
    plain = _CITATION.sub(" ", text).lower().translate(_PUNCTUATION)
    return _ARTICLE.sub(" ", plain).split()


def mean_metrics(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of every metric over the rows that have it.

    >>> mean_metrics([{"metrics": {"exact": 1.0}}, {"metrics": {"exact": 0.0}}, {}])
    {'exact': 0.5}
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in cast("dict[str, float]", row.get("metrics") or {}).items():
            values.setdefault(name, []).append(float(value))
    return {name: fmean(found) for name, found in sorted(values.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSummary:
    """Sums over some rows of an answers table.

    Attributes:
        rows: How many.
        answered: Rows with the outcome ``answered``.
        outcomes: How many rows have each, ``answered`` first, then the most frequent.
        turns: Turns that gave the rows: equal questions share one.
        tokens: Tokens of the turns, in and out.
        seconds: Sum of the turns' wall times, waiting for a model's slot included.
        median_seconds: Wall time of a turn.
        p95_seconds: Nineteen of twenty turns took at most so long.
        metrics: Mean of each over the rows that have it; failed questions count as 0.
        models: Models that answered, the most frequent first.
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
    seconds = [seconds_of(row) for row in turns]
    models = Counter(str(row["model"]) for row in turns if row.get("model"))
    return BatchSummary(
        rows=len(rows),
        answered=counts[ANSWERED],
        outcomes={outcome: counts[outcome] for outcome in by_count},
        turns=len(turns),
        tokens=sum_tokens(turns),
        seconds=sum(seconds),
        median_seconds=median(seconds) if seconds else 0.0,
        p95_seconds=sorted(seconds)[ceil(0.95 * len(seconds)) - 1] if seconds else 0.0,
        metrics=mean_metrics(rows),
        models=tuple(name for name, _ in models.most_common()),
    )


def sum_tokens(rows: Iterable[Mapping[str, Any]]) -> tuple[int, int]:
    """Return the tokens of the rows' turns, in and out."""
    tokens = [tokens_of(row) for row in rows]
    return sum(t[0] for t in tokens), sum(t[1] for t in tokens)


def as_list(value: Any) -> list[Any]:
    """Return a list as it is, None as an empty one, and anything else as a list of one."""
    if value is None:
        return []
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _sources(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in as_list(row.get("sources")) if isinstance(one, dict)]
