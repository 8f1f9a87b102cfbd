"""Compare an answer with the expected one, as SQuAD does, and count its citations.

Exact match and token F1 are those of Rajpurkar et al. 2016 (SQuAD): lower case, no punctuation, no
English articles, single spaces; of several expected answers the best one counts. Citations are no
part of the answer's words.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_CITATION = re.compile(r"\[\d+\]|`?[\w./-]+\.\w+:\d+(?:-\d+)?`?")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def measure_answer(row: Mapping[str, Any], expected: Any) -> dict[str, float]:
    """Give what can be measured of one answered row.

    Args:
        row: With ``answer``, ``sources`` and ``invalid_citations``.
        expected: A text, a list of texts of which one is enough, or None.

    Returns:
        ``citations`` is the share of cited sources among all citations, 0 to 1, and 0 without any;
        ``exact`` (0 or 1) and ``token_f1`` (0 to 1) only when something was expected.
    """
    sources = cast("list[dict[str, Any]]", row.get("sources") or [])
    cited = sum(bool(source.get("cited")) for source in sources)
    invalid = len(cast("list[Any]", row.get("invalid_citations") or []))
    found = {"citations": cited / (cited + invalid) if cited else 0.0}
    references = [str(one) for one in _as_list(expected)]
    if references:
        answer = str(row.get("answer") or "")
        found["exact"] = float(any(words_of(answer) == words_of(one) for one in references))
        found["token_f1"] = max(token_f1(answer, one) for one in references)
    return found


def token_f1(answer: str, expected: str) -> float:
    """Give the harmonic mean of precision and recall of the answer's words, 0 to 1."""
    given, wanted = words_of(answer), words_of(expected)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def words_of(text: str) -> list[str]:
    """Give a text's words as SQuAD's evaluation compares them."""
    plain = _CITATION.sub(" ", text).lower().translate(_PUNCTUATION)
    return _ARTICLE.sub(" ", plain).split()


def mean_metrics(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Give the mean of every metric over the rows that have it."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for name, value in cast("dict[str, float]", row.get("metrics") or {}).items():
            values.setdefault(name, []).append(float(value))
    return {name: fmean(found) for name, found in sorted(values.items())}


def _as_list(expected: Any) -> list[Any]:
    if expected is None:
        return []
    return cast("list[Any]", expected) if isinstance(expected, list) else [expected]
