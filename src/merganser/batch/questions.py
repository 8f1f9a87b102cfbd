"""Read a batch's questions from a table of any kind.

Every wrong row is reported at once, with its place: line and column of a JSON Lines file, the line
of a CSV file, the number of the row elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from merganser.batch.tables import read_columns, read_csv, table_names
from merganser.documents.kinds import KINDS
from merganser.errors import SpecError, SpecErrors, StoreError, may_quote
from merganser.json_lines import JsonLine, gather_lines, read_json_lines, shown
from merganser.store.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from merganser.config.flow_definition import DataTable

_KEYS = ("id", "question", "expected", "filters")
_EXAMPLE = '{"question": "..."}'
_SHOWN_COLUMNS = 20
_FILTERS = {"path": "paths", "language": "languages", "symbol": "symbols", "kind": "kinds"}


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a questions table.

    Attributes:
        id: As given, or the line's number.
        question: Not empty.
        line: In the file, from 1; the row's number where there are no lines.
        expected: A reference answer, or several of which one is enough, or None.
        where: What may be retrieved for it; None for everything.
    """

    id: str
    question: str
    line: int
    _: KW_ONLY
    expected: Any = None
    where: Filter | None = None


def read_questions(table: DataTable) -> tuple[Question, ...]:
    """Read the questions of a table.

    The columns are ``question`` and, if wanted, ``id``, ``expected`` and ``filters``: a map of
    ``path``, ``language`` and ``symbol`` to a pattern or a list of them, as JSON text in a CSV.
    Other columns of a CSV, Parquet or DuckDB table are passed over, other keys of a JSON line are
    errors, because there they are misspelt.

    Returns:
        The questions in the table's order; at least one.

    Raises:
        SpecErrors: Every row that cannot be read, or a table that is missing or empty.
    """
    seen: dict[str, int] = {}
    if table.path.suffix == ".jsonl":

        def parse(line: JsonLine) -> Question:
            line.check_keys(_KEYS)
            return _question(line, seen)

        return read_json_lines(table.path, parse, noun="question", example=_EXAMPLE)
    parsers = ((number, "", partial(_take_row, number, row, seen)) for number, row in _rows(table))
    return gather_lines(table.path, parsers, empty="holds no question")


def _rows(table: DataTable) -> Iterator[tuple[int, dict[str, Any]]]:
    path = table.path
    try:
        path.stat()  # a missing file is an error; DuckDB would make it
        if table.table and table.table not in (names := table_names(path)):
            known = ", ".join(sorted(names)) or "no table"
            raise SpecErrors([SpecError(f"{path}: has no table {table.table!r}; it has {known}")])
        rows = read_csv(path) if path.suffix == ".csv" else enumerate(read_columns(table), 1)
        for place, (number, row) in enumerate(rows):
            if place == 0:
                _check_columns(path, list(row))
            yield number, row
    except OSError as error:
        raise SpecErrors([SpecError(f"{path}: cannot be read: {error.strerror}")]) from error
    except StoreError as error:
        raise SpecErrors([SpecError(str(error))]) from error


def _check_columns(path: Path, names: list[str]) -> None:
    """Refuse a table without questions once, not in each of its rows.

    Raises:
        SpecErrors: The message has the columns that are there.
    """
    if "question" in names:
        return
    problem = f"{path}: there is no column question"
    if may_quote(path, ".csv", ".parquet", ".duckdb", ".db"):
        more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
        found = ", ".join(shown(name) for name in names[:_SHOWN_COLUMNS]) or "none"
        problem += f"; the columns found are {found}{more}"
    fix = f"the columns that are read are {', '.join(_KEYS)}, spelt like this"
    raise SpecErrors([SpecError(problem, fix=fix)])


def _take_row(number: int, row: dict[str, Any], seen: dict[str, int]) -> Question:
    known = {key: row[key] for key in _KEYS if row.get(key) is not None}
    return _question(JsonLine(number, "", known), seen)


def _question(line: JsonLine, seen: dict[str, int]) -> Question:
    return Question(
        line.take_id(seen),
        line.text_of("question"),
        line.number,
        expected=line.values.get("expected"),
        where=_filter(line),
    )


def _filter(line: JsonLine) -> Filter | None:
    value = line.values.get("filters")
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = {"": value}
    if value is None:
        return None
    wrong = line.error(
        f"filters must map {', '.join(_FILTERS)} to patterns, got {shown(value)}",
        "filters",
        fix='for example {"path": ["docs/"], "language": "python"}',
    )
    if not isinstance(value, dict):
        raise wrong
    fields: dict[str, tuple[str, ...]] = {}
    for name, given in cast("dict[str, Any]", value).items():
        patterns = cast("list[Any]", given) if isinstance(given, list) else [given]
        if name not in _FILTERS or not all(isinstance(p, str) and p for p in patterns):
            raise wrong
        if name == "kind" and (unknown := [kind for kind in patterns if kind not in KINDS]):
            fix = f"known: {', '.join(KINDS)}"
            raise line.error(f"there is no kind {unknown[0]!r}", "filters", fix=fix)
        fields[_FILTERS[name]] = tuple(patterns)
    return Filter(**fields) or None
