r"""Read RTF, the rich text format of word processors and mail programs.

Bytes are decoded by the code page of the file and of each font, ``\u`` escapes by themselves.
Hidden and deleted text, pictures, fields' instructions and whatever else a reader does not see are
left out; notes and text boxes follow the paragraph that they hang on.

The format is read in one pass over its tokens (Microsoft's RTF Specification 1.9.1), whatever is
unclosed or unknown in it.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from merganser.documents.rtf_words import (
    ASIDE,
    CHARACTERS,
    CHARSETS,
    HEADING,
    LEFT_OUT,
    MARGINS,
    SEEN,
    SIGNS,
)
from merganser.documents.sections import SectionBuilder
from merganser.documents.text_builder import clean, join_texts
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from merganser.documents.extracted import Extracted

MAX_GROUPS = 2_000
"""Groups inside each other; word processors nest some 30."""

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?[0-9]{1,10})?(?:[ ]|\r\n)?"
    rb"|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<sign>[^a-zA-Z])|(?P<brace>[{}])|(?P<end>[\r\n\0]+)"
    rb"|(?P<text>[^\\{}\r\n\0]+)|\\",
    re.DOTALL,
)


@dataclass(slots=True)
class _Style:
    """What a style of the style sheet says."""

    name: str = ""
    level: int | None = None


@dataclass(slots=True)
class _State:
    r"""What holds inside a group, until it ends.

    Attributes:
        skip: Whether nothing in it is seen.
        font: Number of the font.
        unicode_skip: Bytes that stand in for a ``\u`` for older readers.
        hidden: Whether the text is hidden or deleted.
        target: Where text goes: ``body``, a kind of note, a margin, or a table that is read.
        marked: Whether ``\*`` stood at its begin.
        is_label: Whether it is the number of a list's item, whose format is not the paragraph's.
    """

    skip: bool = False
    font: int | None = None
    unicode_skip: int = 1
    hidden: bool = False
    target: str = "body"
    marked: bool = False
    is_label: bool = False


@dataclass(slots=True)
class _Paragraph:
    """The paragraph that is being read, of the body or of something beside it."""

    parts: list[str] = field(default_factory=list[str])
    style: int | None = None
    outline: int | None = None
    in_table: bool = False


def read_rtf(data: bytes) -> Extracted:
    """Return the text of a file.

    Raises:
        SkipDocument: ``hostile`` when its groups nest without end; ``empty``.
    """
    return _Reader(data).read()


class _Reader:
    """Goes through the tokens of one file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._out = SectionBuilder()
        self._state = _State()
        self._stack: list[_State] = []
        self._page = "cp1252"
        self._default_font: int | None = None
        self._fonts: dict[int, str] = {}
        self._styles: dict[int, _Style] = {}
        self._defined: int | None = None  # the font or style whose definition is read
        self._bytes = bytearray()
        self._to_skip = 0
        self._is_group_start = False
        self._high = 0  # the first half of a character beyond U+FFFF
        self._body = _Paragraph()
        self._aside: list[str] = []
        self._beside: list[str] = []  # finished notes of this paragraph
        self._boxes: list[str] = []
        self._margins: dict[tuple[str, str], None] = {}
        self._cells: list[str] = []
        self._rows: list[list[str]] = []

    def read(self) -> Extracted:
        at = 0
        while (match := _TOKEN.match(self._data, at)) is not None:
            at = match.end()
            kind = match.lastgroup
            match kind:
                case "brace":
                    self._brace(match["brace"])
                case "text":
                    self._add_bytes(match["text"])
                case "hex":
                    self._add_bytes(bytes.fromhex(match["hex"].decode()))
                case "sign":
                    self._sign(match["sign"])
                case "word" | "number":
                    word = match["word"].decode()
                    number = int(match["number"]) if match["number"] else None
                    if word == "bin":
                        at += max(number or 0, 0)
                    else:
                        self._control(word, number)
                case _:
                    pass
            self._is_group_start = kind == "brace" or (self._is_group_start and kind == "end")
        self._flush()
        self._end_paragraph()
        self._end_table()
        for kind, text in self._margins:
            self._out.add_margin(kind, text)
        return self._out.finish()

    # -- groups ------------------------------------------------------------------------------------

    def _brace(self, brace: bytes) -> None:
        self._flush()
        self._to_skip = 0
        if brace == b"{":
            if len(self._stack) >= MAX_GROUPS:
                raise SkipDocument("hostile", f"more than {MAX_GROUPS} groups inside each other")
            self._stack.append(self._state)
            self._state = replace(self._state, marked=False)
        elif self._stack:
            inner, self._state = self._state, self._stack.pop()
            if inner.target != self._state.target:
                self._end_target(inner.target)

    def _end_target(self, target: str) -> None:
        text = join_texts(["".join(self._aside)])
        if target in {"footnote", "comment"}:
            self._aside = []
            if text:
                self._beside.append(f"[{target}: {text}]")
        elif target in {"header", "footer"}:
            for line in "".join(self._aside).split("\n"):
                if (text := clean(line)) and not text.isdecimal():
                    self._margins[target, text] = None
            self._aside = []
        elif target == "box":
            self._boxes += "".join(self._aside).split("\n")
            self._aside = []

    # -- control words -----------------------------------------------------------------------------

    def _sign(self, sign: bytes) -> None:
        self._flush()
        if sign == b"*":
            self._state.marked = self._is_group_start
        elif sign in b"\r\n":
            self._end_line()
        elif sign in SIGNS:
            if self._to_skip:
                self._to_skip -= 1
            else:
                self._write(SIGNS[sign])

    def _control(self, word: str, number: int | None) -> None:
        state = self._state
        if state.marked:
            state.marked = False
            state.skip |= word not in SEEN
        if word != "u":
            self._flush()
        if self._to_skip and word not in {"u", "uc"}:
            self._to_skip -= 1
            return
        if word in LEFT_OUT:
            self._leave_out(word)
        elif word in ASIDE:
            state.target = ASIDE[word]
        elif word == "listtext":
            state.is_label = True
        elif word in MARGINS:
            state.target = MARGINS[word]
        elif word in {"shptxt", "dptxbxtext"}:
            state.target = "box" if state.target == "body" else state.target
        elif word in {"result", "shprslt"}:
            state.skip |= word == "shprslt"  # the same once more for older readers
        elif word == "upr":
            state.skip = True  # but its Unicode twin is seen
        elif word == "ud":
            state.skip = len(self._stack) > 1 and self._stack[-2].skip
        elif state.skip:
            self._define(word, number)
        elif word in CHARACTERS:
            self._write(CHARACTERS[word])
        else:
            self._format(word, number)

    def _leave_out(self, word: str) -> None:
        self._state.skip = True
        if word in {"fonttbl", "stylesheet"}:
            self._state.target = word

    def _format(self, word: str, number: int | None) -> None:
        """Follow a word that says how the text is read."""
        state, switched_on = self._state, number != 0
        match word:
            case "u" if number is not None:
                self._add_unicode(number)
            case "uc":
                state.unicode_skip = max(number or 0, 0) if number is not None else 1
            case "par" | "sect" | "page" | "column":
                self._end_line()
            case "cell" | "nestcell":
                self._end_cell()
            case "row":
                self._end_row()
            case "pard" | "s" | "outlinelevel" | "intbl":
                if state.target == "body" and not state.is_label:
                    self._format_paragraph(word, number)
            case "v" | "deleted":
                state.hidden = switched_on
            case "plain":
                state.hidden, state.font = False, self._default_font
            case "f":
                state.font = number
            case "ansicpg" | "mac" | "pc" | "pca" | "deff":
                self._set_page(word, number)
            case _:
                pass

    def _format_paragraph(self, word: str, number: int | None) -> None:
        paragraph = self._body
        match word:
            case "pard":
                paragraph.style = paragraph.outline = None
                paragraph.in_table = False
            case "s":
                paragraph.style = number
            case "outlinelevel":
                paragraph.outline = number
            case _:
                paragraph.in_table = True

    def _set_page(self, word: str, number: int | None) -> None:
        if word == "deff":
            self._default_font = number
            return
        pages = {"mac": "mac-roman", "pc": "cp437", "pca": "cp850"}
        name = pages.get(word) or {10000: "mac-roman", 65001: "utf-8", 936: "gbk"}.get(
            number or 0, f"cp{number}"
        )
        if _is_codec(name):
            self._page = name

    def _define(self, word: str, number: int | None) -> None:
        """Follow a word of the font table or style sheet."""
        match self._state.target, word:
            case "fonttbl", "f" if number is not None:
                self._defined = number
            case "fonttbl", "fcharset" if self._defined is not None and number in CHARSETS:
                self._fonts[self._defined] = CHARSETS[number]
            case "fonttbl", "cpg" if self._defined is not None and _is_codec(f"cp{number}"):
                self._fonts[self._defined] = f"cp{number}"
            case "stylesheet", "s" | "cs" | "ds" | "ts":
                self._defined = number if word == "s" else None
                if self._defined is not None:
                    self._styles[self._defined] = _Style()
            case "stylesheet", "outlinelevel" if self._defined in self._styles:
                self._styles[self._defined].level = number
            case _:
                pass

    # -- text --------------------------------------------------------------------------------------

    def _add_bytes(self, data: bytes) -> None:
        if self._to_skip:
            skipped = min(self._to_skip, len(data))
            self._to_skip -= skipped
            data = data[skipped:]
        self._bytes += data

    def _flush(self) -> None:
        """Decode the bytes so far, which may be halves of characters only together."""
        if not self._bytes:
            return
        data, self._bytes = bytes(self._bytes), bytearray()
        state = self._state
        if state.skip:
            if state.target == "stylesheet":
                self._name_style(data.decode("latin-1"))
            return
        font = self._default_font if state.font is None else state.font
        page = self._page if font is None else self._fonts.get(font, self._page)
        self._write(data.decode(page, "replace"))

    def _name_style(self, text: str) -> None:
        if self._defined in self._styles:
            style = self._styles[self._defined]
            style.name = (style.name + text).rstrip(";").strip()[:100]

    def _add_unicode(self, number: int) -> None:
        self._flush()
        code = number % 0x10000
        if 0xD800 <= code < 0xDC00:
            self._high = code
        else:
            if 0xDC00 <= code < 0xE000 and self._high:
                code = 0x10000 + ((self._high - 0xD800) << 10) + code - 0xDC00
            self._high = 0
            self._write(chr(code))
        self._to_skip = self._state.unicode_skip

    def _write(self, text: str) -> None:
        if not self._state.skip and not self._state.hidden:
            if self._state.target == "body":
                self._body.parts.append(text)
            else:
                self._aside.append(text)

    # -- paragraphs and tables ---------------------------------------------------------------------

    def _end_line(self) -> None:
        if self._state.skip:
            return
        if self._state.target != "body":
            self._aside.append("\n")
        elif self._body.in_table:
            self._body.parts.append("\n")
        else:
            self._end_table()
            self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = "".join(self._body.parts)
        self._body.parts = []
        level = self._level()
        if level is not None:
            self._out.add_heading(level, text)
        else:
            self._out.add_paragraph(text)
        self._add_beside()

    def _add_beside(self) -> None:
        for line in self._beside:
            self._out.add_beside(line)
        for line in self._boxes:
            self._out.add_paragraph(line)
        self._beside, self._boxes = [], []

    def _level(self) -> int | None:
        """Return the paragraph's level as a heading; None for text, 0 for the title."""
        style = self._styles.get(self._body.style, _Style()) if self._body.style else _Style()
        if (heading := HEADING.match(style.name)) is not None:
            return int(heading[1])
        if style.name.lower() == "title":
            return 0
        outline = self._body.outline if self._body.outline is not None else style.level
        return outline + 1 if outline is not None and 0 <= outline < 9 else None

    def _end_cell(self) -> None:
        if self._state.target == "body":
            self._cells.append(join_texts(["".join(self._body.parts)]))
            self._body.parts = []
        else:
            self._aside.append(" ")

    def _end_row(self) -> None:
        if self._state.target == "body" and self._cells:
            self._rows.append(self._cells)
            self._cells = []

    def _end_table(self) -> None:
        if self._cells:
            self._end_row()
        if not self._rows:
            return
        if all(len(row) <= 1 for row in self._rows):
            for row in self._rows:
                self._out.add_paragraph(row[0])
        else:
            self._out.add_table(self._rows)
        self._rows = []
        self._add_beside()


def _is_codec(name: str) -> bool:
    try:
        return codecs.lookup(name).name not in {"rot13", "hex"}
    except LookupError:
        return False
