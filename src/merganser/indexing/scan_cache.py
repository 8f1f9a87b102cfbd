"""What scans learnt about files without a change of the index.

A file may get a new mtime and keep its content (a checkout does that), or be skipped once it was
read (a binary). Neither makes a new snapshot, so the snapshot cannot remember it; this file beside
the snapshots does, and spares the next scan the reading. It is advice: a lost or damaged one
costs time, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any, cast

from merganser.chunking import CHUNKER_VERSION
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from merganser.documents.scanning import Document

_RULES = f"2.{CHUNKER_VERSION}"
# What was skipped under other rules is looked at again.


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file as a scan saw it.

    Attributes:
        path: As users see it.
        size_bytes: Size from its status.
        mtime_ns: Modification time from its status, in nanoseconds since the epoch.
        inode: Inode from its status.
        stat_ns: When the status was read, in nanoseconds since the epoch.
        content_hash: Hex, or "" for a file that is skipped.
        reason: Why it is skipped, or "".
        detail: What was seen.
        ctime_ns: Change time from its status, in nanoseconds since the epoch; 0 when not known.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    stat_ns: int
    content_hash: str = ""
    reason: str = ""
    detail: str = ""
    ctime_ns: int = 0

    @classmethod
    def of(
        cls,
        document: Document,
        stat_ns: int,
        *,
        content_hash: str = "",
        reason: str = "",
        detail: str = "",
    ) -> ScannedFile:
        """Remember a document as a scan that began at ``stat_ns`` found it."""
        return cls(
            document.path,
            document.size_bytes,
            document.mtime_ns,
            document.inode,
            stat_ns,
            content_hash,
            reason,
            detail,
            document.ctime_ns,
        )


def load_scan_cache(path: Path) -> dict[str, ScannedFile]:
    """Read what is remembered, by path; nothing when there is none or it cannot be used."""
    try:
        data = cast("dict[str, Any]", json.loads(path.read_bytes()))
        if data["rules"] != _RULES:
            return {}
        return {row[0]: ScannedFile(*row) for row in data["files"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return {}


def save_scan_cache(path: Path, entries: Iterable[ScannedFile]) -> None:
    """Remember; quietly does nothing where the folder is absent or cannot be written."""
    data = {"rules": _RULES, "files": [astuple(entry) for entry in entries]}
    suffix = f".{os.getpid()}{threading.get_ident()}.tmp"
    with contextlib.suppress(OSError):
        replace_file(path, json.dumps(data).encode(), suffix=suffix, is_durable=False)


def drop_unfinished(path: Path) -> None:
    """Remove what killed runs were writing; one being written now is lost, and only a memory."""
    with contextlib.suppress(OSError):
        for left in path.parent.glob(f"{path.name}.*.tmp"):
            left.unlink(missing_ok=True)
