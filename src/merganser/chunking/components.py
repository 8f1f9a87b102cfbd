r"""Chunk the files of component frameworks: Vue, Svelte, Astro.

A file is blocks of several languages: scripts, styles, and markup. Each block is a section, and its
code is cut by its own language's grammar, so that a function of a script is ``script > load``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.chunking.sections import Embedded, Heading, chunk_sections

if TYPE_CHECKING:
    from merganser.chunking.text import Limits, Piece

_BLOCK = re.compile(
    r"^(?:<(?P<tag>script|style|template)\b(?P<about>[^>]*)>|(?P<comment><!--))",
    re.MULTILINE | re.IGNORECASE,
)
_FRONT = re.compile(r"\s*---[ \t]*\r?\n")
_FRONT_END = re.compile(r"^---[ \t]*\r?$", re.MULTILINE)
_LANGUAGE = re.compile(r"\blang\s*=\s*[\"']?(\w+)")
_LANGUAGES = {
    "ts": "typescript",
    "typescript": "typescript",
    "tsx": "tsx",
    "jsx": "javascript",
    "scss": "scss",
    "css": "css",
    "less": "css",
    "postcss": "css",
}
_DEFAULTS = {"script": "javascript", "style": "css"}


def chunk_component(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a component's file with pieces along its blocks and the definitions in them.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=50, part=50, structure=True, words=True)
    >>> text = "<script>\nfunction dive() {}\n</script>\n\n<style>\nb { top: 0 }\n</style>\n"
    >>> [piece.symbol for piece in chunk_component(text, limits)]
    ['script > dive', 'style > b']
    """
    headings: list[Heading] = []
    embedded: list[Embedded] = []
    at = 0
    if front := _FRONT.match(text):  # Astro's script
        closing = _FRONT_END.search(text, front.end())
        at = closing.end() if closing else len(text)
        headings.append(Heading(1, "script", 0))
        embedded.append(Embedded(front.end(), closing.start() if closing else at, "typescript"))
    while block := _BLOCK.search(text, at):
        if block["comment"]:
            closing = text.find("-->", block.end())
            at = len(text) if closing < 0 else closing + 3
            continue
        _begin_markup(text, at, block.start(), headings)
        tag = block["tag"].lower()
        end = _end_of(text, tag, block.end())
        headings.append(Heading(1, tag, block.start()))
        written = _LANGUAGE.search(block["about"])
        default = _DEFAULTS.get(tag, "")
        language = _LANGUAGES.get(written[1].lower(), default) if written else default
        if language and end > block.end():
            embedded.append(Embedded(block.end(), end, language))
        closing = text.find(">", end)
        at = len(text) if closing < 0 else closing + 1
    _begin_markup(text, at, len(text), headings)
    return chunk_sections(text, limits, headings, embedded)


def _begin_markup(text: str, start: int, end: int, headings: list[Heading]) -> None:
    """Open a section for what stands between blocks, if anything does."""
    stripped = len(text[start:end].lstrip())
    if headings and stripped and headings[-1].title != "markup":
        headings.append(Heading(1, "markup", end - stripped))


def _end_of(text: str, tag: str, start: int) -> int:
    """Return where a block's inside ends: a template's where no line begins with its end again."""
    if tag == "template":
        end = text.rfind(f"\n</{tag}", start - 1)
        return len(text) if end < 0 else end + 1
    closing = re.compile(rf"</{tag}\b", re.IGNORECASE).search(text, start)
    return closing.start() if closing else len(text)
