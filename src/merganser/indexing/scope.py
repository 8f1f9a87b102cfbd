"""What part of the tree a run looked at, so that it never deletes what it did not scan."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.globs import GlobEntry, is_glob

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    return os.path.normpath(base / Path(path).expanduser()).replace(os.sep, "/")


def _matches(path: str, entry: str) -> bool:
    if path == entry or path.startswith(entry.rstrip("/") + "/"):
        return True
    if not is_glob(entry):
        return False
    glob = GlobEntry.parse(entry)
    root = glob.root.rstrip("/") + "/"
    # A pattern names files and folders alike; what is in a named folder is in the scope.
    return path.startswith(root) and glob.matches(path.removeprefix(root))
