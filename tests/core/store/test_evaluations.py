"""Evaluations in the history: whole or not at all, and beside other writers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import duckdb
import pytest

from merganser.errors import StoreError
from merganser.store.evaluations import (
    EvaluationRow,
    MetricRow,
    QueryRow,
    list_evaluations,
    record_evaluation,
)
from merganser.store.folder import IndexFolder
from merganser.store.history import RunRow, list_runs, record_run

if TYPE_CHECKING:
    from pathlib import Path

THEN = datetime(2026, 5, 1, 3, 0, tzinfo=UTC)


def make_row(number: int = 0) -> EvaluationRow:
    query = QueryRow(
        query_id="q'1",
        query="what's new?",
        labels=2,
        missed=1,
        stale=0,
        first_rank=3,
        error="",
        seconds=0.5,
        values={"recall@5": 0.5, "mrr@10": 1 / 3},
    )
    return EvaluationRow(
        evaluation_id=f"e{number}",
        kind="evaluate",
        flow="quality",
        rag="code",
        started=THEN + timedelta(minutes=number),
        finished=THEN + timedelta(minutes=number, seconds=5),
        snapshots="code=1@run",
        queries_file="evals.jsonl",
        queries_fingerprint="f0",
        queries=1,
        failed=0,
        stale=0,
        passed=True,
        baseline="",
        metrics=(MetricRow("recall@5", 0.5, 0.1, 0.9, min=0.4), MetricRow("mrr@10", 0.3, 0.3, 0.3)),
        results=(query,),
    )


def test_what_is_recorded_comes_back_newest_first(tmp_path: Path):
    index = IndexFolder(tmp_path)
    for number in (1, 0, 2):
        record_evaluation(index, make_row(number))

    found = list_evaluations(index, rag="code", queries="f0", limit=2)

    assert [replace(make_row(n), results=()) for n in (2, 1)] == list(found)
    assert list_evaluations(index, queries="other") == ()
    assert list_evaluations(index, rag="other") == ()


def test_nothing_was_evaluated_yet(tmp_path: Path):
    index = IndexFolder(tmp_path)
    assert list_evaluations(index) == ()

    record_run(index, RunRow(run_id="r", started=THEN, finished=THEN, status="unchanged"))

    assert list_evaluations(index) == ()
    record_evaluation(index, make_row())
    assert [run.run_id for run in list_runs(index)] == ["r"]
    assert len(list_evaluations(index)) == 1


def test_queries_and_values_can_be_read_with_sql(tmp_path: Path):
    index = IndexFolder(tmp_path)
    record_evaluation(index, make_row())

    with duckdb.connect(str(index.history), read_only=True) as connection:
        rows = connection.execute(
            "SELECT q.query, v.metric, v.value, q.first_rank FROM evaluation_queries q "
            "JOIN evaluation_values v USING (evaluation_id, query_id) ORDER BY v.metric"
        ).fetchall()

    assert rows == [
        ("what's new?", "mrr@10", pytest.approx(1 / 3), 3),
        ("what's new?", "recall@5", 0.5, 3),
    ]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path):
    index = IndexFolder(tmp_path)
    broken = replace(make_row(), metrics=(MetricRow("x", float("nan"), 0, 0, problem=None),))  # type: ignore[arg-type] - what is broken # fmt: skip
    lone = replace(make_row(1), results=(replace(make_row().results[0], query="\ud800"),))
    record_evaluation(index, broken)

    with pytest.raises(UnicodeEncodeError):
        record_evaluation(index, lone)

    assert [row.evaluation_id for row in list_evaluations(index)] == ["e0"]


def test_many_may_write_at_once(tmp_path: Path):
    index = IndexFolder(tmp_path)

    def write(number: int) -> None:
        record_evaluation(index, make_row(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))

    assert {row.evaluation_id for row in list_evaluations(index)} == {f"e{n}" for n in range(12)}


def test_a_foreign_file_is_refused(tmp_path: Path):
    (tmp_path / "history.duckdb").write_text("not a database, but long enough to look like one")

    with pytest.raises(StoreError, match="not a valid DuckDB"):
        list_evaluations(IndexFolder(tmp_path))
