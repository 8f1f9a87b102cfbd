"""Name where a stretch of text stands in its file, so that a person can open it there.

Text files have lines, and need no more. Of a document whose text was extracted the lines are ours,
so its reader says which of them stand on which page, slide, row or cell, as a list of ``Place``.
"""

from __future__ import annotations

import re
import sys
from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.chunking.sections import Heading


class Place(NamedTuple):
    """Where the text stands from one line on, until the next place begins.

    Attributes:
        line: The first line of the text that stands there, from 1.
        steps: Units in the singular with their labels, the widest first, such as
            ``(("sheet", "Budget"), ("row", 12))``. Numbers are int, so that ranges can be made of
            them; names are text in one line.
        counts: Whether the last number goes up by one with each line of the text: one place stands
            for all rows of a sheet whose rows are a line each, or for the lines of a cell.
        label: What the file itself calls the place where that is another name, such as ``iv``.
    """

    line: int
    steps: tuple[tuple[str, int | str], ...]
    counts: bool = False
    label: str = ""


def describe_places(places: Sequence[Place], first: int, last: int) -> str:
    """Return where some lines of a text stand.

    Args:
        places: By ascending ``line``.
        first: The first line, from 1.
        last: The last line, inclusive.

    Returns:
        Words such as ``slides 3-4``; empty where the lines of the text are the place.

    >>> pages = [Place(1, (("page", 1),), label="i"), Place(9, (("page", 2),), label="ii")]
    >>> describe_places(pages, 3, 5), describe_places(pages, 3, 12)
    ('page 1, labelled i', 'pages 1-2, labelled i-ii')
    >>> rows = [Place(2, (("sheet", "Budget"), ("row", 4)), counts=True)]
    >>> describe_places(rows, 2, 2), describe_places(rows, 10, 30)
    ('sheet Budget, row 4', 'sheet Budget, rows 12-32')
    """
    lines = [place.line for place in places]
    start, end = bisect_right(lines, first) - 1, bisect_right(lines, last) - 1
    if end < 0:
        return ""
    begin, final = places[max(start, 0)], places[end]
    found = _join(_steps_at(begin, max(first, begin.line)), _steps_at(final, last))
    if not (begin.label and final.label):
        return found
    labels = begin.label if begin.label == final.label else f"{begin.label}-{final.label}"
    return f"{found}, labelled {labels}"


_OPENED_ALONE = frozenset({"page", "slide", "sheet", "chapter"})


def find_walls(text: str, places: Sequence[Place], headings: Iterable[Heading]) -> frozenset[int]:
    r"""Return the headings with which another page, slide, sheet or chapter begins.

    A chunk of several would name a stretch, where a person wants to open one.

    >>> from merganser.chunking.sections import Heading
    >>> places = [Place(1, (("slide", 1),)), Place(2, (("slide", 2),)), Place(3, (("slide", 3),))]
    >>> sorted(find_walls("One\nTwo\nThree\n", places, [Heading(1, "Two", 4)]))
    [4]
    """
    begun = {
        place.line
        for before, place in pairwise([Place(0, (("", ""),)), *places])
        if before.steps[0] != place.steps[0] and place.steps[0][0] in _OPENED_ALONE
    }
    walls: set[int] = set()
    line, at = 1, 0
    for heading in headings if begun else ():
        line += text.count("\n", at, heading.start)
        at = heading.start
        if line in begun:
            walls.add(at)
    return frozenset(walls)


def name_passage(path: str, lines: str, place: str) -> str:
    """Return where a passage is found: a file's lines, which editors can jump to, or its place.

    >>> name_passage("a.py", "3-4", ""), name_passage("a.pptx", "30-42", "slides 3-4")
    ('a.py:3-4', 'a.pptx (slides 3-4)')
    """
    return f"{path} ({place})" if place else f"{path}:{lines}"


def _steps_at(place: Place, line: int) -> tuple[tuple[str, int | str], ...]:
    *outer, (unit, number) = place.steps
    if place.counts and isinstance(number, int):
        return (*outer, (unit, number + line - place.line))
    return place.steps


def _join(begin: tuple[tuple[str, int | str], ...], end: tuple[tuple[str, int | str], ...]) -> str:
    """Name the stretch from one place to another by the first step in which they differ."""
    shared = 0
    while shared < min(len(begin), len(end)) and begin[shared] == end[shared]:
        shared += 1
    outer = [f"{unit} {label}" for unit, label in begin[:shared]]
    if shared == min(len(begin), len(end)):
        return ", ".join(outer)
    (unit, first), (other, last) = begin[shared], end[shared]
    if unit == other and isinstance(first, int) and isinstance(last, int):
        return ", ".join([*outer, f"{unit}s {first}-{last}"])
    if outer and unit != other:
        return ", ".join(outer)
    ends = [
        ", ".join(f"{unit} {label}" for unit, label in steps[shared:]) for steps in (begin, end)
    ]
    return ", ".join([*outer, " to ".join(ends)])


_LABELLED = re.compile(r", labelled .*$")
_NUMBERED = re.compile(r"(?:(.*?),? )?([^\W\d]+?)s? (\d{1,9})(?:\s*[-–]\s*(\d{1,9}))?")


def numbers_of(place: str) -> tuple[int, int] | None:
    """Return the first and last number of a place's narrowest unit, or None where it has none.

    >>> numbers_of("sheet Budget, rows 12-40"), numbers_of("page 4, labelled iv")
    ((12, 40), (4, 4))
    """
    known = _NUMBERED.fullmatch(_LABELLED.sub("", place))
    return (int(known[3]), int(known[4] or known[3])) if known else None


def is_within(written: str, place: str) -> bool:
    """Tell whether somebody's words for a place name one inside a place, or a wider one.

    >>> is_within("Slide 3", "slides 3-4"), is_within("slide 5", "slides 3-4")
    (True, False)
    >>> is_within("cell 1, line 3", "cells 1-2")
    True
    >>> is_within("sheet Budget, row 9", "sheet Budget, row 4 to sheet Costs, row 2")
    True
    >>> is_within("sheet Budget", "sheet Budget, rows 12-40"), is_within("row 13", "rows 12-40")
    (True, True)
    """
    inner, outer = (_plain(text) for text in (written, place))
    if inner == outer or outer.startswith(f"{inner}, "):
        return bool(inner)
    begin, _, final = outer.partition(" to ")
    if final:
        return _is_inside(inner, begin, open_end=True) or _is_inside(inner, final, open_start=True)
    wider = inner.rpartition(", ")[0]  # "cell 1, line 3" is in "cells 1-2"
    return _is_inside(inner, outer) or bool(wider and _is_inside(wider, outer))


def _plain(text: str) -> str:
    return _LABELLED.sub("", " ".join(text.casefold().split()))


def _is_inside(inner: str, outer: str, *, open_start: bool = False, open_end: bool = False) -> bool:
    """Compare the numbers of two places; what is open goes on to the edge of the wider place."""
    if inner == outer or outer.startswith(f"{inner}, "):
        return True
    asked, known = _NUMBERED.fullmatch(inner), _NUMBERED.fullmatch(outer)
    if asked is None or known is None or asked[2] != known[2]:
        return False
    if asked[1] and asked[1] != known[1]:
        return False
    first, last = int(asked[3]), int(asked[4] or asked[3])
    least = 0 if open_start else int(known[3])
    most = sys.maxsize if open_end else int(known[4] or known[3])
    return least <= first <= last <= most
