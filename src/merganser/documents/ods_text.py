"""Read OpenDocument workbooks (``.ods``, ``.fods``): the cells hold what they show.

Sheets are read row by row. A million empty rows are one element that says so, and are skipped.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from merganser.documents.odf_text import OdfInline, OdfStyles, paragraphs
from merganser.documents.sheet_builder import Row, SheetBuilder
from merganser.documents.text_builder import clean, join_texts
from merganser.documents.xlsx_text import MAX_CELLS
from merganser.documents.xml_parts import iterate_xml
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

_WHOLE = ("table-row", "shapes", "automatic-styles", "tracked-changes")
_MAX_REPEATED_ROWS = 1_000
_MAX_COLUMN = 16_384


def read_ods(package: Package) -> Extracted:
    """Return the text of a workbook in a package."""
    styles = [package.xml("styles.xml")] if "styles.xml" in package else []
    return _read(package.iterate("content.xml", _WHOLE, ("table",)), styles)


def read_flat_ods(root: Element, data: bytes) -> Extracted:
    """Return the text of a workbook that is one XML text, given as a tree too."""
    return _read(iterate_xml(io.BytesIO(data), _WHOLE, ("table",)), [root])


def _read(elements: Iterator[Element], roots: list[Element]) -> Extracted:
    out = SheetBuilder()
    sheet: _Sheet | None = None
    inline = OdfInline(OdfStyles(roots))
    for element in elements:
        match element.tag:
            case "automatic-styles":
                roots = [*roots, element]
                inline = OdfInline(OdfStyles(roots))
            case "table":
                if sheet is not None:
                    sheet.write(out)
                style = element.get("style-name", "")
                display = OdfStyles(roots).property("table", style, "table-properties", "display")
                sheet = _Sheet(element.get("name", ""), inline, is_hidden=display == "false")
            case "table-row" if sheet is not None:
                sheet.add_row(element)
            case "shapes" if sheet is not None:
                sheet.beside += [line for line in inline.lines(element) if clean(line)]
            case _:
                pass
    if sheet is not None:
        sheet.write(out)
    return out.finish()


class _Sheet:
    """The rows of one sheet."""

    def __init__(self, name: str, inline: OdfInline, *, is_hidden: bool) -> None:
        self._name = name
        self._inline = inline
        self._is_hidden = is_hidden
        self._rows: list[Row] = []
        self._number = 1
        self._cells = 0
        self.beside: list[str] = []

    def add_row(self, element: Element) -> None:
        """Add a row as often as it stands there, and count on."""
        repeated = _count(element, "number-rows-repeated")
        cells, is_words, comments = self._read(element)
        if cells or comments:
            # A row of values that fills the sheet to its end says no more by being repeated.
            for number in range(self._number, self._number + min(repeated, _MAX_REPEATED_ROWS)):
                self._rows.append(Row(number, cells, is_words, comments))
                self._cells += len(cells)
            if self._cells > MAX_CELLS:
                what = f"a sheet of more than {MAX_CELLS:,} cells; save it as CSV or Parquet"
                raise SkipDocument("too large", what)
        self._number += repeated

    def _read(self, row: Element) -> tuple[dict[int, str], bool, list[str]]:
        cells: dict[int, str] = {}
        comments: list[str] = []
        is_words, column = True, 0
        for cell in row:
            if cell.tag not in {"table-cell", "covered-table-cell"}:
                continue
            repeated = _count(cell, "number-columns-repeated")
            if text := self._show(cell):
                is_words &= cell.get("value-type", "string") == "string"
                for at in range(column, min(column + repeated, _MAX_COLUMN)):
                    cells[at] = text
            said = [join_texts(self._inline.lines(note)) for note in cell.findall("annotation")]
            comments += [f"[comment: {text}]" for text in said if text]
            column += repeated
        return cells, is_words, comments

    def _show(self, cell: Element) -> str:
        """Return what a cell shows; a file without that text has the value."""
        if cell.tag == "covered-table-cell":
            return ""
        texts = [
            self._inline.text(paragraph)
            for child in cell
            if child.tag != "annotation"
            for paragraph in ([child] if child.tag == "p" else paragraphs(child))
        ]
        self._inline.behind.clear()
        if text := join_texts(texts):
            return text
        for value in ("string-value", "date-value", "time-value", "boolean-value", "value"):
            if shown := cell.get(value):
                return clean(shown)
        return ""

    def write(self, out: SheetBuilder) -> None:
        """Add the sheet to a workbook."""
        out.add_sheet(self._name, self._rows, is_hidden=self._is_hidden, beside=self.beside)


def _count(element: Element, attribute: str) -> int:
    """Return how often an element stands there, from 1 to ten million."""
    written = element.get(attribute, "1")
    return max(int(written), 1) if written.isdecimal() and len(written) < 8 else 1
