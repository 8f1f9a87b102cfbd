"""Split a text along its headings, however these were found.

A section that fits stays whole with its subsections; small sections of one parent share a piece; a
long one is cut at its subsections, then at paragraphs. The symbol is the path of headings, such as
``Install > Linux``. ``merganser.chunking.markdown`` reads the headings out of the text;
``html_text`` and ``pdf_text`` of ``merganser.documents`` know them from the file's own structure.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.packing import Unit, pack
from merganser.chunking.text import Limits, Piece, chunk_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.chunking.packing import Group

_SEPARATOR = " > "


class Heading(NamedTuple):
    """Where a section begins.

    Attributes:
        level: From 1, the highest, to 6.
        title: Without markup.
        start: Its first character in the text.
    """

    level: int
    title: str
    start: int


@dataclass(slots=True)
class _Section:
    """One heading with what stands under it; the root has no title."""

    level: int
    title: str
    start: int
    end: int = 0
    children: list[_Section] = field(default_factory=list["_Section"])


def chunk_sections(text: str, headings: Iterable[Heading], limits: Limits) -> list[Piece]:
    """Tile the text with pieces along its headings.

    Args:
        text: The whole text.
        headings: In order of ``start``.
        limits: How long pieces may be.
    """
    return _split_section(text, _outline(text, headings), "", limits)


def _split_section(text: str, section: _Section, path: str, limits: Limits) -> list[Piece]:
    """Tile one section; its pieces bear the heading path down to it or to its subsections.

    Recursion is bounded by the six levels of headings.
    """
    first = section.children[0].start if section.children else section.end
    kind = "section" if path else "text"
    items: list[Unit | Group] = []
    if first - section.start > limits.whole:
        items.append(chunk_text(text, section.start, first, limits, symbol=path, kind=kind))
    elif first > section.start:
        items.append(Unit(section.start, first, path, kind, opens=False))
    for child in section.children:
        inner = _SEPARATOR.join(part for part in (path, child.title) if part)
        if child.end - child.start <= limits.whole:
            items.append(Unit(child.start, child.end, inner, "section", opens=True))
        else:
            items.append(_split_section(text, child, inner, limits))
    return pack(items, limits.whole, limits, name=_common_path) if items else []


def _common_path(paths: Iterable[str]) -> str:
    """Name a piece of several sections by the headings above all of them, or by the first."""
    named = [path.split(_SEPARATOR) for path in paths if path]
    if not named:
        return ""
    shared = itertools.takewhile(lambda level: len(set(level)) == 1, zip(*named, strict=False))
    return _SEPARATOR.join([level[0] for level in shared] or named[0])


def _outline(text: str, headings: Iterable[Heading]) -> _Section:
    """Arrange the headings as a tree of sections that tile the text."""
    root = _Section(0, "", 0, len(text))
    open_sections = [root]
    for level, title, start in headings:
        while open_sections[-1].level >= level:
            open_sections.pop().end = start
        section = _Section(level, title, start)
        open_sections[-1].children.append(section)
        open_sections.append(section)
    for section in open_sections:
        section.end = len(text)
    return root
