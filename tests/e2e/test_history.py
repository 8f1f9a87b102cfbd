"""What the run history says about faults, seen afterwards by whoever opens it."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import History, Ran, Watched

pytestmark = pytest.mark.timeout(600)

FILES = 60


def test_a_passing_fault_is_seen_as_a_retry(history: History, watched: Watched) -> None:
    tasks = history.tasks(watched.indexed)
    retried = {name: history.states(task) for name, task in tasks.items() if task["run_count"] > 1}

    assert watched.indexed["state_type"] == "COMPLETED"
    assert len(retried) == 1, retried
    (states,) = retried.values()
    assert "AwaitingRetry" in states
    assert states[-1] == "Completed"
    assert [task["run_count"] for task in tasks.values()].count(2) == 1


def test_a_lasting_fault_is_one_attempt_with_its_reason(history: History, watched: Watched) -> None:
    failed = [
        task for task in history.tasks(watched.failed).values() if task["state_type"] == "FAILED"
    ]

    assert [task["run_count"] for task in failed] == [1]
    assert watched.embed_requests == 1
    assert history.states(failed[0])[-1] == "Failed"
    assert "AwaitingRetry" not in history.states(failed[0])
    assert watched.failed["state_type"] == "FAILED"
    assert "the engine is out of order" in watched.failed["state"]["message"]


def test_an_ephemeral_run_keeps_every_task_run(
    merganser: Callable[..., Ran], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A server that dies with the command must have written all of it down before."""
    home = tmp_path_factory.mktemp("ephemeral")
    (tmp_path / "src").mkdir()
    for number in range(FILES):
        # Each is more than half a shard, so each is a shard, a task run, of its own.
        (tmp_path / "src" / f"{number}.txt").write_text(f"words of file {number}\n" * 800)
    (tmp_path / "words.yaml").write_text(
        "rag: {words: {docs: [./src], strategies: "
        "[{type: bm25, chunking: {size: 50, overlap: 0}}]}}\n"
    )

    done = merganser("index", "words.yaml", "--ephemeral", cwd=tmp_path, MERGANSER_HOME=str(home))

    assert done.code == 0, done.err
    database = sqlite3.connect(home / "prefect" / "prefect.db")
    rows = dict(database.execute("SELECT name, state_type FROM task_run").fetchall())
    database.close()
    assert {f"embed {number}" for number in range(FILES)} | {
        "survey words",
        "build words",
        "publish words",
        "report words",
    } == set(rows)
    assert set(rows.values()) == {"COMPLETED"}
