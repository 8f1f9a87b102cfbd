"""The account of a tree's files misses none and takes none for granted."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "benchmarks" / "check_trees.py"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a repository with a file of each fate."""
    root = tmp_path / "a [tree]"
    root.mkdir()
    for path, text in {
        "src/app.py": "def heron():\n    return 1\n",
        "empty.txt": "",
        "node_modules/left-pad/index.js": "module.exports = 1\n",
        "package.json": '{"name": "web"}\n',
        "made.log": "ignored\n",
        ".gitignore": "*.log\n",
        "späte Notiz.md": "# Untracked\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "-C", root, "add", "src", "empty.txt", ".gitignore"], check=True)
    return root


def test_every_path_of_a_real_tree_is_accounted_for(
    tree: Path,
    program: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(sys, "argv", ["check_trees.py", str(tree)])

    with pytest.raises(SystemExit) as stopped:
        program["main"]()

    line = capsys.readouterr().out.splitlines()[1].rsplit(maxsplit=9)
    assert (stopped.value.code, line[1:]) == (0, ["3", "7", "4", "2", "1", "0", "0", "0", "0"])


def test_what_nothing_names_is_missing_and_what_is_nowhere_is_unknown(
    tree: Path, program: dict[str, Any]
):
    present = program["present_files"](tree)
    tracked, ignored = program["tracked_files"](tree), program["ignored_files"](tree, present)
    listed = {"src/app.py": "indexed", "ghost.py": "indexed", "made.log": "indexed"}

    account = program["account_for"](tracked, present, ignored, listed)

    assert "empty.txt" in account.missing
    assert account.unknown == ("ghost.py", "made.log")
