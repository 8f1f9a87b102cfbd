"""Which chunks of a snapshot count: the live ones, and of them what a filter lets through.

A filter is applied before anything is ranked, so it never leaves too few hits.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from merganser.documents.ignore_rules import parse_rule
from merganser.documents.kinds import kind_of
from merganser.store import arrow
from merganser.store.catalogue import read_files

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    from numpy.typing import NDArray

    from merganser.store.catalogue import FileRow, SegmentRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which chunks count; empty fields allow everything, the others must all hold.

    Attributes:
        paths: Patterns in gitignore's language, relative to the config's folder: ``src/``,
            ``*.md``, ``tests/**/test_*.py``. One that is the path of a file or folder to the letter
            stands for that too, whatever its characters mean. A file counts when the last pattern
            that matches it does not begin with ``!``.
        languages: Names of languages, such as ``python``.
        symbols: Patterns for names: ``Flow`` stands for ``Flow``, everything in it, and every
            ``….Flow``; ``*`` and ``?`` as in a shell. Headings are names too: ``Install`` stands
            for ``Guide > Install > Linux``.
        kinds: Kinds of documents, such as ``docs``.
    """

    paths: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether it restricts anything."""
        return bool(self.paths or self.languages or self.symbols or self.kinds)


def live_rows(
    cursor: duckdb.DuckDBPyConnection, segments: Sequence[SegmentRow], where: Filter | None
) -> list[tuple[int, str]]:
    """Return the segments that hold chunks that count, each with the SQL condition for them.

    Args:
        cursor: Has the catalogue as ``g``; the conditions hold on this cursor alone.
        segments: Segments of the snapshot.
        where: A filter, or None for all live chunks.

    Returns:
        Segment numbers with a WHERE clause for their ``chunks`` and ``vectors``, which may be "".
    """
    if not where:
        return [
            (s.segment, "" if s.live_rows == s.row_count else _live(s.segment)) for s in segments
        ]
    allowed = allowed_files(read_files(cursor), where)
    conditions: list[tuple[int, str]] = []
    for number in sorted({file.segment for file in allowed}):
        ids = [file.file_id for file in allowed if file.segment == number]
        name = f"allowed{number}"
        cursor.register(name, arrow.make_table({"file_id": np.array(ids, dtype=np.int32)}))
        condition = f"WHERE file_id IN (SELECT file_id FROM {name})"  # noqa: S608 - our own name
        if where.symbols:
            rows = _rows_with_symbols(cursor, number, condition, where.symbols)
            if not len(rows):
                continue
            cursor.register(f"rows{number}", arrow.make_table({"row": rows}))
            condition = f"WHERE row IN (SELECT row FROM rows{number})"  # noqa: S608 - our own name
        conditions.append((number, condition))
    return conditions


def allowed_files(files: Sequence[FileRow], where: Filter) -> list[FileRow]:
    """Return the files with chunks that a filter lets through, as far as files decide."""
    allowed = [file for file in files if file.row_count]
    if where.paths:
        chosen = PathPatterns(where.paths)
        allowed = [file for file in allowed if file.path in chosen]
    if where.languages:
        languages = {language.lower() for language in where.languages}
        allowed = [file for file in allowed if file.language.lower() in languages]
    if where.kinds:
        # Older indexes have none.
        kinds = {kind.lower() for kind in where.kinds}
        allowed = [f for f in allowed if (f.kind or kind_of(f.path, f.language or None)) in kinds]
    return allowed


# What a hit prints behind a name with a suffix: "a.py:3-9", "a.pdf (page 3)".
_PLACE = re.compile(r"(?<=\.)(\w+)(?::\d+(?:-\d+)?| \(.*\))$")


_DOT = re.compile(r"\A(!?)(?:\./)+")


class PathPatterns:
    """The paths that patterns choose; each takes time in proportion to its length."""

    def __init__(self, patterns: Sequence[str]) -> None:
        patterns = [_DOT.sub(r"\1/", pattern) for pattern in patterns]
        bare = [pattern.removeprefix("!").strip("/") for pattern in patterns]
        literals = [(one, _PLACE.sub(r"\1", one)) for one in bare]
        rules = [parse_rule(pattern) for pattern in patterns]
        self._patterns = [*zip(patterns, literals, rules, strict=True)]
        self._of_folders: dict[str, int] = {"": -1}

    def __contains__(self, path: str) -> bool:
        slashes = [i for i, character in enumerate(path) if character == "/"]
        place = -1
        for folder in (path[:end] for end in slashes):
            if folder not in self._of_folders:
                self._of_folders[folder] = max(place, self._last(folder, folder=True))
            place = self._of_folders[folder]
        place = max(place, self._last(path, folder=False))
        return place >= 0 and not self._patterns[place][0].startswith("!")

    def _last(self, path: str, *, folder: bool) -> int:
        """Return the place of the last pattern that matches the path itself, or -1."""
        for place in reversed(range(len(self._patterns))):
            _, literal, rule = self._patterns[place]
            if path in literal or (rule is not None and rule.matches(path, folder=folder)):
                return place
        return -1


def _rows_with_symbols(
    cursor: duckdb.DuckDBPyConnection, number: int, condition: str, patterns: Sequence[str]
) -> NDArray[np.int32]:
    table = f"s{number}.chunks"
    # The distinct symbols are few; matching them here needs no dialect of SQL for patterns.
    symbols = arrow.fetch_strings(cursor, f"SELECT DISTINCT symbol FROM {table} {condition}")  # noqa: S608 - our own names
    matches = _symbol_pattern(patterns)
    good = [symbol for symbol in symbols if _has_symbol(symbol, matches)]
    if not good:
        return np.zeros(0, dtype=np.int32)
    cursor.register("good_symbols", arrow.make_table({"symbol": good}))
    query = f"SELECT row FROM {table} {condition} AND symbol IN (FROM good_symbols) ORDER BY row"  # noqa: S608 - our own names
    rows = arrow.fetch_columns(cursor, query)["row"].astype(np.int32)
    cursor.unregister("good_symbols")
    return rows


def _symbol_pattern(patterns: Sequence[str]) -> re.Pattern[str]:
    any_of = "|".join(fnmatch.translate(pattern).removesuffix(r"\Z") for pattern in patterns)
    separator = r"(?:\.| > )"  # of names in code, of headings
    return re.compile(rf"(?:.*{separator})?(?:{any_of})(?:{separator}.*)?", re.DOTALL)


def _has_symbol(symbol: str, pattern: re.Pattern[str]) -> bool:
    """Match the whole or one of the names that a chunk with several of them lists."""
    return any(pattern.fullmatch(name) for name in (symbol, *symbol.split(", ")))


def _live(segment: int) -> str:
    return f"WHERE file_id IN (SELECT file_id FROM g.files WHERE segment = {segment})"  # noqa: S608 - a number
