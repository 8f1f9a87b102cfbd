"""What is kept of a turn goes with the snapshots that it searched, or in time."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from merganser.agent import resume
from merganser.agent.resume import LIFETIME, keep_turn, prune_turns
from merganser.store.folder import Current, IndexFolder

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def serve(folder: Path, *kept: int) -> Path:
    folder.mkdir(exist_ok=True)
    IndexFolder(folder).write_current(Current(kept[0], kept, kept[0] + 1, 1))
    return folder


def test_a_turn_goes_with_the_first_of_its_snapshots(tmp_path: Path):
    code, docs = serve(tmp_path / "code", 4, 3), serve(tmp_path / "docs", 1)
    both = keep_turn("both", [code, docs])
    one = keep_turn("one", [docs])
    (both / "result").write_text("kept")

    serve(tmp_path / "code", 5, 4)
    assert (prune_turns(), both.exists()) == (0, True)
    serve(tmp_path / "code", 6, 5)

    assert (prune_turns(), both.exists(), one.exists()) == (1, False, True)


def test_a_turn_that_resumes_finds_what_was_kept_and_its_first_snapshot(tmp_path: Path):
    code = serve(tmp_path / "code", 1)
    first = keep_turn("t", [code])
    serve(tmp_path / "code", 2, 1)

    assert keep_turn("t", [code]) == first
    assert json.loads((first / "turn.json").read_text())["snapshots"] == {str(code): 1}
    serve(tmp_path / "code", 3, 2)
    assert prune_turns() == 1


def test_no_turn_is_kept_longer_than_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = keep_turn("t", [tmp_path / "never indexed"])
    assert prune_turns() == 0

    later = time.time() + LIFETIME.total_seconds() + 60
    monkeypatch.setattr(resume.time, "time", lambda: later)

    assert (prune_turns(), folder.exists()) == (1, False)


def test_an_index_that_is_gone_takes_its_turns_and_a_damaged_one_leaves_them(tmp_path: Path):
    gone, damaged = serve(tmp_path / "gone", 1), serve(tmp_path / "damaged", 1)
    first, second = keep_turn("1", [gone]), keep_turn("2", [damaged])
    (gone / "CURRENT").unlink()
    (damaged / "CURRENT").write_text("{")

    prune_turns()

    assert (first.exists(), second.exists()) == (False, True)


def test_a_folder_without_its_mark_may_be_a_turn_that_begins(home: Path):
    fresh, left = home / "turns" / "fresh", home / "turns" / "left"
    for folder in (fresh, left):
        folder.mkdir(parents=True)
    os.utime(left, (0, 0))

    prune_turns()

    assert (fresh.exists(), left.exists()) == (True, False)


def test_the_id_of_a_turn_names_no_place(home: Path):
    folder = keep_turn("../../etc/passwd", [])

    assert folder.parent == home / "turns"


def test_a_turn_whose_time_is_over_begins_anew(tmp_path: Path):
    code = serve(tmp_path / "code", 1)
    folder = keep_turn("t", [code])
    (folder / "result").write_text("from snapshot 1")
    serve(tmp_path / "code", 2)

    assert keep_turn("t", [code]) == folder
    assert [path.name for path in folder.iterdir()] == ["turn.json"]
