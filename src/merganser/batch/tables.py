"""Read and write rows: JSON Lines, CSV, Parquet, or a table of a DuckDB file, one form for all.

A row is a mapping of columns to JSON values. Kinds without nested values hold them as JSON text in
the columns of ``NESTED``, so that what is written comes back as it was.
"""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, cast

import duckdb

from merganser.errors import SpecErrors, StoreError
from merganser.json_lines import read_text
from merganser.store.database import confine, connect_open, quote, wait_for_lock
from merganser.store.folder import move_file, replace_file

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from merganser.config.flow_definition import DataTable

Row = dict[str, Any]

NESTED = (
    "filters",
    "sources",
    "invalid_citations",
    "tool_calls",
    "tokens",
    "notes",
    "verdicts",
    "metrics",
)
"""Columns whose values are lists or maps."""

_NUMBERS = {"seconds": "DOUBLE", "requests": "BIGINT", "attempts": "BIGINT"}
_SEPARATORS = (",", ";", "\t")
_MOST_FIELD_CHARACTERS = 2**31 - 1  # the csv module's own limit would refuse a long answer


def read_rows(table: DataTable) -> list[Row]:
    """Read the whole rows of an answers table; a missing table has none.

    A JSON Lines file may end in a line that a killed run did not finish; it is skipped.

    Raises:
        StoreError: The file is no table of its kind.
    """
    if not table.path.exists():
        return []
    match _kind(table):
        case "jsonl" | "partial":
            return list(_read_lines(table.path))
        case "csv":
            return [_unpacked(row) for _, row in read_csv(table.path)]
        case "parquet" | "database":
            if table.table and table.table not in table_names(table.path):
                return []
            return [_unpacked(row) for row in read_columns(table)]
        case kind:
            raise AssertionError(kind)


def may_hold_answers(table: DataTable) -> bool:
    """Return whether a table has the form of one that a batch has left; a missing one has.

    What its rows hold is not looked at. The last line of a JSON Lines file may be cut short.

    Raises:
        StoreError: The file is no table of its kind.
    """
    if not table.path.exists() or not table.path.stat().st_size:
        return True
    match _kind(table):
        case "jsonl" | "partial":
            lines = table.path.read_text("utf-8", errors="replace").split("\n")
            rows = [isinstance(_value(line), dict) for line in lines if line.strip()]
            whole = rows if lines[-1] == "" else rows[:-1]
            return any(rows) and all(whole)
        case "csv":
            names = _csv_columns(_csv_text(table.path))[0]
        case _:
            if table.table and table.table not in table_names(table.path):
                return True
            names = _column_names(table)
    return set(_columns(())) <= set(names)


def _column_names(table: DataTable) -> list[str]:
    with _opened(table, read_only=True) as (cursor, source):
        found = cursor.execute(f"FROM {source} LIMIT 0")
        return [str(column[0]) for column in cast("list[Any]", found.description)]


def write_rows(table: DataTable, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write all rows in one step: a reader sees the old table or the new one.

    Args:
        table: Made or replaced.
        rows: In order.

    Raises:
        StoreBusyError: Another process has the DuckDB file open.
        StoreError: It cannot be written.
    """
    try:
        table.path.parent.mkdir(parents=True, exist_ok=True)
        match _kind(table):
            case "jsonl":
                lines = "".join(f"{dump_row(row)}\n" for row in rows)
                replace_file(table.path, lines.encode())
            case "csv":
                _write_csv(table.path, rows)
            case "parquet":
                _write_parquet(table.path, rows)
            case "database":
                _write_table(table, rows)
            case kind:
                raise AssertionError(kind)
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"cannot write {str(table)!r}: {error}") from error


def dump_row(row: Mapping[str, Any]) -> str:
    """Write a row as one line of JSON that UTF-8 can hold: half a character becomes an escape."""
    line = json.dumps(row, ensure_ascii=False)
    return line if _is_text(line) else json.dumps(row)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    """Read a CSV file with a header; yield each row with the line on which it ends.

    Cells may be separated by commas, semicolons or tabs, as spreadsheets do by the language of
    their user: by what parts the header so that it has a column ``question``.

    Raises:
        StoreError: The file is no CSV, or a row has more cells than the header.
    """
    text = _csv_text(path)
    names, separator = _csv_columns(text)
    reader = csv.DictReader(
        io.StringIO(text, newline=""), names, restkey="", strict=True, delimiter=separator
    )
    try:
        for place, row in enumerate(reader):
            if place == 0:  # the header
                continue
            if row.get(""):
                raise StoreError(f"{path}:{reader.line_num}: more cells than the header names")
            yield reader.line_num, {name: value or None for name, value in row.items() if name}
    except csv.Error as error:
        raise StoreError(f"{path}:{reader.line_num}: is no CSV: {error}") from error


def _csv_text(path: Path) -> str:
    try:
        return read_text(path)
    except SpecErrors as error:
        raise StoreError(str(error)) from error


def _csv_columns(text: str) -> tuple[list[str], str]:
    """Return the names in a header and what parts them; the names are empty in no CSV."""
    csv.field_size_limit(_MOST_FIELD_CHARACTERS)
    names = list[str]()
    for separator in _SEPARATORS:
        with suppress(csv.Error):
            rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
            found = [name.strip() for name in next((row for row in rows if row), list[str]())]
            names = names or found
            if "question" in found:
                return found, separator
    return names, _SEPARATORS[0]


def read_columns(table: DataTable) -> Iterator[Row]:
    """Read the rows of a Parquet file or a DuckDB table, nested columns as Python has them.

    Raises:
        StoreError: The file is of another kind, or has no such table.
    """
    try:
        with _opened(table, read_only=True) as (cursor, source):
            found = cursor.execute(f"FROM {source}")
            names = [str(column[0]) for column in cast("list[Any]", found.description)]
            rows = found.fetchall()
    except duckdb.Error as error:
        raise StoreError(f"cannot read {str(table)!r}: {error}") from error
    for row in rows:
        yield dict(zip(names, row, strict=True))


def table_names(path: Path) -> frozenset[str]:
    """Return the names of the tables and views of a DuckDB file.

    Raises:
        StoreError: It is no DuckDB file.
    """
    try:
        with _attached(path, read_only=True) as cursor:
            query = "SELECT table_name FROM duckdb_tables() WHERE database_name = 'd' UNION ALL "
            query += "SELECT view_name FROM duckdb_views() WHERE database_name = 'd'"
            return frozenset(str(name) for (name,) in cursor.execute(query).fetchall())
    except duckdb.Error as error:
        raise StoreError(f"cannot read {str(path)!r}: {error}") from error


def _kind(table: DataTable) -> str:
    return "database" if table.table else table.path.suffix.removeprefix(".")


def _read_lines(path: Path) -> Iterator[Row]:
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        value = _value(line)
        if isinstance(value, dict):
            yield cast("Row", value)


def _value(line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _packed(row: Mapping[str, Any]) -> Row:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for name, value in row.items()
    }


def _unpacked(row: Row) -> Row:
    for name in NESTED:
        value = row.get(name)
        if isinstance(value, str):
            try:
                row[name] = json.loads(value)
            except ValueError:
                continue
    return row


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the columns in the order of their first appearance, with their types."""
    names = dict.fromkeys(name for row in rows for name in row) or {"id": None, "question": None}
    return {name: _NUMBERS.get(name, "VARCHAR") for name in names}


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO(newline="")
    # All texts are quoted: Python 3.11 would write a lone carriage return as it is.
    writer = csv.DictWriter(
        text, list(_columns(rows)), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC
    )
    writer.writeheader()
    writer.writerows(_packed(row) for row in rows)
    replace_file(path, text.getvalue().encode(errors="backslashreplace"))


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with closing(connect_open()) as connection, _lines_of(rows) as lines:
        confine(connection, files=(temporary, Path(lines)))
        source = _json_source(lines, rows)
        connection.execute(f"COPY (FROM {source}) TO {quote(str(temporary))} (FORMAT parquet)")
    move_file(temporary, path)


def _write_table(table: DataTable, rows: Sequence[Mapping[str, Any]]) -> None:
    with (
        _lines_of(rows) as lines,
        _opened(table, read_only=False, files=(Path(lines),)) as (cursor, target),
    ):
        # One statement is one transaction: readers that come later see all or nothing.
        cursor.execute(f"CREATE OR REPLACE TABLE {target} AS FROM {_json_source(lines, rows)}")


@contextmanager
def _lines_of(rows: Sequence[Mapping[str, Any]]) -> Generator[str]:
    """Yield the name of a temporary file of JSON Lines that DuckDB reads."""
    with NamedTemporaryFile("w", encoding="utf-8", suffix=".jsonl") as file:
        file.writelines(f"{dump_row(_packed(row))}\n" for row in rows)
        file.flush()
        yield file.name


def _json_source(path: str, rows: Sequence[Mapping[str, Any]]) -> str:
    columns = ", ".join(f"{quote(name)}: '{kind}'" for name, kind in _columns(rows).items())
    options = f"format = 'newline_delimited', maximum_object_size = {_longest(path)}"
    return f"read_json({quote(path)}, columns = {{{columns}}}, {options})"


def _longest(path: str) -> int:
    """Return a size no row exceeds: DuckDB refuses objects above 16 MB unless told otherwise."""
    return max(os.stat(path).st_size + 1, 16 << 20)  # noqa: PTH116 - a temporary file's name


@contextmanager
def _opened(
    table: DataTable, *, read_only: bool, files: Sequence[Path] = ()
) -> Generator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Yield a cursor and what stands for the table in SQL; ``files`` can be read beside it."""
    if not table.table:
        with closing(connect_open()) as connection:
            confine(connection, files=(table.path,))
            yield connection.cursor(), f"read_parquet({quote(str(table.path))})"
        return
    with _attached(table.path, read_only=read_only, files=files) as cursor:
        name = table.table.replace('"', '""')
        yield cursor, f'd."{name}"'


@contextmanager
def _attached(
    path: Path, *, read_only: bool, files: Sequence[Path] = ()
) -> Generator[duckdb.DuckDBPyConnection]:
    """Attach a DuckDB file as ``d``; wait a little for a process that has it open.

    Its views can read its own tables, and no file: a config's data may come from a stranger.
    """
    # A new file is one that every supported DuckDB reads; the user's own keeps its version.
    mode = "READ_ONLY" if read_only else "" if path.exists() else "STORAGE_VERSION 'v1.5.0'"
    options = f"(TYPE duckdb{mode and f', {mode}'})"
    attach = f"ATTACH {quote(str(path))} AS d {options}"
    with closing(connect_open()) as connection:
        wait_for_lock(lambda: connection.execute(attach), path)
        confine(connection, files=files)
        yield connection.cursor()
