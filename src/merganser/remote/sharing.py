"""Shards for several machines: what they leave in a shared folder, and how it is taken in.

Beside the journals of each model (see ``merganser.store.shared_journals``) lies a folder for each
run whose shards are embedded in other processes::

    runs/<run id>/known.<hash>      texts that have vectors already, and the drift sample
    runs/<run id>/00007.<hash>      a shard archive: the chunks and the result of one shard

Only the process that began a run writes the index: it is the one publisher. Others are told what
to do by a ``SharedRun``, find documents and model themselves, and answer with the names of files.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from merganser.errors import StoreError
from merganser.indexing.shard_plan import chunks_path, result_path
from merganser.store.catalogue import DriftSample
from merganser.store.folder import replace_file
from merganser.store.shared_folder import SharedFolder
from merganser.store.shared_journals import RUNS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition
    from merganser.indexing.shard_plan import ShardWork
    from merganser.indexing.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRun:
    """All that another process needs to know of a run to embed its shards.

    Attributes:
        run_id: Name of the run.
        definition: The index.
        fingerprint: Fingerprint of the embedding model, "" without one.
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
        number: Number of the shard.
        chunks: How many it has.
        archive: File with its chunks and its result.
        journals: Files with the vectors that it embedded.
    """

    number: int
    chunks: int
    archive: str
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
        journals = workspace.shared.below(store.journal_folder.name).place
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
    """Return the texts that had vectors when the run was shared, and the model's drift sample.

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
    """Leave the chunks and the result of a shard; return the name of the file.

    Raises:
        StoreError: The shared folder cannot be written.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in (result_path(work, number), chunks_path(work, number)):
            if path.exists():
                archive.writestr(path.name, path.read_bytes())
    return SharedFolder(run.folder).put(f"{number:05d}", content.getvalue())


def receive_shard(workspace: Workspace, receipt: ShardReceipt) -> None:
    """Take in what a shard left, as if it had been embedded here.

    Raises:
        StoreError: A file is not there or not whole.
    """
    try:
        if receipt.journals:
            store = workspace.embeddings()
            folder = workspace.shared.below(store.journal_folder.name)
            for name in receipt.journals:
                store.adopt(name, folder.get(name))
        content = run_folder(workspace).get(receipt.archive)
    except FileNotFoundError as error:
        raise StoreError(
            f"shard {receipt.number} was embedded, but what it left is not here: {error}; name a "
            "folder that all machines reach with `shards`"
        ) from error
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        # The result goes last: it says that the shard is done.
        for path in (
            chunks_path(workspace, receipt.number),
            result_path(workspace, receipt.number),
        ):
            if path.name in archive.namelist():
                replace_file(path, archive.read(path.name), is_durable=False)
    workspace.progress.chunked(receipt.number, receipt.chunks)
    workspace.progress.finished(receipt.number)


def run_folder(workspace: Workspace) -> SharedFolder:
    """Return the shared folder for files that live as long as the run."""
    return workspace.shared.below(RUNS).below(workspace.run_id)
