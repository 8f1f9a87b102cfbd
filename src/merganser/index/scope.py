"""What part of the tree a run looked at, so that it never deletes what it did not scan."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Scope:
    """The sources of a snapshot or a run.

    Attributes:
        docs: Entries of ``docs``, sorted, without repetitions.
        respect_vcs: Whether ignore rules applied.
    """

    docs: tuple[str, ...]
    respect_vcs: bool

    @classmethod
    def of(cls, docs: Sequence[str], *, respect_vcs: bool) -> Scope:
        """Make a scope of the entries in a config."""
        return cls(tuple(sorted({os.path.normpath(entry) for entry in docs})), respect_vcs)

    @classmethod
    def from_text(cls, text: str) -> Scope:
        """Read what ``to_text`` wrote."""
        data = json.loads(text)
        return cls(tuple(data["docs"]), bool(data["respect_vcs"]))

    def to_text(self) -> str:
        """Write for the meta of a snapshot."""
        return json.dumps({"docs": self.docs, "respect_vcs": self.respect_vcs})

    def union(self, other: Scope) -> Scope:
        """Give the scope of both; what this one says of ignore rules holds."""
        return Scope(tuple(sorted({*self.docs, *other.docs})), self.respect_vcs)

    def covers(self, path: str, base: Path) -> bool:
        """Tell whether a file lies in it, existing or not.

        Args:
            path: As stored, relative to ``base``.
            base: The folder that entries are relative to.
        """
        absolute = _absolute(path, base)
        return any(_matches(absolute, _absolute(entry, base)) for entry in self.docs)


def _absolute(path: str, base: Path) -> str:
    return os.path.normpath(base / path).replace(os.sep, "/")


def _matches(path: str, entry: str) -> bool:
    if path == entry or path.startswith(entry.rstrip("/") + "/"):
        return True
    if not _GLOB.search(entry):
        return False
    # A pattern names files and folders alike; what is in a named folder is in the scope.
    return re.fullmatch(_translate(entry) + r"(?:/.*)?", path) is not None


def _translate(pattern: str) -> str:
    parts: list[str] = []
    for token in re.split(r"(\*\*/|\*\*|\*|\?|\[!?[^]/]+\])", pattern):
        match token:
            case "**/":
                parts.append(r"(?:.*/)?")
            case "**":
                parts.append(r".*")
            case "*":
                parts.append(r"[^/]*")
            case "?":
                parts.append(r"[^/]")
            case _ if token.startswith("[") and token.endswith("]"):
                parts.append("[^" + token[2:] if token.startswith("[!") else token)
            case _:
                parts.append(re.escape(token))
    return "".join(parts)
