"""The files of vectors that are paid for and in no segment yet.

::

    embeddings/<model>/canaries                 the model's drift sample
    embeddings/<model>/<run>-<shard>-0.npz      a journal: what a shard got, written whole
    embeddings/<model>/<run>-<shard>-0.partial  the same while it is embedded, answer after answer
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
import time
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from merganser.store.catalogue import DriftSample
from merganser.store.folder import replace_file
from merganser.store.text_hashes import TextPlaces

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.store.folder import IndexFolder

DRIFT_FILE = "canaries"
PARTIAL = ".partial"
"""Suffix of a journal that is being written."""

KEEP_JOURNALS_SECONDS = 30 * 86_400
"""Age at which a journal is dropped although no snapshot holds its vectors."""


@dataclass(frozen=True, slots=True, eq=False)
class Journal:
    """Vectors that are in no segment yet.

    Attributes:
        hashes: (n, 2) uint64, of the texts.
        vectors: (n, dimensions) float32.
        fingerprint: Of the model; "" in a journal from before it was written down.
    """

    hashes: NDArray[np.uint64]
    vectors: NDArray[np.float32]
    fingerprint: str

    def is_of(self, fingerprint: str) -> bool:
        """Return whether it is of a model, as far as it says so."""
        return self.fingerprint in {"", fingerprint}


def read_journal(path: Path) -> Journal | None:
    """Read a journal, every byte of it; None for one that is cut off, damaged or something else."""
    try:
        with path.open("rb") as content, np.load(content) as file:
            hashes = cast("NDArray[np.uint64]", file["hashes"])
            vectors = cast("NDArray[np.float32]", file["vectors"])
            fingerprint = str(file["fingerprint"]) if "fingerprint" in file else ""
    except Exception:  # noqa: BLE001 - zipfile and numpy raise anything for a damaged archive
        return None
    is_whole = hashes.shape == (len(vectors), 2) and vectors.ndim == 2
    return Journal(hashes, vectors, fingerprint) if is_whole else None


def journal_models(folder: IndexFolder) -> Iterator[tuple[str, DriftSample]]:
    """Return the models whose vectors lie in journals, by fingerprint, with their drift samples."""
    for journals in sorted(folder.embeddings.glob("*")):
        if (found := read_drift_sample(journals / DRIFT_FILE)) is not None:
            yield found


def journal_folder(folder: IndexFolder, fingerprint: str) -> Path:
    """Return the folder of one model's journals."""
    name, _, drift = fingerprint.partition("+")
    return folder.embeddings / (f"{name[:32]}+{drift}" if drift else name[:32])


def read_drift_sample(source: Path | BytesIO) -> tuple[str, DriftSample] | None:
    """Read which model journals are of, or None when nothing says it.

    Args:
        source: What ``EmbeddingStore.name_model`` left.

    Returns:
        Its fingerprint and its drift sample.
    """
    try:
        with np.load(source) as file:
            texts = cast("list[str]", file["texts"].tolist())
            return str(file["fingerprint"]), DriftSample(tuple(texts), file["vectors"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays so that they are there as a whole or not at all, also after a power cut.

    Put together in memory: every piece that is written by itself is a place where this thread waits
    for the one that chunks the next shard.
    """
    content = BytesIO()
    np.savez(content, **arrays)
    replace_file(path, content.getbuffer())


_RECORD = struct.Struct("<8sIII")  # of the model, texts, dimensions, checksum of what follows


def append_vectors(
    path: Path, fingerprint: str, hashes: NDArray[np.uint64], vectors: NDArray[np.float32]
) -> None:
    """Append a record to a partial journal; it outlasts the process and no power cut.

    Args:
        path: The journal.
        fingerprint: Of the model.
        hashes: (n, 2) uint64.
        vectors: (n, dimensions) float32.

    Raises:
        OSError: It cannot be written.
    """
    body = hashes.astype("<u8").tobytes() + vectors.astype("<f4").tobytes()
    head = _RECORD.pack(_mark(fingerprint), *vectors.shape, zlib.crc32(body))
    with path.open("ab") as file:  # buffered: writes the rest after a write that was cut short
        file.write(head + body)


def read_partial(path: Path, fingerprint: str) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
    """Read a partial journal up to the first record that is not whole or of another model.

    Args:
        path: The journal.
        fingerprint: Of the model.

    Returns:
        (n, 2) uint64 and (n, dimensions) float32; n is 0 when nothing can be used.
    """
    content = path.read_bytes()
    hashes = [np.zeros((0, 2), dtype=np.uint64)]
    vectors: list[NDArray[np.float32]] = []
    at = 0
    while at + _RECORD.size <= len(content):
        mark, count, dimensions, checksum = _RECORD.unpack_from(content, at)
        begin, middle = at + _RECORD.size, at + _RECORD.size + 16 * count
        at = middle + 4 * count * dimensions
        is_whole = at <= len(content) and zlib.crc32(content[begin:at]) == checksum
        if not is_whole or mark != _mark(fingerprint) or not count:
            break
        hashes.append(np.frombuffer(content[begin:middle], dtype="<u8").reshape(-1, 2))
        vectors.append(np.frombuffer(content[middle:at], dtype="<f4").reshape(count, dimensions))
        if vectors[-1].shape[1] != vectors[0].shape[1]:
            return np.concatenate(hashes[:-1]), np.concatenate(vectors[:-1])
    empty = np.zeros((0, 0), dtype=np.float32)
    return np.concatenate(hashes), np.concatenate(vectors) if vectors else empty


def _mark(fingerprint: str) -> bytes:
    return hashlib.blake2b(fingerprint.encode(), digest_size=8).digest()


def drop_journals(
    journals: Path, *, own: str | None = None, served: NDArray[np.uint64] | None = None
) -> None:
    """Remove the journals of one model that are not needed any more.

    Args:
        journals: Their folder.
        own: The run whose journals the published snapshot took in, or None.
        served: (n, 2) uint64, hashes of the texts in the snapshot; a journal of another run goes
            when all of its texts are among them. None keeps those until they are old.
    """
    known = None
    if served is not None:
        nowhere = np.zeros(len(served), dtype=np.int32)
        known = TextPlaces.make(served, nowhere, nowhere)
    for path in list(journals.glob("*.npz")):
        is_own = own is not None and path.name.startswith(own)
        if is_own or _is_old(path) or _is_covered(path, known):
            path.unlink(missing_ok=True)
    for path in journals.glob("*.tmp"):
        path.unlink(missing_ok=True)
    # What a dead run had not committed is taken in by the next run with its model.
    partial = [path for path in journals.glob(f"*{PARTIAL}") if not _removed_if_old(path)]
    if not partial and not any(journals.glob("*.npz")):
        (journals / DRIFT_FILE).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        journals.rmdir()


def _removed_if_old(path: Path) -> bool:
    if is_old := _is_old(path):
        path.unlink(missing_ok=True)
    return is_old


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > KEEP_JOURNALS_SECONDS


def _is_covered(path: Path, known: TextPlaces | None) -> bool:
    if known is None:
        return False
    journal = read_journal(path)
    if journal is None:
        return True
    hashes = journal.hashes
    source = np.full(len(hashes), -1, dtype=np.int32)
    known.locate(hashes, source, source.copy())
    return bool((source >= 0).all())
