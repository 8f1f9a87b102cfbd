"""Account for every file of real trees: ``python benchmarks/check_trees.py TREE...``.

A tree is indexed with words alone, its snapshot kept elsewhere. Then each path of ``git ls-files``
and of the folder itself must be indexed, failed or skipped with a reason, alone or below a folder
that is; what git ignores must be neither indexed nor tracked. Exits with 1 when a path is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

CONFIG = "rag:\n  tree:\n    docs: [{tree}]\n    strategies: [{{type: bm25}}]\n"


@dataclass(frozen=True)
class Account:
    """What became of the paths of a tree."""

    outcomes: Counter[str]
    """Files by ``indexed``, ``failed``, ``skipped``, and ``below`` a folder that is skipped."""
    ignored: int
    """Files that git ignores and nothing names: they need no account."""
    missing: tuple[str, ...]
    """Paths that nothing accounts for."""
    unknown: tuple[str, ...]
    """Paths that are indexed, but neither tracked nor in the folder, or ignored by git."""


def main() -> None:
    """Print a line for each tree, and the paths that are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trees", nargs="+", type=Path)
    print(f"{'tree':16} {'tracked':>8} {'in folder':>9} {'indexed':>8} {'skipped':>8} ", end="")
    print(f"{'below':>6} {'failed':>7} {'ignored':>8} {'missing':>8} {'unknown':>8}")
    wrong = False
    for tree in parser.parse_args().trees:
        tracked, present = tracked_files(tree), present_files(tree)
        account = account_for(tracked, present, ignored_files(tree, present), listed_files(tree))
        of = account.outcomes
        print(f"{tree.resolve().name:16} {len(tracked):8} {len(present):9} ", end="")
        print(f"{of['indexed']:8} {of['skipped']:8} {of['below']:6} {of['failed']:7} ", end="")
        print(f"{account.ignored:8} {len(account.missing):8} {len(account.unknown):8}")
        for path in account.missing + account.unknown:
            wrong = True
            print(f"  {'missing' if path in account.missing else 'unknown'}: {path}")
    sys.exit(int(wrong))


def account_for(
    tracked: set[str], present: set[str], ignored: set[str], listed: dict[str, str]
) -> Account:
    """Return the account of a tree whose files merganser ``listed`` with these outcomes."""
    outcomes: Counter[str] = Counter()
    missing, unnamed = list[str](), 0
    skipped = {path.rstrip("/") for path, outcome in listed.items() if outcome == "skipped"}
    for path in sorted(tracked | present):
        if path in listed:
            outcomes[listed[path]] += 1
        elif any(str(folder) in skipped for folder in (Path(path), *Path(path).parents)):
            outcomes["below"] += 1
        elif path in ignored:
            unnamed += 1
        else:
            missing.append(path)
    unknown = [
        path
        for path, outcome in listed.items()
        if outcome == "indexed" and (path not in present or path in ignored - tracked)
    ]
    return Account(outcomes, unnamed, tuple(missing), tuple(unknown))


def tracked_files(tree: Path) -> set[str]:
    """Return what git tracks, a submodule being one path."""
    return set(_git(tree, "ls-files", "-z").split("\0")) - {""}


def present_files(tree: Path) -> set[str]:
    """Return the files and links of a folder, not those of ``.git``."""
    found = set[str]()
    for folder, folders, names in os.walk(tree):
        links = [name for name in folders if Path(folder, name).is_symlink()]
        folders[:] = [name for name in folders if name not in {".git", *links}]
        found |= {Path(folder, name).relative_to(tree).as_posix() for name in names + links}
    return {path for path in found if Path(path).name != ".git"}


def ignored_files(tree: Path, paths: set[str]) -> set[str]:
    """Return those of ``paths`` that git's rules leave out."""
    asked = "".join(f"{path}\0" for path in sorted(paths))
    return set(_git(tree, "check-ignore", "-z", "--stdin", asked=asked).split("\0")) - {""}


def listed_files(tree: Path) -> dict[str, str]:
    """Index a tree and return the outcome of each path that ``merganser files`` lists."""
    merganser = [sys.executable, "-m", "merganser"]
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch, "trees.yaml")
        config.write_text(CONFIG.format(tree=json.dumps(str(tree.resolve()))))
        subprocess.run(
            [*merganser, "index", config, "--no-history"], check=True, capture_output=True
        )
        lines = subprocess.run(
            [*merganser, "files", config, "--jsonl"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
    root = tree.resolve()
    listed = dict[str, str]()
    for line in lines:
        file = json.loads(line)
        path = Path(os.path.normpath(Path(scratch, file["path"])))
        listed[path.relative_to(root).as_posix()] = file["outcome"]
    return listed


def _git(tree: Path, *arguments: str, asked: str = "") -> str:
    """Return what git prints; ``check-ignore`` exits with 1 when nothing is ignored."""
    done = subprocess.run(
        ["git", "-C", tree, *arguments], input=asked, capture_output=True, text=True, check=False
    )
    if done.returncode > 1:
        raise SystemExit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
