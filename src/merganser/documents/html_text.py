"""Read HTML as the text that a reader of the page sees, line by line.

The law: line k of the text holds what is shown of line k of the file, so a chunk's lines, a quote's
place and a citation are those of the file, though the text is shorter. Markup, scripts, styles and
navigation leave their lines empty. Headings are kept as text, and their places beside it.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from merganser.chunking.sections import MAX_TITLE, Heading
from merganser.documents.encoding import decode
from merganser.documents.extracted import Extracted
from merganser.documents.html_tokens import tokenize

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.documents.html_tokens import Token

_HIDDEN = frozenset(
    {"script", "style", "template", "noscript", "nav", "svg", "iframe", "object", "canvas"}
    | {"dialog", "datalist"}
)
"""Elements whose content is not the page's text."""

_HIDDEN_ROLES = frozenset({"navigation", "search", "menu", "menubar"})

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param"}
    | {"source", "track", "wbr"}
)
"""Elements that have no end tag."""

_INLINE = frozenset(
    {"a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font"}
    | {"i", "img", "ins", "kbd", "label", "mark", "q", "rp", "rt", "ruby", "s", "samp", "small"}
    | {"span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"}
)
"""Elements that do not part the words before and after their tags."""

_LEVELS = {f"h{level}": level for level in range(1, 7)}
_PERMALINK = re.compile(r"\s*[¶#§]+\s*$")  # what documentation generators put behind a heading


def read_html(data: bytes) -> Extracted:
    r"""Return the text of a page with its headings.

    Args:
        data: The file.

    Returns:
        A text with as many line ends as the file has, and the headings with their places in it.

    Raises:
        SkipDocument: As ``decode``.

    >>> page = read_html(b"<h1>Ducks</h1>\n<p>They <b>dive</b>.\n<script>no()</script>")
    >>> page.text, page.headings
    ('Ducks\nThey dive.\n', (Heading(level=1, title='Ducks', start=0),))
    """
    decoded = decode(data, is_html=True)
    page = _Page()
    for token in tokenize(decoded.text):
        page.add(token)
    text, headings = page.finish(decoded.text.count("\n"))
    return Extracted(text, headings, encoding=decoded.encoding)


class _Page:
    """Collects the shown text, each piece on the line where it stands in the file."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._line = 1
        self._is_blank = True  # nothing was written on this line yet
        self._gap = False  # white space is due before the next word
        self._hidden: list[str] = []  # the hidden element that is open, and those of its name in it
        self._preformatted = 0
        self._heading: tuple[int, int, int] | None = None  # level, start, first of its parts
        self._headings: list[Heading] = []

    def finish(self, newlines: int) -> tuple[str, tuple[Heading, ...]]:
        """Fill up the lines that hold nothing."""
        self._end_heading()
        self._go_to(newlines + 1)
        return "".join(self._parts), tuple(self._headings)

    def add(self, token: Token) -> None:
        """Take the next piece of the file."""
        match token.kind:
            case "text":
                self._add_text(token.value, token.line)
            case "reference":
                self._add_reference(token.value, token.line)
            case "end":
                self._end_tag(token.value)
            case _:
                self._start_tag(token.value, token.attributes)
                # HTML knows no self-closing tags, but XHTML and SVG do.
                if token.closes_itself and token.value not in _VOID:
                    self._end_tag(token.value)

    def _start_tag(self, tag: str, attributes: Mapping[str, str]) -> None:
        if self._hidden:
            if tag == self._hidden[0]:
                self._hidden.append(tag)
            return
        if tag not in _VOID and (tag in _HIDDEN or attributes.get("role") in _HIDDEN_ROLES):
            self._hidden.append(tag)
        self._gap |= tag not in _INLINE
        self._preformatted += tag == "pre"
        if tag in _LEVELS:
            self._end_heading()
            self._heading = (_LEVELS[tag], -1, len(self._parts))

    def _end_tag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden[0]:
                self._hidden.pop()
            return
        self._gap |= tag not in _INLINE
        self._preformatted = max(self._preformatted - (tag == "pre"), 0)
        if tag in _LEVELS:
            self._end_heading()

    def _add_text(self, text: str, line: int) -> None:
        if self._hidden:
            return
        for number, part in enumerate(text.split("\n"), line):
            self._go_to(number)
            self._write(part)

    def _add_reference(self, reference: str, line: int) -> None:
        """Write the character that is meant; a decoded ``&#10;`` is no line of the file."""
        if self._hidden:
            return
        decoded = html.unescape(reference)
        if decoded == reference:
            decoded = html.unescape(f"{reference};")
            if decoded == f"{reference};":  # of no character, such as the "&b" of "a&b"
                decoded = reference
        self._go_to(line)
        self._write(decoded.replace("\n", " "))

    def _go_to(self, line: int) -> None:
        if line > self._line:
            self._append("\n" * (line - self._line))
            self._line, self._is_blank, self._gap = line, True, False

    def _write(self, part: str) -> None:
        """Write a part of one line; white space is one space, but for preformatted text."""
        text = part.rstrip("\r") if self._preformatted else " ".join(part.split())
        self._gap |= part[:1].isspace()
        if not text:
            return
        if self._gap and not self._is_blank and not text[0].isspace():
            self._append(" ")
        if self._heading is not None and self._heading[1] < 0 and not text.isspace():
            start = self._length + len(text) - len(text.lstrip())
            self._heading = (self._heading[0], start, len(self._parts))
        self._append(text)
        self._is_blank = False
        self._gap = not self._preformatted and part[-1].isspace()

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _end_heading(self) -> None:
        if self._heading is None:
            return
        level, start, first = self._heading
        title = " ".join("".join(self._parts[first:]).split())
        title = _PERMALINK.sub("", title[:MAX_TITLE])
        if start >= 0 and title:
            self._headings.append(Heading(level, title, start))
        self._heading = None
