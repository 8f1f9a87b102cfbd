"""The sources that a snapshot holds, or that a run looks at."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from merganser.globs import GlobEntry, expand_home, is_glob

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
        """Return the scope of both, with the ignore rules of this one."""
        return Scope(tuple(sorted({*self.docs, *other.docs})), self.respect_vcs)

    def covers(self, path: str, base: Path) -> bool:
        """Return whether a file lies in it, existing or not.

        Args:
            path: As stored, relative to ``base``.
            base: The folder that entries are relative to.
        """
        absolute = os.path.normpath(base / path)  # a folder may be called "~"
        return any(_names(entry, absolute, base) for entry in self.docs)


def _names(entry: str, path: str, base: Path) -> bool:
    """Tell whether an entry of ``docs`` stands for an absolute path."""
    named = os.path.normpath(base / expand_home(entry))
    if path == named or path.startswith(named.rstrip("/") + "/"):
        return True
    if not is_glob(entry):
        return False
    glob = GlobEntry.parse(entry, base)
    root = glob.root.rstrip("/") + "/"
    # A pattern names files and folders alike; what is in a named folder is in the scope.
    return path.startswith(root) and glob.matches(path.removeprefix(root))
