"""Chunk tables and records that are text: CSV, TSV and JSON Lines, and find tables of Markdown.

A row or record stays whole unless it alone is longer than a chunk; the symbol counts them, such as
``rows 12-40``. Every byte is kept; ``merganser.chunking.tables`` puts the header in front of chunks
that do not hold it.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

from merganser.chunking.tables import Table
from merganser.chunking.text import Piece, chunk_span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.chunking.text import Limits

# A quote that is still open after so many lines was no quote.
_MAX_ROW_LINES = 50
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[-+$€£]?[\d.,:/ %-]{1,40}")


def chunk_csv(text: str, limits: Limits) -> list[Piece]:
    r"""Tile a table with pieces of whole rows; the header is row 0 where there is one.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=20, part=20, structure=True, words=True)
    >>> text = 'name,age\nAda,36\n"Bob\nB.",41\nEve,7\n'
    >>> [(piece.symbol, text[piece.start : piece.end]) for piece in chunk_csv(text, limits)]
    [('row 1', 'name,age\nAda,36\n'), ('rows 2-3', '"Bob\nB.",41\nEve,7\n')]
    """
    rows = [(start, end) for start, end, _ in _rows(text)]
    header = 1 if _has_header(text) else 0
    return _pack(text, rows, limits, first=1 - header, unit="row")


def chunk_json_lines(text: str, limits: Limits) -> list[Piece]:
    r"""Tile JSON Lines with pieces of whole records.

    >>> from merganser.chunking.text import Limits
    >>> limits = Limits(whole=20, part=20, structure=True, words=True)
    >>> [piece.symbol for piece in chunk_json_lines('{"a": 1}\n{"a": 2}\n{"a": 3}\n', limits)]
    ['records 1-2', 'record 3']
    """
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    lines = [pair for pair in itertools.pairwise([*starts, len(text)]) if pair[0] < pair[1]]
    return _pack(text, lines, limits, first=1, unit="record")


def find_csv_table(text: str) -> list[Table]:
    r"""Return the rows below a header; nothing for a table that has none.

    >>> find_csv_table("name,age\nAda,36\nBob,41\n"), find_csv_table("1,2\n3,4\n")
    ([Table(header=1, first=2, last=3)], [])
    """
    if not _has_header(text):
        return []
    first = next(_rows(text))[2] + 1
    last = text.count("\n") + (not text.endswith("\n"))
    return [Table(1, first, last)] if last >= first else []


_MARKDOWN_RULE = re.compile(
    r"^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*\r?$", re.MULTILINE
)


def find_markdown_tables(text: str, longer_than: int) -> list[Table]:
    r"""Return the tables of a Markdown text that are too long for one chunk, most likely.

    Args:
        text: The whole text.
        longer_than: In characters.

    >>> find_markdown_tables("a | b\n--|--\n1 | 2\n\nwords", 5)
    [Table(header=1, first=3, last=3)]
    """
    found: list[Table] = []
    line, counted, ended = 1, 0, 0
    for rule in _MARKDOWN_RULE.finditer(text):
        start = text.rfind("\n", 0, max(rule.start() - 1, 0)) + 1
        if rule.start() == 0 or start < ended or "|" not in rule[0]:
            continue
        if "|" not in text[start : rule.start()]:
            continue
        end = rule.end() + 1
        while end < len(text):
            stop = text.find("\n", end) + 1 or len(text)
            if "|" not in text[end:stop]:
                break
            end = stop
        ended = end
        rows = text.count("\n", rule.end() + 1, end) + (not text[:end].endswith("\n"))
        if end - start > longer_than and rows > 0:
            line += text.count("\n", counted, start)
            counted = start
            found.append(Table(line, line + 2, line + 1 + rows))
    return found


def _rows(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield where each row begins and ends, and its last line; quoted line ends are inside one."""
    delimiter = _delimiter(text)
    quoted = re.compile(rf'(?:^|{re.escape(delimiter)})[ \t]*"')
    ends = [found.end() for found in re.finditer("\n", text)]
    if not ends or ends[-1] < len(text):
        ends.append(len(text))
    starts = [0, *ends[:-1]]
    odd = [text.count('"', start, end) % 2 == 1 for start, end in zip(starts, ends, strict=True)]
    at = 0
    while at < len(ends) and starts[at] < ends[at]:
        last = at
        if odd[at] and quoted.search(text[starts[at] : ends[at]]):
            closing = range(at + 1, min(at + _MAX_ROW_LINES, len(ends)))
            last = next((index for index in closing if odd[index]), at)
        yield starts[at], ends[last], last + 1
        at = last + 1


def _delimiter(text: str) -> str:
    """Return what parts the cells of the first line."""
    line = text.split("\n", 1)[0]
    return max(_DELIMITERS, key=line.count)


def _has_header(text: str) -> bool:
    """Tell whether the first row names columns: different words, and none of them a number."""
    delimiter = _delimiter(text)
    cells = [cell.strip(' "\r') for cell in text.split("\n", 1)[0].split(delimiter)]
    named = [cell for cell in cells if cell]
    if len(cells) < 2 or 2 * len(named) < len(cells) or len(set(named)) < len(named):
        return False
    return not any(_NUMBER.fullmatch(cell) and not _is_year(cell) for cell in named)


def _is_year(cell: str) -> bool:
    return len(cell) == 4 and cell.isdecimal()


def _pack(
    text: str, spans: list[tuple[int, int]], limits: Limits, *, first: int, unit: str
) -> list[Piece]:
    """Fill pieces with whole spans; one that is too long is divided by itself."""
    pieces: list[Piece] = []
    at = 0
    while at < len(spans):
        start, end = spans[at]
        last = at
        while last + 1 < len(spans) and spans[last + 1][1] - start <= limits.whole:
            last += 1
        end = spans[last][1]
        symbol = _count(unit, max(at + first, min(1, last + first)), last + first)
        if end - start <= limits.whole:
            pieces.append(Piece(start, end, symbol, "text"))
        else:
            pieces += chunk_span(text, start, end, limits, symbol=symbol)
        at = last + 1
    return pieces


def _count(unit: str, first: int, last: int) -> str:
    if last < 1:
        return "header"
    return f"{unit} {first}" if first == last else f"{unit}s {first}-{last}"
