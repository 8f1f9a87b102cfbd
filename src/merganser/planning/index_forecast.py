"""What a surveyed run would cost, found out by doing everything but embedding and writing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from merganser.chunking import chunk_document
from merganser.documents.reading import read_document
from merganser.errors import SkipDocument
from merganser.indexing.workspace import segments_of
from merganser.store import IndexFolder, list_runs
from merganser.store.database import connect_writer
from merganser.store.embedding_store import EmbeddingStore, hash_texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.chunking import ChunkingOptions
    from merganser.documents.scanning import Document
    from merganser.indexing.changes import Changes


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do with the files that it has to read.

    Attributes:
        chunks: Pieces they would be cut into.
        texts_to_embed: Distinct texts among them that have no vector yet; 0 without a model.
        seconds: At the rate of the last run that embedded anything, or None when there was none.
    """

    chunks: int
    texts_to_embed: int
    seconds: float | None


def forecast(changes: Changes) -> Forecast:
    """Read and cut what a run would read; nothing is written.

    Args:
        changes: What differs.

    Raises:
        StoreError: The index is damaged.
    """
    chunking = changes.definition.chunking
    texts = [text for document in changes.pending for text in _texts(document, chunking)]
    if not changes.fingerprint or not texts:
        return Forecast(len(texts), 0, None)
    index = IndexFolder(changes.definition.folder)
    hashes = np.unique(hash_texts(texts), axis=0)
    segments = segments_of(index, changes.fingerprint)
    with connect_writer(index.build / "spill") as connection:
        store = EmbeddingStore(index, changes.fingerprint, segments, connect=lambda: connection)
        missing = int((~store.has(hashes)).sum())
    return Forecast(len(texts), missing, _seconds(index, missing))


def _texts(document: Document, chunking: ChunkingOptions) -> Iterator[str]:
    try:
        read = read_document(document)
    except (SkipDocument, OSError):
        return
    for chunk in chunk_document(
        read.text, language=document.language, options=chunking, headings=read.headings
    ):
        yield chunk.text


def _seconds(index: IndexFolder, texts: int) -> float | None:
    if not index.history.exists():
        return None
    for run in list_runs(index):
        if run.texts_embedded:
            return texts * (run.finished - run.started).total_seconds() / run.texts_embedded
    return None
