"""Watching documents: every change is followed by a run that saw it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.deployment.watch import documents_state, watch_documents, watched_folders
from merganser.planning.plan import distinct_indexes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition

CONFIG = "rag: {code: {docs: [./src, './notes/*.md'], strategies: [{type: bm25}]}}\n"


@pytest.fixture
def indexes(tmp_path: Path) -> tuple[IndexDefinition, ...]:
    (tmp_path / "src").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "src" / "a.md").write_text("a")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tuple(distinct_indexes(load_config(tmp_path / "c.yaml"), ("code",)))


class Runs:
    """Runs that note what there was to see when they began."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seen: list[set[str]] = []
        self.fail = 0
        self.during: Callable[[], object] = lambda: None

    async def __call__(self) -> bool:
        self.seen.append({path.name for path in self.root.rglob("*.md")})
        during, self.during = self.during, lambda: None
        during()
        await asyncio.sleep(0.05)
        self.fail -= 1
        return self.fail < 0

    async def wait_for(self, condition: Callable[[], bool], seconds: float = 20.0) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True


@asynccontextmanager
async def watching(indexes: tuple[IndexDefinition, ...], runs: Runs) -> AsyncGenerator[list[str]]:
    said: list[str] = []
    task = asyncio.create_task(watch_documents(indexes, runs, say=said.append))
    try:
        assert await runs.wait_for(lambda: bool(runs.seen))
        await asyncio.sleep(0.5)  # the system's watch is set up beside the first run
        yield said
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_it_runs_at_the_start_and_after_a_change(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    runs = Runs(tmp_path)
    async with watching(indexes, runs):
        (tmp_path / "notes" / "b.md").write_text("b")

        followed = await runs.wait_for(lambda: "b.md" in runs.seen[-1])

    assert followed
    assert runs.seen[0] == {"a.md"}


async def test_a_change_during_a_run_starts_another_one_after_it(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    runs = Runs(tmp_path)
    async with watching(indexes, runs):
        runs.during = lambda: (tmp_path / "src" / "late.md").write_text("late")
        (tmp_path / "src" / "early.md").write_text("early")

        followed = await runs.wait_for(lambda: "late.md" in runs.seen[-1])

    assert followed
    assert any("early.md" in seen and "late.md" not in seen for seen in runs.seen)


async def test_a_failed_run_is_tried_again_without_another_change(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    runs = Runs(tmp_path)
    runs.fail = 2
    async with watching(indexes, runs):
        tried = await runs.wait_for(lambda: len(runs.seen) >= 3)

    assert tried


async def test_the_index_itself_and_ignored_files_start_nothing(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    (tmp_path / "src" / ".gitignore").write_text("*.log\n")
    runs = Runs(tmp_path)
    async with watching(indexes, runs):
        (tmp_path / "src" / "x.log").write_text("noise")
        (indexes[0].folder).mkdir(parents=True)
        (indexes[0].folder / "g001.duckdb").write_text("x")
        more = await runs.wait_for(lambda: len(runs.seen) > 1, seconds=2.5)

    assert not more


def test_the_state_changes_with_every_edit_and_only_then(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    before = documents_state(indexes)
    again = documents_state(indexes)
    (tmp_path / "src" / "a.md").write_text("aa")

    assert before == again
    assert documents_state(indexes) != before


def test_globs_are_watched_from_their_root(
    indexes: tuple[IndexDefinition, ...], tmp_path: Path
) -> None:
    assert watched_folders(indexes) == (tmp_path / "src", tmp_path / "notes")
