"""What the run history says about faults, seen afterwards by whoever opens it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import History, Ran, Watched

pytestmark = pytest.mark.timeout(600)

INDEXES = 13  # of five task runs each
SHARDS = 60


def test_an_outage_is_waited_for_and_seen_in_the_log(history: History, watched: Watched) -> None:
    tasks = history.tasks(watched.indexed)
    said = history.logs(watched.indexed)

    assert watched.indexed["state_type"] == "COMPLETED"
    assert {task["run_count"] for task in tasks.values()} == {1}
    [begun] = [line for line in said if "cannot serve since" in line]
    [ended] = [line for line in said if "is back after" in line]
    assert said.index(begun) < said.index(ended)
    assert "503" in begun


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


def test_every_task_run_is_recorded(
    merganser: Callable[..., Ran], history: History, tmp_path: Path
) -> None:
    rags = [f"words{number}" for number in range(INDEXES)]
    config = ["flows: {all: {type: index}}", "rag:"]
    for rag in rags:
        (tmp_path / f"{rag}.txt").write_text(f"words of {rag}\n")
        config.append(f"  {rag}: {{docs: [./{rag}.txt], strategies: [{{type: bm25}}]}}")
    (tmp_path / "many.yaml").write_text("\n".join(config) + "\n")

    done = merganser("index", "many.yaml", cwd=tmp_path)

    assert done.code == 0, done.err
    rows = history.task_runs(history.runs("many.all")[0], INDEXES * 5)
    each = ("survey", "build", "publish", "report")
    expected = [f"{what} {rag}" for rag in rags for what in each] + ["embed 0"] * INDEXES
    assert sorted(expected) == sorted(row["name"] for row in rows)
    assert {row["state_type"] for row in rows} == {"COMPLETED"}


def test_every_shard_is_in_one_task_and_fast_ones_share_a_task(
    merganser: Callable[..., Ran], history: History, tmp_path: Path
) -> None:
    (tmp_path / "src").mkdir()
    for number in range(SHARDS):
        # Each is more than half a shard, so each is a shard of its own.
        (tmp_path / "src" / f"{number}.txt").write_text(f"words of file {number}\n" * 800)
    (tmp_path / "shards.yaml").write_text(
        "rag: {words: {docs: [./src], strategies: "
        "[{type: bm25, chunking: {size: 50, overlap: 0}}]}}\n"
    )

    done = merganser("index", "shards.yaml", cwd=tmp_path)

    assert done.code == 0, done.err
    rows = history.tasks(history.runs("shards.index-words")[0])
    batches = [name.split()[1] for name in rows if name.startswith("embed ")]
    bounds = [(int(batch.split("-")[0]), int(batch.split("-")[-1])) for batch in batches]
    taken = [number for first, last in bounds for number in range(first, last + 1)]
    assert list(range(SHARDS)) == sorted(taken)
    assert len(batches) <= SHARDS // 2
    assert {row["state_type"] for row in rows.values()} == {"COMPLETED"}
