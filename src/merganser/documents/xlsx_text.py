"""Read workbooks (OOXML: ``.xlsx`` and its kin), every sheet with the values that it shows.

Formulas show the result that the program which wrote the file came to; one that was never computed
shows itself. Cells are shown by their number formats. Sheets are read row by row, and rows and
cells without a value cost nothing but their markup.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.graphics import drawing_lines, read_graphic
from merganser.documents.number_formats import built_in_format, format_value
from merganser.documents.sheet_builder import Row, SheetBuilder
from merganser.documents.text_builder import join_texts
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

MAX_CELLS = 1_000_000
"""Cells with a value in one sheet; more are a database. So many take some 15 s to read."""

_REFERENCE = re.compile(r"([A-Za-z]{1,3})([0-9]{1,7})")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_MAX_MERGED = 10_000


def read_xlsx(package: Package, main: str) -> Extracted:
    """Return the text of a workbook whose main part is named."""
    out = SheetBuilder()
    workbook = package.xml(main)
    properties = workbook.find("workbookPr")
    is_1904 = properties is not None and properties.get("date1904") in {"1", "true"}
    texts = [
        _rich_text(item)
        for part in package.related(main, "sharedStrings")
        for item in package.iterate(part, ("si",))
    ]
    formats = [
        code for part in package.related(main, "styles") for code in _formats(package.xml(part))
    ]
    relations = package.relations(main)
    for listed in workbook.iter("sheet"):
        relation = relations.get(listed.get("r:id", ""))
        if relation is None or relation.target not in package:
            continue
        sheet = _Sheet(package, relation.target, texts, formats, is_1904=is_1904)
        out.add_sheet(
            listed.get("name", ""),
            sheet.read(),
            is_hidden=listed.get("state", "visible") != "visible",
            beside=_beside(package, relation.target),
        )
    return out.finish()


class _Cell(NamedTuple):
    """A value as it is shown, and whether it is a word."""

    text: str
    is_word: bool


class _Sheet:
    """Reads the rows of one sheet."""

    def __init__(
        self,
        package: Package,
        part: str,
        texts: Sequence[str],
        formats: Sequence[str],
        *,
        is_1904: bool,
    ) -> None:
        self._package = package
        self._part = part
        self._texts = texts
        self._formats = formats
        self._is_1904 = is_1904

    def read(self) -> list[Row]:
        """Return the rows that hold something, by ascending number."""
        rows: dict[int, dict[int, _Cell]] = {}
        merged: list[str] = []
        number = cells = 0
        for element in self._package.iterate(self._part, ("row", "mergeCell")):
            if element.tag == "mergeCell":
                if len(merged) < _MAX_MERGED:
                    merged.append(element.get("ref", ""))
                continue
            written = element.get("r", "")
            number = int(written) if written.isdecimal() and len(written) < 8 else number + 1
            if found := self._row(element):
                rows.setdefault(number, {}).update(found)
                cells += len(found)
                if cells > MAX_CELLS:
                    what = f"a sheet of more than {MAX_CELLS:,} cells; save it as CSV or Parquet"
                    raise SkipDocument("too large", what)
        _repeat_merged(rows, merged)
        comments = _comments(self._package, self._part)
        for at in comments:
            rows.setdefault(at, {})
        return [
            Row(
                at,
                {column: cell.text for column, cell in sorted(rows[at].items())},
                all(cell.is_word for cell in rows[at].values()),
                comments.get(at, ()),
            )
            for at in sorted(rows)
        ]

    def _row(self, element: Element) -> dict[int, _Cell]:
        found: dict[int, _Cell] = {}
        column = -1
        for cell in element:
            if cell.tag != "c":
                continue
            reference = _REFERENCE.fullmatch(cell.get("r", ""))
            column = column + 1 if reference is None else _column(reference[1])
            if len(cell) and (shown := self._show(cell)).text.strip():
                found[column] = shown
        return found

    def _show(self, cell: Element) -> _Cell:
        """Return what a cell shows."""
        value = cell.findtext("v")
        match cell.get("t", "n"):
            case "inlineStr":
                inline = cell.find("is")
                return _Cell("" if inline is None else _rich_text(inline), is_word=True)
            case "s" if value is not None:
                at = int(value) if value.strip().isdecimal() else -1
                return _Cell(self._texts[at] if 0 <= at < len(self._texts) else "", is_word=True)
            case "b" if value is not None:
                return _Cell("TRUE" if value.strip() == "1" else "FALSE", is_word=False)
            case "n" if value is not None:
                return _Cell(self._number(value, cell.get("s", "")), is_word=False)
            case kind if value is not None:  # str, e, d
                return _Cell(_unescape(value), is_word=kind == "str")
            case _:
                formula = cell.findtext("f")
                return _Cell(f"={formula}" if formula else "", is_word=False)

    def _number(self, text: str, style: str) -> str:
        try:
            value = float(text)
        except ValueError:
            return text
        if not math.isfinite(value):
            return text
        at = int(style) if style.isdecimal() and len(style) < 8 else 0
        code = self._formats[at] if at < len(self._formats) else "General"
        return format_value(value, code, is_1904=self._is_1904)


def _column(letters: str) -> int:
    """Return the number of a column, from 0.

    >>> _column("A"), _column("AA")
    (0, 26)
    """
    number = 0
    for letter in letters.upper():
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


def _repeat_merged(rows: dict[int, dict[int, _Cell]], merged: Sequence[str]) -> None:
    """Show the value of cells merged downwards in each of their rows that holds something."""
    for reference in merged:
        first, _, last = reference.partition(":")
        start, end = _REFERENCE.fullmatch(first), _REFERENCE.fullmatch(last)
        if start is None or end is None:
            continue
        top, bottom, column = int(start[2]), int(end[2]), _column(start[1])
        value = rows.get(top, {}).get(column)
        if value is None or bottom - top > _MAX_MERGED:
            continue
        for number in range(top + 1, bottom + 1):
            if number in rows:
                rows[number].setdefault(column, value)


def _rich_text(item: Element) -> str:
    """Return the text of a string, without the readings of East Asian words."""
    parts: list[str] = []
    for element in item:
        if element.tag == "t":
            parts.append(element.text or "")
        elif element.tag == "r":
            parts += [text.text or "" for text in element.findall("t")]
    return _unescape("".join(parts))


def _unescape(text: str) -> str:
    if "_x" not in text:
        return text
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


def _formats(styles: Element) -> Iterator[str]:
    """Yield the number format of each cell style."""
    own: Mapping[str, str] = {
        entry.get("numFmtId", ""): entry.get("formatCode", "") for entry in styles.iter("numFmt")
    }
    for group in styles.findall("cellXfs"):
        for style in group.findall("xf"):
            key = style.get("numFmtId", "0")
            number = int(key) if key.isdecimal() and len(key) < 8 else 0
            yield own.get(key) or built_in_format(number)


def _comments(package: Package, part: str) -> dict[int, list[str]]:
    """Return the comments on cells by row, those in threads instead of their stand-ins."""
    found: dict[int, list[str]] = {}
    threads = package.related(part, "threadedComment")
    for name in threads or package.related(part, "comments"):
        for comment in package.xml(name).iter("threadedComment" if threads else "comment"):
            where = _REFERENCE.fullmatch(comment.get("ref", ""))
            text = join_texts(t for t in _comment_texts(comment) if t)
            if where is not None and text:
                line = f"[comment on {where[0]}: {text}]"
                found.setdefault(int(where[2]), []).append(line)
    return found


def _comment_texts(comment: Element) -> Iterator[str]:
    for text in comment.iter("text"):
        yield text.text or ""
        yield _rich_text(text)


def _beside(package: Package, part: str) -> list[str]:
    """Return the lines of the shapes and charts that lie on a sheet."""
    lines: list[str] = []
    for drawing in package.related(part, "drawing"):
        if drawing not in package:
            continue
        root = package.xml(drawing)
        lines += drawing_lines(root)
        for chart in root.iter("chart"):
            lines += read_graphic(package, drawing, chart)
    return list(dict.fromkeys(lines))
