"""Cron expressions of five fields: minute, hour, day of month, month, day of week."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_ITEM = re.compile(r"(?P<first>\*|\w+)(-(?P<last>\w+))?(/(?P<step>\d+))?")


def find_cron_problem(expression: str) -> str | None:
    """Say what is wrong with a cron expression, or give None if nothing is."""
    words = expression.split()
    if len(words) != len(_FIELDS):
        return f"must have five fields, got {len(words)} in {expression!r}"
    values = list[set[int]]()
    for word, (name, low, high, names) in zip(words, _FIELDS, strict=True):
        found = _expand(word, low, high, names)
        if found is None:
            return f"the {name} {word!r} is not made of numbers from {low} to {high}"
        values.append(found)
    _, _, days, months, _ = values
    if words[4] == "*" and all(min(days) > _LONGEST_MONTH.get(month, 31) for month in months):
        return f"{expression!r} never comes: no such month has a day {min(days)}"
    return None


def _expand(word: str, low: int, high: int, names: dict[str, int]) -> set[int] | None:
    values = set[int]()
    for item in word.split(","):
        match = _ITEM.fullmatch(item)
        if match is None:
            return None
        first, last, step = match["first"], match["last"], int(match["step"] or 1)
        if first == "*":
            begin, end = (None, None) if last else (low, high)
        else:
            begin = _number(first, names)
            end = _number(last, names) if last else (high if match["step"] else begin)
        if begin is None or end is None or step < 1 or not low <= begin <= end <= high:
            return None
        values.update(range(begin, end + 1, step))
    return values


def _number(word: str, names: dict[str, int]) -> int | None:
    if word.isascii() and word.isdigit():
        return int(word)
    return names.get(word.lower())
