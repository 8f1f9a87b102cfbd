"""Divide HTML into text, tags and references, each with its line, in one pass.

The states are those of the HTML standard (https://html.spec.whatwg.org/#tokenization), so a page is
read as browsers read it, and every state goes forward only: the time is in proportion to the
length, whatever is unclosed, and no input is an error. The parser of the standard library gives
positions too, but asks the rest of the file again at each unclosed tag, and raises at some
declarations; the fast parsers (lexbor, html5ever) give no positions.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RCDATA = frozenset({"title", "textarea"})
"""Elements whose content is text up to their end tag, with references decoded."""

RAW = _RCDATA | {"script", "style", "xmp", "iframe", "noembed", "noframes", "plaintext"}
"""These, and those whose content is text as it stands."""

_NAME = re.compile(r"[a-zA-Z][^\s/>]*")
_BETWEEN = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"=?[^\s/>=]*")
_EQUALS = re.compile(r"\s*=\s*")
_UNQUOTED = re.compile(r"[^\s>]*")
_REFERENCE = re.compile(r"&(?:#(?:[xX][0-9a-fA-F]+|[0-9]+)|[a-zA-Z][a-zA-Z0-9]*);?")
# Longer ones are no references; a number of a megabyte would take long to be read as one.
_MAX_REFERENCE = 40


class Token(NamedTuple):
    """One piece of a page.

    Attributes:
        kind: ``text``, ``reference`` (such as ``&amp;``), ``start`` or ``end``.
        value: The text as it stands, or the name of the tag in lower case.
        line: Line where it begins, from 1.
        attributes: Of a start tag, names in lower case; the first of equal names counts.
        closes_itself: Whether a start tag ends in ``/>``.
    """

    kind: str
    value: str
    line: int
    attributes: dict[str, str] = {}  # noqa: RUF012 - nobody writes it
    closes_itself: bool = False


def tokenize(source: str, is_raw: Callable[[str], bool] = RAW.__contains__) -> Iterator[Token]:
    """Divide a page; comments, declarations and what is never closed are left out.

    Args:
        source: The page.
        is_raw: Asked after a start tag of an element of ``RAW`` was taken: whether it is open.

    >>> [(token.kind, token.value) for token in tokenize("<p>a<![b]>c</p><a <")]
    [('start', 'p'), ('text', 'a'), ('text', 'c'), ('end', 'p')]
    """
    at, line, raw = 0, 1, ""
    while at < len(source):
        if raw:
            end = _raw_end(source, at, raw)
            piece = source[at:end]
            yield from _pieces(piece, line, references=raw in _RCDATA)
            raw = ""
        else:
            end = _markup_start(source, at)
            piece = source[at:end]
            yield from _pieces(piece, line, references=True)
        line += piece.count("\n")
        at = end
        if at == len(source):
            return
        end, token = _markup(source, at, line)
        if token is not None:
            yield token
            if token.kind == "start" and token.value in RAW and is_raw(token.value):
                raw = token.value
        line += source.count("\n", at, end)
        at = end


_MARKUP = re.compile(r"<[a-zA-Z!/?]")


def unescape(text: str) -> str:
    """Return a text with its references decoded, such as ``&amp;``."""
    return _REFERENCE.sub(
        lambda found: found[0] if len(found[0]) > _MAX_REFERENCE else html.unescape(found[0]), text
    )


def _markup_start(source: str, at: int) -> int:
    found = _MARKUP.search(source, at)
    return found.start() if found else len(source)


def _raw_end(source: str, at: int, name: str) -> int:
    """Find the end tag of a raw element; without one, all that follows is its content."""
    if name == "plaintext":
        return len(source)
    found = re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE).search(source, at)
    return found.start() if found else len(source)


def _pieces(text: str, line: int, *, references: bool) -> Iterator[Token]:
    """Divide what stands between tags into text and references."""
    at = 0
    for found in _REFERENCE.finditer(text) if references else ():
        if len(found[0]) > _MAX_REFERENCE:
            continue
        if found.start() > at:
            yield Token("text", text[at : found.start()], line)
            line += text.count("\n", at, found.start())
        yield Token("reference", found[0], line)
        at = found.end()
    if at < len(text):
        yield Token("text", text[at:], line)


def _markup(source: str, at: int, line: int) -> tuple[int, Token | None]:
    """Read what begins with the ``<`` at ``at``; return where it ends, and its token if any."""
    if source.startswith("<!--", at):
        if source.startswith((">", "->"), at + 4):  # the standard's empty comments
            return source.index(">", at) + 1, None
        end = source.find("-->", at + 4)
        return (end + 3 if end >= 0 else len(source)), None
    closing = source.startswith("</", at)
    name = _NAME.match(source, at + 1 + closing)
    if name is None:  # a declaration, a processing instruction, or a tag without a name
        end = source.find(">", at + 2)
        return (end + 1 if end >= 0 else len(source)), None
    end, attributes = _attributes(source, name.end())
    if end < 0:
        return len(source), None
    itself = source[end - 2] == "/" and not closing
    kind = "end" if closing else "start"
    return end, Token(kind, name[0].lower(), line, attributes, itself)


def _attributes(source: str, at: int) -> tuple[int, dict[str, str]]:
    """Read a tag's attributes; return where the tag ends, or -1 when it never does."""
    found: dict[str, str] = {}
    while True:
        at = _end_of(_BETWEEN, source, at)
        if at == len(source):
            return -1, found
        if source[at] == ">":
            return at + 1, found
        start, at = at, _end_of(_ATTRIBUTE, source, at)
        name, value = source[start:at].lower(), ""
        if equals := _EQUALS.match(source, at):
            at = equals.end()
            quote = source[at : at + 1]
            if quote in {'"', "'"}:
                end = source.find(quote, at + 1)
                if end < 0:
                    return -1, found
                value, at = source[at + 1 : end], end + 1
            else:
                start, at = at, _end_of(_UNQUOTED, source, at)
                value = source[start:at]
        found.setdefault(name, unescape(value) if "&" in value else value)


def _end_of(pattern: re.Pattern[str], source: str, at: int) -> int:
    found = pattern.match(source, at)
    assert found is not None  # each of them matches nothing, too
    return found.end()
