"""The resume store: what is kept of turns so that they can be resumed, where, and how long.

Each turn has a folder of its own below ``merganser_home()/turns``: the results of its model
requests and tool calls, and ``turn.json``, which names the snapshots that it searched. It is
removed with the first of these that is not kept any more (``keep_snapshots``), because what was
retrieved is then out of date, and after ``LIFETIME`` at the latest.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.config.rag_definition import resolve_rag
from merganser.errors import StoreError
from merganser.services.supervisor import merganser_home
from merganser.store.folder import IndexFolder, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.config.load import Config

LIFETIME = timedelta(days=7)
"""How long a turn can be resumed after it began; as long as Prefect keeps events."""

_MARK = "turn.json"
_UNMARKED_SECONDS = 3600.0
"""Age at which a folder without its mark is removed; a younger one may be a turn that begins."""


def keep_turn(turn_id: str, folders: Iterable[Path]) -> Path:
    """Return the folder for the results of a turn; a turn that resumes gets its own again.

    Args:
        turn_id: Any text.
        folders: The indexes that the turn searches.

    Raises:
        StoreError: An index folder holds something else.
        OSError: The folder cannot be made.
    """
    folder = _turns() / hashlib.sha256(turn_id.encode(errors="surrogatepass")).hexdigest()[:32]
    _remove_if_over(folder, {})
    mark = folder / _MARK
    if not mark.exists():
        current = {str(path): IndexFolder(path).read_current() for path in folders}
        snapshots = {path: found.generation for path, found in current.items() if found}
        folder.mkdir(parents=True, exist_ok=True)
        content = {"started": time.time(), "snapshots": snapshots}
        replace_file(mark, json.dumps(content).encode(), is_durable=False)
    return folder


def index_folders(config: Config, rags: Iterable[str]) -> list[Path]:
    """Return the folders of the indexes that rags search."""
    return [index.folder for rag in rags for index in resolve_rag(config, rag).indexes]


def prune_turns() -> int:
    """Remove what was kept of turns whose snapshots are gone or whose time is over.

    Returns:
        The number of turns removed.
    """
    kept: dict[str, tuple[int, ...] | None] = {}
    return sum([_remove_if_over(folder, kept) for folder in sorted(_turns().glob("*"))])


def _turns() -> Path:
    return merganser_home() / "turns"


def _remove_if_over(folder: Path, kept: dict[str, tuple[int, ...] | None]) -> bool:
    with suppress(OSError):
        if _is_over(folder, kept):
            shutil.rmtree(folder)
            return True
    return False


def _is_over(folder: Path, kept: dict[str, tuple[int, ...] | None]) -> bool:
    """Tell whether a turn is to be removed; ``kept`` caches the kept snapshots of each index."""
    try:
        mark: dict[str, Any] = json.loads((folder / _MARK).read_bytes())
        started, snapshots = float(mark["started"]), dict[str, int](mark["snapshots"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return time.time() - folder.stat().st_mtime > _UNMARKED_SECONDS
    if time.time() - started > LIFETIME.total_seconds():
        return True
    for path, generation in snapshots.items():
        if path not in kept:
            kept[path] = _kept(Path(path))
        alive = kept[path]
        if alive is not None and generation not in alive:
            return True
    return False


def _kept(folder: Path) -> tuple[int, ...] | None:
    """Return the kept snapshots of an index; None when they cannot be read now."""
    try:
        current = IndexFolder(folder).read_current()
    except (StoreError, OSError):
        return None
    return current.kept if current else ()
