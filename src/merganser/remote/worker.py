"""Embed shards in another process than the one that began their run.

A ``RemoteWorkspace`` stands in for the run's workspace: it has the same means, in a temporary
folder, and sends what comes of them to the shared folder. A process keeps one for the run that it
works for, with the connection to the model and the pace that was learnt for it.
"""

from __future__ import annotations

import atexit
import os
import socket
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.documents.scanning import mtime_of
from merganser.indexing.shard_plan import (
    FileOutcome,
    Shard,
    ShardProgress,
    ShardResult,
    save_result,
)
from merganser.indexing.shards import embed_shard
from merganser.remote.sharing import ShardReceipt, read_known, send_shard
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore
from merganser.store.folder import IndexFolder
from merganser.store.shared_folder import SharedFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from merganser.documents.scanning import Document
    from merganser.embedding.service import EmbedService
    from merganser.remote.sharing import SharedRun


async def embed_remote_shard(
    run: SharedRun, shard: Shard, start: Callable[[], EmbedService] | None
) -> tuple[ShardReceipt, ShardResult]:
    """Read, chunk and embed the files of a shard; leave the outcome in the shared folder.

    Args:
        run: What the publisher said.
        shard: The files.
        start: Starts the run's embedder of this process, or None when the run has no model.

    Returns:
        The names of the files, and what became of the shard.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one file's.
        PlanError: The config expects vectors of another length.
        ProtocolError: The model gave unusable vectors.
        StoreError: The shared folder cannot be reached, read or written.
    """
    with _workspace(run) as workspace:
        here = [document for document in shard.documents if _is_here(document)]
        embedder = workspace.service(start) if start else None
        result = await embed_shard(workspace, Shard(shard.number, tuple(here)), embedder)
        absent = [_absent(document) for document in shard.documents if document not in here]
        if absent:
            result = replace(result, files=(*result.files, *absent))
            save_result(workspace, result)
        archive = send_shard(workspace, run, shard.number)
        journals = workspace.journals(shard.number)
        return ShardReceipt(shard.number, result.chunks, archive, journals), result


class RemoteWorkspace:
    """The means of a run in another process; see ``merganser.indexing.shard_plan.ShardWork``."""

    def __init__(self, run: SharedRun) -> None:
        self.run_id = run.run_id
        self.definition = run.definition
        self.dimensions = run.dimensions
        self.progress = ShardProgress(run.definition.name, {}, embeds=bool(run.fingerprint))
        self.chunking = threading.Lock()
        self.users = 0
        self._run = run
        self._guard = threading.Lock()
        self._temporary = tempfile.TemporaryDirectory(prefix="merganser-")
        self.path = Path(self._temporary.name)
        self._store: EmbeddingStore | None = None
        self._service: EmbedService | None = None
        self._sent: list[str] = []

    @property
    def folder(self) -> Path:
        """Where it works, for messages."""
        return self.path

    def embeddings(self) -> EmbeddingStore:
        """Return a store that knows which texts have vectors, and sends those that get some.

        Raises:
            StoreError: The run is over, or its folder cannot be reached from here.
        """
        with self._guard:
            if self._store is None:
                known, drift_sample = read_known(self._run)
                folder, fingerprint = IndexFolder(self.path), self._run.fingerprint
                # It has no segments here, so it opens none.
                connect = partial(connect_writer, self.path / "spill")
                store = EmbeddingStore(
                    folder, fingerprint, (), connect=connect, drift_sample=drift_sample
                )
                store.assume(known)
                store.on_commit = self._send
                self._store = store
            return self._store

    def service(self, start: Callable[[], EmbedService]) -> EmbedService:
        """Return this process's embedder of the run; the first call starts it."""
        with self._guard:
            if self._service is None:
                self._service = start()
            return self._service

    def journals(self, number: int) -> tuple[str, ...]:
        """Return the names of the journals that a shard has left."""
        return tuple(n for n in self._sent if n.startswith(f"{self.run_id}-{number:05d}-"))

    def close(self) -> None:
        """End the embedder and remove the folder."""
        if self._service is not None:
            self._service.close()
        self._temporary.cleanup()

    def _send(self, path: Path) -> None:
        self._sent.append(SharedFolder(self._run.journals).put(path.stem, path.read_bytes()))
        path.unlink()  # the publisher has it; here it would only fill the disk


_workspaces: dict[str, RemoteWorkspace] = {}
_guard = threading.Lock()


@contextmanager
def _workspace(run: SharedRun) -> Generator[RemoteWorkspace]:
    """Return the process's workspace for a run; those of other runs that are idle are closed."""
    with _guard:
        for folder, other in list(_workspaces.items()):
            if folder != run.folder and not other.users:
                _workspaces.pop(folder).close()
        workspace = _workspaces.get(run.folder)
        if workspace is None:
            workspace = _workspaces[run.folder] = RemoteWorkspace(run)
        workspace.users += 1
    try:
        yield workspace
    finally:
        with _guard:
            workspace.users -= 1


@atexit.register
def _close_workspaces() -> None:
    for workspace in _workspaces.values():
        workspace.close()


def _is_here(document: Document) -> bool:
    """Return whether the file is the one that the publisher scanned."""
    try:
        status = os.stat(document.absolute)  # noqa: PTH116 - a string
    except OSError:
        return False
    return (status.st_size, mtime_of(status)) == (document.size_bytes, document.mtime_ns)


def _absent(document: Document) -> FileOutcome:
    detail = f"{socket.gethostname()} has no {document.absolute}, or another version of it"
    return FileOutcome(document.path, "failed", reason="elsewhere", detail=detail)
