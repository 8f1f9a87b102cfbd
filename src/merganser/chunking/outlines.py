"""Find the headings of reStructuredText, AsciiDoc and Org.

Headings are read line by line, as in Markdown; nothing is rendered, included or run. Directives,
literal blocks and the like stay in the text of their section.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from merganser.chunking.sections import MAX_TITLE, Heading, chunk_sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.chunking.text import Limits, Piece

_DEEPEST = 6

# -- reStructuredText ------------------------------------------------------------------------------

_ADORNMENT = re.compile(r"^([!-/:-@\[-`{-~])\1+[ \t]*\r?$", re.MULTILINE)


def chunk_rst(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a reStructuredText with pieces along its headings.

    The order in which kinds of underlines are met gives their levels, as docutils has it.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=40, part=40, structure=True, words=True)
    >>> text = "=====\nDucks\n=====\n\nThey swim.\n\nMergansers\n~~~~~~~~~~\n\nThey dive.\n"
    >>> [piece.symbol for piece in chunk_rst(text, limits)]
    ['Ducks', 'Ducks > Mergansers']
    """
    return chunk_sections(text, limits, _rst_headings(text))


def _rst_headings(text: str) -> Iterator[Heading]:
    styles: dict[tuple[str, bool], int] = {}
    overline: re.Match[str] | None = None  # the adornment before, when a title may stand under it
    for line in _ADORNMENT.finditer(text):
        title_start = text.rfind("\n", 0, max(line.start() - 1, 0)) + 1
        title = text[title_start : max(line.start() - 1, 0)].rstrip()
        over = overline
        overline = line
        if not title.strip() or _ADORNMENT.fullmatch(title):
            continue
        bar = line[0].rstrip()
        is_overlined = (
            over is not None and over.end() + 1 == title_start and over[0].rstrip() == bar
        )
        if len(bar) < min(len(title.strip()), 4):
            continue
        if not is_overlined and (title[0].isspace() or not _blank_before(text, title_start)):
            continue
        level = styles.setdefault((line[1], is_overlined), len(styles) + 1)
        start = over.start() if is_overlined and over else title_start
        yield Heading(min(level, _DEEPEST), title.strip()[:MAX_TITLE], start)
        overline = None


def _blank_before(text: str, start: int) -> bool:
    """Tell whether the line before one is blank, or there is none."""
    return start == 0 or not text[text.rfind("\n", 0, start - 1) + 1 : start].strip()


# -- AsciiDoc --------------------------------------------------------------------------------------

_ASCIIDOC_MARK = re.compile(
    r"^(?:(?P<level>={1,6}|\#{1,6})[ \t]+(?P<title>\S[^\n]*)"
    r"|(?P<block>-{4,}|\.{4,}|={4,}|\*{4,}|_{4,}|\+{4,}|/{4,}|`{3,}[^\n`]*|~{4,}|\^{4,}|[|,:!]===)"
    r"[ \t]*\r?$)",
    re.MULTILINE,
)
_UNDERLINES = "=-~^+"
_NO_TITLE = re.compile(r"[.:\[|*]")


def chunk_asciidoc(text: str, limits: Limits) -> list[Piece]:
    r"""Tile an AsciiDoc text with pieces along its headings, but for those inside blocks.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=40, part=40, structure=True, words=True)
    >>> text = "= Ducks\n\nThey swim.\n\n== Mergansers\n\n----\n== not\n----\n"
    >>> [piece.symbol for piece in chunk_asciidoc(text, limits)]
    ['Ducks', 'Ducks > Mergansers']
    """
    return chunk_sections(text, limits, _asciidoc_headings(text))


def _asciidoc_headings(text: str) -> Iterator[Heading]:
    marks = list(_ASCIIDOC_MARK.finditer(text))
    fences: dict[str, list[int]] = {}
    for index, mark in enumerate(marks):
        if mark["block"] is not None:
            fences.setdefault(_closing_of(mark["block"]), []).append(index)
    at = 0
    while at < len(marks):
        mark = marks[at]
        at += 1
        if mark["level"] is not None:
            yield Heading(len(mark["level"]), mark["title"].strip()[:MAX_TITLE], mark.start())
        elif title := _underlined_title(text, mark):
            yield Heading(_UNDERLINES.index(mark["block"][0]) + 1, *title)
        else:
            same = fences[_closing_of(mark["block"])]
            following = bisect_right(same, at - 1)
            if following < len(same):  # what is never closed is no block
                at = same[following] + 1


def _closing_of(delimiter: str) -> str:
    return "```" if delimiter.startswith("```") else delimiter.rstrip()


def _underlined_title(text: str, mark: re.Match[str]) -> tuple[str, int] | None:
    """Return the title above a line of as many characters, with its place."""
    bar = mark["block"]
    if bar[0] not in _UNDERLINES or mark.start() == 0:
        return None
    start = text.rfind("\n", 0, mark.start() - 1) + 1
    title = text[start : mark.start() - 1].strip()
    if abs(len(title) - len(bar)) > 2 or _NO_TITLE.match(title):
        return None
    return (title[:MAX_TITLE], start) if _blank_before(text, start) else None


# -- Org -------------------------------------------------------------------------------------------

_ORG_HEADING = re.compile(
    r"^(?P<level>\*{1,20})[ \t]+(?:(?:TODO|DONE)[ \t]+)?(?P<title>\S[^\n]*)", re.MULTILINE
)
_ORG_TAGS = re.compile(r"[ \t]:[\w@#%:]{1,200}:$")


def chunk_org(text: str, limits: Limits) -> list[Piece]:
    r"""Tile an Org text with pieces along its headings.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=40, part=40, structure=True, words=True)
    >>> text = "* Ducks\n\nThey swim and eat.\n\n** TODO Mergansers :bird:\n\nThey dive.\n"
    >>> [piece.symbol for piece in chunk_org(text, limits)]
    ['Ducks', 'Ducks > Mergansers']
    """
    headings = (
        Heading(
            min(len(found["level"]), _DEEPEST),
            _ORG_TAGS.sub("", found["title"].strip()[:MAX_TITLE]).strip(),
            found.start(),
        )
        for found in _ORG_HEADING.finditer(text)
    )
    return chunk_sections(text, limits, headings)
