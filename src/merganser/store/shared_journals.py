"""Journals that machines share: taken in when a run looks for vectors, left as they are committed.

::

    <place>/<index>/3f2a.../canaries.<hash>                 drift sample of a model
    <place>/<index>/3f2a.../20261126T...-00007-0.<hash>     a journal, as in an index folder
    <place>/<index>/runs/<run id>/                          files that live as long as a run

By the drift sample another machine sees whether what it has under the same name is the same model.
"""

from __future__ import annotations

import io
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

from merganser.store.journals import DRIFT_FILE, read_drift_sample
from merganser.store.shared_folder import SharedFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from merganser.store.catalogue import DriftSample
    from merganser.store.embedding_store import EmbeddingStore

KEEP_SHARED = timedelta(days=1)
"""How long a journal stays after it was published here: other machines may be counting on it."""

RUNS = "runs"
_STAMP = "%Y%m%dT%H%M%S"


def shared_root(place: str, index: str) -> SharedFolder:
    """Return the folder of one index.

    Args:
        place: Path or URL, as a config has it.
        index: Its name.

    Raises:
        StoreError: Nothing here can reach such a URL.
    """
    return SharedFolder(place).below(quote(index, safe=""))


def shared_models(root: SharedFolder, fingerprint: str) -> Iterator[tuple[str, DriftSample]]:
    """Yield the models whose journals are shared, those that may go by a fingerprint.

    Args:
        root: Folder of the index.
        fingerprint: As the server's model has it.

    Yields:
        Fingerprints with drift samples.

    Raises:
        StoreError: The shared folder cannot be read.
    """
    for name in root.names():
        if name.partition("+")[0] == fingerprint[:32]:
            folder = root.below(name)
            for file in folder.names():
                if stem_of(file) == DRIFT_FILE:
                    with suppress(FileNotFoundError):
                        found = read_drift_sample(io.BytesIO(folder.get(file)))
                        if found is not None:
                            yield found


def exchange_journals(store: EmbeddingStore, folder: SharedFolder) -> None:
    """Take in the journals of other machines, and leave ours: those here and those to come.

    Args:
        store: Vectors of the run.
        folder: Shared folder of its model.

    Raises:
        StoreError: The shared folder cannot be read or written.
    """
    here = {path.stem for path in store.journal_folder.glob("*.npz")}
    there = folder.names()
    for name in there:
        is_ours = name in here or stem_of(name) in here
        if stem_of(name) != DRIFT_FILE and not is_ours:
            # What is not whole is being written, or broken; its texts are embedded here.
            with suppress(FileNotFoundError):
                store.adopt(name, folder.get(name))
    known = {*there, *map(stem_of, there)}

    def leave(path: Path) -> None:
        folder.put(path.stem, path.read_bytes())

    if DRIFT_FILE not in known:
        folder.put(DRIFT_FILE, store.name_model().read_bytes())
    for stem in sorted(here - known):
        leave(store.journal_folder / f"{stem}.npz")
    store.on_commit = leave


def stem_of(name: str) -> str:
    """Return the name that a file had before it got its hash."""
    return name.rpartition(".")[0]


def tidy_shared(root: SharedFolder, store: EmbeddingStore | None, *, run_id: str) -> None:
    """Remove what no machine needs any more; call it after publishing.

    A journal goes when it is a day old and the index here does not need it.

    Args:
        root: Folder of the index.
        store: Vectors of the run, or None without a model.
        run_id: The run that published, whose files go.

    Raises:
        StoreError: The shared folder cannot be read or written.
    """
    if store is not None:
        folder, needed = root.below(store.journal_folder.name), store.journal_folder
        for name in folder.names():
            kept = (needed / f"{name}.npz").exists() or (needed / f"{stem_of(name)}.npz").exists()
            if _is_old(name) and not kept:
                folder.remove(name)
    runs = root.below(RUNS)
    for name in runs.names():
        if name == run_id or _is_old(name):
            runs.remove(name)


def _is_old(name: str) -> bool:
    """Tell by the run whose name a file begins with; a file with another name is left alone."""
    try:
        begun = datetime.strptime(name.partition("-")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return datetime.now(UTC) - begun > KEEP_SHARED
