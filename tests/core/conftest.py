"""A corpus that can be edited, and an embedder that counts; everything else is the real engine."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
from merganser.indexing.drift import DRIFT_TEXTS
from merganser.indexing.run import index_once
from merganser.models.ref import ModelRef
from merganser.store.reader import Snapshot, open_snapshot
from merganser.store.resident import ResidentTables
from tests.doubles.model_server import client, double, host, socket_double

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.indexing.run_report import IndexReport

__all__ = ["client", "corpus", "double", "host", "small", "socket_double"]

_DIMENSIONS = 8


@dataclass
class HashEmbedder:
    """Gives each text a fixed pseudo-random unit vector and remembers all but the drift texts.

    What is tested here is the store, which cannot tell these vectors from a model's.
    """

    fingerprint: str = "a" * 64
    dimensions: int = _DIMENSIONS
    salt: str = ""
    noise: float = 0.0
    texts: list[str] = field(default_factory=list[str])
    before: Callable[[Sequence[str]], None] | None = None

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: object = None
    ) -> NDArray[np.float32]:
        del on_vectors  # all come at the end
        if self.before:
            self.before(texts)
        self.texts += (text for text in texts if text not in DRIFT_TEXTS)
        rows = [
            np.frombuffer(
                hashlib.shake_256((self.salt + t).encode()).digest(self.dimensions), dtype=np.uint8
            )
            for t in texts
        ]
        vectors = np.array(rows, dtype=np.float32) - 127.5
        vectors *= 1 + self.noise * np.random.default_rng(1).standard_normal(vectors.shape)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@dataclass
class Corpus:
    """A folder of documents with its index."""

    root: Path
    definition: IndexDefinition
    embedder: HashEmbedder = field(default_factory=HashEmbedder)

    @property
    def folder(self) -> Path:
        return self.definition.folder

    def write(self, path: str, text: str, *, seconds_ago: float = 60) -> Path:
        """Write a file that has been left alone for a while, as far as its status tells."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        then = time.time_ns() - int(seconds_ago * 1e9)
        os.utime(file, ns=(then, then))
        return file

    def remove(self, path: str) -> None:
        (self.root / path).unlink()

    def move(self, path: str, target: str) -> None:
        (self.root / target).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).rename(self.root / target)

    def index(self, **options: Any) -> IndexReport:
        return index_once(self.definition, self.embedder, **options)

    def index_words(self) -> IndexReport:
        """Index as where no model can be had."""
        return index_once(self.definition, None)

    def embedded(self) -> list[str]:
        """Return and forget the texts embedded since the last call, without the drift texts."""
        texts, self.embedder.texts = self.embedder.texts, []
        return texts

    def open(self) -> Snapshot:
        return open_snapshot(self.folder)

    @staticmethod
    def matrix(snapshot: Snapshot) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the keys and vectors of the live chunks."""
        tables = ResidentTables(snapshot)
        positions, vectors = tables.matrix()
        return tables.keys[positions], vectors

    @staticmethod
    def vocabulary(snapshot: Snapshot) -> list[str]:
        """Return all terms of the segments, ascending."""
        terms = {
            term
            for segment in snapshot.segments
            for (term,) in snapshot.cursor()
            .execute(f"SELECT term FROM s{segment.segment}.terms")  # noqa: S608 - a number
            .fetchall()
        }
        return sorted(terms)

    def change(self, **changes: Any) -> None:
        self.definition = replace(self.definition, **changes)

    def rows(self, folder: Path | None = None) -> list[tuple[object, ...]]:
        """Return everything a reader can see of the served snapshot, without physical numbers."""
        with open_snapshot(folder or self.folder) as snapshot:
            keys, vectors = self.matrix(snapshot)
            vector_of: dict[int, bytes] = {
                int(k): v.tobytes() for k, v in zip(keys, vectors, strict=True)
            }
            terms = self.vocabulary(snapshot)
            postings = snapshot.postings(terms)
            words: dict[int, list[tuple[str, int, int]]] = {}
            columns = (postings.term_index, postings.key, postings.tf, postings.doc_len)
            rows: list[list[int]] = np.stack(columns, axis=1).tolist()
            for term, key, tf, length in rows:
                words.setdefault(key, []).append((terms[term], tf, length))
            found: list[tuple[object, ...]] = [
                ("counts", snapshot.chunk_count, snapshot.total_terms, len(vector_of))
            ]
            for file in snapshot.files():
                # Not the mtime: a new one with the old content publishes nothing.
                content = (file.size_bytes, file.content_hash)
                counts = (file.row_count, file.term_count)
                found.append((file.path, file.language, content, counts))
                found.extend(
                    (c.path, c.ord, c.start_line, c.end_line, c.start_char, c.end_char, c.symbol,
                     c.kind, c.language, c.text, vector_of.get(c.key), words.get(c.key))
                    for c in snapshot.file_chunks(file.path)
                )  # fmt: skip
            return found


def make_definition(root: Path, **changes: Any) -> IndexDefinition:
    definition = IndexDefinition(
        name="code",
        folder=root / ".merganser" / "code",
        base=root,
        docs=(".",),
        docs_positions=(None,),
        respect_vcs=True,
        chunking=ChunkingOptions(size=200, overlap=0),
        embedding=EmbeddingDefinition(
            model=ModelRef(name="ai/embed", provider="dmr", model="ai/embed"), dimensions=None
        ),
    )
    return replace(definition, **changes)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """An empty corpus."""
    return Corpus(tmp_path, make_definition(tmp_path))


def settle() -> None:
    """Wait until what was just written is older than the kernel's tick, by which it is believed."""
    time.sleep(0.03)


@pytest.fixture
def small(corpus: Corpus) -> Corpus:
    """Twelve files of a few chunks each, indexed once."""
    for i in range(12):
        body = "\n".join(f"def run_{i}_{n}(x):\n    return x + {n}\n" for n in range(12))
        corpus.write(f"src/mod_{i:02d}.py", body)
    settle()
    corpus.index()
    corpus.embedded()
    return corpus
