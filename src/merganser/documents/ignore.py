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
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from merganser.documents.git import run_git

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

VCS_FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr", ".jj"})
"""Never entered, whatever the rules say."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One path found under a root.

    Attributes:
        path: Posix, relative to the root; ``name/`` for a folder that was left out as a whole.
        reason: Why it is left out, or empty when it is a file to look at.
        detail: The rule, when there is one.
    """

    path: str
    reason: Literal["", "ignored", "unreadable"] = ""
    detail: str = ""


def list_files(root: str, *, respect_vcs: bool, prune: Callable[[str], bool]) -> Iterator[Listed]:
    """List everything under a directory, as files to look at or paths left out with a reason.

    A root that an enclosing repository ignores is listed nonetheless: then only the rules from the
    root down count.

    Args:
        root: An absolute directory.
        respect_vcs: Whether ignore rules count.
        prune: Tells whether an absolute directory is left out as a whole.
    """
    # A link's rules are those of the place it leads to: git runs there, whatever the link's name.
    root = os.path.realpath(root)
    if not respect_vcs:
        return _walk(root, (), prune, respect_vcs=False)
    top = _work_tree(root)
    if top is None:
        return _walk(root, (), prune, respect_vcs=True)
    listed = _ask_git(root, top)
    if listed is not None:
        return _expand_git(root, listed, prune)
    rules = _rules_above(root, top)
    ignored = root != top and any(
        ignoring_rule(rules, path, folder=True) for path in _between(top, root)
    )
    return _walk(root, () if ignored else rules, prune, respect_vcs=True)


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
    paths = {name if below == "." else f"{below}/{name}": name for name in names}
    around = os.path.relpath(root, top) if root != top and Path(root).is_relative_to(top) else ""
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


def _split_names(output: bytes) -> list[str]:
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def _expand_git(root: str, listed: list[Listed], prune: Callable[[str], bool]) -> Iterator[Listed]:
    """Drop what is pruned, and enter the repositories that lie untracked in the work tree.

    A submodule is listed like a file; whoever looks at the path finds a directory.
    """

    @cache
    def out(directory: str) -> bool:
        """Tell whether a directory of the tree, or one above it, is pruned."""
        above = directory.rpartition("/")[0]
        return bool(directory) and (out(above) or prune(f"{root}/{directory}"))

    for entry in listed:
        name = entry.path.rstrip("/")
        parent = name if entry.path.endswith("/") else name.rpartition("/")[0]
        if out(parent):
            continue
        if entry.reason or not entry.path.endswith("/"):
            yield entry
            continue
        for found in list_files(f"{root}/{name}", respect_vcs=True, prune=prune):
            yield Listed(f"{name}/{found.path}", found.reason, found.detail)


# -- without git ----------------------------------------------------------------------------------


def _rules_above(root: str, top: str) -> tuple[RuleFile, ...]:
    """Read the rules of an enclosing work tree that count in ``root``, weakest first."""
    directories = [top, *_between(top, root)[:-1]] if root != top else []
    own = [read_rules(top, ".git/info/exclude"), *(read_rules(d) for d in directories)]
    return tuple(rules for rules in own if rules is not None)


# Folders that tools make and mark; git users name them in .gitignore, others have no such place.
_MADE_FOLDERS = {"CACHEDIR.TAG": "a cache", "pyvenv.cfg": "a virtual environment"}


def _walk(
    root: str, rules: tuple[RuleFile, ...], prune: Callable[[str], bool], *, respect_vcs: bool
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
        if respect_vcs and relative and (special := _special(root, relative, names, prune)):
            yield from special
            continue
        inner = above
        if respect_vcs and ".gitignore" in names and (own := read_rules(directory)):
            inner = (*above, own)
        for entry in entries:
            path = f"{relative}/{entry.name}" if relative else entry.name
            if not entry.is_dir(follow_symlinks=False):
                yield _judge(path, ignoring_rule(inner, entry.path, folder=False))
            elif entry.name not in VCS_FOLDERS and not prune(entry.path):
                rule = ignoring_rule(inner, entry.path, folder=True)
                if rule is None:
                    pending.append((path, inner))
                else:
                    yield _judge(f"{path}/", rule)


def _special(
    root: str, relative: str, names: set[str], prune: Callable[[str], bool]
) -> list[Listed] | None:
    """List a folder that is a repository of its own or that a tool made; None for any other."""
    if ".git" in names:
        listed = list_files(f"{root}/{relative}", respect_vcs=True, prune=prune)
        return [Listed(f"{relative}/{one.path}", one.reason, one.detail) for one in listed]
    made = next((why for tag, why in _MADE_FOLDERS.items() if tag in names), None)
    return [Listed(f"{relative}/", "ignored", made)] if made else None


def _judge(path: str, rule: str | None) -> Listed:
    return Listed(path) if rule is None else Listed(path, "ignored", rule)


# -- .gitignore files ------------------------------------------------------------------------------
# The format: https://git-scm.com/docs/gitignore

_POSIX_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "digit": "0-9",
    "lower": "a-z",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}
_CLASS = re.compile(r"\[([!^]?)(\]?(?:\\.|\[:\w+:\]|[^\]\\])*)\]")
_TRAILING_SPACES = re.compile(r"(?<!\\)[ \t]+$")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line that ignores something or takes it back.

    Attributes:
        line: The line as it stands.
        number: Its number, from 1.
        pattern: Matches a path relative to the file's folder, or a bare name.
        negated: Whether a match is kept.
        only_folders: Whether files never match.
        anchored: Whether the relative path is matched, else the name alone.
    """

    line: str
    number: int
    pattern: re.Pattern[str]
    negated: bool
    only_folders: bool
    anchored: bool


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The rules of one ``.gitignore``.

    Attributes:
        directory: Absolute, without a slash at the end; the rules count below it.
        name: The file's name, for reports.
        rules: The last one first, for the last match decides.
    """

    directory: str
    name: str
    rules: tuple[Rule, ...]


def read_rules(directory: str, name: str = ".gitignore") -> RuleFile | None:
    """Read a folder's rules; None when it has none that can be read."""
    try:
        text = Path(directory, name).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError:
        return None
    lines = enumerate(text.split("\n"), start=1)
    rules = [rule for number, line in lines if (rule := parse_rule(line, number)) is not None]
    return RuleFile(directory, name, tuple(reversed(rules)))


def parse_rule(line: str, number: int = 1) -> Rule | None:
    """Read one line; None for comments, blank lines and patterns that cannot match."""
    line = line.removesuffix("\r")
    pattern = _TRAILING_SPACES.sub("", line)
    if not pattern or pattern.startswith("#"):
        return None
    negated = pattern.startswith("!")
    pattern = pattern.removeprefix("!")
    only_folders = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    anchored = "/" in pattern
    expression = _translate(pattern.removeprefix("/"))
    if not pattern or expression is None:
        return None
    compiled = re.compile(expression, re.DOTALL)
    return Rule(line, number, compiled, negated, only_folders, anchored)


def ignoring_rule(files: tuple[RuleFile, ...], path: str, *, folder: bool) -> str | None:
    """Return the rule that ignores a path as ``file:line: rule``, or None.

    Args:
        files: The outermost first; the innermost that says something decides.
        path: Absolute, below the folders of all ``files``.
        folder: Whether it is a folder.
    """
    name = path.rpartition("/")[2]
    for file in reversed(files):
        relative = path[len(file.directory) + 1 :]
        for rule in file.rules:
            if rule.only_folders and not folder:
                continue
            if rule.pattern.fullmatch(relative if rule.anchored else name):
                return None if rule.negated else f"{file.name}:{rule.number}: {rule.line}"
    return None


def _translate(pattern: str) -> str | None:
    """Write a pattern as a regular expression; None for one that git never matches."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        rest = pattern[at:]
        begins = at == 0 or pattern[at - 1] == "/"
        if begins and rest.startswith("**/"):
            out.append("(?:.*/)?")
            at += 3
        elif begins and rest == "**":
            out.append(".+")
            at += 2
        elif rest[0] == "*":
            out.append("[^/]*")
            at += len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            out.append("[^/]")
            at += 1
        elif rest[0] == "[":
            found = _CLASS.match(rest)
            if found is None:
                return None
            out.append(_translate_class(found[1], found[2]))
            at += found.end()
        elif rest[0] == "\\":
            if len(rest) == 1:
                return None
            out.append(re.escape(rest[1]))
            at += 2
        else:
            out.append(re.escape(rest[0]))
            at += 1
    return "".join(out)


def _translate_class(negation: str, inside: str) -> str:
    """Write ``[...]`` as a regular expression; a slash is never matched."""
    parts = re.findall(r"\[:(\w+):\]|\\(.)|(.)", inside, re.DOTALL)
    body = "".join(
        _POSIX_CLASSES.get(name, "") or (plain if plain == "-" else re.escape(escaped or plain))
        for name, escaped, plain in parts
    )
    return f"(?!/)[{'^' if negation else ''}{body}]"
