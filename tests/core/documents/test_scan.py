"""Which files a scan finds, and what it says of the others."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.documents import ignore
from merganser.documents.scanning import scan_documents
from merganser.globs import fixed_part
from merganser.indexing.scope import Scope

if TYPE_CHECKING:
    from merganser.documents.scanning import Scan


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    return root


def write(root: Path, *paths: str, text: str = "text\n") -> None:
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def paths(scan: Scan) -> list[str]:
    return [document.path for document in scan.documents]


def reasons(scan: Scan) -> dict[str, str]:
    return {skipped.path: skipped.reason for skipped in scan.skipped}


@pytest.fixture(params=["git", "no git"])
def repository(tree: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a work tree that is listed by git, or by reading its rules when git is not there."""
    git(tree, "init", "-q")
    if request.param == "no git":
        monkeypatch.setattr(ignore, "run_git", _no_git)
    return tree


def _no_git(_folder: str, *_arguments: str, **_options: object) -> None:
    """Stand for a machine without git."""


# -- entries --------------------------------------------------------------------------------------


def test_a_folder_is_scanned_with_all_below_it(tree: Path):
    write(tree, "src/a.py", "src/deep/er/b.md", "other.py")

    scan = scan_documents(["./src"], base=tree)

    assert paths(scan) == ["src/a.py", "src/deep/er/b.md"]
    assert [d.language for d in scan.documents] == ["python", "markdown"]


def test_documents_carry_what_the_file_system_says(tree: Path):
    write(tree, "a.py")

    (document,) = scan_documents(["a.py"], base=tree).documents

    status = (tree / "a.py").stat()
    assert document.absolute == str(tree / "a.py")
    assert (document.size_bytes, document.mtime_ns, document.inode) == (
        status.st_size,
        status.st_mtime_ns,
        status.st_ino,
    )


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("src/*.py", ["src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/b.py", "src/x/y/c.py"]),
        ("**/*.py", ["src/a.py", "src/x/b.py", "src/x/y/c.py"]),
        ("src/**", ["src/.hidden", "src/a.py", "src/x/b.py", "src/x/y/c.py", "src/x/y/d.md"]),
        ("src/x/**/*.{py,md}", ["src/x/b.py", "src/x/y/c.py", "src/x/y/d.md"]),
        ("src/{a,x/b}.py", ["src/a.py", "src/x/b.py"]),
        ("src/?.py", ["src/a.py"]),
        ("src/[!b-z].py", ["src/a.py"]),
        ("src/x/[a-b].py", ["src/x/b.py"]),
        ("s*/x", ["src/x/b.py", "src/x/y/c.py", "src/x/y/d.md"]),
        ("src/.h*", ["src/.hidden"]),
        ("{src/{a,x/[b}]},non[e,]}.py", ["src/a.py", "src/x/b.py"]),
        ("src/*{y/c,x/b}*", ["src/x/b.py"]),
        ("src/**/[a-b]*{.py,.md}", ["src/a.py", "src/x/b.py"]),
    ],
)
def test_globs_find_files_and_what_lies_in_folders_that_match(
    tree: Path, glob: str, expected: list[str]
):
    write(tree, "src/a.py", "src/x/b.py", "src/x/y/c.py", "src/x/y/d.md", "src/.hidden")

    scan = scan_documents([glob], base=tree)

    assert paths(scan) == expected
    assert scan.missing == ()


def test_a_path_that_exists_is_never_a_glob(tree: Path):
    write(tree, "a[1].py", "a1.py")

    assert paths(scan_documents(["a[1].py"], base=tree)) == ["a[1].py"]


def test_entries_may_be_absolute_or_above_the_base(tree: Path):
    write(tree, "conf/x.yaml", "src/a.py", "lib/b.py")

    scan = scan_documents(["../src", str(tree / "lib")], base=tree / "conf")

    assert paths(scan) == ["../lib/b.py", "../src/a.py"]


def test_entries_that_match_nothing_are_missing(tree: Path):
    write(tree, "a.py")
    (tree / "broken").symlink_to("nowhere")

    scan = scan_documents(["a.py", "gone", "*.md", "gone/**/*.py", "broken"], base=tree)

    assert scan.missing == ("gone", "*.md", "gone/**/*.py", "broken")
    assert paths(scan) == ["a.py"]


def test_a_file_that_several_entries_name_is_one_document(tree: Path):
    write(tree, "src/a.py", "src/b.py")

    scan = scan_documents(["src", "./src/a.py", "src/*.py", str(tree / "src")], base=tree)

    assert paths(scan) == ["src/a.py", "src/b.py"]


# -- what is left out -----------------------------------------------------------------------------


def test_files_that_cannot_be_documents_are_skipped_with_a_reason(tree: Path):
    write(tree, "empty.py", text="")
    write(tree, "logo.png", "module.pyc", "uv.lock", "app.min.js")
    write(tree, "big.txt", text="x" * (2 * 1024 * 1024 + 1))
    os.mkfifo(tree / "pipe")
    scan = scan_documents(["."], base=tree)

    assert paths(scan) == []
    assert reasons(scan) == {
        "app.min.js": "minified",
        "big.txt": "too large",
        "empty.py": "empty",
        "logo.png": "binary",
        "module.pyc": "binary",
        "pipe": "not a file",
        "uv.lock": "lock",
    }


def test_index_folders_are_left_out(tree: Path):
    write(tree, "a.py", ".merganser/x/CURRENT", "db/CURRENT", "sub/.merganser/y")

    scan = scan_documents(["."], base=tree, exclude=[tree / "db"])

    assert paths(scan) == ["a.py"]


def test_an_excluded_folder_is_left_out_of_a_work_tree_and_when_it_is_named(repository: Path):
    write(repository, "a.py", "db/CURRENT", "db/deep/x", ".merganser/y")

    scan = scan_documents([".", "db"], base=repository, exclude=[repository / "db"])

    assert paths(scan) == ["a.py"]


def test_a_name_that_is_not_utf8_is_skipped_by_a_readable_name(tree: Path):
    write(tree, "good é.py")
    Path(os.fsdecode(os.fsencode(tree) + b"/bad\xff.py")).write_text("x")

    scan = scan_documents(["."], base=tree)

    assert paths(scan) == ["good é.py"]
    assert reasons(scan) == {"bad\\xff.py": "name"}


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_folder_that_may_not_be_read_is_named(tree: Path):
    write(tree, "shut/a.py", "b.py")
    (tree / "shut").chmod(0)

    scan = scan_documents(["."], base=tree)

    (tree / "shut").chmod(0o755)
    assert (paths(scan), reasons(scan)) == (["b.py"], {"shut/": "unreadable"})


def test_a_scan_opens_no_file(tree: Path):
    write(tree, "a.py", "b/c.md")
    for path in (tree / "a.py", tree / "b/c.md"):
        os.utime(path, ns=(1, path.stat().st_mtime_ns))

    scan_documents(["."], base=tree)

    assert [(tree / name).stat().st_atime_ns for name in ("a.py", "b/c.md")] == [1, 1]


# -- links ----------------------------------------------------------------------------------------


def test_links_lead_to_no_cycle_no_escape_and_no_duplicate(tree: Path):
    write(tree, "in/a.py", "out/secret.py")
    inside = tree / "in"
    (inside / "loop").symlink_to(inside)
    (inside / "twin.py").symlink_to("a.py")
    (inside / "escape.py").symlink_to(tree / "out/secret.py")
    (inside / "broken.py").symlink_to("gone.py")
    (inside / "self.py").symlink_to("self.py")

    scan = scan_documents(["in"], base=tree)

    assert paths(scan) == ["in/a.py"]
    assert reasons(scan) == {
        "in/broken.py": "link",
        "in/escape.py": "link",
        "in/loop": "link",
        "in/self.py": "link",
        "in/twin.py": "duplicate",
    }


def test_a_link_to_a_file_that_only_it_reaches_is_followed(tree: Path):
    write(tree, ".gitignore", text="build/\n")
    write(tree, "build/made.py")
    (tree / "made.py").symlink_to("build/made.py")

    scan = scan_documents(["."], base=tree)

    assert paths(scan) == [".gitignore", "made.py"]
    assert scan.documents[1].mtime_ns == (tree / "build/made.py").stat().st_mtime_ns


def test_a_link_that_is_named_is_followed_and_its_files_are_found_once(tree: Path):
    write(tree, "real/a.py")
    (tree / "alias").symlink_to("real")

    assert paths(scan_documents(["alias"], base=tree)) == ["alias/a.py"]
    assert paths(scan_documents(["alias", "real"], base=tree)) == ["alias/a.py"]


# -- ignore rules ---------------------------------------------------------------------------------


def test_git_rules_count_in_a_work_tree(repository: Path):
    write(repository, ".gitignore", text="*.log\n/build/\n!keep.log\n")
    write(repository, "sub/.gitignore", text="local\n!*.log\n")
    write(repository, "a.py", "x.log", "keep.log", "build/b.py", "sub/y.log", "sub/local/c.py")
    write(repository, ".git/info/exclude", text="private\n")
    write(repository, "private")

    scan = scan_documents(["."], base=repository)

    assert paths(scan) == [".gitignore", "a.py", "keep.log", "sub/.gitignore", "sub/y.log"]
    assert reasons(scan) == {
        "build/": "ignored",
        "private": "ignored",
        "sub/local/": "ignored",
        "x.log": "ignored",
    }


def test_without_vcs_rules_all_but_git_itself_is_found(repository: Path):
    write(repository, ".gitignore", text="*.log\n")
    write(repository, "a.log")

    scan = scan_documents(["."], base=repository, respect_vcs=False)

    assert paths(scan) == [".gitignore", "a.log"]


def test_rules_of_the_enclosing_work_tree_count_in_a_folder_of_it(repository: Path):
    write(repository, ".gitignore", text="*.log\n/sub/b.py\n")
    write(repository, "sub/a.py", "sub/b.py", "sub/c.log")

    assert paths(scan_documents(["sub"], base=repository)) == ["sub/a.py"]


def test_a_named_path_is_scanned_though_the_work_tree_ignores_it(repository: Path):
    write(repository, ".gitignore", text="/venv/\n*.py\n")
    write(repository, "venv/lib/pkg/a.py", "venv/lib/pkg/x.log", "venv/lib/pkg/deep/b.py")
    write(repository, "venv/lib/pkg/.gitignore", text="*.log\n")

    folder = scan_documents(["venv/lib/pkg"], base=repository)
    glob = scan_documents(["venv/lib/pkg/**/*.py"], base=repository)
    file = scan_documents(["venv/lib/pkg/x.log"], base=repository)

    expected = ["venv/lib/pkg/.gitignore", "venv/lib/pkg/a.py", "venv/lib/pkg/deep/b.py"]
    assert paths(folder) == expected
    assert paths(glob) == expected[1:]
    assert paths(file) == ["venv/lib/pkg/x.log"]


def test_tracked_files_are_found_though_a_rule_matches_them(tree: Path):
    git(tree, "init", "-q")
    write(tree, "kept.log", "a.py")
    git(tree, "add", "kept.log")
    write(tree, ".gitignore", text="*.log\n")

    assert paths(scan_documents(["."], base=tree)) == [".gitignore", "a.py", "kept.log"]


def test_files_that_left_the_work_tree_are_not_found(tree: Path):
    git(tree, "init", "-q")
    write(tree, "gone.py", "a.py")
    git(tree, "add", ".")
    (tree / "gone.py").unlink()

    scan = scan_documents(["."], base=tree)

    assert (paths(scan), reasons(scan)) == (["a.py"], {})


def test_repositories_inside_are_scanned_by_their_own_rules(repository: Path):
    write(repository, ".gitignore", text="*.log\n")
    write(repository, "nested/.gitignore", text="*.tmp\n")
    write(repository, "nested/a.py", "nested/b.tmp", "nested/c.log")
    git(repository / "nested", "init", "-q")

    scan = scan_documents(["."], base=repository)

    assert paths(scan) == [".gitignore", "nested/.gitignore", "nested/a.py", "nested/c.log"]


def test_submodules_are_scanned(tree: Path):
    write(tree, "library/a.py")
    git(tree / "library", "init", "-q")
    git(tree / "library", "add", ".")
    git(tree / "library", "commit", "-q", "-m", "x")
    outer = tree / "outer"
    write(outer, "b.py")
    git(outer, "init", "-q")
    git(outer, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../library")

    scan = scan_documents(["."], base=outer)

    assert paths(scan) == [".gitmodules", "b.py", "library/a.py"]


def test_variables_of_a_git_hook_do_not_lead_elsewhere(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(repository, "a.py")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))

    assert paths(scan_documents(["."], base=repository)) == ["a.py"]


def test_a_program_named_in_a_work_trees_config_does_not_run(tree: Path, tmp_path: Path):
    git(tree, "init", "-q")
    write(tree, "a.py")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(tree, "config", "core.fsmonitor", str(program))

    scan = scan_documents(["."], base=tree)

    assert paths(scan) == ["a.py"]
    assert not (tmp_path / "ran").exists()


def test_outside_of_a_work_tree_what_tools_made_is_left_out(tree: Path):
    write(tree, "a.py", "mine/pyvenv.cfg", "mine/b.py", "kept/CACHEDIR.TAG", "kept/c")

    scan = scan_documents(["."], base=tree)

    assert paths(scan) == ["a.py"]
    assert reasons(scan) == {"kept/": "vendored", "mine/": "vendored"}


RULES = [
    ["*", "!*/", "!*.py"],
    ["/*", "!/src/", "/src/*", "!/src/a.py"],
    ["src/**/x"],
    ["**/x/"],
    ["a.*", "!a.py"],
    ["\\!odd", "#comment", "", "  ", "trail\\ "],
    ["src/x"],
    ["x/*", "!x/a.py"],
    ["[ab].py"],
    ["src/"],
    ["!src/", "src"],
    ["*.md", "!src/*.md"],
    ["**/deep"],
    ["src/**"],
    ["src/**/", "!src/x/"],
    ["src/*/a.py"],
    ["[[:alpha:]].py", "!b.py"],
    ["[!a]*.py"],
    ["?.md "],
    ["*.py\r", "!a.py\r"],
    ["a[", "a\\"],
    ["x**y", "s**c"],
    ["**"],
    ["/**/x"],
    ["\\a.py", "[]a].md", "[a-b].md"],
    ["!a.py", "*.py"],
    ["//src", "src//", "/"],
    ["*.*y", "*a*.*d", "**/x/*.*", "s*/**/x", "**/d*p/**/*.m*"],
    ["**/src/**/x/**/a.py", "**/**/b.py", "?*.py", "*?*?.md"],
]


@pytest.mark.parametrize("lines", RULES, ids=" ".join)
def test_reading_the_rules_finds_what_git_finds(
    tree: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
):
    git(tree, "init", "-q")
    write(tree, ".gitignore", text="\n".join(lines) + "\n")
    write(tree, "src/.gitignore", text="!c.py\n")
    for folder in ("", "src/", "src/x/", "x/", "src/deep/x/"):
        write(tree, *(f"{folder}{name}" for name in ("a.py", "b.py", "c.py", "a.md", "!odd")))
    by_git = paths(scan_documents(["."], base=tree))
    monkeypatch.setattr(ignore, "run_git", _no_git)

    by_rules = paths(scan_documents(["."], base=tree))

    assert by_rules == by_git


def test_a_git_that_refuses_is_replaced_by_reading_the_rules(tree: Path):
    git(tree, "init", "-q")
    write(tree, ".gitignore", text="*.log\n")
    write(tree, "a.py", "b.log")
    write(tree, ".git/config", text="no config at all\n")

    assert paths(scan_documents(["."], base=tree)) == [".gitignore", "a.py"]


@pytest.mark.parametrize(
    "name", ["shop [v2]", "a*b", "what?", "{a,b}", "#1 50%", "a:b", "-x", "l\nm"]
)
def test_a_pattern_below_a_folder_whose_name_looks_like_one(tmp_path: Path, name: str):
    base = tmp_path / name
    write(base, "src/deep/cart.py", "src/a.md")

    assert paths(scan_documents(["./src/**/*.py"], base=base)) == ["src/deep/cart.py"]
    assert paths(scan_documents(["*/../src/*.md", "[s]rc/*.md"], base=base)) == ["src/a.md"]
    assert Scope.of(["./src/**/*.py"], respect_vcs=True).covers("src/deep/cart.py", base)
    assert fixed_part("./src/**/*.py", base) == base / "src"


def test_a_folder_whose_name_begins_with_a_tilde_is_no_home(tmp_path: Path):
    write(tmp_path, "~/a.py", "~nobody-of-this-name/a.py")
    everything = Scope.of(["."], respect_vcs=False)

    for entries in (["."], ["./~/*.py", "./~nobody-of-this-name"]):
        scan = scan_documents(entries, base=tmp_path, respect_vcs=False)
        assert paths(scan) == ["~/a.py", "~nobody-of-this-name/a.py"]
    assert all(everything.covers(path, tmp_path) for path in paths(scan))


@pytest.mark.parametrize("entry", ["~nobody-of-this-name", "~nobody-of-this-name/*.py"])
def test_the_home_of_somebody_unknown_is_nothing_found(tmp_path: Path, entry: str):
    write(tmp_path, "a.py")

    assert paths(scan_documents([entry, "a.py"], base=tmp_path)) == ["a.py"]
