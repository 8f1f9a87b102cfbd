from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merganser.batch.tables import read_rows, write_rows
from merganser.config.flow_definition import DataTable
from merganser.errors import StoreBusyError, StoreError

# CSV cannot tell an empty cell from none, and no table holds NUL.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
REQUIRED: dict[str, st.SearchStrategy[Any]] = {"id": TEXT, "key": TEXT}
SOURCE: dict[str, st.SearchStrategy[Any]] = {"path": TEXT, "cited": st.booleans()}
OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "answer": TEXT,
    "seconds": st.floats(0, 1e6).map(lambda value: round(value, 3)),
    "requests": st.integers(0, 9),
    "sources": st.lists(st.fixed_dictionaries(SOURCE)),
}
ROWS = st.lists(st.fixed_dictionaries(REQUIRED, optional=OPTIONAL), min_size=1, max_size=5)


def without_nones(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.duckdb#faq"])
@given(rows=ROWS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_rows_come_back_as_they_were(tmp_path: Path, name: str, rows: list[dict[str, Any]]):
    path, _, table = name.partition("#")
    target = DataTable(tmp_path / path, table)

    write_rows(target, rows)

    found = without_nones(read_rows(target))
    if name == "a.csv":  # which has no types
        found = [
            {
                **row,
                **{
                    k: kind(row[k])
                    for k, kind in (("seconds", float), ("requests", int))
                    if k in row
                },
            }
            for row in found
        ]
    assert rows == found


def test_writing_again_replaces_the_table_and_leaves_the_others(tmp_path: Path):
    path = tmp_path / "a.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 1 AS x")

    for count in (3, 2):
        write_rows(DataTable(path, "faq"), [{"id": str(n), "key": "k"} for n in range(count)])

    assert len(read_rows(DataTable(path, "faq"))) == 2
    assert len(read_rows(DataTable(path, "mine"))) == 1


def test_a_database_that_another_process_has_open_is_waited_for_and_then_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import subprocess
    import sys

    path = tmp_path / "a.duckdb"
    monkeypatch.setattr("merganser.store.database._PATIENCE_SECONDS", 0.3)
    holder = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(StoreBusyError, match="another process has"):
            write_rows(DataTable(path, "faq"), [{"id": "1"}])
        process.communicate(b"\n")

    write_rows(DataTable(path, "faq"), [{"id": "1"}])
    assert read_rows(DataTable(path, "faq")) == [{"id": "1"}]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.duckdb#faq"])
def test_a_write_that_fails_leaves_the_old_rows(tmp_path: Path, name: str):
    path, _, table = name.partition("#")
    target = DataTable(tmp_path / path, table)
    write_rows(target, [{"id": "1"}])

    with pytest.raises((StoreError, TypeError)):
        write_rows(target, [{"id": "2", "sources": [object()]}])

    assert read_rows(target) == [{"id": "1"}]


def test_a_view_of_a_table_file_reads_its_own_tables_and_no_file(tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret of the machine")
    path = tmp_path / "questions.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 'how?' AS question")
        connection.execute("CREATE VIEW good AS FROM mine")
        connection.execute(f"CREATE VIEW bad AS SELECT content FROM read_text('{secret}')")  # noqa: S608 - a path of this test

    assert read_rows(DataTable(path, "good")) == [{"question": "how?"}]
    with pytest.raises(StoreError, match=r"cannot read .*disabled by configuration"):
        read_rows(DataTable(path, "bad"))
