"""Read the text of Word documents (OOXML: ``.docx`` and its kin).

A Word document has no pages before somebody lays it out, so a place is a section by its headings,
and a paragraph in it, or a row of a table: both are counted from the heading on, empty paragraphs
not. What is read is the final text: insertions are in it, deletions and hidden text are not. Notes,
comments and text boxes follow the paragraph that they hang on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.documents.docx_numbering import Numbering
from merganser.documents.docx_styles import Styles, is_on
from merganser.documents.graphics import read_graphic
from merganser.documents.sections import SectionBuilder
from merganser.documents.text_builder import join_texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

_LEFT_OUT = frozenset(
    # what was deleted or moved away, and properties
    {"del", "moveFrom", "pPr", "rPr", "tblPr", "tblGrid", "trPr", "tcPr", "sectPr", "sdtPr"}
    | {"instrText", "delText", "delInstrText", "rt", "Fallback", "fldData", "ffData"}
)
_CHARACTERS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_NOTES = {
    "footnoteReference": ("footnotes", "footnote"),
    "endnoteReference": ("endnotes", "endnote"),
    "commentReference": ("comments", "comment"),
}
_PAGE_NUMBER = re.compile(r"[\W\d]*")


def read_docx(package: Package, main: str) -> Extracted:
    """Return the text of a document whose main part is named."""
    return _Reader(package, main).read()


class _Reader:
    """Walks through one document."""

    def __init__(self, package: Package, main: str) -> None:
        self._package = package
        self._main = main
        self._out = SectionBuilder()
        self._styles = Styles([package.xml(part) for part in package.related(main, "styles")])
        self._numbering = Numbering(
            [package.xml(part) for part in package.related(main, "numbering")], self._styles
        )
        self._notes = {
            (kind, note.get("id", "")): note
            for kind, name in _NOTES.values()
            for part in package.related(main, kind)
            for note in package.xml(part)
            if note.tag == name
        }
        self._behind: list[tuple[str, Element]] = []  # what follows the paragraph it hangs on

    def read(self) -> Extracted:
        root = self._package.xml(self._main)
        for body in root.iter("body"):
            self._blocks(body)
        self._read_margins()
        return self._out.finish()

    # -- blocks ------------------------------------------------------------------------------------

    def _blocks(self, parent: Element) -> None:
        for element in parent:
            match element.tag:
                case "p":
                    self._paragraph(element)
                case "tbl":
                    self._table(element)
                case "sdt" if _is_contents(element):
                    pass
                case "altChunk":
                    self._out.builder.notes["it holds a document of another format, not read"] = (
                        None
                    )
                case tag if tag not in _LEFT_OUT:
                    self._blocks(element)
                case _:
                    pass

    def _paragraph(self, element: Element) -> None:
        style, level, number = self._describe(element)
        behind, self._behind = self._behind, []
        text = self._inline(element, self._styles.is_hidden(style))
        if number and text.strip():
            text = f"{number} {text.lstrip()}"
        if self._styles.is_contents(style):
            pass
        elif level is not None:
            self._out.add_heading(level, text)
        else:
            self._out.add_paragraph(text)
        hanging, self._behind = self._behind, behind
        for kind, content in hanging:
            self._add_hanging(kind, content)

    def _describe(self, element: Element) -> tuple[str, int | None, str]:
        """Return a paragraph's style, its level as a heading, and its number or bullet."""
        properties = element.find("pPr")
        if properties is None:
            return "", self._styles.level("", None), ""
        style = _value(properties, "pStyle")
        level = self._styles.level(style, properties.find("outlineLvl"))
        return style, level, self._numbering.next(style, properties.find("numPr"))

    def _add_hanging(self, kind: str, content: Element) -> None:
        if kind == "box":
            self._blocks(content)
        elif kind == "graphic":
            for line in read_graphic(self._package, self._main, content):
                self._out.add_beside(line)
        elif text := self._flat(content):
            author = content.get("author")
            self._out.add_beside(f"[{kind} by {author}: {text}]" if author else f"[{kind}: {text}]")

    def _flat(self, parent: Element) -> str:
        """Return all paragraphs below an element in one line."""
        kept, self._behind = self._behind, []
        texts = [self._inline(p, is_hidden=False) for p in _paragraphs(parent)]
        self._behind = kept
        return join_texts(texts)

    # -- tables ------------------------------------------------------------------------------------

    def _table(self, table: Element) -> None:
        rows = [[*_cells(row)] for row in _children(table, "tr")]
        if all(len(row) <= 1 for row in rows):  # a frame around text, not a table
            for row in rows:
                for cell in row:
                    self._blocks(cell)
            return
        above: list[str] = []
        written: list[list[str]] = []
        behind, self._behind = self._behind, []
        for row in rows:
            texts: list[str] = []
            for cell in row:
                text = self._cell(cell)
                if _continues(cell) and not text and len(texts) < len(above):
                    text = above[len(texts)]
                texts += [text, *[""] * (_width(cell) - 1)]
            written.append(texts)
            above = texts
        self._out.add_table(written)
        hanging, self._behind = self._behind, behind
        for kind, content in hanging:
            self._add_hanging(kind, content)

    def _cell(self, cell: Element) -> str:
        texts: list[str] = []
        for paragraph in _paragraphs(cell):
            style, _, number = self._describe(paragraph)
            text = self._inline(paragraph, self._styles.is_hidden(style))
            texts.append(f"{number} {text}" if number and text.strip() else text)
        return join_texts(texts)

    # -- inside a paragraph ------------------------------------------------------------------------

    def _inline(self, element: Element, is_hidden: bool) -> str:  # noqa: FBT001 - two callers
        parts: list[str] = []
        self._collect(element, parts, is_hidden=is_hidden)
        return "".join(parts)

    def _collect(self, parent: Element, parts: list[str], *, is_hidden: bool) -> None:
        for element in parent:
            tag = element.tag
            if tag == "t":
                if not is_hidden:
                    parts.append(element.text or "")
            elif tag == "r":
                self._collect(element, parts, is_hidden=self._is_run_hidden(element, is_hidden))
            elif tag in _CHARACTERS:
                parts.append(_CHARACTERS[tag])
            elif tag == "sym":
                parts.append(_symbol(element.get("char", "")))
            elif tag in _NOTES:
                self._refer(tag, element)
            elif tag == "txbxContent":
                self._behind.append(("box", element))
            elif tag in {"chart", "relIds"}:
                self._behind.append(("graphic", element))
            elif tag not in _LEFT_OUT:
                self._collect(element, parts, is_hidden=is_hidden)

    def _is_run_hidden(self, run: Element, is_hidden: bool) -> bool:  # noqa: FBT001 - as above
        properties = run.find("rPr")
        if properties is None:
            return is_hidden
        if (vanish := properties.find("vanish")) is not None:
            return is_on(vanish)
        return is_hidden or self._styles.is_hidden(_value(properties, "rStyle"))

    def _refer(self, tag: str, element: Element) -> None:
        kind, name = _NOTES[tag]
        note = self._notes.get((kind, element.get("id", "")))
        if note is not None:
            self._behind.append((name, note))

    # -- headers and footers -----------------------------------------------------------------------

    def _read_margins(self) -> None:
        """Add what stands above and below the pages, each text once."""
        seen: set[str] = set()
        for kind in ("header", "footer"):
            for part in self._package.related(self._main, kind):
                for paragraph in _paragraphs(self._package.xml(part)):
                    text = join_texts([self._inline(paragraph, is_hidden=False)])
                    if text not in seen and not _PAGE_NUMBER.fullmatch(text):
                        self._out.add_margin(kind, text)
                    seen.add(text)
                    self._behind.clear()


def _paragraphs(parent: Element) -> Iterator[Element]:
    """Yield the paragraphs below an element, those of text boxes too, but for what was deleted."""
    for element in parent:
        if element.tag == "p":
            yield element
            yield from _boxed(element)
        elif element.tag not in _LEFT_OUT:
            yield from _paragraphs(element)


def _boxed(paragraph: Element) -> Iterator[Element]:
    for element in paragraph:
        if element.tag == "txbxContent":
            yield from _paragraphs(element)
        elif element.tag not in _LEFT_OUT:
            yield from _boxed(element)


def _children(parent: Element, tag: str) -> Iterator[Element]:
    """Yield children of a name, also those that controls and revisions wrap."""
    for element in parent:
        if element.tag == tag:
            properties = element.find("trPr")
            if properties is None or properties.find("del") is None:
                yield element
        elif element.tag not in _LEFT_OUT:
            yield from _children(element, tag)


def _cells(row: Element) -> Iterator[Element]:
    return _children(row, "tc")


def _width(cell: Element) -> int:
    """Return how many columns a cell takes, at most 64."""
    properties = cell.find("tcPr")
    span = _value(properties, "gridSpan") if properties is not None else ""
    return min(max(int(span), 1), 64) if span.isdecimal() else 1


def _continues(cell: Element) -> bool:
    """Tell whether a cell is merged with the one above it."""
    merge = cell.find("tcPr/vMerge")
    return merge is not None and merge.get("val", "continue") == "continue"


def _value(properties: Element, tag: str) -> str:
    element = properties.find(tag)
    return "" if element is None else element.get("val", "")


def _symbol(code: str) -> str:
    """Return the character of a symbol font where it is one outside that font too."""
    try:
        number = int(code, 16)
    except ValueError:
        return ""
    return chr(number) if 0x20 <= number < 0xD800 else ""


def _is_contents(control: Element) -> bool:
    """Tell whether a content control is a table of contents, which says nothing of its own."""
    gallery = control.find("sdtPr/docPartObj/docPartGallery")
    return gallery is not None and gallery.get("val") == "Table of Contents"
