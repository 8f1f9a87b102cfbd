"""Globs of ``docs``: ``*``, ``?``, ``[a-z]``, ``{a,b}`` and ``**`` as a whole part of a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SPECIAL = re.compile(r"[*?\[{]")


def is_glob(entry: str) -> bool:
    """Return whether an entry has a wildcard; ``{`` counts only with its ``}``."""
    return any(mark != "{" or "}" in entry for mark in _SPECIAL.findall(entry))


def fixed_part(entry: str) -> Path:
    """Return the path itself, or the folder that holds all that a glob can match."""
    return Path(GlobEntry.parse(entry).root if is_glob(entry) else entry)


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
    def parse(cls, glob: str) -> GlobEntry:
        """Split an absolute glob."""
        parts = glob.split("/")
        fixed = next(i for i, part in enumerate(parts) if _SPECIAL.search(part))
        expression = _translate("/".join(parts[fixed:]))
        return cls("/".join(parts[:fixed]) or "/", re.compile(rf"{expression}(?:/.*)?", re.DOTALL))

    def matches(self, path: str) -> bool:
        """Return whether a path, or a folder above it, matches.

        Args:
            path: Posix, relative to the root.
        """
        return self.pattern.fullmatch(path) is not None


def _translate(glob: str) -> str:
    """Return a glob as a regular expression."""
    out: list[str] = []
    at = depth = 0
    while at < len(glob):
        character = glob[at]
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] in "/{,"):
            out.append("(?:[^/]+/)*")
            at += 3
            continue
        if glob[at:] == "**" and (at == 0 or glob[at - 1] == "/"):
            out.append(".+")
            at += 2
            continue
        match character:
            case "*":
                out.append("[^/]*")
            case "?":
                out.append("[^/]")
            case "[" if (end := glob.find("]", at + 2)) > 0:
                out.append(_character_class(glob[at + 1 : end]))
                at = end
            case "{" if "}" in glob[at:]:
                out.append("(?:")
                depth += 1
            case "," if depth:
                out.append("|")
            case "}" if depth:
                out.append(")")
                depth -= 1
            case _:
                out.append(re.escape(character))
        at += 1
    return "".join(out) + ")" * depth


def _character_class(inside: str) -> str:
    """Return ``[...]`` as a regular expression: ``!`` and ``^`` negate, no slash is matched."""
    negated = inside[0] in "!^"
    body = re.sub(r"([\\\[\]&~|^])", r"\\\1", inside[1:] if negated else inside)
    return f"(?!/)[{'^' if negated else ''}{body}]"
