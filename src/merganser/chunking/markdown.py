"""Find the headings of Markdown and split it there.

ATX and setext headings count; what stands in fenced or indented code, in HTML comments or in front
matter does not. Headings are read here, not a rendering, so a line-by-line reading is enough and no
parser is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.chunking.outline import Heading, chunk_sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.chunking.text import Limits, Piece

# Lines that can matter: fences, ATX headings, setext underlines, comment starts and ends.
_MARK = re.compile(
    r"^ {0,3}(?:(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|(?P<hashes>\#{1,6})(?P<title>[ \t][^\n]*|(?=\r?$))"
    r"|(?P<underline>=+|-+)[ \t]*\r?$"
    r"|(?P<comment><!--))",
    re.MULTILINE,
)
_CLOSING_HASHES = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(?:.*\r?\n)*?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
# What cannot be the text of a setext heading: lists, quotes, tables, headings, code, blank lines.
_NOT_A_TITLE = re.compile(r"^(?: {4}|\t|\s*$| {0,3}(?:[-*+>#|]|\d+[.)]\s))")


def chunk_markdown(text: str, limits: Limits) -> list[Piece]:
    """Tile the text with pieces along its headings."""
    return chunk_sections(text, _headings(text), limits)


def _headings(text: str) -> Iterator[Heading]:
    """Yield every heading, in order."""
    front = _FRONT_MATTER.match(text)
    at = front.end() if front else 0
    while mark := _MARK.search(text, at):
        at = mark.end()
        if mark["fence"] is not None:
            at = _fence_end(text, mark)
        elif mark["comment"] is not None:
            closing = text.find("-->", at)
            at = len(text) if closing < 0 else closing + 3
        elif mark["hashes"] is not None:
            title = _CLOSING_HASHES.sub("", mark["title"].strip()).strip()
            yield Heading(len(mark["hashes"]), title, mark.start())
        elif (title := _setext_title(text, mark)) is not None:
            start = text.rfind("\n", 0, max(mark.start() - 1, 0)) + 1
            yield Heading(1 if mark["underline"][0] == "=" else 2, title, start)


def _fence_end(text: str, opening: re.Match[str]) -> int:
    """Find where a fence closes: as long a run of the same character; the end of text if never."""
    fence = opening["fence"]
    if fence[0] == "`" and "`" in opening["info"]:
        return opening.end()  # inline code that begins a line
    closing = re.compile(rf"^ {{0,3}}{fence[0]}{{{len(fence)},}}[ \t]*\r?$", re.MULTILINE)
    found = closing.search(text, opening.end())
    return found.end() if found else len(text)


def _setext_title(text: str, underline: re.Match[str]) -> str | None:
    """Give the text above a run of ``=`` or ``-`` if that makes it a heading."""
    end = underline.start() - 1
    if end <= 0:
        return None
    line = text[text.rfind("\n", 0, end) + 1 : end]
    return None if _NOT_A_TITLE.match(line) else line.strip()
