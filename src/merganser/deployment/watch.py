"""Watch the documents of indexes and run something whenever they changed.

Events only wake the watcher. What counts is the state of the documents, as a run would scan them:
it is compared with the state before the last run that succeeded. So ignored files start nothing,
a change during a run starts another one after it, and an event that the system lost is found by
the next regular look.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.globs import GlobEntry, expand_home, is_glob
from merganser.indexing.sources import scan_index

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.repositories import Repository

DEBOUNCE_MS = 1000
"""Changes that follow each other this closely are one: an editor writes a file in several steps."""

RECHECK_SECONDS = 300.0
"""Time between looks without an event; network folders and full queues lose some."""

LISTEN_AGAIN_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 300.0


async def watch_documents(
    indexes: Sequence[IndexDefinition],
    run: Callable[[], Awaitable[bool]],
    *,
    say: Callable[[str], None],
) -> None:
    """Run at the start and whenever documents changed, one run at a time, until cancelled.

    Args:
        indexes: Whose documents are watched.
        run: Returns whether it succeeded; after a failure it is called again, with growing pauses.
        say: Called with what goes wrong with watching.
    """
    woken = asyncio.Event()
    woken.set()
    listening = asyncio.create_task(_listen(indexes, woken, say))
    seen: str | None = None
    pause = 1.0
    try:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), RECHECK_SECONDS)
            woken.clear()
            state = await asyncio.to_thread(documents_state, indexes)
            if state == seen:
                continue
            if await run():
                seen, pause = state, 1.0
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                woken.set()
    finally:
        listening.cancel()


def documents_state(indexes: Iterable[IndexDefinition]) -> str:
    """Return a digest of the documents as a run would find them: paths, sizes, times, inodes.

    Repositories with a URL are known by the commit that their server has.
    """
    digest = hashlib.blake2b(digest_size=16)
    for index in indexes:
        scan = scan_index(index)
        cloned = tuple(f"{one.label}/" for one in index.repositories if one.url)
        for one in scan.documents:
            if cloned and one.path.startswith(cloned):
                continue  # a run itself changes them
            fact = f"{index.name}\0{one.path}\0{one.size_bytes}\0{one.mtime_ns}\0{one.inode}\n"
            digest.update(fact.encode("utf-8", "surrogatepass"))
        for repository in index.repositories:
            if repository.url:
                digest.update(_remote_state(repository).encode())
    return digest.hexdigest()


_asked: dict[Repository, tuple[float, str]] = {}


def _remote_state(repository: Repository) -> str:
    """Return the commit that a repository is at; its server is asked once in a regular look."""
    when, commit = _asked.get(repository, (-RECHECK_SECONDS, ""))
    if time.monotonic() - when >= RECHECK_SECONDS:
        from merganser.documents.clones import remote_commit  # noqa: PLC0415 - only clones need it

        # One that cannot be asked has not moved, as far as is known.
        commit = remote_commit(repository) or commit
        _asked[repository] = time.monotonic(), commit
    return commit


def watched_folders(indexes: Iterable[IndexDefinition]) -> tuple[Path, ...]:
    """Return the folders whose events matter: for each ``docs`` entry the nearest that exists."""
    found = dict[Path, None]()
    for index in indexes:
        for entry in index.docs:
            path = os.path.normpath(index.base / expand_home(entry))
            if not os.path.lexists(path) and is_glob(entry):
                path = GlobEntry.parse(entry, index.base).root
            found[_nearest(Path(path))] = None
        for one in index.repositories:
            if not one.url:  # a clone changes by our own runs alone
                found[_nearest(one.root)] = None
    return tuple(folder for folder in found if not any(other in folder.parents for other in found))


def _nearest(folder: Path) -> Path:
    while not folder.is_dir():
        folder = folder.parent
    return folder


async def _listen(
    indexes: Sequence[IndexDefinition], woken: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Wake the watcher at every event that may matter; begin anew when listening breaks."""
    # Its type names a stop event of a library that need not be there.
    from watchfiles import awatch  # noqa: PLC0415 # pyright: ignore[reportUnknownVariableType] - only those who watch load it

    silent = tuple(f"{index.folder}{os.sep}" for index in indexes)

    def matters(change: object, path: str) -> bool:
        del change
        return not path.startswith(silent) and f"{os.sep}.git{os.sep}" not in path

    while True:
        folders = watched_folders(indexes)
        if not folders:  # all are clones, whose servers tell nobody
            return
        try:
            async for _ in awatch(*folders, watch_filter=matters, debounce=DEBOUNCE_MS):
                woken.set()
        except (OSError, RuntimeError) as error:
            # For example a folder that was removed, or no inotify watch left for this user.
            say(f"watching {', '.join(map(str, folders))}: {error}")
        await asyncio.sleep(LISTEN_AGAIN_SECONDS)
        woken.set()
