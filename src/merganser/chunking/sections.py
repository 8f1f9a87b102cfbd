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
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.code import chunk_code
from merganser.chunking.languages import LANGUAGES
from merganser.chunking.packing import Unit, join_symbols, pack
from merganser.chunking.text import Limits, Piece, chunk_span

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

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


class Embedded(NamedTuple):
    """A stretch of code inside a text.

    Attributes:
        start: Its first character in the text.
        end: One past its last.
        language: As in ``Document.language``.
    """

    start: int
    end: int
    language: str


@dataclass(slots=True)
class _Section:
    """One heading with what stands under it; the root has no title."""

    level: int
    title: str
    start: int
    end: int = 0
    children: list[_Section] = field(default_factory=list["_Section"])


def chunk_sections(
    text: str,
    limits: Limits,
    headings: Iterable[Heading],
    embedded: Iterable[Embedded] = (),
    walls: Collection[int] = (),
) -> list[Piece]:
    """Tile the text with pieces along its headings, and along the definitions of code in it.

    Args:
        text: The whole text.
        limits: How long pieces may be.
        headings: In order of ``start``.
        embedded: Code in a language of its own, in order of ``start``.
        walls: Starts of headings before which a piece ends, such as those of slides.
    """
    code = [_chunk_embedded(text, stretch, limits) for stretch in embedded]
    pieces = _chunk_section(text, _outline(text, headings), "", limits, code, walls=walls)
    return _name_code(pieces, code) if code else pieces


def _chunk_embedded(text: str, stretch: Embedded, limits: Limits) -> list[Piece]:
    inner = text[stretch.start : stretch.end]
    if stretch.language not in LANGUAGES:
        return chunk_span(text, stretch.start, stretch.end, limits, kind="module")
    return [
        piece._replace(start=piece.start + stretch.start, end=piece.end + stretch.start)
        for piece in chunk_code(inner, limits, language=stretch.language)
    ]


def _name_code(pieces: Iterable[Piece], code: Iterable[list[Piece]]) -> list[Piece]:
    """Add the definitions that begin in a piece to the path of its headings."""
    named: list[Piece] = []
    inner = [piece for group in code for piece in group]
    starts = [one.start for one in inner]
    at = 0
    for piece in pieces:
        while at < len(inner) and inner[at].end <= piece.start:
            at += 1
        inside = inner[at : bisect_left(starts, piece.end)]
        symbol = join_symbols(one.symbol for one in inside)
        parts = [part for part in (piece.symbol, symbol) if part]
        covered = sum(
            min(one.end, piece.end) - max(one.start, piece.start) for one in inside if one.symbol
        )
        is_code = 2 * covered > piece.end - piece.start
        kind = inside[0].kind if is_code and len({one.kind for one in inside}) == 1 else piece.kind
        named.append(piece._replace(symbol=_SEPARATOR.join(parts), kind=kind))
    return named


def _chunk_own(text: str, own: Unit, limits: Limits, code: Sequence[list[Piece]]) -> list[Piece]:
    """Tile what stands under one heading and is too long for a piece."""
    start, end, path, kind, _ = own
    inside = [group for group in code if group and start <= group[0].start < end]
    if not inside:
        return chunk_span(text, start, end, limits, symbol=path, kind=kind)
    items: list[Unit | Group] = []
    for group in [*inside, [Piece(end, end, "", "")]]:
        if group[0].start - start > limits.whole:
            items.append(chunk_span(text, start, group[0].start, limits, symbol=path, kind=kind))
        elif group[0].start > start:
            items.append(Unit(start, group[0].start, path, kind, opens=False))
        if len(group) > 1:
            items.append([piece._replace(symbol=path, kind=kind) for piece in group])
        elif group[0].end > group[0].start:
            items.append(Unit(group[0].start, group[0].end, path, kind, opens=True))
        start = group[-1].end
    return pack(items, limits.whole, limits, name=_common_path)


def _chunk_section(
    text: str,
    section: _Section,
    path: str,
    limits: Limits,
    code: Sequence[list[Piece]],
    *,
    walls: Collection[int],
) -> list[Piece]:
    """Tile one section; its pieces bear the heading path down to it or to its subsections.

    Recursion is bounded by the six levels of headings.
    """
    first = section.children[0].start if section.children else section.end
    own = Unit(section.start, first, path, "section" if path else "text", opens=False)
    runs: list[list[Unit | Group]] = [[]]  # nothing is packed across a wall
    if first - section.start > limits.whole:
        runs[-1].append(_chunk_own(text, own, limits, code))
    elif first > section.start:
        runs[-1].append(own)
    for child in section.children:
        inner = _SEPARATOR.join(part for part in (path, child.title) if part)
        if child.start in walls:
            runs.append([])
        if child.end - child.start <= limits.whole and not _is_parted(child, walls):
            runs[-1].append(Unit(child.start, child.end, inner, "section", opens=True))
        else:
            runs[-1].append(_chunk_section(text, child, inner, limits, code, walls=walls))
    return [
        piece
        for items in runs
        if items
        for piece in pack(items, limits.whole, limits, name=_common_path)
    ]


def _is_parted(section: _Section, walls: Collection[int]) -> bool:
    """Tell whether a wall stands inside a section."""
    return bool(walls) and any(
        child.start in walls or _is_parted(child, walls) for child in section.children
    )


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
    return chunk_sections(text, limits, find_headings(text))


def find_headings(text: str) -> Iterator[Heading]:
    """Yield every heading of a Markdown text, in order."""
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


# -- YAML ------------------------------------------------------------------------------------------

# A key at the beginning of a line. What stands in a block of text is indented deeper than its key,
# so the keys of the first two depths are told from it by their indentation.
_YAML_KEY = re.compile(
    r"""^( *)(?:"([^"\n]+)"|'([^'\n]+)'|([^\s#'"\-\[{][^\n:#]*)):(?=\s|$)""", re.MULTILINE
)


def chunk_yaml(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a YAML text with pieces along its keys of the first two depths.

    >>> limits = Limits(whole=20, part=20, structure=True, words=True)
    >>> text = "name: duck\nlakes:\n  east: 1642\n  west: 501\n"
    >>> [piece.symbol for piece in chunk_yaml(text, limits)]
    ['name', 'lakes', 'lakes > west']
    """
    return chunk_sections(text, limits, _yaml_keys(text))


def _yaml_keys(text: str) -> Iterator[Heading]:
    """Yield the keys of the first two depths as headings."""
    inner = 0  # the indentation of the keys below the last outer one, 0 while there is none
    outer = False
    for key in _YAML_KEY.finditer(text):
        depth = len(key[1])
        title = (key[2] or key[3] or key[4]).strip()[:MAX_TITLE]
        if not depth:
            inner, outer = 0, True
            yield Heading(1, title, key.start())
        elif outer and depth == (inner or depth):
            if not inner and not _is_child(text, key.start()):
                outer = False  # a block of text or a list stands here
                continue
            inner = depth
            yield Heading(2, title, key.start())


def _is_child(text: str, start: int) -> bool:
    """Tell whether the line before is a key without a value, or a comment below one."""
    above = text[:start].rstrip("\n")
    line = above[above.rfind("\n") + 1 :].split(" #")[0].rstrip()
    return line.endswith(":") or line.lstrip().startswith("#")
