"""List the files under a directory that version control would not ignore.

In a git work tree git itself is asked, so every rule of every kind counts exactly as git counts
it. Elsewhere, and where git is not there or refuses, the nested ``.gitignore`` files are read with
the same meaning. Links are listed, never entered.

That reading walks the tree from the top, so a rule is asked about one path at a time and never
about what lies below it: a folder that is ignored is not entered. This keeps the rules simple and
exact (libraries that judge whole paths at once get ``*`` with ``!*/`` wrong).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from merganser.documents.files import read_file
from merganser.documents.git import run_git
from merganser.documents.ignore_rules import ignoring_rule, read_rules
from merganser.documents.vendored import MARKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from merganser.documents.ignore_rules import RuleFile

VCS_FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr", ".jj"})
"""Never entered, whatever the rules say."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One path found under a root.

    Attributes:
        path: Posix, relative to the root; ``name/`` for a folder that was left out as a whole,
            ``./`` for the root itself.
        reason: Why it is left out, or empty when it is a file to look at.
        detail: The rule, when there is one.
    """

    path: str
    reason: str = ""
    detail: str = ""


Refuse: TypeAlias = "Callable[[str], tuple[str, str] | None]"
"""Says of an absolute directory why it is left out, as reason and detail; None when it is not. One
without a reason is not even named."""


SILENTLY = ("", "")
"""Leaves a directory out that nobody asks for."""


def list_files(root: str, *, respect_vcs: bool, refuse: Refuse) -> Iterator[Listed]:
    """List everything under a directory, as files to look at or paths left out with a reason.

    A root that an enclosing repository ignores is listed nonetheless: then only the rules from the
    root down count.

    Args:
        root: An absolute directory.
        respect_vcs: Whether ignore rules count.
        refuse: Asked about each directory below the root that is met.
    """
    # A link's rules are those of the place it leads to: git runs there, whatever the link's name.
    root = os.path.realpath(root)
    if not respect_vcs:
        return _walk(root, (), refuse, respect_vcs=False)
    top = _work_tree(root)
    if top is None:
        return _walk(root, (), refuse, respect_vcs=True)
    listed = _ask_git(root, top)
    if listed == [_OUTER_ENTRY]:
        return _list_submodule(root, refuse)
    if listed is not None:
        return _expand_git(root, listed, refuse)
    rules = _rules_above(root, top)
    ignored = root != top and any(
        ignoring_rule(rules, path, folder=True) for path in _between(top, root)
    )
    return _walk(root, () if ignored else rules, refuse, respect_vcs=True)


def _work_tree(path: str) -> str | None:
    """Find the nearest directory, from the path up, that holds ``.git``."""
    for directory in (Path(path), *Path(path).parents):
        if os.path.lexists(directory / ".git"):
            return str(directory)
    return None


def _between(top: str, root: str) -> list[str]:
    """Return the directories below ``top``, down to ``root`` itself."""
    found = [root, *map(str, Path(root).parents)]
    return list(reversed(found[: found.index(top)]))


# -- git ------------------------------------------------------------------------------------------


def _ask_git(root: str, top: str) -> list[Listed] | None:
    """Let git list a directory; None when its rules do not apply there or git cannot say."""
    if root != top:
        checked = run_git(top, "check-ignore", "--quiet", "--no-index", "--", root)
        if checked is None or checked.returncode != 1:
            return None
    files = run_git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if files is None or files.returncode != 0:
        return None
    ignored = run_git(
        root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"
    )
    names = dict.fromkeys(_split_names(files.stdout))  # a conflict lists a file three times
    left_out = _split_names(ignored.stdout) if ignored and ignored.returncode == 0 else []
    return [
        *(Listed(name) for name in names),
        *(Listed(name, "ignored", "by git's rules") for name in left_out),
    ]


def find_ignored(root: str, folder: str, names: Sequence[str]) -> set[str]:
    """Tell which names of a folder version control ignores, by what holds from a root down.

    As in a listing of the root, each repository on the way counts, a repository that another one
    ignores is ignored with all in it, and outside every repository nothing is. A root that an
    enclosing repository ignores keeps its own rules only.

    Args:
        root: An absolute directory without links on the way.
        folder: The root or a directory below it, likewise.
        names: Of its entries, which need not be there.
    """
    top = _work_tree(folder)
    if top is None or not names:
        return set()
    above, name = os.path.split(top)
    if Path(above).is_relative_to(root) and find_ignored(root, above, [name]):
        return set(names)
    below = os.path.relpath(folder, top)
    start = "." if below == "." else f"./{below}"
    paths = {f"{start}/{name}": name for name in names}
    is_inside = root != top and Path(root).is_relative_to(top)
    around = f"./{os.path.relpath(root, top)}" if is_inside else ""
    asked = "\0".join([around, *paths] if around else paths)
    done = run_git(top, "check-ignore", "--stdin", "-z", given=os.fsencode(asked))
    if done is not None and done.returncode in {0, 1}:
        ignored = set(_split_names(done.stdout))
        if around not in ignored:
            return {name for path, name in paths.items() if path in ignored}
        top = root
    elif around and _is_ignored_by_files(top, root):
        top = root
    return {name for name in names if _is_ignored_by_files(top, f"{folder}/{name}")}


def _is_ignored_by_files(top: str, path: str) -> bool:
    """Tell whether the rules below a directory ignore a path or a folder on the way to it."""
    rules = () if (own := read_rules(top, ".git/info/exclude")) is None else (own,)
    directory = top
    for entry in _between(top, path):
        if (own := read_rules(directory)) is not None:
            rules = (*rules, own)
        # Path.is_dir() raises where it may not look.
        is_folder = os.path.isdir(entry) and not os.path.islink(entry)  # noqa: PTH112, PTH114
        if ignoring_rule(rules, entry, folder=is_folder):
            return True
        directory = entry
    return False


# What git says of a folder that the repository around it holds as a commit of another one, and
# which is no repository itself: a submodule that was not checked out.
_OUTER_ENTRY = Listed("./")


def _list_submodule(root: str, refuse: Refuse) -> Iterator[Listed]:
    """Name an empty submodule; list what somebody has put into one without its repository."""
    try:
        empty = not os.listdir(root)  # noqa: PTH208 - beside scandir
    except OSError:
        empty = False  # the walk says why
    if empty:
        return iter([Listed("./", "submodule", "it is not checked out")])
    return _walk(root, (), refuse, respect_vcs=True)


def _split_names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


_MARK_ENDS = tuple(f"/{name}" for name in MARKS)


def _expand_git(root: str, listed: list[Listed], refuse: Refuse) -> Iterator[Listed]:
    """Leave out what is refused, and enter the repositories that lie untracked in the work tree.

    A submodule is listed like a file; whoever looks at the path finds a directory.
    """
    known: dict[str, bool] = {"": False}
    refused: list[Listed] = []
    marks = [one.path.rpartition("/") for one in listed if one.path.endswith(_MARK_ENDS)]
    marked = {folder: MARKS[name] for folder, _, name in marks}

    def out(directory: str) -> bool:
        """Tell whether a directory of the tree, or one above it, is left out."""
        pending: list[str] = []
        while directory not in known:  # a path may have two thousand parts
            pending.append(directory)
            directory = directory.rpartition("/")[0]
        is_out = known[directory]
        for below in reversed(pending):
            if not is_out:
                mark = marked.get(below)
                why = ("vendored", mark) if mark else refuse(f"{root}/{below}")
                is_out = why is not None
                if why is not None and why != SILENTLY:
                    refused.append(Listed(f"{below}/", *why))
            known[below] = is_out
        return is_out

    for entry in listed:
        name = entry.path.rstrip("/")
        is_folder = entry.path.endswith("/")
        # Why git leaves a folder out is what its user knows best.
        is_out = out(name if is_folder and not entry.reason else name.rpartition("/")[0])
        yield from refused
        refused.clear()
        if is_out or (is_folder and entry.reason and refuse(f"{root}/{name}") == SILENTLY):
            continue
        if entry.reason or not is_folder:
            yield entry
            continue
        yield from _enter(root, name, refuse)


def _enter(root: str, relative: str, refuse: Refuse) -> Iterator[Listed]:
    """List a folder that is a repository of its own, unless the scan meets its files elsewhere."""
    folder = f"{root}/{relative}"
    main = _main_work_tree(folder)
    if main is not None and (_is_within(main, root) or _is_within(root, main)):
        yield Listed(f"{relative}/", "worktree", f"another checkout of {main}")
        return
    for found in list_files(folder, respect_vcs=True, refuse=refuse):
        path = found.path.removeprefix("./")
        yield Listed(f"{relative}/{path}", found.reason, found.detail)


def _is_within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


_MAX_LINK_BYTES = 4096


def _main_work_tree(folder: str) -> str | None:
    """Return the main work tree that a folder is linked to (``git worktree add``), else None."""
    try:
        link = os.fsdecode(read_file(f"{folder}/.git", _MAX_LINK_BYTES)).strip()
        git = Path(folder, link.removeprefix("gitdir:").strip())  # either may be relative
        common = os.fsdecode(read_file(git / "commondir", _MAX_LINK_BYTES)).strip()
        main = Path(os.path.realpath(git / common))
    except (OSError, ValueError):  # a repository with a folder ``.git``, or a submodule
        return None
    return str(main.parent) if main.name == ".git" else None


# -- without git ----------------------------------------------------------------------------------


def _rules_above(root: str, top: str) -> tuple[RuleFile, ...]:
    """Read the rules of an enclosing work tree that count in ``root``, weakest first."""
    directories = [top, *_between(top, root)[:-1]] if root != top else []
    own = [read_rules(top, ".git/info/exclude"), *(read_rules(d) for d in directories)]
    return tuple(rules for rules in own if rules is not None)


def _walk(
    root: str, rules: tuple[RuleFile, ...], refuse: Refuse, *, respect_vcs: bool
) -> Iterator[Listed]:
    """Walk a directory with the rules of every ``.gitignore`` on the way; unreadable is named."""
    pending = [("", rules)]
    while pending:
        relative, above = pending.pop()
        directory = f"{root}/{relative}".rstrip("/")
        try:
            entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        except OSError as error:
            yield Listed(f"{relative}/" if relative else "./", "unreadable", error.strerror or "")
            continue
        names = {entry.name for entry in entries}
        if relative and not names.isdisjoint(MARKS):
            yield Listed(f"{relative}/", "vendored", MARKS[min(names.intersection(MARKS))])
            continue
        if respect_vcs and relative and ".git" in names:
            yield from _enter(root, relative, refuse)
            continue
        inner = above
        if respect_vcs and ".gitignore" in names and (own := read_rules(directory)):
            inner = (*above, own)
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if entry.name == ".git":  # in a submodule or a linked worktree it is a file
                continue
            if not entry.is_dir(follow_symlinks=False):
                yield _judge(path, ignoring_rule(inner, entry.path, folder=False))
            elif entry.name not in VCS_FOLDERS:
                refused = refuse(entry.path)
                rule = ignoring_rule(inner, entry.path, folder=True)
                if refused == SILENTLY:
                    continue
                if rule is not None:
                    yield _judge(f"{path}/", rule)
                elif refused is not None:
                    yield Listed(f"{path}/", *refused)
                else:
                    pending.append((path, inner))


def _judge(path: str, rule: str | None) -> Listed:
    return Listed(path) if rule is None else Listed(path, "ignored", rule)
