"""Fill a budget of tokens with hits, best first; the one that does not fit is trimmed.

Tokens are estimated from characters, since the model that reads the hits is not known here: one
for three, one for each that is written without spaces. English prose is near 4 characters a token
and source code near 3 in the byte-pair vocabularies of current models, so that the estimate is
rather too high than too low.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from math import fsum, log1p
from typing import TYPE_CHECKING

from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.retrieval.hits import Hit

CHARACTERS_PER_TOKEN = 3.0
"""Characters that one token is counted as when no tokenizer is at hand."""

MOST_HITS = 100
"""Hits of a search with a budget that names no limit."""

CUT = "…"
"""Stands where the text of a trimmed hit was cut, in the same line."""

_WIDE = re.compile("[\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
_HEAD_TOKENS = 8
"""What a number, the fences and line ends around a passage cost in a prompt, beside its source."""
_LEAST_TOKENS = 64
"""What is cut shorter is worth less than the place that names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How a budget was filled.

    Attributes:
        tokens: What was given.
        used: Estimated tokens of the hits with their sources, at most ``tokens``.
        trimmed: How many hits were trimmed.
        left_out: How many were left out for want of room, of those that the limit lets through.
    """

    tokens: int
    used: int
    trimmed: int
    left_out: int


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text.

    >>> count_tokens("It dives."), count_tokens("潜水鸭")
    (3, 3)
    """
    return -(-_weigh(text) // 3)


def _weigh(text: str) -> int:
    """Return three times the tokens of a text."""
    return len(text) if text.isascii() else len(text) + 2 * len(_WIDE.findall(text))


def cost_of(hit: Hit) -> int:
    """Return the tokens of a hit in a prompt, with its source."""
    return _cost_of_head(hit) + count_tokens(hit.text)


def _cost_of_head(hit: Hit) -> int:
    return count_tokens(hit.source) + _HEAD_TOKENS


def count_fitting(texts: Iterable[str], tokens: int) -> int:
    """Return how many texts can have a place in a budget, the first that does not fit included.

    >>> count_fitting(["It dives."] * 9, 8)
    3
    """
    count = 0
    for text in texts:
        count += 1
        tokens -= count_tokens(text)
        if tokens < 0:
            break
    return count


def fill_budget(hits: Sequence[Hit], query: str, tokens: int) -> tuple[list[Hit], Budget]:
    """Keep the best hits that fit together.

    Args:
        hits: Best first.
        query: Its words decide around what a hit is trimmed.
        tokens: The budget, at least 1.

    Returns:
        Hits in the same order, whole as long as they fit, the next one trimmed where that leaves
        enough of it, and how that went.
    """
    kept: list[Hit] = []
    used = trimmed = 0
    for hit in hits:
        if (cost := cost_of(hit)) <= tokens - used:
            kept.append(hit)
            used += cost
            continue
        if (room := tokens - used - _cost_of_head(hit)) < _LEAST_TOKENS:
            break
        if (part := trim(hit, query, room)) is None:
            continue
        kept.append(part)
        used += cost_of(part)
        trimmed += 1
    left_out = len(hits) - len(kept)
    return kept, Budget(tokens=tokens, used=used, trimmed=trimmed, left_out=left_out)


def trim(hit: Hit, query: str, tokens: int) -> Hit | None:
    """Cut a hit down to the lines around what it has of the query.

    Args:
        hit: Its text is that of its lines, with rows of a table behind a line of its header, which
            stays.
        query: The question.
        tokens: Room for the text.

    Returns:
        The hit with the text and the numbers of the lines that are left, and ``…`` where it was
        cut: between lines, or where one line alone is too long, between words. None where no word
        fits, or its text is not that of its lines.
    """
    lines = hit.text.removesuffix("\n").split("\n")
    header = lines[: max(len(lines) - (hit.end_line - hit.start_line + 1), 0)]
    lines = lines[len(header) :]
    if len(lines) != hit.end_line - hit.start_line + 1:
        return None
    # The marks and the line ends between are part of it.
    room = 3 * (tokens - 2) - sum(_weigh(line) + 1 for line in header)
    wanted = set(query_terms(query))
    found = [wanted.intersection(query_terms(line)) for line in lines]
    sizes = [_weigh(line) + 1 for line in lines]
    first, last = _widen(*_best_run(found, sizes, room), sizes, room)
    while first < last and not lines[first].strip():
        first += 1
    while first < last and not lines[last].strip():
        last -= 1
    text: str | None = "\n".join(lines[first : last + 1])
    if sizes[first] > room:  # it is alone
        text = _cut_line(lines[first], query, room)
    if not text:
        return None
    before, behind = first > 0, last < len(lines) - 1
    text = f"{CUT} {text}" if before and not text.startswith(CUT) else text
    text = f"{text} {CUT}" if behind and not text.endswith(CUT) else text
    return replace(
        hit,
        text="\n".join((*header, text)),
        start_line=hit.start_line + first,
        end_line=hit.start_line + last,
        trimmed=True,
    )


def _best_run(found: Sequence[set[str]], sizes: Sequence[int], room: int) -> tuple[int, int]:
    """Return the first and last line, of the best run of lines that fits, from its first match on.

    The best has the most of the words, the rarer ones in the passage counting more, then the most
    lines with any, then comes first.
    """
    lines_with = Counter(term for terms in found for term in terms)
    weights = {term: log1p(len(found) / count) for term, count in lines_with.items()}
    inside = Counter[str]()
    best, run, start, size, hits = (0.0, 0), (0, 0), 0, 0, 0
    for end, terms in enumerate(found):
        inside.update(terms)
        size += sizes[end]
        hits += bool(terms)
        while size > room and start < end:
            inside.subtract(found[start])
            size -= sizes[start]
            hits -= bool(found[start])
            start += 1
        value = fsum(weights[term] for term, count in inside.items() if count)
        if (value, hits) > best:
            best, run = (value, hits), (start, end)
    first, last = run
    while first < last and not found[first]:
        first += 1
    return first, last


def _widen(first: int, last: int, sizes: Sequence[int], room: int) -> tuple[int, int]:
    """Take in lines on both sides by turns, as long as they fit."""
    room -= sum(sizes[first : last + 1])
    below, above = True, True
    while below or above:
        below = below and last + 1 < len(sizes) and sizes[last + 1] <= room
        if below:
            last += 1
            room -= sizes[last]
        above = above and first > 0 and sizes[first - 1] <= room
        if above:
            first -= 1
            room -= sizes[first]
    return first, last


def _cut_line(line: str, query: str, room: int) -> str | None:
    """Cut one line at the ends of words, around the first word of the query that it has."""
    words = [re.escape(word) for word in re.findall(r"\w+", query) if len(word) > 1]
    match = re.search("|".join(sorted(words, key=len, reverse=True)), line, re.IGNORECASE)
    at = match.start() if words and match else 0
    length = room if line.isascii() else room * len(line) // max(_weigh(line), 1)
    start = max(min(at - length // 3, len(line) - length), 0)
    while 0 < start < at and not _is_border(line, start):
        start += 1
    end = min(start + length, len(line))
    while start < end < len(line) and not _is_border(line, end):
        end -= 1
    text = line[start:end].strip()
    if not text:
        return None
    return (f"{CUT} " if start else "") + text + (f" {CUT}" if end < len(line) else "")


def _is_border(line: str, at: int) -> bool:
    """Return whether no word goes on from the character before to the one there."""
    before, behind = line[at - 1], line[at]
    return not (_goes_on(before) and _goes_on(behind)) or bool(_WIDE.search(before + behind))


def _goes_on(character: str) -> bool:
    return character.isalnum() or character == "_"
