"""Shards for several machines: what they leave in a shared folder, and how it is taken in.

Under ``<shards>/<index>/`` lie the journals of each model, which any run may take vectors from, and
a folder for each run whose shards are embedded in other processes::

    3f2a.../20261126T...-00007-0.<hash>     a journal: vectors by content, and the drift sample
    runs/<run id>/known.<hash>              texts that have vectors already
    runs/<run id>/00007.<hash>              a parcel: the chunks and the result of one shard

Only the process that began a run writes the index: it is the one publisher. Others are told what
to do by a ``SharedRun``, find documents and model themselves, and answer with the names of files.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from merganser.errors import StoreError
from merganser.indexing.shards import chunks_path, result_path
from merganser.remote.shared_folder import SharedFolder
from merganser.remote.shared_journals import shared_root, stem_of
from merganser.store.catalogue import DriftSample
from merganser.store.folder import replace_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition
    from merganser.indexing.shards import ShardWork
    from merganser.indexing.workspace import Workspace
    from merganser.store.embedding_store import EmbeddingStore

KEEP_SHARED = timedelta(days=1)
"""How long a journal stays after it was published here: other machines may be counting on it."""

_STAMP = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRun:
    """All that another process needs to know of a run to embed its shards.

    Attributes:
        run_id: Name of the run.
        definition: The index.
        fingerprint: Of the embedding model, "" without one.
        dimensions: Length of its vectors, or None without one.
        journals: Folder for journals, as path or URL; "" without a model.
        folder: Folder for what lives as long as the run.
        known: File in it with the texts that have vectors, and drift sample; "" without a model.
    """

    run_id: str
    definition: IndexDefinition
    fingerprint: str
    dimensions: int | None
    journals: str
    folder: str
    known: str


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """What a shard left in the shared folder.

    Attributes:
        number: Of the shard.
        chunks: How many it has.
        parcel: File with its chunks and its result.
        journals: Files with the vectors that it embedded.
    """

    number: int
    chunks: int
    parcel: str
    journals: tuple[str, ...]


def share_run(workspace: Workspace) -> SharedRun:
    """Leave what other processes need to embed the shards of a run.

    Raises:
        StoreError: The shared folder cannot be written.
    """
    model = workspace.model
    known = journals = ""
    if model is not None:
        store = workspace.embeddings()
        content = io.BytesIO()
        texts, vectors = np.array(model.drift_sample.texts), model.drift_sample.vectors
        np.savez(content, hashes=store.hashes(), texts=texts, vectors=vectors)
        known = run_folder(workspace).put("known", content.getvalue())
        journals = journals_folder(workspace, store).place
    return SharedRun(
        run_id=workspace.run_id,
        definition=workspace.definition,
        fingerprint=model.fingerprint if model else "",
        dimensions=model.dimensions if model else None,
        journals=journals,
        folder=run_folder(workspace).place,
        known=known,
    )


def read_known(run: SharedRun) -> tuple[NDArray[np.uint64], DriftSample]:
    """Give the texts that had vectors when the run was shared, and the model's drift sample.

    Returns:
        (n, 2) uint64, and the drift sample.

    Raises:
        StoreError: The run is over, or its folder cannot be reached from here.
    """
    try:
        content = SharedFolder(run.folder).get(run.known)
    except FileNotFoundError as error:
        raise StoreError(
            f"no run {run.run_id} at {run.folder!r}: it is over, or this machine does not reach "
            "the folder; name one that all machines reach with `shards`"
        ) from error
    with np.load(io.BytesIO(content)) as file:
        return file["hashes"], DriftSample(tuple(file["texts"].tolist()), file["vectors"])


def send_shard(work: ShardWork, run: SharedRun, number: int) -> str:
    """Leave the chunks and the result of a shard; give the name of the file.

    Raises:
        StoreError: The shared folder cannot be written.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as parcel:
        for path in (result_path(work, number), chunks_path(work, number)):
            if path.exists():
                parcel.writestr(path.name, path.read_bytes())
    return SharedFolder(run.folder).put(f"{number:05d}", content.getvalue())


def receive_shard(workspace: Workspace, receipt: ShardReceipt) -> None:
    """Take in what a shard left, as if it had been embedded here.

    Raises:
        StoreError: A file is not there or not whole.
    """
    try:
        if receipt.journals:
            store = workspace.embeddings()
            folder = journals_folder(workspace, store)
            for name in receipt.journals:
                store.adopt(name, folder.get(name))
        content = run_folder(workspace).get(receipt.parcel)
    except FileNotFoundError as error:
        raise StoreError(
            f"shard {receipt.number} was embedded, but what it left is not here: {error}; name a "
            "folder that all machines reach with `shards`"
        ) from error
    with zipfile.ZipFile(io.BytesIO(content)) as parcel:
        # The result goes last: it says that the shard is done.
        for path in (
            chunks_path(workspace, receipt.number),
            result_path(workspace, receipt.number),
        ):
            if path.name in parcel.namelist():
                replace_file(path, parcel.read(path.name), is_durable=False)
    workspace.progress.was_cut(receipt.number, receipt.chunks)
    workspace.progress.finished(receipt.number)


def tidy_shared(workspace: Workspace) -> None:
    """Remove what no machine needs any more; call it after publishing.

    A journal goes when it is a day old and the index here does not need it.

    Raises:
        StoreError: The shared folder cannot be read or written.
    """
    if workspace.definition.shards is None:
        return
    if workspace.model is not None:
        store = workspace.embeddings()
        folder, needed = journals_folder(workspace, store), store.journal_folder
        for name in folder.names():
            kept = (needed / f"{name}.npz").exists() or (needed / f"{stem_of(name)}.npz").exists()
            if _is_old(name) and not kept:
                folder.remove(name)
    runs = _root(workspace).below("runs")
    for name in runs.names():
        if name == workspace.run_id or _is_old(name):
            runs.remove(name)


def journals_folder(workspace: Workspace, store: EmbeddingStore) -> SharedFolder:
    """Where the journals of a model are left for other processes."""
    return _root(workspace).below(store.journal_folder.name)


def run_folder(workspace: Workspace) -> SharedFolder:
    """Where is left what lives as long as the run."""
    return _root(workspace).below("runs").below(workspace.run_id)


def _root(workspace: Workspace) -> SharedFolder:
    definition = workspace.definition
    # Without a place of the user's, other processes of this machine meet in the run's own folder.
    place = definition.shards or str(workspace.path / "shared")
    return shared_root(place, definition.name)


def _is_old(name: str) -> bool:
    """Tell by the run whose name a file begins with; what has another name is not ours."""
    try:
        begun = datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return datetime.now(UTC) - begun > KEEP_SHARED
