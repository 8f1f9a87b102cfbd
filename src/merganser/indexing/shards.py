"""Shards: groups of changed files that are read, cut and embedded by one task each.

A shard is about 1 to 10 seconds of embedding. It leaves two things behind: a journal with the new
vectors, which outlives the run, and a file with its chunks, which lives as long as the run.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from merganser.chunking import chunk_document
from merganser.documents.reading import read_document
from merganser.errors import SkipDocument, StoreError
from merganser.indexing.chunk_files import CHUNK_NUMBERS, write_chunks
from merganser.indexing.embed_shard import ShardTexts, embed_missing
from merganser.store.embedding_store import hash_texts
from merganser.store.folder import replace_file
from merganser.store.segments import ChunkRows
from merganser.telemetry import span

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Lock

    from numpy.typing import NDArray

    from merganser.chunking import Chunk, ChunkingOptions
    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Document
    from merganser.embedding.drift import EmbedsDocuments
    from merganser.indexing.changes import Changes
    from merganser.indexing.shard_progress import ShardProgress
    from merganser.indexing.workspace import Workspace
    from merganser.store.embedding_store import EmbeddingStore

CHUNKS_PER_SHARD = 512
"""5 to 10 s of a small encoder on two cores, so that the overhead of a task stays small."""

MOST_SHARDS = 1000
"""Of a run, about: files are not divided. A large run has larger shards, so that its graph and its
history stay readable; at ten million chunks one is three minutes of a small encoder."""

_FILL = 0.6  # chunks of real files are that full on average


@dataclass(frozen=True, slots=True)
class Shard:
    """Some files that are embedded together.

    Attributes:
        number: From 0; the files of shards in order are sorted by path.
        documents: At least one.
    """

    number: int
    documents: tuple[Document, ...]


@dataclass(frozen=True, slots=True)
class FileOutcome:
    """What became of one file.

    Attributes:
        path: As users see it.
        status: ``read``, ``skipped`` or ``failed``.
        content_hash: Hex, for files that were read.
        size_bytes: Bytes that were read.
        chunks: How many it gave.
        reason: Why it was skipped or failed, a short word.
        detail: What was seen.
    """

    path: str
    status: str
    content_hash: str = ""
    size_bytes: int = 0
    chunks: int = 0
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardResult:
    """What a shard gave.

    Attributes:
        number: Of the shard.
        files: One outcome a file, in the shard's order.
        chunks: In all.
        texts_embedded: Texts sent to the model.
        texts_reused: Distinct texts whose vectors were there or came from another shard.
        seconds: Wall time.
    """

    number: int
    files: tuple[FileOutcome, ...]
    chunks: int
    texts_embedded: int
    texts_reused: int
    seconds: float


class ShardWork(Protocol):
    """What a shard needs of its run: a ``Workspace``, or a desk in another process."""

    @property
    def run_id(self) -> str:
        """Name of the run."""
        ...

    @property
    def definition(self) -> IndexDefinition:
        """The index."""
        ...

    @property
    def dimensions(self) -> int | None:
        """Length of the model's vectors, or None without a model."""
        ...

    @property
    def folder(self) -> Path:
        """Where it is written, for messages."""
        ...

    @property
    def path(self) -> Path:
        """Where the files of shards go."""
        ...

    @property
    def progress(self) -> ShardProgress:
        """Who counts the texts."""
        ...

    @property
    def cutting(self) -> Lock:
        """Held by the one shard of the process that reads and cuts its files."""
        ...

    def embeddings(self) -> EmbeddingStore:
        """Give the vectors that are there."""
        ...


def plan_shards(changes: Changes, *, chunks_per_shard: int = CHUNKS_PER_SHARD) -> tuple[Shard, ...]:
    """Group the files that have to be read, by path; pure and deterministic.

    Args:
        changes: What differs.
        chunks_per_shard: About how many chunks one shard has, more in a run that would have more
            than ``MOST_SHARDS``; a large file is a shard of its own.
    """
    groups: list[list[Document]] = []
    filled = 0.0
    chunking = changes.definition.chunking
    total = sum(_expected_chunks(document, chunking) for document in changes.pending)
    most = max(chunks_per_shard, total / MOST_SHARDS)
    for document in changes.pending:
        chunks = _expected_chunks(document, chunking)
        if not groups or filled + chunks > most:
            groups.append([])
            filled = 0.0
        groups[-1].append(document)
        filled += chunks
    return tuple(Shard(number, tuple(group)) for number, group in enumerate(groups))


def expected_chunks(shard: Shard, chunking: ChunkingOptions) -> int:
    """Estimate how many chunks a shard will have, from the sizes of its files."""
    return round(sum(_expected_chunks(document, chunking) for document in shard.documents))


def _expected_chunks(document: Document, chunking: ChunkingOptions) -> float:
    return max(0.5, document.size_bytes / (chunking.size * _FILL))


async def embed_shard(
    work: ShardWork, shard: Shard, embedder: EmbedsDocuments | None
) -> ShardResult:
    """Read, cut and embed the files of one shard; a shard that was done is not done again.

    May run in several threads of the process at once; equal texts are embedded by one of them.

    Args:
        work: The run.
        shard: The files.
        embedder: The run's model, or None when the run has none.

    Returns:
        What became of each file. A file that cannot be read or embedded is reported, not raised.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one file's.
        PlanError: The config expects vectors of another length.
        ProtocolError: The model gave unusable vectors.
        StoreError: The disk is full or the folder cannot be written.
    """
    done = load_result(work, shard.number)
    if done is not None:
        return done
    began = time.monotonic()
    about = {"merganser.index": work.definition.name, "merganser.shard": shard.number}
    with work.cutting, span("chunk", about) as chunking:
        read = _read_files(work, shard)
        chunking.set_attributes(
            {"merganser.files": len(read.outcomes), "merganser.texts": len(read.texts)}
        )
    work.progress.was_cut(shard.number, len(read.texts))
    embedded = reused = 0
    try:
        if embedder is not None and read.texts:
            with span("embed", about) as embedding:
                counts = await embed_missing(work, shard.number, embedder, read.as_texts())
                embedding.set_attributes(
                    {
                        "merganser.texts.embedded": counts.embedded,
                        "merganser.texts.reused": counts.reused,
                    }
                )
            embedded, reused = counts.embedded, counts.reused
            for position, error in counts.errors.items():
                read.outcomes[position] = replace(
                    read.outcomes[position],
                    status="failed",
                    chunks=0,
                    reason="embedding",
                    detail=error,
                )
        _write_chunks(work, shard.number, read)
        result = ShardResult(
            number=shard.number,
            files=tuple(read.outcomes),
            chunks=sum(outcome.chunks for outcome in read.outcomes),
            texts_embedded=embedded,
            texts_reused=reused,
            seconds=time.monotonic() - began,
        )
        save_result(work, result)
        work.progress.finished(shard.number)
    except OSError as error:
        raise StoreError(
            f"cannot write to the index folder {str(work.folder)!r}: {error}; the served "
            "snapshot is as it was"
        ) from error
    return result


def fail_shard(workspace: Workspace, shard: Shard | int, error: str) -> ShardResult:
    """Record that a shard could not be done: its files keep their old versions.

    Args:
        workspace: The run.
        shard: It or its number.
        error: Why, for the report.
    """
    shard = workspace.shards[shard] if isinstance(shard, int) else shard
    files = tuple(
        FileOutcome(document.path, "failed", reason="shard", detail=error)
        for document in shard.documents
    )
    result = ShardResult(
        number=shard.number, files=files, chunks=0, texts_embedded=0, texts_reused=0, seconds=0.0
    )
    save_result(workspace, result)
    return result


def chunks_path(work: ShardWork, number: int) -> Path:
    """File with the chunks of a shard; absent when it has none."""
    return work.path / f"shard-{number:05d}.chunks"


def result_path(work: ShardWork, number: int) -> Path:
    """File that says what became of a shard; absent until it is done."""
    return work.path / f"shard-{number:05d}.json"


def load_result(work: ShardWork, number: int) -> ShardResult | None:
    """Give the result of a shard that is done, else None."""
    try:
        data = json.loads(result_path(work, number).read_bytes())
    except FileNotFoundError:
        return None
    data["files"] = tuple(FileOutcome(**outcome) for outcome in data["files"])
    return ShardResult(**data)


def save_result(work: ShardWork, result: ShardResult) -> None:
    """Mark a shard as done; written last."""
    path = result_path(work, result.number)
    replace_file(path, json.dumps(asdict(result)).encode(), is_durable=False)


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    """The files of a shard as they were read.

    Attributes:
        outcomes: One a file.
        chunks: Of all files, file after file.
        owner: (n_chunks,) int32, which file each chunk is of.
        texts: Of the chunks.
        hashes: (n_chunks, 2) uint64, of the texts.
    """

    outcomes: list[FileOutcome]
    chunks: list[Chunk]
    owner: NDArray[np.int32]
    texts: list[str]
    hashes: NDArray[np.uint64]

    def as_texts(self) -> ShardTexts:
        return ShardTexts(self.texts, self.hashes, self.owner)


def _read_files(work: ShardWork, shard: Shard) -> _Read:
    outcomes: list[FileOutcome] = []
    chunks: list[Chunk] = []
    counts: list[int] = []
    for document in shard.documents:
        outcome, part = _read_file(document, work.definition.chunking)
        outcomes.append(outcome)
        chunks += part
        counts.append(len(part))
    texts = [chunk.text for chunk in chunks]
    owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return _Read(outcomes, chunks, owner, texts, hash_texts(texts))


def _read_file(document: Document, options: ChunkingOptions) -> tuple[FileOutcome, list[Chunk]]:
    try:
        read = read_document(document)
        chunks = chunk_document(
            read.text, language=document.language, options=options, headings=read.headings
        )
    except SkipDocument as skip:
        # A file that cannot be read now may be fine at the next run: a failure, not a skip.
        status = "failed" if skip.reason == "unreadable" else "skipped"
        return FileOutcome(document.path, status, reason=skip.reason, detail=skip.detail), []
    except (OSError, ValueError, RecursionError) as error:
        detail = f"{type(error).__name__}: {error}"
        return FileOutcome(document.path, "failed", reason="chunking", detail=detail), []
    content_hash = read.content_hash.hex()
    return FileOutcome(document.path, "read", content_hash, read.size_bytes, len(chunks)), chunks


def _write_chunks(work: ShardWork, number: int, read: _Read) -> None:
    """Write the chunks of the files that are good."""
    is_good = np.array([outcome.status == "read" for outcome in read.outcomes], dtype=bool)
    good = is_good[read.owner] if len(read.owner) else np.zeros(0, dtype=bool)
    chunks = [read.chunks[i] for i in np.flatnonzero(good).tolist()]
    if not chunks:
        return
    rows = ChunkRows(
        file=read.owner[good],
        numbers={
            name: np.array([getattr(chunk, name) for chunk in chunks], dtype=np.int32)
            for name in CHUNK_NUMBERS
        },
        symbols=[chunk.symbol for chunk in chunks],
        kinds=[chunk.kind for chunk in chunks],
        hashes=read.hashes[good],
        texts=[chunk.text for chunk in chunks],
    )
    write_chunks(chunks_path(work, number), rows)
