"""Read OpenDocument texts, presentations and drawings, zipped or flat.

As ``docx_text`` and ``pptx_text`` do for Microsoft's formats: a text is paragraphs below headings,
a presentation slides. Workbooks are in ``ods_text``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.documents.sections import SectionBuilder
from merganser.documents.text_builder import TextBuilder, clean, join_texts
from merganser.documents.xml_parts import parse_xml
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

_LEFT_OUT = frozenset(
    {"tracked-changes", "forms", "table-of-content", "illustration-index", "table-index"}
    | {"ruby-text", "variable-decls", "sequence-decls", "user-field-decls", "dde-connection-decls"}
    | {"event-listeners", "binary-data", "sender-firstname", "desc", "glue-point"}
    | {"page-number", "page-count", "annotation-end", "notes-configuration"}
)
_MAX_SPACES = 100
_MAX_REPEATED = 1_000
_MAX_BASES = 20


def read_odf(package: Package) -> Extracted:
    """Return the text of a package with a ``content.xml``.

    Raises:
        SkipDocument: ``encrypted`` when its manifest says so; ``binary`` when it is a formula or a
            database.
    """
    manifest = "META-INF/manifest.xml"
    if manifest in package:
        for _ in package.iterate(manifest, (), ("encryption-data",)):
            raise SkipDocument("encrypted", "its parts need a password")
    if _is_workbook(package):
        from merganser.documents.ods_text import read_ods  # noqa: PLC0415 - only what is needed

        return read_ods(package)
    styles = [package.xml("styles.xml")] if "styles.xml" in package else []
    return _read(package.xml("content.xml"), styles)


def read_flat_odf(data: bytes) -> Extracted:
    """Return the text of a document that is one XML text; raises as ``read_odf``."""
    root = parse_xml(data)
    if root.find("body/spreadsheet") is not None:
        from merganser.documents.ods_text import read_flat_ods  # noqa: PLC0415 - as above

        return read_flat_ods(root, data)
    return _read(root, [root])


def _is_workbook(package: Package) -> bool:
    kinds = ("text", "spreadsheet", "presentation", "drawing")
    body = 0
    for element in package.iterate("content.xml", (), ("body", *kinds)):
        if body:
            return element.tag == "spreadsheet"
        body = element.tag == "body"
    return False


def _read(content: Element, others: list[Element]) -> Extracted:
    styles = OdfStyles([*others, content])
    for body in content.findall("body"):
        for kind in body:
            if kind.tag == "text":
                return _TextReader(styles).read(kind, others or [content])
            if kind.tag in {"presentation", "drawing"}:
                return _read_slides(kind, styles)
    raise SkipDocument("binary", "an OpenDocument file that holds no text, table or slides")


class OdfStyles:
    """The styles of a document by family and name."""

    def __init__(self, roots: list[Element]) -> None:
        self._styles = {
            (style.get("family", ""), style.get("name", "")): style
            for root in roots
            for style in root.iter("style")
        }

    def property(self, family: str, name: str, group: str, attribute: str) -> str:
        """Return a property of a style or of those it is based on; empty when none says."""
        for style in self._chain(family, name):
            found = style.find(group)
            if found is not None and (value := found.get(attribute)):
                return value
        return ""

    def is_based_on(self, name: str, base: str) -> bool:
        """Tell whether a paragraph's style is, or is derived from, another."""
        return any(style.get("name") == base for style in self._chain("paragraph", name))

    def _chain(self, family: str, name: str) -> Iterator[Element]:
        for _ in range(_MAX_BASES):
            if (style := self._styles.get((family, name))) is None:
                return
            yield style
            name = style.get("parent-style-name", "")


# -- inside paragraphs -----------------------------------------------------------------------------


class OdfInline:
    """Collects the text of paragraphs; what hangs on one is put aside."""

    def __init__(self, styles: OdfStyles) -> None:
        self._styles = styles
        self.behind: list[Element] = []

    def text(self, paragraph: Element) -> str:
        """Return the text of a paragraph, and put aside in ``behind`` what hangs on it."""
        parts: list[str] = []
        self._collect(paragraph, parts)
        return "".join(parts)

    def lines(self, parent: Element) -> list[str]:
        """Return all paragraphs below an element, and drop what hangs on them."""
        kept, self.behind = self.behind, []
        found = [self.text(p) for p in paragraphs(parent)]
        self.behind = kept
        return found

    def _collect(self, parent: Element, parts: list[str]) -> None:
        if not self._is_hidden(parent):
            # Line ends in the XML are white space; those of the text are elements.
            parts.append(" ".join((parent.text or "").split("\n")))
            for element in parent:
                self._add(element, parts)
                parts.append(" ".join((element.tail or "").split("\n")))

    def _add(self, element: Element, parts: list[str]) -> None:
        match element.tag:
            case "tab":
                parts.append("\t")
            case "line-break":
                parts.append("\n")
            case "s":
                count = element.get("c", "1")
                parts.append(" " * min(int(count) if count.isdecimal() else 1, _MAX_SPACES))
            case "note" | "annotation" | "frame" | "custom-shape" | "rect" | "text-box" | "g":
                self.behind.append(element)
            case "hidden-text" | "hidden-paragraph" | "conditional-text":
                pass
            case tag if tag not in _LEFT_OUT:
                self._collect(element, parts)
            case _:
                pass

    def _is_hidden(self, element: Element) -> bool:
        name = element.get("style-name")
        family = {"span": "text", "p": "paragraph", "h": "paragraph"}.get(element.tag)
        return bool(
            name
            and family
            and self._styles.property(family, name, "text-properties", "display") == "none"
        )


def paragraphs(parent: Element) -> Iterator[Element]:
    """Yield the paragraphs below an element, but for what is deleted or left out."""
    for element in parent:
        if element.tag in {"p", "h"}:
            yield element
            yield from (p for shape in _shapes_in(element) for p in paragraphs(shape))
        elif element.tag not in _LEFT_OUT and element.tag != "notes":
            yield from paragraphs(element)


def _shapes_in(paragraph: Element) -> Iterator[Element]:
    for element in paragraph:
        if element.tag in {"frame", "custom-shape", "rect", "g"}:
            yield element
        elif element.tag not in {"note", "annotation"} | _LEFT_OUT:
            yield from _shapes_in(element)


def table_rows(table: Element, inline: OdfInline) -> list[list[str]]:
    """Return the cells of a table's rows."""
    rows: list[list[str]] = []
    for row in _rows(table):
        cells: list[str] = []
        for cell in row:
            if cell.tag in {"table-cell", "covered-table-cell"}:
                repeated = cell.get("number-columns-repeated", "1")
                count = int(repeated) if repeated.isdecimal() and len(repeated) < 8 else 1
                cells += [join_texts(inline.lines(cell))] * min(count, 64)
        rows.append(cells)
    return rows


def _rows(table: Element) -> Iterator[Element]:
    for element in table:
        if element.tag == "table-row":
            yield element
        elif element.tag in {"table-rows", "table-header-rows", "table-row-group"}:
            yield from _rows(element)


# -- texts -----------------------------------------------------------------------------------------


class _TextReader:
    """Walks through one text."""

    def __init__(self, styles: OdfStyles) -> None:
        self._styles = styles
        self._inline = OdfInline(styles)
        self._out = SectionBuilder()

    def read(self, body: Element, roots: list[Element]) -> Extracted:
        self._blocks(body)
        seen: set[str] = set()
        for page in (page for root in roots for page in root.iter("master-page")):
            for part in page:
                kind = part.tag.split("-")[0]
                if kind not in {"header", "footer"} or part.get("display") == "false":
                    continue
                for text in map(clean, self._inline.lines(part)):
                    if text not in seen and not text.isdecimal():
                        self._out.add_margin(kind, text)
                    seen.add(text)
        return self._out.finish()

    def _blocks(self, parent: Element, bullet: str = "") -> None:
        for element in parent:
            match element.tag:
                case "p" | "h":
                    self._paragraph(element, bullet)
                    bullet = ""
                case "list":
                    for item in element:
                        self._blocks(item, "" if _holds_heading(item) else "- ")
                case "table":
                    self._table(element)
                case "section" if self._is_hidden_section(element):
                    pass
                case "note" | "annotation":
                    self._hang(element)
                case tag if tag not in _LEFT_OUT:
                    self._blocks(element, bullet)
                case _:
                    pass

    def _is_hidden_section(self, element: Element) -> bool:
        return element.get("display") == "none"

    def _paragraph(self, element: Element, bullet: str) -> None:
        behind, self._inline.behind = self._inline.behind, []
        text = self._inline.text(element)
        name = element.get("style-name", "")
        level = element.get("outline-level", "1")
        if element.tag == "h":
            self._out.add_heading(int(level) if level.isdecimal() else 1, text)
        elif self._styles.is_based_on(name, "Title"):
            self._out.add_heading(0, text)
        elif clean(text):
            self._out.add_paragraph(bullet + text)
        hanging, self._inline.behind = self._inline.behind, behind
        for each in hanging:
            self._hang(each)

    def _hang(self, element: Element) -> None:
        if element.tag == "note":
            kind = element.get("note-class", "footnote")
            bodies = element.findall("note-body")
            text = join_texts(line for body in bodies for line in self._inline.lines(body))
            if text:
                self._out.add_beside(f"[{kind}: {text}]")
        elif element.tag == "annotation":
            author = clean(element.findtext("creator") or "")
            if text := join_texts(self._inline.lines(element)):
                by = f" by {author}" if author else ""
                self._out.add_beside(f"[comment{by}: {text}]")
        else:
            self._blocks(element)

    def _table(self, table: Element) -> None:
        rows = [*_rows(table)]
        if all(sum(cell.tag == "table-cell" for cell in row) <= 1 for row in rows):
            for row in rows:
                self._blocks(row)
            return
        self._out.add_table(table_rows(table, self._inline))


def _holds_heading(item: Element) -> bool:
    return any(child.tag in {"h", "list"} for child in item)


# -- slides ----------------------------------------------------------------------------------------


def _read_slides(body: Element, styles: OdfStyles) -> Extracted:
    out = TextBuilder()
    inline = OdfInline(styles)
    for number, page in enumerate(body.findall("page"), 1):
        out.stand_at(("slide" if body.tag == "presentation" else "page", number))
        titles = [shape for shape in page.iter("frame") if shape.get("class") == "title"]
        title = join_texts(line for shape in titles for line in inline.lines(shape))
        if not out.add_heading(1, title):
            out.mark_heading(1, f"slide {number}")
        style = page.get("style-name", "")
        shown = styles.property("drawing-page", style, "drawing-page-properties", "visibility")
        if shown == "hidden":
            out.add("[hidden slide]")
        for shape in page:
            if shape.tag == "notes":
                notes = "\n".join(line for line in inline.lines(shape) if clean(line))
                if notes:
                    out.add(f"[notes] {notes}")
            elif shape not in titles:
                _add_shape(shape, out, inline)
    return out.finish()


def _add_shape(shape: Element, out: TextBuilder, inline: OdfInline) -> None:
    if shape.tag == "annotation":
        out.add(f"[comment] {join_texts(inline.lines(shape))}")
        return
    tables = [*shape.iter("table")]
    for table in tables:
        first = out.line_count + 1
        for row in table_rows(table, inline):
            if any(row):
                out.add_row(row)
        out.mark_table(first, first + 1, out.line_count)
    if not tables:
        for line in inline.lines(shape):
            out.add(line)
