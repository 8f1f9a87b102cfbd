"""Read a batch's questions from a table of any kind.

Every wrong row is reported at once, with its place: line and column of a JSON Lines file, the line
of a CSV file, the number of the row elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, cast

from merganser.batch.tables import read_columns, read_csv, table_names
from merganser.errors import SourcePosition, SpecError, SpecErrors, StoreError
from merganser.store.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from merganser.definitions import DataTable

_KEYS = ("id", "question", "expected", "filters")
_FILTERS = {"path": "paths", "language": "languages", "symbol": "symbols"}


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


class _RowError(Exception):
    def __init__(self, problem: str, key: str = "", *, fix: str = "", column: int = 0) -> None:
        self.problem = problem
        self.key = key
        self.fix = fix
        self.column = column
        super().__init__(problem)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A row before it is checked.

    Attributes:
        line: From 1.
        text: Of the line, or "".
        read: Gives the row's values.
    """

    line: int
    text: str
    read: Callable[[], Mapping[str, Any]]


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
    questions: list[Question] = []
    errors: list[SpecError] = []
    seen: dict[str, int] = {}
    for raw in _raw_rows(table):
        try:
            question = _question(raw.read(), raw.line, seen)
        except _RowError as error:
            errors.append(_place(table.path, raw, error))
            continue
        seen[question.id] = raw.line
        questions.append(question)
    if errors:
        raise SpecErrors(errors)
    if not questions:
        raise SpecErrors([SpecError(f"{table}: holds no question")])
    return tuple(questions)


def _raw_rows(table: DataTable) -> Iterator[_Raw]:
    path = table.path
    try:
        if path.suffix == ".jsonl":
            yield from _json_rows(path)
            return
        if table.table and path.exists() and table.table not in (names := table_names(path)):
            known = ", ".join(sorted(names)) or "no table"
            raise SpecErrors([SpecError(f"{path}: has no table {table.table!r}; it has {known}")])
        rows = read_csv(path) if path.suffix == ".csv" else enumerate(_existing(table), 1)
        for line, row in rows:
            yield _Raw(line, "", lambda row=row: _known(row))
    except OSError as error:
        raise SpecErrors([SpecError(f"{path}: cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise SpecErrors([SpecError(f"{path}: is not UTF-8 text: {error.reason}")]) from error
    except StoreError as error:
        raise SpecErrors([SpecError(str(error))]) from error


def _existing(table: DataTable) -> Iterator[dict[str, Any]]:
    table.path.stat()  # a missing file is an error; DuckDB would make it
    return read_columns(table)


def _json_rows(path: Path) -> Iterator[_Raw]:
    for number, line in enumerate(path.read_text("utf-8-sig").split("\n"), 1):
        if line.strip():
            yield _Raw(number, line, lambda line=line: _parse_line(line))


def _place(path: Path, raw: _Raw, error: _RowError) -> SpecError:
    column = error.column or (raw.text.find(json.dumps(error.key, ensure_ascii=False)) + 1)
    return SpecError(
        error.problem,
        position=SourcePosition(path, raw.line, max(column, 1)),
        fix=error.fix,
        source_line=raw.text.removesuffix("\r"),
    )


def _parse_line(line: str) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        fix = 'write {"question": "..."} on one line'
        raise _RowError(f"is no JSON: {error.msg}", fix=fix, column=error.colno) from error
    except RecursionError as error:
        raise _RowError("is nested too deeply") from error
    if not isinstance(value, dict):
        raise _RowError(f"must be an object, got {value!r}", fix='write {"question": "..."}')
    row = cast("dict[str, Any]", value)
    if unknown := [key for key in row if key not in _KEYS]:
        fix = f"the keys are {', '.join(_KEYS)}"
        raise _RowError(f"unknown key {unknown[0]!r}", unknown[0], fix=fix)
    return row


def _known(row: Mapping[str, Any]) -> Mapping[str, Any]:
    if "question" not in row:
        raise _RowError("there is no column question", fix=f"the columns are {', '.join(_KEYS)}")
    return {key: row[key] for key in _KEYS if row.get(key) is not None}


def _question(row: Mapping[str, Any], number: int, seen: Mapping[str, int]) -> Question:
    question = row.get("question")
    if not isinstance(question, str) or not question.strip():
        problem = f"question must be a text that is not empty, got {question!r}"
        raise _RowError(problem, "question")
    given = row.get("id", number)
    if isinstance(given, bool) or not isinstance(given, str | int) or given == "":
        raise _RowError(f"id must be a text or a number, got {given!r}", "id")
    if str(given) in seen:
        raise _RowError(
            f"the id {str(given)!r} is taken by line {seen[str(given)]}",
            "id",
            fix="give every question an id of its own, or none",
        )
    where = _filter(row.get("filters"))
    return Question(str(given), question, number, expected=row.get("expected"), where=where)


def _filter(value: Any) -> Filter | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = {"": value}
    if value is None:
        return None
    wrong = _RowError(
        f"filters must map {', '.join(_FILTERS)} to patterns, got {value!r}",
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
        fields[_FILTERS[name]] = tuple(patterns)
    return Filter(**fields) or None
