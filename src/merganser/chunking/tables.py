"""Keep the header of a table with each chunk of its rows.

A row says little without the names of its columns. So a chunk that holds rows of a table and not
its header gets the header line in front. Its span and lines stay those of the rows.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from merganser.chunking.chunks import Chunk

CELL_SEPARATOR = " | "
"""Between the cells of a row that a reader writes as a line."""

_LARGEST_SHARE = 3
"""A header takes at most a third of a chunk; of a longer one the first columns are repeated."""


class Table(NamedTuple):
    """Rows of a table in a text.

    Attributes:
        header: The line, from 1, that names the columns.
        first: The first line of rows below it.
        last: The last one, inclusive.
    """

    header: int
    first: int
    last: int


class Headers:
    r"""The headers of a text's tables.

    >>> headers = Headers("Name | Age\nAda | 36\nBob | 41\n", [Table(1, 2, 3)], size=60)
    >>> headers.before(3, 3), headers.before(1, 3)
    ('Name | Age\n', '')
    """

    def __init__(self, text: str, tables: Sequence[Table], size: int) -> None:
        """Find the header lines.

        Args:
            text: The whole text.
            tables: By ascending ``first``, none over another.
            size: The most characters of a chunk.
        """
        self._tables = tables
        self._ends = [table.last for table in tables]
        self._lines = _header_lines(text, tables, size // _LARGEST_SHARE) if tables else {}
        self.room = max(map(len, self._lines.values()), default=0)
        """Characters that chunks must leave for them."""

    def before(self, first_line: int, last_line: int) -> str:
        """Return what goes in front of a chunk of some lines; empty when it holds its headers."""
        at = bisect_left(self._ends, first_line)
        if at == len(self._tables):
            return ""
        table = self._tables[at]
        is_needed = table.header < first_line and table.first <= last_line
        return self._lines[table.header] if is_needed else ""

    def repeat(self, chunks: Iterable[Chunk]) -> list[Chunk]:
        """Return the chunks, with headers where they are needed."""
        return [
            chunk._replace(text=self.before(chunk.start_line, chunk.end_line) + chunk.text)
            for chunk in chunks
        ]


def _header_lines(text: str, tables: Iterable[Table], longest: int) -> dict[int, str]:
    """Return the header lines by number, each with its line end, cut to a length."""
    lines = text.split("\n")
    found: dict[int, str] = {}
    for table in tables:
        line = lines[table.header - 1].rstrip("\r")
        if len(line) >= longest:
            cut = line[: max(longest - 1, 0)]
            line = cut[: cut.rfind(" ")] if " " in cut else cut
        found[table.header] = f"{line}\n" if line else ""
    return found
