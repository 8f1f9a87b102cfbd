"""Globs of ``docs``: ``*``, ``?``, ``[a-z]``, ``{a,b}`` and ``**`` as a whole part of a path."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPECIAL = re.compile(r"[*?\[{]")
_BRACE_MARK = re.compile(r"\[.[^\]]*\]|[{},]", re.DOTALL)  # what stands in [...] is no brace
_MAX_ALTERNATIVES = 1_000


def is_glob(entry: str) -> bool:
    """Return whether an entry has a wildcard; ``{`` counts only with its ``}``."""
    return any(mark != "{" or "}" in entry for mark in _SPECIAL.findall(entry))


def expand_home(entry: str) -> str:
    """Return an entry with the ``~`` or ``~user`` that it begins with replaced, if there is one."""
    return os.path.expanduser(entry)  # noqa: PTH111 - Path's raises where there is no such user


def fixed_part(entry: str, base: Path) -> Path:
    """Return the path itself, or the folder that holds all that a glob can match.

    Args:
        entry: A path or glob.
        base: What a relative one starts from; a folder whose own name may look like a glob.
    """
    return Path(GlobEntry.parse(entry, base).root) if is_glob(entry) else base / entry


@dataclass(frozen=True, slots=True)
class GlobEntry:
    """A glob, split where its first wildcard is.

    Attributes:
        root: Absolute directory that holds every match.
        pattern: Matches paths relative to the root, with or without what lies below a match.
    """

    root: str
    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, glob: str, base: Path) -> GlobEntry:
        """Split a glob.

        Args:
            glob: Absolute, below ``~``, or relative to ``base``.
            base: A folder. What its name holds is no pattern.

        Raises:
            PlanError: Its braces stand for more than 1,000 patterns.
        """
        parts = os.path.normpath(expand_home(glob)).split("/")
        fixed = 0
        while (
            fixed < len(parts) - 1
            and (
                not _SPECIAL.search(parts[fixed])
                # What is there is itself, such as the folder "[id]" of a route.
                or os.path.lexists(base / "/".join(parts[: fixed + 1]))
            )
        ):
            fixed += 1
        expression = "|".join(map(_translate, expand_braces("/".join(parts[fixed:]))))
        pattern = re.compile(rf"(?:{expression})(?:/.*)?", re.DOTALL)
        root = "/".join(parts[:fixed]) or ("/" if glob.startswith("/") else ".")
        return cls(os.path.normpath(base / root), pattern)

    def matches(self, path: str) -> bool:
        """Return whether a path, or a folder above it, matches.

        Args:
            path: Posix, relative to the root.
        """
        return self.pattern.fullmatch(path) is not None


def expand_braces(glob: str) -> list[str]:
    """Write out the braces of a glob: ``a.{py,pyi}`` is ``a.py`` and ``a.pyi``.

    Raises:
        PlanError: There are more than ``_MAX_ALTERNATIVES``.
    """
    opening = _opening_brace(glob)
    if opening < 0:
        return [glob]
    commas: list[int] = []
    depth, closing = 0, len(glob)  # a brace that is never closed ends with the glob
    for mark in _BRACE_MARK.finditer(glob, opening):
        depth += {"{": 1, "}": -1}.get(mark[0], 0)
        if depth == 0:
            closing = mark.start()
            break
        if mark[0] == "," and depth == 1:
            commas.append(mark.start())
    edges = [opening, *commas, closing]
    inner = [glob[start + 1 : end] for start, end in itertools.pairwise(edges)]
    found: list[str] = []
    for rest in expand_braces(glob[closing + 1 :]):
        for one in itertools.chain.from_iterable(map(expand_braces, inner)):
            found.append(f"{glob[:opening]}{one}{rest}")
            if len(found) > _MAX_ALTERNATIVES:
                raise PlanError(f"{glob!r} stands for more than {_MAX_ALTERNATIVES} patterns")
    return found


def _opening_brace(glob: str) -> int:
    """Return where the first ``{`` stands that is not in ``[...]`` and has a ``}``, or -1."""
    found = next((mark.start() for mark in _BRACE_MARK.finditer(glob) if mark[0] == "{"), -1)
    return found if "}" in glob[found:] else -1


def _translate(glob: str) -> str:
    """Return a glob without braces as a regular expression."""
    tokens: list[str] = []
    at = 0
    while at < len(glob):
        character = glob[at]
        begins = at == 0 or glob[at - 1] == "/"
        if begins and glob.startswith("**/", at):
            tokens.append(FOLDERS)
            at += 3
            continue
        if begins and glob[at:] == "**":
            tokens.append(REST)
            break
        match character:
            case "*":
                tokens.append(STAR)
            case "?":
                tokens.append("[^/]")
            case "[" if (end := glob.find("]", at + 2 + (glob[at + 1 : at + 2] in {"!", "^"}))) > 0:
                tokens.append(_character_class(glob[at + 1 : end]))
                at = end
            case _:
                tokens.append(re.escape(character))
        at += 1
    return linear_expression(tokens)


def _character_class(inside: str) -> str:
    """Return ``[...]`` as a regular expression: ``!`` and ``^`` negate, no slash is matched."""
    negated = inside[0] in "!^"
    members = [RANGE if member == "-" else member for member in inside[negated:]]
    return class_expression(members, negated=negated)


# -- patterns of every kind -----------------------------------------------------------------------

STAR = "*"
"""A token: any characters but slashes."""
FOLDERS = "**/"
"""A token where a part of a path begins: any number of whole parts."""
REST = "**"
"""A token at the end: all that is below, at least one character."""


RANGE = "a-z"
"""Between two characters of a class, in place of the hyphen: all from the one to the other."""


def class_expression(members: Sequence[str], *, negated: bool) -> str:
    r"""Write a class of characters as a regular expression; it never matches a slash.

    A range that goes backwards holds its first character alone, as for git; for Python it is an
    error, and patterns come from strangers.

    Args:
        members: Single characters, each for itself, ``RANGE``, or what stands between the brackets
            of an expression.
        negated: Whether all other characters are matched.

    >>> print(class_expression(["a", RANGE, "f", "^", "z", RANGE, "x"], negated=False))
    (?!/)[a-f\^z-z]
    """
    body = ""
    at = 0
    while at < len(members):
        first, *rest = members[at : at + 3]
        ends = ["-" if end == RANGE else end for end in (first, *rest[1:])]
        if len(rest) == 2 and rest[0] == RANGE and len(ends[0]) == len(ends[1]) == 1:
            body += f"{re.escape(ends[0])}-{re.escape(max(ends))}"
            at += 3
        else:
            body += re.escape(ends[0]) if len(ends[0]) == 1 else first
            at += 1
    return f"(?!/)[{'^' if negated else ''}{body}]"


def linear_expression(tokens: Sequence[str]) -> str:
    r"""Write a pattern of paths as a regular expression that never tries one thing twice.

    A star followed by another takes the first place where what stands between them fits, for good
    (an atomic group): whatever it leaves, the other can take. Backtracking instead, as plain
    ``.*``, takes time exponential in the stars, and patterns come from strangers' repositories.

    Args:
        tokens: ``STAR``, ``FOLDERS``, ``REST``, ``/``, or expressions of one character that is no
            slash.

    >>> print(linear_expression([STAR, "a", STAR, "b"]))
    (?>[^/]*?a)(?>[^/]*b(?=/|\Z))
    """
    groups: list[list[str]] = [[]]
    for token in tokens:
        if token == FOLDERS:
            groups.append([])
        else:
            groups[-1].append(token)
    first, *others = map(_anchored, groups)
    if not others:
        return first
    middle = "".join(f"(?>(?:[^/]*/)*?{group})" for group in others[:-1])
    return f"{first}{middle}(?:.*/)?{others[-1]}"


def _anchored(tokens: Sequence[str]) -> str:
    """Write what stands between two ``FOLDERS``."""
    out: list[str] = []
    at = 0
    while at < len(tokens):
        if tokens[at] == REST:
            out.append(".+")
        elif tokens[at] != STAR:
            out.append(tokens[at])
        else:
            end = at + 1
            while end < len(tokens) and tokens[end] not in {STAR, REST, "/"}:
                end += 1
            fixed = "".join(tokens[at + 1 : end])
            is_last = end == len(tokens) or tokens[end] != STAR
            out.append(rf"(?>[^/]*{fixed}(?=/|\Z))" if is_last else f"(?>[^/]*?{fixed})")
            at = end - 1
        at += 1
    return "".join(out)
