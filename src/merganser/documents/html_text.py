"""Read HTML as the text that a reader of the page sees, line by line.

The law: line k of the text holds what is shown of line k of the file, so a chunk's lines, a quote's
place and a citation are those of the file, though the text is shorter. Markup, scripts, styles,
navigation and what is hidden leave their lines empty. Headings are kept as text, and their places
beside it.

A template, whose pages a program makes of it, is source code: it is read as it is.
"""

from __future__ import annotations

import html
import re
import time
from typing import TYPE_CHECKING

from merganser.chunking.sections import MAX_TITLE, Heading
from merganser.documents.encoding import decode
from merganser.documents.extracted import Extracted
from merganser.documents.html_style import StyleSheet
from merganser.documents.html_tokens import tokenize
from merganser.documents.html_tree import OpenElements
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.documents.html_tokens import Token

_INLINE = frozenset(
    {"a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em"}
    | {"font", "i", "ins", "kbd", "label", "mark", "nobr", "output", "picture", "q", "rp", "rt"}
    | {"ruby", "s", "samp", "slot", "small", "source", "span", "strike", "strong", "sub", "sup"}
    | {"time", "tt", "u", "var", "wbr", "script", "style", "noscript", "template", "link", "meta"}
    | {
        "img",
        "math",
        "mi",
        "mo",
        "mn",
        "ms",
        "mtext",
        "mrow",
        "msub",
        "msup",
        "mstyle",
        "semantics",
    }
)
"""Elements that do not part the words before and after their tags."""

_PREFORMATTED = ("pre", "textarea", "listing", "xmp", "plaintext")
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_PERMALINK = re.compile(r"\s*[¶#§]+\s*$")  # what documentation generators put behind a heading
_INVISIBLE = re.compile("[\xad\u200b\ufeff]")  # places where a word may be broken
_UNSEEN_INPUTS = frozenset({"hidden", "password", "checkbox", "radio", "range", "color", "file"})
_HEAD = frozenset({"html", "head", "title", "meta", "link", "base", "script", "style", "noscript"})
_CELLS = frozenset({"td", "th"})

_CPU_SECONDS = 20
"""Of each of two passes; 2 MB of real pages take one, of nested tags eight."""
_LOOK_AT_CLOCK = 1_000
"""Pieces of a page between two looks at the clock."""

# What no finished page has: code in tags, or before all else, or between <? and ?>.
_TEMPLATE = re.compile(
    r"\A\s*(?:\{[{%#]|<%)|<\?(?:php\b|=)"
    r"|<title>[^<]{0,200}\{[{%]"
    r"|<[a-zA-Z][^<>]*?(?:\{[{%]|<%|\s(?:v-(?:if|for|else|model|bind|on|show|html|slot)\b|\*ng[A-Z]"
    r"|\[\(?[a-zA-Z.]+\)?\]=|th:[a-z]+=|x-data=|@(?:click|submit|change|input)[.=]))",
    re.IGNORECASE,
)


def read_html(data: bytes) -> Extracted:
    r"""Return the text of a page with its headings.

    Args:
        data: The file.

    Returns:
        A text with as many line ends as the file has, and the headings with their places in it;
        for a template the file as it is, and None.

    Raises:
        SkipDocument: As ``decode``; or it takes too long, as no page does that is not made for it.

    >>> page = read_html(b"<h1>Ducks</h1>\n<p>They <b>dive</b>.\n<p hidden>no<script>no()</script>")
    >>> page.text, page.headings
    ('Ducks\nThey dive.\n', (Heading(level=1, title='Ducks', start=0),))
    """
    decoded = decode(data, is_html=True)
    source, encoding = decoded.text, decoded.encoding
    if _TEMPLATE.search(source):
        return Extracted(source, encoding=encoding)
    page = _Page(StyleSheet(), source)
    if page.read() and not page.styles_came_first:
        page = _Page(page.styles, source)  # rules hold for what stands before them, too
        page.read()
    text, headings = page.finish()
    return Extracted(text, headings, encoding=encoding)


class _Page:
    """Collects the shown text, each piece on the line where it stands in the file."""

    def __init__(self, styles: StyleSheet, source: str) -> None:
        self._ends = time.thread_time() + _CPU_SECONDS
        self.styles = styles
        self.styles_came_first = True
        self._source = source
        self._takes_styles = styles.is_empty
        self._css: list[str] = []
        self._open = OpenElements(styles, is_xml=source[:200].lstrip().startswith("<?xml"))
        self._parts: list[str] = []
        self._length = 0
        self._line = 1
        self._is_blank = True  # nothing was written on this line yet
        self._gap = False  # white space is due before the next word
        self._in_body = False
        self._titles = 0
        self._cells = 0  # of this row so far
        self._separator = " "
        self._heading: tuple[int, int, int] | None = None  # level, start, first of its parts
        self._headings: list[Heading] = []

    def read(self) -> bool:
        """Read the page; tell whether it has styles."""
        for number, token in enumerate(tokenize(self._source, is_raw=self._open.has)):
            if number % _LOOK_AT_CLOCK == 0 and time.thread_time() > self._ends:
                raise SkipDocument("unreadable", f"its reader took longer than {_CPU_SECONDS} s")
            match token.kind:
                case "text":
                    self._add_text(token.value, token.line)
                case "reference":
                    self._add_reference(token.value, token.line)
                case "end":
                    self._end_tag(token.value)
                case _:
                    self._start_tag(token)
        return not self.styles.is_empty

    def finish(self) -> tuple[str, tuple[Heading, ...]]:
        """Fill up the lines that hold nothing."""
        self._end_heading()
        self._go_to(self._source.count("\n") + 1)
        return "".join(self._parts), tuple(self._headings)

    def _start_tag(self, token: Token) -> None:
        tag, attributes = token.value, token.attributes
        self._in_body |= tag not in _HEAD
        state = self._open.start(tag, attributes, closes_itself=token.closes_itself)
        self._titles += tag == "title" and self._open.has(tag)
        self._gap |= tag not in _INLINE
        self._check_heading()
        if tag == "link" and "stylesheet" in attributes.get("rel", "").lower():
            self.styles.is_whole = False
        if tag == "tr":
            self._cells = 0
        elif tag in _CELLS:
            self._separator = " | " if self._cells else " "
            self._cells += 1
        elif tag in _LEVELS and self._open.has(tag):
            self._end_heading()
            self._heading = (_LEVELS[tag], -1, len(self._parts))
        elif state.seen and (words := _words_of(tag, attributes)):
            self._gap = True
            self._go_to(token.line)
            self._write(" ".join(words.split()))
            self._gap = True

    def _end_tag(self, tag: str) -> None:
        if tag == "style" and self._css:
            self._add_styles()
        self._open.end(tag)
        self._gap |= tag not in _INLINE
        self._check_heading()

    def _add_styles(self) -> None:
        """Take in a ``<style>`` element, and note whether text stood before it."""
        css = "".join(self._css)
        self._css.clear()
        if self._takes_styles:
            self.styles.add(css)
            self.styles_came_first &= not self._in_body

    def _check_heading(self) -> None:
        """End a heading whose element is closed, by whatever tag."""
        if self._heading is not None and not self._open.has_any(_LEVELS):
            self._end_heading()

    def _add_text(self, text: str, line: int) -> None:
        if self._open.has("style"):
            self._css.append(text)
            return
        self._open.text(is_blank=text.isspace())
        if not self._is_seen():
            return
        for number, part in enumerate(text.split("\n"), line):
            self._go_to(number)
            self._write(part)

    def _add_reference(self, reference: str, line: int) -> None:
        """Write the character that is meant; a decoded ``&#10;`` is no line of the file."""
        self._open.text()
        if not self._is_seen():
            return
        decoded = html.unescape(reference)
        if decoded == reference:
            decoded = html.unescape(f"{reference};")
            if decoded == f"{reference};":  # of no character, such as the "&b" of "a&b"
                decoded = reference
        self._go_to(line)
        self._write(decoded.replace("\n", " "))

    def _is_seen(self) -> bool:
        """Tell whether text is shown here, or is the page's title; a second one is never."""
        if self._open.has("title"):
            return self._titles == 1
        return self._open.state.seen and self._open.draws_text

    def _go_to(self, line: int) -> None:
        if line > self._line:
            self._append("\n" * (line - self._line))
            self._line, self._is_blank, self._gap = line, True, False

    def _write(self, part: str) -> None:
        """Write a part of one line; white space is one space, but for preformatted text."""
        preformatted = self._open.has_any(_PREFORMATTED)
        part = _INVISIBLE.sub("", part)
        text = part.rstrip("\r") if preformatted else " ".join(part.split())
        self._gap |= part[:1].isspace()
        if not text:
            return
        if self._gap and not self._is_blank and not text[0].isspace():
            self._append(self._separator)
        if self._heading is not None and self._heading[1] < 0 and not text.isspace():
            start = self._length + len(text) - len(text.lstrip())
            self._heading = (self._heading[0], start, len(self._parts))
        self._append(text)
        self._is_blank, self._separator = False, " "
        self._gap = not preformatted and part[-1].isspace()

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


def _words_of(tag: str, attributes: Mapping[str, str]) -> str:
    """Return what an element shows that has no content: a picture's words, a field's."""
    if tag == "img":
        return attributes.get("alt", "")
    if tag == "optgroup":
        return attributes.get("label", "")
    if tag != "input" or attributes.get("type", "text").lower() in _UNSEEN_INPUTS:
        return ""
    return attributes.get("value") or attributes.get("alt") or attributes.get("placeholder", "")
