"""Patterns of paths as users write them: gitignore's language, and paths to the letter."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from merganser.documents.ignore_rules import parse_rule
from merganser.globs import expand_braces, expand_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from merganser.documents.ignore_rules import Rule

_SPECIAL = re.compile(r"[*?\[{\\]")
_BELOW = re.compile(r"(?<=.)(?:/\*\*?)+/?$")


class PathPatterns:
    """The patterns of one list.

    ``vendor`` and ``*.md`` stand for files and folders of that name anywhere, ``docs/api`` and
    ``./vendor`` for one place, ``gen/`` for folders only. A pattern that is the path of a file or
    folder to the letter stands for that, whatever its characters mean; ``{a,b}`` is either.

    Args:
        patterns: In gitignore's language without ``!``. What ``src/**`` names is ``src``.
        base: The folder that they are relative to.
        label: What stands for the folder in front of paths, with ``/`` at its end, or "".
    """

    def __init__(self, patterns: Sequence[str], base: Path, *, label: str = "") -> None:
        self._written = [_relative(pattern, base, label) for pattern in patterns]
        self._literals = [path.strip("/") for path in self._written]
        self._rules = [
            () if "/" in path and _is_there(path, base, label) else tuple(_rules(path))
            for path in self._written
        ]
        self._places = [*filter(None, map(_fixed_place, self._written))]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._written)

    def last_match(self, path: str, *, folder: bool) -> int:
        """Return the place of the last pattern that names a path itself, or -1.

        Args:
            path: Posix, relative to the base, or below the label.
            folder: Whether it is a folder.
        """
        for place in reversed(range(len(self._written))):
            if path == self._literals[place]:
                return place
            if any(rule.matches(path, folder=folder) for rule in self._rules[place]):
                return place
        return -1

    def lead_into(self, folder: str) -> bool:
        """Return whether a pattern names one place, and that lies below a folder."""
        return any(place.startswith(f"{folder}/") for place in self._places)


def _is_there(path: str, base: Path, label: str) -> bool:
    """Return whether a pattern with wildcards is the path of something to the letter."""
    if not _SPECIAL.search(path) or not (path := path.strip("/")).startswith(label):
        return False
    return os.path.lexists(base / path.removeprefix(label))


def _relative(pattern: str, base: Path, label: str) -> str:
    """Write a pattern relative to the base, with ``/`` in front of one that names one place."""
    pattern = _BELOW.sub("/", pattern) if pattern.strip("/*") else pattern
    expanded = expand_home(pattern)
    is_base = bool(label) and expanded.rstrip("/") == str(base)
    if expanded != pattern or expanded.startswith(f"{base}/") or is_base:
        relative = os.path.relpath(expanded, base)
        if not relative.startswith(".."):
            relative = os.path.normpath(label + relative)
        return f"/{relative}/" if pattern.endswith("/") else f"/{relative}"
    while pattern.startswith("./"):
        pattern = "/" + pattern[2:].lstrip("/")
    if pattern.startswith("../"):
        return f"/{pattern}"
    return pattern


def _fixed_place(written: str) -> str:
    """Return what comes before the first wildcard of a pattern that names one place, else ""."""
    if "/" not in written.rstrip("/"):
        return ""
    parts = written.strip("/").split("/")
    special = next((i for i, part in enumerate(parts) if _SPECIAL.search(part)), None)
    return "/".join(parts) if special is None else "/".join((*parts[:special], ""))


def _rules(pattern: str) -> Iterator[Rule]:
    for one in expand_braces(pattern):
        # What is a comment or an exception in a file of rules is a name here.
        escaped = f"\\{one}" if one[:1] in {"#", "!"} else one
        if (rule := parse_rule(escaped)) is not None:
            yield rule
