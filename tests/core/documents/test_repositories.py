"""Which files a scan finds where repositories lie inside others, and under hostile rules."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from merganser.documents import ignore
from merganser.documents.ignore_rules import parse_rule
from merganser.documents.scanning import scan_documents
from merganser.errors import PlanError
from merganser.globs import GlobEntry
from tests.core.documents.test_scan import git, paths, reasons, write

if TYPE_CHECKING:
    from pathlib import Path


def _no_git(*_: str) -> None:
    return None


@pytest.mark.parametrize("docs", [".", "library", "*"])
def test_a_submodule_that_is_not_checked_out_is_named(tmp_path: Path, docs: str):
    outer = _clone_without_submodule(tmp_path)

    scan = scan_documents([docs], base=outer)

    assert "library/" in reasons(scan)
    assert [s.detail for s in scan.skipped if s.path == "library/"] == ["it is not checked out"]
    assert paths(scan) == ([] if docs == "library" else [".gitmodules", "b.py"])


def test_what_lies_in_a_submodule_without_its_repository_is_found(tmp_path: Path):
    outer = _clone_without_submodule(tmp_path)
    write(outer, "library/.gitignore", text="*.log\n")
    write(outer, "library/deep/a.py", "library/x.log")

    scan = scan_documents(["."], base=outer)

    assert paths(scan) == [".gitmodules", "b.py", "library/.gitignore", "library/deep/a.py"]


def _clone_without_submodule(tmp_path: Path) -> Path:
    write(tmp_path, "library/a.py")
    git(tmp_path / "library", "init", "-q")
    git(tmp_path / "library", "add", ".")
    git(tmp_path / "library", "commit", "-q", "-m", "x")
    write(tmp_path / "origin", "b.py")
    git(tmp_path / "origin", "init", "-q")
    allowed = ("-c", "protocol.file.allow=always")
    git(tmp_path / "origin", *allowed, "submodule", "--quiet", "add", "../library")
    git(tmp_path / "origin", "add", ".")
    git(tmp_path / "origin", "commit", "-q", "-m", "x")
    git(tmp_path, "clone", "-q", "origin", "outer")
    return tmp_path / "outer"


@pytest.mark.parametrize("has_git", [True, False])
def test_a_linked_worktree_beside_its_main_one_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_git: bool
):
    repository = tmp_path / "tree"
    repository.mkdir()
    git(repository, "init", "-q")
    if not has_git:
        monkeypatch.setattr(ignore, "run_git", _no_git)
    write(repository, "main/a.py")
    git(repository / "main", "init", "-q")
    git(repository / "main", "add", ".")
    git(repository / "main", "commit", "-q", "-m", "x")
    for place in ("inside", "../beside"):
        git(repository / "main", "worktree", "add", "-q", place, "-b", place.strip("./"))

    scan = scan_documents(["."], base=repository)

    assert paths(scan) == ["main/a.py"]
    assert {path: why for path, why in reasons(scan).items() if why == "worktree"} == {
        "beside/": "worktree",
        "main/inside/": "worktree",
    }
    assert paths(scan_documents(["main/inside"], base=repository)) == ["main/inside/a.py"]
    assert paths(scan_documents(["."], base=repository / "beside")) == ["a.py"]


@pytest.mark.parametrize("root", [".", "docs"])
def test_git_itself_is_asked_about_names_it_reads_as_patterns(tmp_path: Path, root: str):
    top = tmp_path / "repo"
    write(top, "docs/a.txt")
    git(top, "init", "-q")
    # A rule that only git reads: our own reader of rule files knows no core.excludesFile.
    write(tmp_path, "mine", text="*.log\n")
    git(top, "config", "core.excludesFile", str(tmp_path / "mine"))
    names = ["a.log", ":(top).log", ":!x.log", "[x].log", "a.txt", ":(top)", ":!a.txt"]

    found = ignore.find_ignored(str(top / root), str(top / "docs"), names)

    assert found == {"a.log", ":(top).log", ":!x.log", "[x].log"}


@pytest.mark.parametrize(
    "rule", ["*a" * 30 + "*b", "**/*a*a*a/" * 8 + "b", "/" + "*a" * 30 + "*b", "[a]*" * 30 + "b"]
)
def test_a_rule_full_of_stars_takes_no_time(tmp_path: Path, rule: str):
    write(tmp_path, "a" * 250, "/".join(["a" * 100] * 12))
    write(tmp_path, ".gitignore", text=f"{rule}\n")

    # One that tries every way to part the stars would not end while a test may run.
    scan = scan_documents([".", rule.strip("/")], base=tmp_path)

    assert len(scan.documents) == 3


@pytest.mark.parametrize(
    "rule",
    [
        *("[z-a]", "[!z-a]", "[]", "[!]", "[]a]", "[[:foo:]]", "[[:digit:]-z]", "[a--b]", "[--a]"),
        *("[a-\\]]", "[a-]", "[^^]", "[~~]", "[a||b]", "[!5-!]*"),
    ],
)
def test_a_class_of_characters_means_what_it_means_to_git(tmp_path: Path, rule: str):
    names = [*"abz-]!^[5&~|", "z-a", "[]", "[z-a]", "ab"]
    write(tmp_path, ".gitignore", text=f"{rule}\n")
    asked = "\0".join(names).encode()
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    git = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    done = subprocess.run(git, cwd=tmp_path, input=asked, stdout=subprocess.PIPE, check=False)

    read = parse_rule(rule)

    ignored = {name for name in names if read is not None and read.matches(name, folder=False)}
    assert ignored == {*done.stdout.decode().split("\0")} - {""}


@pytest.mark.parametrize(
    ("glob", "matched", "other"),
    [("[z-a]*", "z1", "b1"), ("[!]", "[!]", "!"), ("[!]a]*", "b", "]b"), ("[a--b]", "b", "c")],
)
def test_a_glob_with_an_odd_class_is_no_error(tmp_path: Path, glob: str, matched: str, other: str):
    entry = GlobEntry.parse(glob, tmp_path)

    assert entry.matches(matched)
    assert not entry.matches(other)


def test_a_glob_of_too_many_patterns_is_refused(tmp_path: Path):
    with pytest.raises(PlanError, match="more than 1000 patterns"):
        scan_documents(["{a,b}" * 11], base=tmp_path)


def test_rules_that_are_a_pipe_are_not_waited_for(tmp_path: Path):
    write(tmp_path, "a.py")
    os.mkfifo(tmp_path / ".gitignore")

    assert reasons(scan_documents(["."], base=tmp_path)) == {".gitignore": "not a file"}


def test_a_path_of_two_thousand_folders_is_listed():
    deep = ignore.Listed("a/" * 2_000 + "b.md")
    pruned = ignore.Listed("a/" * 500 + "x/b.md")

    def refuse(folder: str) -> tuple[str, str] | None:
        return ignore.SILENTLY if folder.endswith("/x") else None

    found = ignore._expand_git("/root", [deep, pruned], refuse)  # pyright: ignore[reportPrivateUsage] - no such tree can be made by Python

    assert list(found) == [deep]
