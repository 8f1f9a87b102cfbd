"""Find the long runs of a text that are no plain names: where tokens, keys and data stand.

Most texts have hardly any, and what stands in none needs no further look. A run holds letters,
digits and ``+/_-``, as base64, hexadecimal, tokens and paths do, and ``%~``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LEAST = 20
"""Characters of the shortest long run."""

# Each character of a run becomes a zero and all else a one: a run is found as fast as memory is
# searched.
_LETTERS = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz+/_-%~"
_CLASSES = bytes(0 if code in _LETTERS else 1 for code in range(256))
_RUN = bytes(LEAST)
_END = b"\x01"
_MARK = re.compile("[0-9A-Z]")  # most names have none, which one class of characters tells soonest
_TELLING = re.compile("[0-9]|[a-z][A-Z]")
_AMAZON = "IA"  # the one kind of token of capitals alone, AKIA and ASIA


class Run(NamedTuple):
    """A long run, from ``start`` to before ``end``."""

    start: int
    end: int


def find_runs(text: str) -> list[Run]:
    """Return the long runs with a digit, or with a capital behind a small letter.

    >>> find_runs("url = https://hooks.example/services/T00/B00/x9aQ")
    [Run(start=20, end=49)]
    """
    classes = text.encode("latin-1", "replace").translate(_CLASSES) + _END
    found: list[Run] = []
    start = classes.find(_RUN)
    while start >= 0:
        end = classes.index(_END, start)
        if _MARK.search(text, start, end) and (
            _TELLING.search(text, start, end) or text.find(_AMAZON, start, end) >= 0
        ):
            found.append(Run(start, end))
        start = classes.find(_RUN, end)
    return found
