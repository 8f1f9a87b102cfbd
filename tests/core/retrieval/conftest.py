"""Small rags over real indexes, with an embedder whose vectors can be predicted."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
from merganser.config.rag_definition import RagDefinition, RerankDefinition, StrategyDefinition
from merganser.config.spec_rag import ResultsSpec
from merganser.indexing.run import index_once_async
from merganser.models.ref import ModelRef
from merganser.retrieval import Retriever
from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from merganser.errors import MerganserError

_DIMENSIONS = 64


@dataclass
class WordEmbedder:
    """Embeds a text as the normalised sum of one random direction per word: cosine is overlap."""

    fingerprint: str = "words-1"
    _: KW_ONLY
    failure: MerganserError | None = None
    queries: list[str] = field(default_factory=list[str])

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: object = None
    ) -> NDArray[np.float32]:
        del on_vectors  # all come at the end
        return np.stack([self._vector(text) for text in texts])

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        if self.failure is not None:
            raise self.failure
        self.queries.append(text)
        return self._vector(text)

    def _vector(self, text: str) -> NDArray[np.float32]:
        total = np.full(_DIMENSIONS, 1e-3)
        for term in query_terms(text):
            total += np.random.default_rng(list(term.encode())).standard_normal(_DIMENSIONS)
        return (total / np.linalg.norm(total)).astype(np.float32)


@dataclass
class Rags:
    """Makes rags in a folder."""

    folder: Path
    stack: ExitStack
    embedder: WordEmbedder = field(default_factory=WordEmbedder)

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

    def index(self, **changes: Any) -> IndexDefinition:
        values: dict[str, Any] = {
            "name": "docs",
            "folder": self.folder.parent / "index",
            "base": self.folder,
            "docs": (".",),
            "respect_vcs": False,
            "chunking": ChunkingOptions(size=200, overlap=0),
            "embedding": EmbeddingDefinition(
                model=ModelRef(name="words", provider="dmr", model="ai/words"), dimensions=None
            ),
        }
        return IndexDefinition(**values | changes)

    def strategy(self, kind: str = "bm25", **changes: Any) -> StrategyDefinition:
        values: dict[str, Any] = {
            "name": kind,
            "kind": kind,
            "index": self.index(),
            "limit": 10,
            "threshold": None,
        }
        return StrategyDefinition(**values | changes)

    def rag(self, *strategies: StrategyDefinition, **changes: Any) -> RagDefinition:
        results = {k: changes.pop(k) for k in list(changes) if k in ResultsSpec.model_fields}
        used = strategies or (self.strategy("chunked-embeddings"), self.strategy("bm25"))
        values: dict[str, Any] = {
            "name": "docs",
            "description": None,
            "instruction": None,
            "tool_name": "docs",
            "strategies": used,
            "indexes": tuple(dict.fromkeys(one.index for one in used)),
            "results": ResultsSpec.model_validate({"limit": 10} | results),
        }
        return RagDefinition(**values | changes)

    def rerank(self, **changes: Any) -> RerankDefinition:
        values: dict[str, Any] = {
            "model": ModelRef(name="reranker", provider="dmr", model="ai/reranker"),
            "top_k": 10,
            "threshold": None,
            "criteria": None,
        }
        return RerankDefinition(**values | changes)

    async def build(self, files: dict[str, str], *, index: IndexDefinition | None = None) -> None:
        self.write(files)
        definition = index or self.index()
        await index_once_async(definition, self.embedder if definition.embedding else None)

    def open(self, rag: RagDefinition, *, embeds: bool = True, **options: Any) -> Retriever:
        async def embedder_for(_: EmbeddingDefinition) -> WordEmbedder:
            return self.embedder

        return self.stack.enter_context(
            Retriever.open(rag, embedder_for=embedder_for if embeds else None, **options)
        )


@pytest.fixture
def rags(tmp_path: Path) -> Iterator[Rags]:
    """Return a maker of small rags; their retrievers are closed at the end."""
    (tmp_path / "docs").mkdir()
    with ExitStack() as stack:
        yield Rags(tmp_path / "docs", stack)


@pytest.fixture
def golden() -> Callable[[str], Any]:
    """Return a reader of values that were computed by cagent's own functions."""

    def read(name: str) -> Any:
        return json.loads((Path(__file__).parent / "golden" / name).read_text("utf-8"))

    return read
