"""Vectors of the other indexes that this user has of the same repository: paid for once.

Whoever indexes the same commit from two work trees, or two clones, has the same texts twice. Each
run that publishes leaves a note of its index folder below ``MERGANSER_HOME``::

    indexes/<model>/<hash of the folder>.json    the folder, and by what its repositories are known

A run that lacks vectors looks there for indexes of the same repository and model, the one published
last first, and copies what it needs into journals of its own: nothing of this index depends on
another one. Whatever is wrong with another index is no error, the texts are embedded.
docs/adr/0016 has the reasons.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from merganser.documents.forges import load_provenance
from merganser.documents.git import run_git
from merganser.errors import MerganserError, StoreError
from merganser.humanize import without_credentials
from merganser.indexing.drift import LEAST_CLOSENESS, check_vectors, closeness, is_served_by
from merganser.services.supervisor import merganser_home, private_folder, write_private
from merganser.store.catalogue import read_model
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore, segments_of
from merganser.store.folder import IndexFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.git import NamesCommand
    from merganser.indexing.drift import SnapshotModel
    from merganser.store.catalogue import DriftSample

MOST_SIBLINGS = 3
"""Indexes that are opened; the fourth hardly has what three have not."""

_MOST_NOTES = 100
"""Notes of a model that are read, the last written first."""

_FOLDER = "indexes"


# -- notes ----------------------------------------------------------------------------------------


def leave_note(definition: IndexDefinition, fingerprint: str, provenance: str) -> None:
    """Write down that this user has an index; where that cannot be written it is left.

    Args:
        definition: The index, with a snapshot that is served.
        fingerprint: Fingerprint of its model.
        provenance: What the snapshot knows of its repositories.
    """
    known = load_provenance(provenance)
    marks = {*_stores(definition), *(one.commit for one in known)}
    marks |= {one.remote for one in known if one.remote}
    if not marks:
        return
    folder = os.path.realpath(definition.folder)
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:32]
    with contextlib.suppress(OSError, MerganserError):
        notes = _notes(fingerprint)
        private_folder(notes.parent.parent)
        private_folder(notes.parent)
        text = json.dumps({"folder": folder, "repositories": sorted(marks)})
        write_private(private_folder(notes) / f"{name}.json", text)


def _notes(fingerprint: str) -> Path:
    return merganser_home() / _FOLDER / fingerprint.partition("+")[0][:32]


def _stores(definition: IndexDefinition) -> set[str]:
    """Return where the repositories of an index keep their objects; work trees share that."""
    roots = (definition.base, *(one.root for one in definition.repositories))
    return {store for root in roots if (store := _store_of(Path(os.path.realpath(root))))}


def _store_of(folder: Path) -> str:
    """Return the folder of git that a folder's repository has for all its work trees, or ""."""
    for above in (folder, *folder.parents):
        git = above / ".git"
        with contextlib.suppress(OSError, ValueError):
            if git.is_dir():
                return os.path.realpath(git)
            if git.is_file():
                target = above / git.read_text("utf-8").removeprefix("gitdir:").strip()
                common = target / "commondir"
                shared = target / common.read_text("utf-8").strip() if common.exists() else target
                return os.path.realpath(shared)
    return ""


def _marks(definition: IndexDefinition) -> set[str]:
    """Return by what the repositories of an index are known before it is built."""
    marks = _stores(definition)
    for root in (definition.base, *(one.root for one in definition.repositories)):
        if root.is_dir():
            marks.add(_ask(root, "rev-parse", "--verify", "-q", "HEAD"))
            marks.add(without_credentials(_ask(root, "config", "remote.origin.url")))
    return marks - {""}


def _ask(folder: Path, command: NamesCommand, *arguments: str) -> str:
    done = run_git(str(folder), command, *arguments, seconds=10)
    return "" if done is None or done.returncode else os.fsdecode(done.stdout).strip()


def find_siblings(definition: IndexDefinition, fingerprint: str) -> Iterator[IndexFolder]:
    """Yield other indexes of the same repository and model, the one published last first.

    Args:
        definition: The index.
        fingerprint: Fingerprint of its model.
    """
    own = os.path.realpath(definition.folder)
    found: list[tuple[float, Path, set[str]]] = []
    with contextlib.suppress(OSError, MerganserError):
        notes = _notes(fingerprint)
        files = sorted(notes.glob("*.json"), key=lambda file: -file.stat().st_mtime)
        if not files:
            return
        private_folder(notes)
        for file in files[:_MOST_NOTES]:
            folder, marks = _read_note(file)
            if folder is not None and str(folder) != own:
                found.append((file.stat().st_mtime, folder, marks))
    wanted = _marks(definition) if found else set[str]()
    shared = (folder for _, folder, marks in found if marks & wanted)
    for _, folder in zip(range(MOST_SIBLINGS), filter(_is_own, shared), strict=False):
        yield IndexFolder(folder)


def _read_note(file: Path) -> tuple[Path | None, set[str]]:
    """Return the folder and the marks of a note; one of a folder that is gone goes too."""
    try:
        data = json.loads(file.read_text("utf-8"))
        folder, marks = Path(data["folder"]), {str(one) for one in data["repositories"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None, set()
    if not folder.is_absolute() or not (folder / "CURRENT").exists():
        file.unlink(missing_ok=True)
        return None, set()
    return folder, marks


def _is_own(folder: Path) -> bool:
    """Return whether a folder and all in it is this user's, and nobody else writes there."""
    try:
        paths = (folder, *folder.iterdir())
        return all(_is_private(path.lstat()) for path in paths)
    except OSError:
        return False


def _is_private(status: os.stat_result) -> bool:
    is_plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    return is_plain and status.st_uid == os.getuid() and not status.st_mode & stat.S_IWOTH


# -- vectors --------------------------------------------------------------------------------------


class Siblings:
    """The vectors of other indexes; they are looked for when the first text lacks one.

    Not for several threads at once.

    Args:
        definition: The index that lacks vectors.
        fingerprint: Fingerprint of its model.
        spill: Folder for what exceeds the memory; it need not be there.
        model: The model as it was recognised. None where it was not: then another index counts
            without a look at whether its model still is the same.
    """

    def __init__(
        self,
        definition: IndexDefinition,
        fingerprint: str,
        spill: Path,
        *,
        model: SnapshotModel | None = None,
    ) -> None:
        self._definition = definition
        self._fingerprint = fingerprint
        self._model = model
        self._spill = spill
        self._connections: list[duckdb.DuckDBPyConnection] = []
        self._stores: list[EmbeddingStore] | None = None

    def find(
        self, hashes: NDArray[np.uint64]
    ) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.float32]]]:
        """Yield the vectors of those texts that another index has, each once.

        Args:
            hashes: (n, 2) uint64, without repetitions.

        Yields:
            (m, 2) uint64 hashes with (m, dimensions) float32 vectors.
        """
        for store in self._open_all():
            is_there = store.has(hashes)
            if not is_there.any():
                continue
            try:
                vectors = store.fetch(hashes[is_there])
                check_vectors(
                    vectors,
                    int(is_there.sum()),
                    self._definition,
                    dimensions=self._model.dimensions if self._model else None,
                )
            except (MerganserError, OSError, ValueError, duckdb.Error):
                continue  # damaged, or gone by now
            if vectors.any(axis=1).all():
                yield hashes[is_there], vectors
                hashes = hashes[~is_there]

    def has(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return for each text whether another index has a vector of it."""
        found = np.zeros(len(hashes), dtype=np.bool_)
        for store in self._open_all():
            found |= store.has(hashes)
        return found

    def _open_all(self) -> list[EmbeddingStore]:
        if self._stores is None:
            found = find_siblings(self._definition, self._fingerprint)
            self._stores = [store for index in found if (store := self._open(index))]
        return self._stores

    def _open(self, index: IndexFolder) -> EmbeddingStore | None:
        """Return what an index has of our model, or None."""
        try:
            name = self._name_in(index)
            segments = segments_of(index, name) if name else []
            if not segments:
                return None
            spill = self._spill / str(len(self._connections))
            connection = connect_writer(spill, index.path)
            self._connections.append(connection)
            # A folder that is not there: the journals of the other index are its own affair.
            nowhere = IndexFolder(self._spill / "none")
            return EmbeddingStore(nowhere, name, segments, connect=lambda: connection)
        except (MerganserError, OSError, duckdb.Error):
            return None

    def _name_in(self, index: IndexFolder) -> str:
        """Return the fingerprint by which another index knows our model; "" if it does not."""
        served = self._fingerprint.partition("+")[0]
        current = index.read_current()
        for generation in current.kept if current else ():
            with contextlib.suppress(StoreError, FileNotFoundError):
                name, sample = read_model(index.catalogue(generation))
                if sample and is_served_by(name, served) and self._is_like(sample):
                    return name
        return ""

    def _is_like(self, sample: DriftSample) -> bool:
        model = self._model
        return model is None or closeness(sample, model.drift_sample) >= LEAST_CLOSENESS

    def close(self) -> None:
        """Let go of the other indexes."""
        for connection in self._connections:
            connection.close()
        self._connections, self._stores = [], []
