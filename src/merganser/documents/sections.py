"""Count paragraphs and rows below the headings of a document that has no pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.documents.text_builder import Steps, TextBuilder, clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.documents.extracted import Extracted

_SEPARATOR = " > "


class SectionBuilder:
    """Builds the text of a document whose places are its headings, and paragraphs below them.

    Attributes:
        builder: Where the lines go.
    """

    def __init__(self) -> None:
        self.builder = TextBuilder()
        self._path: list[tuple[int, str]] = []
        self._paragraphs = self._tables = 0
        self._margins: set[str] = set()

    def add_heading(self, level: int, title: str) -> None:
        """Begin a section; level 0 is the title of the document."""
        if not (title := clean(title.replace("\n", " "))):
            return
        while self._path and self._path[-1][0] >= level:
            self._path.pop()
        self._path.append((level, title))
        self._paragraphs = self._tables = 0
        # A heading stands with its first paragraph, so that a chunk of both has one kind of place.
        self.builder.stand_at(*self._section(), ("paragraph", 1))
        self.builder.add_heading(level, title)

    def add_paragraph(self, text: str) -> None:
        """Add a paragraph, unless it is blank."""
        if clean(text):
            self._paragraphs += 1
            self.builder.stand_at(*self._section(), ("paragraph", self._paragraphs))
            self.builder.add(text)

    def add_beside(self, text: str) -> None:
        """Add what hangs on the paragraph before, such as a footnote."""
        self.builder.add(text)

    def add_table(self, rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its first row is its header."""
        if not any(map(any, rows)):
            return
        self._tables += 1
        first = self.builder.line_count + 1
        for number, row in enumerate(rows, 1):
            if any(row):
                here = (*self._section(), ("table", self._tables), ("row", number))
                self.builder.stand_at(*here)
                self.builder.add_row(row)
        self.builder.mark_table(first, first + 1, self.builder.line_count)

    def add_margin(self, kind: str, text: str) -> None:
        """Add what stands on each page: a header or footer."""
        if kind not in self._margins:
            self._margins.add(kind)
            self.builder.mark_heading(1, f"page {kind}")
        self.builder.stand_at(("page", kind))
        self.builder.add(text)

    def finish(self) -> Extracted:
        """Return what was collected; raises as ``TextBuilder.finish``."""
        return self.builder.finish()

    def _section(self) -> Steps:
        # Every section stands below the title, so it helps nobody to find one.
        below = [title for level, title in self._path if level] or [t for _, t in self._path]
        path = _SEPARATOR.join(title[:40] for title in below)
        return (("section", path),) if path else ()
