"""Query sets: queries with the passages that answer them, one JSON object a line.

::

    {"query": "where are retries decided", "path": "src/retry.py", "lines": "10-40"}
    {"query": "how long are events kept", "expected": [
        {"path": "docs/events.md", "quote": "kept for seven days", "grade": 2},
        {"path": "src/events.py"}]}

A passage is named by its path with lines, by its path with a quote, or by the path alone for the
whole file; never by a chunk, because another chunking would invalidate such names.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from merganser.documents.kinds import KINDS
from merganser.json_lines import JsonLine, LineError, read_json_lines
from merganser.store.filters import Filter

if TYPE_CHECKING:
    from pathlib import Path

HIGHEST_GRADE = 10
EXAMPLE = '{"query": "...", "path": "src/a.py", "lines": "10-40"}'

_LABEL_KEYS = ("path", "lines", "start_line", "end_line", "quote", "grade")
_KEYS = ("id", "query", *_LABEL_KEYS, "expected", "filters")
_FILTER_KEYS = ("path", "language", "symbol", "kind")
_LINES = re.compile(r"([1-9]\d*)(?:-([1-9]\d*))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One relevant passage.

    Attributes:
        path: As indexed: posix and relative to the config's folder.
        lines: First and last line, from 1 and inclusive, or None.
        quote: A text in the passage, or None; without lines and quote, the whole file is meant.
        grade: How relevant it is, 1 to 10.
    """

    path: str
    lines: tuple[int, int] | None = None
    quote: str | None = None
    grade: int = 1

    def __str__(self) -> str:
        """Return ``path``, ``path:lines`` or ``path "quote"``."""
        if self.lines is not None:
            return f"{self.path}:{self.lines[0]}-{self.lines[1]}"
        return f"{self.path} {json.dumps(self.quote)}" if self.quote else self.path


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """One line of a query set.

    Attributes:
        id: As given, or the line's number.
        query: Not empty.
        labels: The passages that answer it, at least one.
        where: A filter on what may be found, or None.
    """

    id: str
    query: str
    labels: tuple[Label, ...]
    where: Filter | None = None


@dataclass(frozen=True, slots=True)
class QuerySet:
    """A file of queries.

    Attributes:
        path: The file.
        queries: In its order, at least one.
    """

    path: Path
    queries: tuple[LabelledQuery, ...]

    @property
    def fingerprint(self) -> str:
        """Hex digest of what is asked and expected; evaluations with equal ones are comparable."""
        meaning = [[query.query, repr(query.labels), repr(query.where)] for query in self.queries]
        return hashlib.blake2b(json.dumps(meaning).encode(), digest_size=16).hexdigest()


def read_queries(path: Path) -> QuerySet:
    """Read a query set.

    Args:
        path: A UTF-8 file; empty lines are skipped.

    Raises:
        SpecErrors: Every line that cannot be read, or a file that is missing or empty.
    """
    seen: dict[str, int] = {}

    def parse(line: JsonLine) -> LabelledQuery:
        line.check_keys(_KEYS)
        query = line.text_of("query")
        return LabelledQuery(line.take_id(seen), query, _labels(line), _filter(line))

    return QuerySet(path, read_json_lines(path, parse, noun="query", example=EXAMPLE))


def _labels(line: JsonLine) -> tuple[Label, ...]:
    """Read the passage in the line itself, or those of its ``expected``."""
    here = [key for key in _LABEL_KEYS if key in line.values]
    if "expected" not in line.values:
        if not here:
            fix = 'add "path": "..." or "expected": [{"path": "..."}]'
            raise LineError("says nothing of what is to be found", fix=fix)
        return (_label(line, {key: line.values[key] for key in here}),)
    if here:
        raise line.error(f"has {here[0]} beside expected", here[0], fix="move it into expected")
    expected = line.values["expected"]
    entries = cast("list[Any]", expected if isinstance(expected, list) else [expected])
    if not entries:
        raise line.error("expected is empty", "expected", fix="leave the query out")
    return tuple(dict.fromkeys(_label(line, entry) for entry in entries))


def _label(line: JsonLine, entry: Any) -> Label:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict):
        fix = 'write {"path": "...", "lines": "10-40"}'
        raise line.error(f"must name a path, got {entry!r}", "expected", fix=fix)
    part = line.part(cast("dict[str, Any]", entry), "expected")
    part.check_keys(_LABEL_KEYS)
    grade = part.values.get("grade", 1)
    if isinstance(grade, bool) or not isinstance(grade, int) or not 1 <= grade <= HIGHEST_GRADE:
        raise part.error(f"grade must be 1 to {HIGHEST_GRADE}, got {grade!r}", "grade")
    lines = _span(part)
    quote = part.text_of("quote") if "quote" in part.values else None
    if lines and quote:
        raise part.error("has both lines and a quote", "quote", fix="keep one of them")
    return Label(path=_path(part), lines=lines, quote=quote, grade=grade)


def _path(part: JsonLine) -> str:
    written = part.text_of("path")
    path = PurePosixPath(written)
    if path.is_absolute():
        fix = "write it as `merganser search` shows it, relative to the config"
        raise part.error(f"path must be relative, got {written!r}", "path", fix=fix)
    return str(path)


def _span(part: JsonLine) -> tuple[int, int] | None:
    values = part.values
    if "lines" in values:
        found = _LINES.fullmatch(str(values["lines"]))
        if found is None or "start_line" in values or "end_line" in values:
            fix = 'write "lines": "10-40" or "lines": 10, or start_line and end_line'
            raise part.error(f"lines must be a span, got {values['lines']!r}", "lines", fix=fix)
        first, last = int(found[1]), int(found[2] or found[1])
    elif "start_line" in values or "end_line" in values:
        first = _line_number(part, "start_line")
        last = _line_number(part, "end_line") if "end_line" in values else first
    else:
        return None
    if last < first:
        key = "lines" if "lines" in values else "end_line"
        raise part.error(f"ends at line {last}, before it begins at {first}", key)
    return first, last


def _line_number(part: JsonLine, key: str) -> int:
    value = part.values.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise part.error(f"{key} must be a line number from 1, got {value!r}", key)
    return value


def _filter(line: JsonLine) -> Filter | None:
    filters = line.values.get("filters")
    if filters is None:
        return None
    if not isinstance(filters, dict):
        fix = 'write {"path": ["src/"], "language": "python"}'
        raise line.error(f"filters must be an object, got {filters!r}", "filters", fix=fix)
    part = line.part(cast("dict[str, Any]", filters), "filters")
    part.check_keys(_FILTER_KEYS)
    paths, languages, symbols, kinds = (_texts(part, key) for key in _FILTER_KEYS)
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise part.error(
            f"there is no kind {unknown[0]!r}", "kind", fix=f"known: {', '.join(KINDS)}"
        )
    return Filter(paths=paths, languages=languages, symbols=symbols, kinds=kinds)


def _texts(part: JsonLine, key: str) -> tuple[str, ...]:
    value = part.values.get(key, [])
    texts = cast("list[Any]", [value] if isinstance(value, str) else value)
    if not isinstance(value, str | list) or not all(isinstance(t, str) and t for t in texts):
        raise part.error(f"{key} must be a text or a list of texts, got {value!r}", key)
    return tuple(texts)
