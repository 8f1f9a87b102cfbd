"""Files of an index folder that a stranger made: they are data, and reach nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pytest

from merganser.errors import StoreError, StoreFormatError
from merganser.store import arrow
from merganser.store.database import borrow, connect, connect_writer
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs

if TYPE_CHECKING:
    from tests.core.conftest import Corpus

_SECRET = "the secret of the machine"  # noqa: S105 - a text to look for


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that no index reads."""
    path = tmp_path_factory.mktemp("elsewhere") / "secret.txt"
    path.write_text(_SECRET)
    return path


def _edit(path: Path, *statements: str) -> None:
    """Change a database file as anybody can."""
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)
    _sign(path)


def _sign(path: Path) -> None:
    """Let what knows a file by its size believe that nobody changed it, as a stranger would."""
    current = json.loads((path.parent / "CURRENT").read_text())
    current["marks"] = {}
    current.pop("checksum", None)
    (path.parent / "CURRENT").write_text(json.dumps(current))
    if path.name.startswith("s"):
        with duckdb.connect(str(path.parent / "g000001.duckdb")) as connection:
            connection.execute(f"UPDATE segments SET size_bytes = {path.stat().st_size}")  # noqa: S608 - a number


def _view_in_place_of(path: Path, table: str, column: str, secret: Path) -> None:
    _edit(
        path,
        f"ALTER TABLE {table} RENAME TO kept",
        f"CREATE VIEW {table} AS SELECT * REPLACE ((SELECT content FROM read_text('{secret}')) "  # noqa: S608 - a path of this test
        f"AS {column}) FROM kept",
    )


@pytest.mark.parametrize(
    ("file", "table", "column"),
    [("s000001.duckdb", "chunks", "text"), ("g000001.duckdb", "files", "path")],
)
def test_a_view_in_place_of_a_table_is_refused_by_name(
    small: Corpus, secret: Path, file: str, table: str, column: str
):
    _view_in_place_of(small.folder / file, table, column, secret)

    with pytest.raises(StoreFormatError, match=rf"{file}' holds the view '{table}'") as raised:
        small.open()
    assert _SECRET not in str(raised.value)


@pytest.mark.parametrize("file", ["s000001.duckdb", "g000001.duckdb"])
def test_a_macro_is_refused_by_name(small: Corpus, secret: Path, file: str):
    _edit(
        small.folder / file,
        f"CREATE MACRO coalesce(a, b) AS (SELECT content FROM read_text('{secret}'))",  # noqa: S608 - a path of this test
    )

    with pytest.raises(StoreFormatError, match=rf"{file}' holds the macro 'coalesce'"):
        small.open()


def test_a_macro_never_stands_in_for_a_function_of_an_index_run(small: Corpus, secret: Path):
    _edit(
        small.folder / "g000001.duckdb",
        f"CREATE MACRO sum(a) AS (SELECT length(content) FROM read_text('{secret}'))",  # noqa: S608 - a path of this test
        "CREATE MACRO count(a) AS 99",
    )

    report = small.index()
    assert report.status == "unchanged"
    assert report.files != 99


def test_a_view_in_the_history_is_refused_by_name(small: Corpus, secret: Path):
    index = IndexFolder(small.folder)
    _view_in_place_of(index.history, "runs", "status", secret)

    with pytest.raises(StoreFormatError, match=r"history\.duckdb' holds the view 'runs'"):
        list_runs(index)


@pytest.mark.parametrize("name", ["../other/s000001.duckdb", "{tmp}/other/s000001.duckdb", "s1"])
def test_a_segment_elsewhere_is_refused(small: Corpus, tmp_path: Path, name: str):
    shutil.copytree(small.folder, tmp_path / "other")
    name = name.replace("{tmp}", str(tmp_path))
    _edit(small.folder / "g000001.duckdb", f"UPDATE segments SET file = '{name}'")  # noqa: S608 - a path of this test

    with pytest.raises(StoreFormatError, match="names the segment"):
        small.open()


def test_a_file_of_another_database_loads_no_extension(small: Corpus):
    (small.folder / "s000001.duckdb").write_bytes(b"SQLite format 3\0" + bytes(4096))
    _sign(small.folder / "s000001.duckdb")

    with pytest.raises(StoreError, match="not a valid DuckDB database"):
        small.open()


@pytest.mark.parametrize("kind", ["reader", "writer", "shared"])
def test_a_connection_reaches_its_folder_only(tmp_path: Path, secret: Path, kind: str):
    folder = tmp_path / "index"
    folder.mkdir()
    inside = folder / "inside.txt"
    inside.write_text("inside")
    (folder / "link.txt").symlink_to(secret)
    (tmp_path / "beside.txt").write_text(_SECRET)
    if kind == "shared":
        with borrow("x", folder) as connection:
            _assert_confined(connection, inside, secret, folder)
        return
    opened = connect(folder) if kind == "reader" else connect_writer(folder / "spill", folder)
    with opened as connection:
        _assert_confined(connection, inside, secret, folder)


def _assert_confined(
    connection: duckdb.DuckDBPyConnection, inside: Path, secret: Path, folder: Path
) -> None:
    rows = connection.execute("SELECT content FROM read_text($1)", [str(inside)]).fetchall()
    assert rows == [("inside",)]
    for path in (secret, folder / "link.txt", folder / ".." / "beside.txt"):
        with pytest.raises(duckdb.PermissionException):
            connection.execute("SELECT content FROM read_text($1)", [str(path)]).fetchall()
    for statement in (
        f"ATTACH '{folder.parent / 'new.duckdb'}' AS y",
        "SET enable_external_access = true",
        "LOAD httpfs",
        f"COPY (SELECT 1) TO '{folder.parent / 'out.csv'}'",
    ):
        with pytest.raises(duckdb.Error):
            connection.execute(statement).fetchall()


def test_a_view_cannot_name_a_variable_of_the_program(tmp_path: Path):
    rows_of_mine = arrow.make_table({"x": np.arange(3)})
    with duckdb.connect() as connection:
        assert connection.sql("SELECT count(*) FROM rows_of_mine").fetchall() == [(3,)]

    with connect(tmp_path) as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT * FROM rows_of_mine")
    assert rows_of_mine is not None


def test_a_place_that_can_be_no_folder_is_not_called_damaged() -> None:
    with pytest.raises(StoreFormatError, match="'/dev/null' is no folder"):
        IndexFolder(Path("/dev/null")).read_current()
