"""The embedding model of a snapshot: who it is and how to notice that it is another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from merganser.errors import PlanError, ProtocolError
from merganser.store.catalogue import Canaries
from merganser.store.layout import IndexFolder
from merganser.store.snapshots import read_kept

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from merganser.index.surveys import Survey
    from merganser.resolve import IndexDefinition

CANARY_TEXTS = (
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
    """What the engine needs of an embedder; ``merganser.embed.Embedder`` is one."""

    @property
    def fingerprint(self) -> str:
        """Everything that changes a vector; equal fingerprints may be mixed."""
        ...

    async def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Give one L2-normalised float32 row a text, in order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotModel:
    """The model that embeds a snapshot.

    Attributes:
        fingerprint: Of the embedder.
        name: As the config has it.
        served_id: What the server says it serves, or "".
        dimensions: Length of its vectors.
        canaries: Texts and the vectors it gives them.
    """

    fingerprint: str
    name: str
    served_id: str
    dimensions: int
    canaries: Canaries


async def describe_model(
    embedder: EmbedsDocuments, survey: Survey, *, served_id: str = ""
) -> SnapshotModel:
    """Find out what a snapshot has to remember of its model.

    The canaries are embedded once a model: a run on top of a snapshot of the same model takes
    them from there.

    Args:
        embedder: The model.
        survey: Of the run.
        served_id: What the server says it serves; by default what the embedder knows.

    Raises:
        PlanError: The config expects vectors of another length.
        ProtocolError: The vectors are not finite numbers.
        ModelRunnerError: The server could not embed.
    """
    definition = survey.definition
    canaries = _canaries_of_base(survey)
    if canaries is None:
        vectors = await embedder.embed_documents(CANARY_TEXTS)
        check_vectors(vectors, len(CANARY_TEXTS), definition, dimensions=None)
        canaries = Canaries(CANARY_TEXTS, np.asarray(vectors, dtype=np.float32))
    dimensions = canaries.vectors.shape[1]
    check_dimensions(dimensions, definition)
    served = getattr(embedder, "served", None)
    return SnapshotModel(
        fingerprint=embedder.fingerprint,
        name=definition.embedding.model.name if definition.embedding else "",
        served_id=served_id or str(getattr(served, "id", "") or ""),
        dimensions=dimensions,
        canaries=canaries,
    )


def _canaries_of_base(survey: Survey) -> Canaries | None:
    if survey.base_generation is None or survey.full:
        return None
    base = read_kept(IndexFolder(survey.definition.folder), survey.base_generation)
    return base.canaries if base.meta.get("embedding") == survey.fingerprint else None


def check_dimensions(dimensions: int, definition: IndexDefinition) -> None:
    """Hold a vector length against the config.

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
