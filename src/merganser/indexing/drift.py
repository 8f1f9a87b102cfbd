"""The embedding model of a snapshot: who it is and how to notice that it is another one.

A fingerprint tells models apart by what their server says of them. Where the weights change behind
an unchanged name and id, only the vectors show it: every snapshot keeps those of eight drift texts,
as do the journals of runs that died, and every run embeds them again. When they fall away the model
is known by its fingerprint and a suffix from then on, so that its vectors never meet those of the
model before. They are embedded once more when all else is, before anything is published.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from merganser.errors import DriftedError, PlanError, ProtocolError, StoreError
from merganser.store.catalogue import DriftSample, read_model
from merganser.store.folder import IndexFolder
from merganser.store.journals import journal_models
from merganser.store.shared_journals import shared_models, shared_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from merganser.config.index_definition import IndexDefinition

_SAME_VECTOR = 1e-6
"""Largest difference in any dimension between L2-normalised vectors that are one and the same."""

LEAST_CLOSENESS = 0.999
"""Lowest cosine of a drift text to itself, embedded alone by an unchanged model.

The embedded runner repeats itself exactly. Engines that add up in another order from run to run
move the sixth digit; another quantisation of the same weights is at 0.99 to 0.9995 of each text,
so that at least one of eight falls below.
"""

DRIFT_TEXTS = (
    "def add(a, b):\n    return a + b",
    "How do I retry a failed request?",
    "The quick brown fox jumps over the lazy dog.",
    "SELECT name, count(*) FROM users GROUP BY name",
    "Error: connection refused (os error 111)",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
    "# Installation\n\nRun the installer and restart the service.",
    "0 1 2 3 4 5 6 7 8 9",
)
"""Unlike each other on purpose: code, a question, prose, SQL, a log line, German, a heading."""


class EmbedsDocuments(Protocol):
    """What the engine needs of an embedder; ``merganser.embedding.embedder.Embedder`` is one."""

    @property
    def fingerprint(self) -> str:
        """Everything that changes a vector; equal fingerprints may be mixed."""
        ...

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        on_vectors: Callable[[Sequence[int], NDArray[np.float32]], None] | None = None,
    ) -> NDArray[np.float32]:
        """Return one L2-normalised float32 row for each text, in order.

        Args:
            texts: The texts.
            on_vectors: Given rows as they come, with the positions of their texts; each row once,
                or none of them before the end.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotModel:
    """The model that embeds a snapshot.

    Attributes:
        fingerprint: That of the embedder, with a suffix when the model changed behind it.
        name: As the config has it.
        served_id: What the server says it serves, or "".
        dimensions: Length of its vectors.
        drift_sample: Texts and the vectors it gives them.
    """

    fingerprint: str
    name: str
    served_id: str
    dimensions: int
    drift_sample: DriftSample


async def recognise_model(
    embedder: EmbedsDocuments, definition: IndexDefinition, *, served_id: str = ""
) -> SnapshotModel:
    """Find out who the model is: one whose vectors the index has, or one that is new to it.

    The drift texts are embedded one by one, as a vector may depend on what shares its request.

    Args:
        embedder: The model.
        definition: The index.
        served_id: What the server says it serves; by default what the embedder knows.

    Raises:
        PlanError: The config expects vectors of another length.
        ProtocolError: The vectors are not finite numbers, or one and the same for all texts.
        ModelRunnerError: The server could not embed.
        StoreError: The index is damaged.
    """
    vectors = await _embed_drift_texts(embedder)
    check_vectors(vectors, len(DRIFT_TEXTS), definition, dimensions=None)
    if np.ptp(vectors, axis=0).max() <= _SAME_VECTOR:
        raise ProtocolError(
            f"the embedding model {_name_of(definition)!r} gives the same vector for "
            f"{len(DRIFT_TEXTS)} unlike texts: nothing could be found by it"
        )
    drift_sample = DriftSample(DRIFT_TEXTS, np.asarray(vectors, dtype=np.float32))
    fingerprint, known = embedder.fingerprint, False
    for name, kept in _kept_models(definition, embedder.fingerprint):
        known = True
        if closeness(drift_sample, kept) >= LEAST_CLOSENESS:
            fingerprint, drift_sample = name, kept
            break
    else:
        if known:
            digest = hashlib.sha256(drift_sample.vectors.tobytes()).hexdigest()
            fingerprint = f"{embedder.fingerprint}+{digest[:8]}"
    served = getattr(embedder, "served", None)
    return SnapshotModel(
        fingerprint=fingerprint,
        name=_name_of(definition),
        served_id=served_id or str(getattr(served, "id", "") or ""),
        dimensions=drift_sample.vectors.shape[1],
        drift_sample=drift_sample,
    )


async def confirm_model(embedder: EmbedsDocuments, model: SnapshotModel) -> None:
    """Make sure that a model gives the vectors that it gave when the run began.

    Args:
        embedder: The model.
        model: As it was recognised.

    Raises:
        DriftedError: It gives others: those of the run are of two models.
        ModelRunnerError: The server could not embed.
    """
    vectors = np.asarray(await _embed_drift_texts(embedder), dtype=np.float32)
    cosine = closeness(DriftSample(DRIFT_TEXTS, vectors), model.drift_sample)
    if cosine < LEAST_CLOSENESS:
        raise DriftedError(
            f"the embedding model {model.name!r} gives other vectors than when the run began "
            f"(cosine {cosine:.3f} for the same text, at least {LEAST_CLOSENESS} is the same "
            "model): somebody changed the model or its configuration meanwhile. Nothing is "
            "published and the vectors of this run are thrown away; run it again"
        )


async def _embed_drift_texts(embedder: EmbedsDocuments) -> NDArray[np.float32]:
    return np.concatenate([await embedder.embed_documents([text]) for text in DRIFT_TEXTS])


def _name_of(definition: IndexDefinition) -> str:
    return definition.embedding.model.name if definition.embedding else ""


def closeness(one: DriftSample, other: DriftSample) -> float:
    """Return the lowest cosine between the vectors of one text, or -1 for other texts or shapes."""
    if one.texts != other.texts or one.vectors.shape != other.vectors.shape:
        return -1.0
    return float((one.vectors * other.vectors).sum(axis=1).min())


def _kept_models(definition: IndexDefinition, served: str) -> Iterator[tuple[str, DriftSample]]:
    """Yield the models that go by a fingerprint, from kept snapshots, local and shared journals.

    Raises:
        StoreError: The index is damaged, or the folder for shards cannot be read.
    """
    index = IndexFolder(definition.folder)
    current = index.read_current()
    for generation in current.kept if current else ():
        with contextlib.suppress(StoreError, FileNotFoundError):  # whoever needs it will say so
            name, drift_sample = read_model(index.catalogue(generation))
            if drift_sample is not None and is_served_by(name, served):
                yield name, drift_sample
    shared = (
        shared_models(shared_root(definition.shards, definition.name), served)
        if definition.shards is not None
        else ()
    )
    for name, drift_sample in (*journal_models(index), *shared):
        if is_served_by(name, served):
            yield name, drift_sample


def is_served_by(fingerprint: str, served: str) -> bool:
    """Return whether a snapshot's model goes by the fingerprint of a served one."""
    return fingerprint.partition("+")[0] == served


def check_dimensions(dimensions: int, definition: IndexDefinition) -> None:
    """Check the length of vectors against the config.

    Raises:
        PlanError: They differ.
    """
    embedding = definition.embedding
    if embedding and embedding.dimensions and embedding.dimensions != dimensions:
        raise PlanError(
            f"vector_dimensions is {embedding.dimensions}, but the model "
            f"{embedding.model.name!r} gives vectors of {dimensions}: set it to {dimensions} or "
            "leave it out"
        )


def check_vectors(
    vectors: NDArray[np.float32],
    count: int,
    definition: IndexDefinition,
    *,
    dimensions: int | None,
) -> None:
    """Refuse vectors that must not get into an index.

    Args:
        vectors: What the embedder gave.
        count: How many texts it was given.
        definition: The index.
        dimensions: Length of the vectors that are there, or None.

    Raises:
        PlanError: The config expects another length.
        ProtocolError: Their number or shape is wrong, they are not finite, or their length changed.
    """
    if vectors.ndim != 2 or len(vectors) != count or vectors.shape[1] == 0:
        raise ProtocolError(f"{count} texts gave embeddings of shape {vectors.shape}")
    check_dimensions(vectors.shape[1], definition)
    if dimensions not in {None, vectors.shape[1]}:
        raise ProtocolError(
            f"the model gave vectors of {vectors.shape[1]} dimensions where it gave {dimensions} "
            "before under the same fingerprint; index again with --full"
        )
    if not np.isfinite(vectors).all():
        raise ProtocolError("the model gave vectors with NaN or infinity")
