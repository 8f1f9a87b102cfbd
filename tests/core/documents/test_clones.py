"""Repositories as they come with ``git clone``: each file is indexed, or named with a reason."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.documents.scanning import scan_documents
from tests.core.documents.test_scan import git, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.documents.scanning import Scan
    from tests.core.conftest import Corpus


def origin(root: Path, *paths: str) -> Path:
    """Make a repository with one commit."""
    write(root, *(paths or ("a.py", "docs/b.md", "src/deep/c.go")))
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root


def commit(root: Path) -> None:
    git(root, "add", "-A", "-f")
    git(root, "commit", "-q", "--allow-empty", "-m", "x")


def clone(source: Path, target: Path, *options: str) -> Path:
    git(source.parent, "clone", "-q", *options, source.as_uri(), str(target))
    return target


def absent_submodule(top: Path) -> Path:
    library = origin(top / "library")
    outer = origin(top / "outer", "b.py")
    git(
        outer, "-c", "protocol.file.allow=always", "submodule", "-q", "add", library.as_uri(), "lib"
    )
    commit(outer)
    return clone(outer, top / "clone")


def present_submodule(top: Path) -> Path:
    cloned = absent_submodule(top)
    git(cloned, "-c", "protocol.file.allow=always", "submodule", "-q", "update", "--init")
    return cloned


def worktrees(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    git(cloned, "worktree", "add", "-q", "trees/feature", "-b", "feature")
    return cloned


def a_worktree_itself(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "main")
    git(cloned, "worktree", "add", "-q", str(top / "clone"), "-b", "feature")
    return top / "clone"


def sparse(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone", "--sparse")
    git(cloned, "sparse-checkout", "set", "docs")
    return cloned


def shallow(top: Path) -> Path:
    source = origin(top / "origin")
    write(source, "later.py")
    commit(source)
    return clone(source, top / "clone", "--depth", "1")


def bare_inside(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    git(cloned, "init", "-q", "--bare", "fixtures/repo.git")
    commit(cloned)
    return clone(cloned, top / "again")


def case_collisions(top: Path) -> Path:
    paths = ("Readme.md", "README.md", "src/A.py", "src/a.py", "SRC/a.py")
    return clone(origin(top / "origin", *paths), top / "clone")


def tiny_files(top: Path) -> Path:
    source = top / "origin"
    for folder in range(200):
        write(source, *(f"d{folder}/f{number}.txt" for number in range(100)))
    return clone(origin(source, "a.py"), top / "clone")


def no_commits(top: Path) -> Path:
    git(top, "init", "-q", "clone")
    write(top / "clone", "a.py", "b/c.md")
    return top / "clone"


def nothing_at_all(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone", "--no-checkout")
    write(cloned, "untracked.py")
    return cloned


def dubious_ownership(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    if os.getuid() == 0:
        for path in [cloned, *cloned.rglob("*")]:
            os.chown(path, 12345, 12345, follow_symlinks=False)
    return cloned


def link_loops(top: Path) -> Path:
    source = top / "origin"
    write(source, "a.py")
    (source / "loop").symlink_to("loop")
    (source / "one").symlink_to("two")
    (source / "two").symlink_to("one")
    (source / "up").symlink_to(".")
    (source / "gone").symlink_to("nowhere")
    (source / "out").symlink_to("/etc/hostname")
    return clone(origin(source, "b.py"), top / "clone")


def git_file_to_elsewhere(top: Path) -> Path:
    source = origin(top / "origin")
    git(top, "clone", "-q", "--separate-git-dir", "elsewhere", source.as_uri(), "clone")
    return top / "clone"


def git_file_to_nowhere(top: Path) -> Path:
    cloned = git_file_to_elsewhere(top)
    shutil.rmtree(top / "elsewhere")
    return cloned


def many_packed_refs(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    head = git(cloned, "rev-parse", "HEAD").strip()
    refs = "".join(f"{head} refs/tags/t{number:06d}\n" for number in range(50_000))
    (cloned / ".git/packed-refs").write_text(
        f"# pack-refs with: peeled fully-peeled sorted\n{refs}"
    )
    return cloned


def ignored_repositories(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    write(cloned, ".gitignore", text="vendor/\n")
    origin(cloned / "vendor/inner")
    origin(cloned / "other/inner")
    return cloned


def inner_repository_committed(top: Path) -> Path:
    source = origin(top / "origin")
    origin(source / "inner")
    commit(source)
    return clone(source, top / "clone")


def damaged_index(top: Path) -> Path:
    cloned = clone(origin(top / "origin"), top / "clone")
    (cloned / ".git/index").write_bytes(b"DIRC" + b"\xff" * 100)
    return cloned


def odd_names(top: Path) -> Path:
    names = ["shop [v2]/a.py", "a*b?.md", "#1 50%.md", "-rf", ":(top).py", "l\nm.md", "q'\"$(x).md",
             "cafe\u0301.md", "caf\u00e9.md", "n" * 252 + ".md", "back\\slash.py", " space .md",
             "a/" * 300 + "deep.md"]  # fmt: skip
    source = top / "origin"
    write(source, *names[:-1])
    (source / os.fsdecode(b"latin-\xe9.md")).write_text("text\n")
    cloned = clone(origin(source, "b.py"), top / "clone")
    write(cloned, names[-1])
    return cloned


def large_file_pointers(top: Path) -> Path:
    source = top / "origin"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    write(source, "model.txt", "data.csv", text=pointer)
    write(source, ".gitattributes", text="*.csv filter=lfs diff=lfs merge=lfs -text\n")
    return clone(origin(source, "a.py"), top / "clone")


ODD = (
    absent_submodule, present_submodule, worktrees, a_worktree_itself, sparse, shallow, bare_inside,
    case_collisions, tiny_files, no_commits, nothing_at_all, dubious_ownership, link_loops,
    git_file_to_elsewhere, git_file_to_nowhere, many_packed_refs, ignored_repositories,
    inner_repository_committed, damaged_index, odd_names, large_file_pointers,
)  # fmt: skip


@pytest.mark.proof(sample=5)
@pytest.mark.parametrize("build", ODD)
def test_every_file_of_an_odd_repository_is_accounted_for(
    corpus: Corpus, tmp_path: Path, build: Callable[[Path], Path]
):
    root = build(tmp_path)
    there = found_on_disk(root)
    assert there

    scan = scan_documents(["."], base=root)
    corpus.change(base=root, folder=root / ".merganser" / "code")
    report = corpus.index()

    assert unaccounted(there, scan) == []
    assert report.failed == ()
    read = {document.path for document in scan.documents}
    assert report.files + len(report.skipped) == len(read) + len(scan.skipped)
    assert corpus.index().status == "unchanged"


def found_on_disk(root: Path) -> list[str]:
    """Return all but folders and what is git's own, by a walk that has nothing to do with ours."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        found += (
            os.path.relpath(f"{folder}/{name}", root) for name in [*files, *links] if name != ".git"
        )
        folders[:] = [name for name in folders if name != ".git"]
    return found


def unaccounted(there: list[str], scan: Scan) -> list[str]:
    named = {document.path for document in scan.documents} | {s.path for s in scan.skipped}
    folders = tuple(skipped.path for skipped in scan.skipped if skipped.path.endswith("/"))
    shown = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in there]
    return [path for path in shown if path not in named and not path.startswith(folders)]
