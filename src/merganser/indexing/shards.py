"""Read, chunk and embed the files of one shard.

A shard leaves two things behind: a journal with the new vectors, which outlives the run, and a file
with its chunks, which lives as long as the run.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from merganser.chunking import Chunk, chunk_document
from merganser.chunking.chunks import describe_fallback
from merganser.documents.reading import describe_fault, read_document
from merganser.errors import (
    InputTooLongError,
    MerganserError,
    RequestRejectedError,
    SkipDocument,
    StoreError,
)
from merganser.indexing.drift import check_vectors
from merganser.indexing.shard_plan import (
    FileOutcome,
    ShardResult,
    chunks_path,
    load_result,
    save_result,
    write_chunks,
)
from merganser.store.segments import CHUNK_NUMBERS, NO_CHUNKS, ChunkRows
from merganser.store.text_hashes import hash_texts, keys_of
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Document
    from merganser.indexing.drift import EmbedsDocuments
    from merganser.indexing.shard_plan import Shard, ShardWork


async def embed_shard(
    work: ShardWork, shard: Shard, embedder: EmbedsDocuments | None
) -> ShardResult:
    """Read, chunk and embed the files of one shard; a shard that was done is not done again.

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
        ProtocolError: The model returned unusable vectors.
        StoreError: The disk is full or the folder cannot be written.
    """
    done = load_result(work, shard.number)
    if done is not None:
        return done
    began = time.monotonic()
    about = {"merganser.index": work.definition.name, "merganser.shard": shard.number}
    with work.chunking, span("chunk", about) as chunking:
        outcomes, rows = _read_files(work, shard)
        chunking.set_attributes(
            {"merganser.files": len(outcomes), "merganser.texts": len(rows.texts)}
        )
    work.progress.chunked(shard.number, len(rows.texts))
    counts = _EmbedCounts()
    try:
        if embedder is not None and rows.texts:
            with span("embed", about) as embedding:
                counts = await _embed_missing(work, shard.number, embedder, rows)
                embedding.set_attributes(
                    {
                        "merganser.texts.embedded": counts.embedded,
                        "merganser.texts.reused": counts.reused,
                    }
                )
        for file, error in counts.errors.items():
            outcomes[file] = replace(
                outcomes[file], status="failed", chunks=0, reason="embedding", detail=error
            )
        if counts.errors:
            rows = rows.take(np.flatnonzero(~np.isin(rows.file, [*counts.errors])))
        if rows.texts:
            write_chunks(chunks_path(work, shard.number), rows)
        result = ShardResult(
            number=shard.number,
            files=tuple(outcomes),
            chunks=len(rows.texts),
            texts_embedded=counts.embedded,
            texts_reused=counts.reused,
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


def _read_files(work: ShardWork, shard: Shard) -> tuple[list[FileOutcome], ChunkRows]:
    """Read and chunk the files; ``ChunkRows.file`` is a file's place in the shard."""
    outcomes: list[FileOutcome] = []
    chunks: list[Chunk] = []
    for document in shard.documents:
        outcome, part = read_file(document, work.definition)
        outcomes.append(outcome)
        chunks += part
    if not chunks:
        return outcomes, NO_CHUNKS
    columns: dict[str, tuple[Any, ...]] = dict(
        zip(Chunk._fields, zip(*chunks, strict=True), strict=True)
    )
    counts = [outcome.chunks for outcome in outcomes]
    return outcomes, ChunkRows(
        file=np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        numbers={name: np.array(columns[name], dtype=np.int32) for name in CHUNK_NUMBERS},
        symbols=columns["symbol"],
        kinds=columns["kind"],
        hashes=hash_texts(columns["text"]),
        texts=columns["text"],
        places=columns["place"],
    )


def read_file(document: Document, definition: IndexDefinition) -> tuple[FileOutcome, list[Chunk]]:
    """Read and chunk one file; whatever goes wrong is the file's outcome, never an error."""
    try:
        read = read_document(document, secrets=definition.secrets)
        chunks = chunk_document(
            read.text,
            language=read.language,
            options=definition.chunking,
            headings=read.headings,
            places=read.places,
            embedded=read.embedded,
            tables=read.tables,
        )
    except SkipDocument as skip:
        # A file that cannot be read now may be fine at the next run: a failure, not a skip.
        status = "failed" if skip.reason == "unreadable" else "skipped"
        return FileOutcome(document.path, status, reason=skip.reason, detail=skip.detail), []
    except Exception as error:  # noqa: BLE001 - any fault of a chunker
        detail = describe_fault(error)
        return FileOutcome(document.path, "failed", reason="chunking", detail=detail), []
    fallback = ""
    if read.headings is None:
        fallback = describe_fallback(chunks, language=read.language, options=definition.chunking)
    outcome = FileOutcome(
        document.path,
        "read",
        read.content_hash.hex(),
        read.size_bytes,
        len(chunks),
        encoding=read.encoding,
        note="; ".join(note for note in (read.note, fallback) if note),
        redactions=read.redactions,
        kind=read.kind,
        language=read.language or "",
    )
    return outcome, chunks


@dataclass(frozen=True, slots=True)
class _EmbedCounts:
    """What became of the texts of a shard.

    Attributes:
        errors: By the file's place in the shard, why it has a text without a vector.
        embedded: Distinct texts that the model was given and that got vectors.
        reused: Distinct texts whose vectors were there or came from another shard.
    """

    errors: dict[int, str] = field(default_factory=dict[int, str])
    embedded: int = 0
    reused: int = 0


async def _embed_missing(
    work: ShardWork, number: int, embedder: EmbedsDocuments, rows: ChunkRows
) -> _EmbedCounts:
    """Embed the texts that no snapshot, journal or other shard has; commit them."""
    store = work.embeddings()
    # The last one written under a key stays, so backwards that is the text's first place.
    first = {key: position for position, key in reversed([*enumerate(keys_of(rows.hashes))])}
    todo = np.array(sorted(first.values()), dtype=np.intp)
    distinct = len(todo)
    errors: dict[int, str] = {}
    embedded = attempt = 0
    while len(todo):
        reservation = store.reserve(rows.hashes[todo])
        mine = todo[reservation.mine]
        received = _Received(work, number, f"{work.run_id}-{number:05d}-{attempt}", rows)
        try:
            if len(mine):
                errors |= await _embed(embedder, received, mine)
        finally:
            # What came before it failed or was given up is paid for too.
            try:
                embedded += received.commit()
            finally:
                store.release(rows.hashes[mine])
        attempt += 1
        for wait in reservation.waits:
            # Shielded: giving up here must not take the claim from the shard that embeds.
            await asyncio.shield(asyncio.wrap_future(wait))
        # Texts whose claim was given up elsewhere are ours to try now.
        todo = todo[reservation.elsewhere]
    if errors:
        # Files that share a text which could not be embedded fail with its owner.
        present = store.has(rows.hashes)
        for file in np.unique(rows.file[~present]).tolist():
            errors.setdefault(file, "it shares a text that could not be embedded")
    return _EmbedCounts(errors, embedded, distinct - embedded)


class _Received:
    """The vectors of one journal of a shard, as they come from the model.

    Args:
        work: The run.
        number: The shard.
        name: Name of the journal.
        rows: The shard's chunks.
    """

    def __init__(self, work: ShardWork, number: int, name: str, rows: ChunkRows) -> None:
        self._work = work
        self._number = number
        self._name = name
        self.rows = rows
        # One list, as another thread may add to it while it is read.
        self._parts: list[tuple[NDArray[np.intp], NDArray[np.float32]]] = []
        self._given_up = False

    @property
    def positions(self) -> NDArray[np.intp]:
        """Positions of the texts whose vectors are here."""
        return np.concatenate([np.zeros(0, dtype=np.intp), *(part for part, _ in self._parts)])

    def take(self, positions: NDArray[np.intp], vectors: NDArray[np.float32]) -> None:
        """Take vectors and write them down; in whichever thread they come.

        Raises:
            PlanError: The config expects vectors of another length.
            ProtocolError: The vectors are unusable.
        """
        work = self._work
        check_vectors(vectors, len(positions), work.definition, dimensions=work.dimensions)
        if self._given_up:
            return
        vectors = np.asarray(vectors, dtype=np.float32)
        self._parts.append((positions, vectors))
        with suppress(OSError):  # a full disk is told by the commit
            work.embeddings().keep(self._name, self.rows.hashes[positions], vectors)
        work.progress.embedded(self._number, len(positions))

    def commit(self) -> int:
        """Store what has come for good, and take no more; return how many texts that are."""
        self._given_up = True
        parts = [*self._parts]
        if not parts:
            return 0
        positions, vectors = (np.concatenate(column) for column in zip(*parts, strict=True))
        if len(positions):
            self._work.embeddings().commit(self._name, self.rows.hashes[positions], vectors)
        return len(positions)


async def _embed(
    embedder: EmbedsDocuments, received: _Received, mine: NDArray[np.intp]
) -> dict[int, str]:
    """Embed texts at once, or file by file when one is refused or no encoder can take it.

    Returns:
        By file why it has a text without a vector.
    """

    async def embed(positions: NDArray[np.intp]) -> None:
        problems: list[Exception] = []

        def take(some: Sequence[int], vectors: NDArray[np.float32]) -> None:
            try:
                received.take(positions[np.asarray(some, dtype=np.intp)], vectors)
            except Exception as problem:  # noqa: BLE001 - raised below: the caller is the embedder
                problems.append(problem)

        chosen: list[int] = positions.tolist()
        texts = [received.rows.texts[i] for i in chosen]
        vectors = await embedder.embed_documents(texts, on_vectors=take)
        if problems:
            raise problems[0]
        if not np.isin(positions, received.positions).all():  # it gives all of them at the end
            received.take(positions, vectors)

    try:
        await embed(mine)
    except Exception as problem:
        if not _is_of_texts(problem):
            raise
    else:
        return {}
    errors: dict[int, str] = {}
    left = mine[~np.isin(mine, received.positions)]
    for file in np.unique(received.rows.file[left]).tolist():
        try:
            await embed(left[received.rows.file[left] == file])
        except Exception as error:
            if not _is_of_texts(error):
                raise
            errors[file] = describe_fault(error)
    return errors


def _is_of_texts(error: Exception) -> bool:
    """Return whether an error may be that of one text: a refusal, or a fault nobody foresaw."""
    if isinstance(error, InputTooLongError | RequestRejectedError):
        return True
    return not isinstance(error, MerganserError | OSError)
