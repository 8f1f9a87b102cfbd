"""Give every text of a shard a vector, embedding only those that have none yet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from merganser.embedding.drift import check_vectors
from merganser.errors import InputTooLongError, RequestRejectedError
from merganser.store.embedding_store import keys_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from merganser.embedding.drift import EmbedsDocuments
    from merganser.indexing.shards import ShardWork


@dataclass(frozen=True, slots=True, eq=False)
class ShardTexts:
    """The texts of a shard.

    Attributes:
        texts: With repetitions.
        hashes: (n, 2) uint64, of the texts.
        owner: (n,) int32, which file of the shard each is of.
    """

    texts: list[str]
    hashes: NDArray[np.uint64]
    owner: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class EmbedCounts:
    """What became of the texts of a shard.

    Attributes:
        errors: By file, why it has a text without a vector.
        embedded: Distinct texts that the model was given and that got vectors.
        reused: Distinct texts whose vectors were there or came from another shard.
    """

    errors: dict[int, str]
    embedded: int
    reused: int


async def embed_missing(
    work: ShardWork, number: int, embedder: EmbedsDocuments, shard: ShardTexts
) -> EmbedCounts:
    """Embed the texts that no snapshot, journal or other shard has; commit them.

    Args:
        work: The run.
        number: Of the shard, for the name of the journal.
        embedder: The run's model.
        shard: The texts.

    Raises:
        ModelRunnerError: The server failed for a reason that is not one text's.
        PlanError: The config expects vectors of another length.
        ProtocolError: The model gave unusable vectors.
    """
    store = work.embeddings()
    # The last one written under a key stays, so backwards that is the text's first place.
    first = {key: position for position, key in reversed([*enumerate(keys_of(shard.hashes))])}
    todo = np.array(sorted(first.values()), dtype=np.intp)
    distinct = len(todo)
    errors: dict[int, str] = {}
    embedded = attempt = 0
    while len(todo):
        reservation = store.reserve(shard.hashes[todo])
        mine = todo[reservation.mine]
        try:
            if len(mine):
                good, vectors, failed = await _embed(work, embedder, shard, mine)
                errors |= failed
                if len(good):
                    name = f"{work.run_id}-{number:05d}-{attempt}"
                    store.commit(name, shard.hashes[good], vectors)
                    embedded += len(good)
                    attempt += 1
        finally:
            store.release(shard.hashes[mine])
        for wait in reservation.waits:
            # Shielded: giving up here must not take the claim from the shard that embeds.
            await asyncio.shield(asyncio.wrap_future(wait))
        # Texts whose claim was given up elsewhere are ours to try now.
        todo = todo[reservation.elsewhere]
    if errors:
        # Files that share a text which could not be embedded fail with its owner.
        present = store.has(shard.hashes)
        for position in np.unique(shard.owner[~present]).tolist():
            errors.setdefault(position, "it shares a text that could not be embedded")
    return EmbedCounts(errors, embedded, distinct - embedded)


async def _embed(
    work: ShardWork,
    embedder: EmbedsDocuments,
    shard: ShardTexts,
    mine: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.float32], dict[int, str]]:
    """Embed texts at once, or file by file when one of them is refused."""

    async def embed(positions: NDArray[np.intp]) -> NDArray[np.float32]:
        chosen: list[int] = positions.tolist()
        vectors = await embedder.embed_documents([shard.texts[i] for i in chosen])
        check_vectors(vectors, len(chosen), work.definition, dimensions=work.dimensions)
        return np.asarray(vectors, dtype=np.float32)

    try:
        return mine, await embed(mine), {}
    except (InputTooLongError, RequestRejectedError):
        good: list[NDArray[np.intp]] = [np.zeros(0, dtype=np.intp)]
        vectors: list[NDArray[np.float32]] = []
        errors: dict[int, str] = {}
        for file in np.unique(shard.owner[mine]).tolist():
            positions = mine[shard.owner[mine] == file]
            try:
                vectors.append(await embed(positions))
                good.append(positions)
            except (InputTooLongError, RequestRejectedError) as error:
                errors[file] = str(error)
        empty = np.zeros((0, 0), dtype=np.float32)
        return np.concatenate(good), np.concatenate(vectors) if vectors else empty, errors
