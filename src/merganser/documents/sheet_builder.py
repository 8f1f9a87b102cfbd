"""Write down the sheets of a workbook: rows as lines, and which of them is the header.

The columns of a sheet that hold nothing at all are left out, empty cells of the others keep their
place, so that a value stands below the name of its column. Rows that stand together are a table.
Its header is its first row with several cells, where all of them are words; a table without one of
its own goes on with the header of the table above it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from merganser.documents.text_builder import TextBuilder, clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.documents.extracted import Extracted

_MAX_SPARSE = 8
"""Columns for each value that there is, beyond which empty cells are not written."""


class Row(NamedTuple):
    """A row with something in it.

    Attributes:
        number: As the sheet numbers it, from 1.
        cells: What is shown, by column from 0.
        is_words: Whether no cell is a number, date or truth value.
        comments: Notes on cells, as lines.
    """

    number: int
    cells: Mapping[int, str]
    is_words: bool
    comments: Sequence[str] = ()


class SheetBuilder:
    """Builds the text of a workbook.

    Attributes:
        builder: Where the lines go.
    """

    def __init__(self) -> None:
        self.builder = TextBuilder()

    def add_sheet(
        self, name: str, rows: Sequence[Row], *, is_hidden: bool, beside: Sequence[str] = ()
    ) -> None:
        """Add a sheet.

        Args:
            name: What its tab says.
            rows: By ascending number.
            is_hidden: Whether its tab is not shown.
            beside: The lines of shapes and charts on it.
        """
        if not rows and not beside:
            return
        name = clean(name) or "sheet"
        first = rows[0].number if rows else 1
        self.builder.stand_at(("sheet", name), ("row", first))
        self.builder.add_heading(1, name)
        if is_hidden:
            self.builder.add("[hidden sheet]")
        self._add_rows(name, rows)
        if beside:
            self.builder.stand_at(("sheet", name))
            for line in beside:
                self.builder.add(line)

    def finish(self) -> Extracted:
        """Return what was collected; raises as ``TextBuilder.finish``."""
        return self.builder.finish()

    def _add_rows(self, name: str, rows: Sequence[Row]) -> None:
        columns = sorted({column for row in rows for column in row.cells})
        filled = sum(len(row.cells) for row in rows)
        is_sparse = len(columns) * len(rows) > _MAX_SPARSE * filled
        header = begin = 0  # lines, from 1; 0 for none
        last_number = -1
        for row in rows:
            line = self.builder.line_count + 1
            if row.number != last_number + 1:
                self._close(header, begin, line - 1)
                begin = 0
            if not begin and len(row.cells) > 1:
                if row.is_words:
                    header, begin = line, line + 1
                elif header:
                    begin = line
            last_number = row.number
            self.builder.stand_at(("sheet", name), ("row", row.number))
            if row.cells:
                shown = (
                    row.cells.values() if is_sparse else [row.cells.get(at, "") for at in columns]
                )
                self.builder.add_row([*shown])
            for comment in row.comments:
                self.builder.add(comment)
        self._close(header, begin, self.builder.line_count)

    def _close(self, header: int, begin: int, last: int) -> None:
        if begin:
            self.builder.mark_table(header, begin, last)
