"""Write down what a document says, line by line, with headings, places and tables.

The readers of formats that have paragraphs, slides and sheets share this; what a place is called is
theirs to say.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.chunking.places import Place
from merganser.chunking.sections import MAX_TITLE, Heading
from merganser.chunking.tables import CELL_SEPARATOR, Table
from merganser.documents.extracted import Extracted
from merganser.errors import SkipDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Steps = tuple[tuple[str, int | str], ...]

MAX_CHARACTERS = 32_000_000
"""Most text of one file; the longest manuals have 10,000 pages of 3,000 characters."""

_MAX_LABEL = 80
_COUNTED = frozenset({"row", "paragraph"})
_LOWEST = 6
# Soft hyphens, zero-width marks and private characters of symbol fonts are no part of a word.
_UNSEEN = re.compile("[\xad\u200b\u2060\ufeff]")
_UNPRINTABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f\ue000-\uf8ff\ufffe\uffff\ud800-\udfff]")


class TextBuilder:
    """Collects the lines of a document."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._length = 0
        self._headings: list[Heading] = []
        self._places: list[Place] = []
        self._tables: list[Table] = []
        self._steps: Steps = ()
        self._has_title = False
        self.notes: dict[str, None] = {}
        """Remarks for the report, each once."""

    @property
    def line_count(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def stand_at(self, *steps: tuple[str, int | str]) -> None:
        """Say where the next lines stand, the widest unit first."""
        self._steps = tuple(
            (unit, label if isinstance(label, int) else " ".join(label.split())[:_MAX_LABEL])
            for unit, label in steps
        )

    def add(self, text: str) -> bool:
        """Add a paragraph, a line for each that it has; tell whether there was anything in it."""
        lines = [line for part in text.split("\n") if (line := clean(part))]
        for line in lines:
            self._add_line(line)
        return bool(lines)

    def add_heading(self, level: int, title: str) -> bool:
        """Add a heading; level 0 is the title of the whole, above all others."""
        title = clean(title.replace("\n", " "))
        if not title:
            return False
        self.mark_heading(level, title)
        self._add_line(title)
        return True

    def mark_heading(self, level: int, title: str) -> None:
        """Say that a section begins with the next line, if any comes before the next section."""
        self._has_title |= level == 0
        if self._headings and self._headings[-1].start == self._length:
            self._headings.pop()
        self._headings.append(Heading(level, title[:MAX_TITLE], self._length))

    def add_row(self, cells: Sequence[str]) -> None:
        """Add a row of a table; empty cells keep their place, but for those at the end."""
        cleaned = [clean(cell.replace("\n", " ")) for cell in cells]
        while cleaned and not cleaned[-1]:
            cleaned.pop()
        self._add_line(" ".join(CELL_SEPARATOR.join(cleaned).split()))

    def mark_table(self, header: int, first: int, last: int) -> None:
        """Say that the lines ``first`` to ``last``, from 1, are rows below a header line."""
        if first <= last:
            self._tables.append(Table(header, first, last))

    def finish(self) -> Extracted:
        """Return what was collected.

        Raises:
            SkipDocument: ``empty`` when that is nothing.
        """
        if not self._lines:
            raise SkipDocument("empty", "it holds no text")
        if self._headings and self._headings[-1].start == self._length:
            self._headings.pop()
        down = int(self._has_title)
        return Extracted(
            "\n".join(self._lines) + "\n",
            tuple(
                heading._replace(level=min(max(heading.level + down, 1), _LOWEST))
                for heading in self._headings
            ),
            tuple(self._places),
            tables=tuple(self._tables),
            note="; ".join(self.notes),
        )

    def _add_line(self, line: str) -> None:
        self._lines.append(line)
        self._length += len(line) + 1
        if self._length > MAX_CHARACTERS:
            raise SkipDocument("too large", f"more than {MAX_CHARACTERS:,} characters of text")
        self._keep_place(len(self._lines), self._steps)

    def _keep_place(self, line: int, steps: Steps) -> None:
        """Let one place stand for lines in a row that stay where they are, or go on by one."""
        if not steps:
            return
        if self._places:
            place = self._places[-1]
            length = line - place.line
            (unit, number), *_ = reversed(place.steps)
            if unit in _COUNTED and isinstance(number, int) and (place.counts or length == 1):
                next_steps = (*place.steps[:-1], (unit, number + length))
                if steps == next_steps:
                    self._places[-1] = place._replace(counts=True)
                    return
            if not place.counts and steps == place.steps:
                return
        self._places.append(Place(line, steps))


def clean(text: str) -> str:
    r"""Return a text in one line, as it is seen.

    >>> clean(" a\xadb\tc\x00 ")
    'ab c'
    """
    return " ".join(_UNPRINTABLE.sub(" ", _UNSEEN.sub("", text)).split())


def join_texts(texts: Iterable[str]) -> str:
    """Join what stands below each other in one cell."""
    return " ".join(text for text in map(clean, texts) if text)
