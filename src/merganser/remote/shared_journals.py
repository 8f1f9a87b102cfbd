"""Journals that machines share: taken in when a run looks for vectors, left as they are committed.

In the folder of a model lie its journals, as in an index folder, and its drift sample, by which
another machine sees whether what it has under the same name is the same model.
"""

from __future__ import annotations

import io
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

from merganser.remote.shared_folder import SharedFolder
from merganser.store.embedding_store import read_drift_sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from merganser.store.catalogue import DriftSample
    from merganser.store.embedding_store import EmbeddingStore

_DRIFT_FILE = "canaries"


def shared_root(place: str, index: str) -> SharedFolder:
    """Give the folder of one index.

    Args:
        place: Path or URL, as a config has it.
        index: Its name.

    Raises:
        StoreError: Nothing here can reach such a URL.
    """
    return SharedFolder(place).below(quote(index, safe=""))


def shared_models(root: SharedFolder, fingerprint: str) -> Iterator[tuple[str, DriftSample]]:
    """Give the models whose journals are shared, those that may go by a fingerprint.

    Args:
        root: Of the index.
        fingerprint: As the server's model has it.

    Raises:
        StoreError: The shared folder cannot be read.
    """
    for name in root.names():
        if name.partition("+")[0] == fingerprint[:32]:
            folder = root.below(name)
            for file in folder.names():
                if stem_of(file) == _DRIFT_FILE:
                    with suppress(FileNotFoundError):
                        found = read_drift_sample(io.BytesIO(folder.get(file)))
                        if found is not None:
                            yield found


def exchange_journals(store: EmbeddingStore, folder: SharedFolder) -> None:
    """Take in the journals of other machines, and leave ours: those here and those to come.

    Args:
        store: Of the run.
        folder: Of its model.

    Raises:
        StoreError: The shared folder cannot be read or written.
    """
    here = {path.stem for path in store.journal_folder.glob("*.npz")}
    there = folder.names()
    for name in there:
        is_ours = name in here or stem_of(name) in here
        if stem_of(name) != _DRIFT_FILE and not is_ours:
            # What is not whole is being written, or broken; its texts are embedded here.
            with suppress(FileNotFoundError):
                store.adopt(name, folder.get(name))
    known = {*there, *map(stem_of, there)}

    def leave(path: Path) -> None:
        folder.put(path.stem, path.read_bytes())

    if _DRIFT_FILE not in known:
        folder.put(_DRIFT_FILE, store.name_model().read_bytes())
    for stem in sorted(here - known):
        leave(store.journal_folder / f"{stem}.npz")
    store.on_commit = leave


def stem_of(name: str) -> str:
    """Give the name that a file had before it got its hash."""
    return name.rpartition(".")[0]
