"""Chunk a text along its headings, however these were found.

A section that fits stays whole with its subsections; small sections of one parent share a piece; a
long one breaks at its subsections, then at paragraphs. The symbol is the path of headings, such as
``Install > Linux``. The headings of Markdown are read here, out of the text;
``html_text`` and ``pdf_text`` of ``merganser.documents`` know them from the file's own structure.

Of Markdown, ATX and setext headings count; what stands in fenced or indented code, in HTML comments
or in front matter does not. Headings are read, not a rendering, so a line-by-line reading is enough
and no parser is needed.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.packing import Unit, pack
from merganser.chunking.text import Limits, Piece, chunk_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from merganser.chunking.packing import Group

MAX_TITLE = 200
"""Characters of a heading's title: each chunk below it bears them, and a line has no end."""

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


def chunk_sections(text: str, limits: Limits, headings: Iterable[Heading]) -> list[Piece]:
    """Tile the text with pieces along its headings.

    Args:
        text: The whole text.
        limits: How long pieces may be.
        headings: In order of ``start``.
    """
    return _chunk_section(text, _outline(text, headings), "", limits)


def _chunk_section(text: str, section: _Section, path: str, limits: Limits) -> list[Piece]:
    """Tile one section; its pieces bear the heading path down to it or to its subsections.

    Recursion is bounded by the six levels of headings.
    """
    first = section.children[0].start if section.children else section.end
    kind = "section" if path else "text"
    items: list[Unit | Group] = []
    if first - section.start > limits.whole:
        items.append(chunk_span(text, section.start, first, limits, symbol=path, kind=kind))
    elif first > section.start:
        items.append(Unit(section.start, first, path, kind, opens=False))
    for child in section.children:
        inner = _SEPARATOR.join(part for part in (path, child.title) if part)
        if child.end - child.start <= limits.whole:
            items.append(Unit(child.start, child.end, inner, "section", opens=True))
        else:
            items.append(_chunk_section(text, child, inner, limits))
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


# -- Markdown --------------------------------------------------------------------------------------

# Lines that can matter: fences, ATX headings, setext underlines, comment starts and ends.
_MARK = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|(?P<hashes>\#{1,6})(?P<title>[ \t][^\n]*|(?=\r?$))"
    r"|(?P<underline>=+|-+)[ \t]*\r?$"
    r"|(?P<comment><!--))",
    re.MULTILINE,
)
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n")
_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)
# What cannot be the text of a setext heading: lists, quotes, tables, headings, code, blank lines.
_NOT_A_TITLE = re.compile(r"^(?: {4}|\t|\s*$| {0,3}(?:[-*+>#|]|\d+[.)]\s))")


def chunk_markdown(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a Markdown text with pieces along its headings.

    >>> limits = Limits(whole=30, part=30, structure=True, words=True)
    >>> text = "# Ducks\n\nThey swim.\n\n## Mergansers\n\nThey dive.\n"
    >>> [piece.symbol for piece in chunk_markdown(text, limits)]
    ['Ducks', 'Ducks > Mergansers']
    """
    return chunk_sections(text, limits, _headings(text))


def _headings(text: str) -> Iterator[Heading]:
    """Yield every heading, in order."""
    front = _FRONT_MATTER.match(text)
    closing_line = _FRONT_MATTER_END.search(text, front.end()) if front else None
    at = closing_line.end() if closing_line else 0
    while mark := _MARK.search(text, at):
        at = mark.end()
        if mark["fence"] is not None:
            at = _fence_end(text, mark)
        elif mark["comment"] is not None:
            closing = text.find("-->", at)
            at = len(text) if closing < 0 else closing + 3
        elif mark["hashes"] is not None:
            yield Heading(len(mark["hashes"]), _atx_title(mark["title"].strip()), mark.start())
        elif (title := _setext_title(text, mark)) is not None:
            start = text.rfind("\n", 0, max(mark.start() - 1, 0)) + 1
            yield Heading(1 if mark["underline"][0] == "=" else 2, title, start)


def _atx_title(title: str) -> str:
    """Take the closing run of ``#`` off a title, which white space parts from it."""
    bare = title.rstrip("#")
    return (title if bare and not bare[-1].isspace() else bare.rstrip())[:MAX_TITLE]


def _fence_end(text: str, opening: re.Match[str]) -> int:
    """Find where a fence closes: as long a run of the same character; the end of text if never."""
    fence = opening["fence"]
    if fence[0] == "`" and "`" in opening["info"]:
        return opening.end()  # inline code that begins a line
    closing = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*\r?$", re.MULTILINE)
    found = closing.search(text, opening.end())
    return found.end() if found else len(text)


def _setext_title(text: str, underline: re.Match[str]) -> str | None:
    """Return the text above a run of ``=`` or ``-`` if that makes it a heading."""
    end = underline.start() - 1
    if end <= 0:
        return None
    line = text[text.rfind("\n", 0, end) + 1 : end]
    return None if _NOT_A_TITLE.match(line) else line.strip()[:MAX_TITLE]
