"""Read the text of presentations (OOXML: ``.pptx`` and its kin), slide by slide as they are shown.

Of a slide: its title as heading, then the other shapes from back to front, which is the order in
which PowerPoint and screen readers go; tables row by row, diagrams, names in charts, then the
speaker's notes and comments, marked as such. A footer that is the same on all slides is kept once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.documents.graphics import paragraph_text, read_graphic
from merganser.documents.text_builder import TextBuilder, clean, join_texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from merganser.documents.extracted import Extracted
    from merganser.documents.package import Package

_TITLES = frozenset({"title", "ctrTitle"})
_FOOTERS = frozenset({"ftr", "hdr"})
_NOT_NOTES = frozenset({"sldImg", "hdr", "ftr"})
_COUNTERS = frozenset({"sldNum", "dt"})  # the slide's number and the day of the talk


def read_pptx(package: Package, main: str) -> Extracted:
    """Return the text of a presentation whose main part is named."""
    out = TextBuilder()
    footers: set[str] = set()
    slides = package.relations(main)
    shown = [
        slides[key].target
        for listed in package.xml(main).iter("sldId")
        if (key := listed.get("r:id", "")) in slides
    ]
    for number, part in enumerate(shown, 1):
        out.stand_at(("slide", number))
        if part in package:
            _Slide(package, part, number, out, footers).read()
    return out.finish()


class _Slide:
    """Writes down one slide."""

    def __init__(
        self, package: Package, part: str, number: int, out: TextBuilder, footers: set[str]
    ) -> None:
        self._package = package
        self._part = part
        self._number = number
        self._out = out
        self._footers = footers
        self._title: Element | None = None

    def read(self) -> None:
        root = self._package.xml(self._part)
        self._title = next((s for s in root.iter("sp") if _kind(s) in _TITLES), None)
        title = "" if self._title is None else join_texts(_lines(self._title))
        if not self._out.add_heading(1, title):
            self._out.mark_heading(1, f"slide {self._number}")
        if root.get("show") in {"0", "false"}:
            self._out.add("[hidden slide]")
        for tree in root.iter("spTree"):
            self._shapes(tree)
        for kind, name in (("notesSlide", "notes"), ("comments", "comment")):
            for part in self._package.related(self._part, kind):
                if part in self._package:
                    self._add_beside(self._package.xml(part), name)

    def _shapes(self, parent: Element) -> None:
        for element in parent:
            match element.tag:
                case "sp" | "cxnSp":
                    self._shape(element)
                case "graphicFrame":
                    self._frame(element)
                case "AlternateContent":
                    self._alternatives(element)
                case "grpSp":
                    self._shapes(element)
                case _:
                    pass

    def _alternatives(self, element: Element) -> None:
        """Take the first of several renderings that has any text."""
        for choice in element:
            before = self._out.line_count
            self._shapes(choice)
            if self._out.line_count > before:
                return

    def _shape(self, shape: Element) -> None:
        kind = _kind(shape)
        if shape is self._title or kind in _COUNTERS:
            return
        for line in _lines(shape):
            if kind in _FOOTERS:
                if line in self._footers:
                    continue
                self._footers.add(line)
            self._out.add(line)

    def _frame(self, frame: Element) -> None:
        for reference in frame.iter():
            if reference.tag in {"chart", "relIds"}:
                for line in read_graphic(self._package, self._part, reference):
                    self._out.add(line)
            elif reference.tag == "tbl":
                self._table(reference)

    def _table(self, table: Element) -> None:
        first = self._out.line_count + 1
        for row in table.iter("tr"):
            cells = [join_texts(_lines(cell)) for cell in row.findall("tc")]
            if any(cells):
                self._out.add_row(cells)
        self._out.mark_table(first, first + 1, self._out.line_count)

    def _add_beside(self, root: Element, name: str) -> None:
        """Add the notes or comments of a slide."""
        if name == "notes":
            bodies = [s for s in root.iter("sp") if _kind(s) not in _NOT_NOTES | _COUNTERS]
            text = "\n".join(line for body in bodies for line in _lines(body))
            if clean(text):
                self._out.add(f"[notes] {text}")
            return
        for comment in root.iter("cm"):
            text = join_texts([*_lines(comment), *(t.text or "" for t in comment.findall("text"))])
            if text:
                self._out.add(f"[comment] {text}")


def _kind(shape: Element) -> str:
    """Return what a shape is a placeholder for; empty when it is none."""
    placeholder = shape.find("*/nvPr/ph")
    return "" if placeholder is None else placeholder.get("type", "obj")


def _lines(shape: Element) -> Iterator[str]:
    for paragraph in shape.iter("p"):
        if clean(text := paragraph_text(paragraph)):
            yield text
