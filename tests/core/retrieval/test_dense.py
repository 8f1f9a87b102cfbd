"""SQL, memory and the approximate index find the same chunks, whatever was edited before."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from usearch.index import Index

from merganser.chunking import ChunkingOptions
from merganser.config.index_definition import EmbeddingDefinition, IndexDefinition
from merganser.doctor.indexes import diagnose_index
from merganser.indexing import compaction, publishing
from merganser.indexing.run import index_once
from merganser.models.ref import ModelRef
from merganser.retrieval.dense import DenseIndex
from merganser.store import ann
from merganser.store.ann import (
    ApproximateVectors,
    approximate_path,
    build_approximate,
    read_approximate,
)
from merganser.store.filters import Filter
from merganser.store.reader import open_snapshot
from merganser.store.resident import ResidentTables
from merganser.store.snapshots import list_snapshots
from merganser.threads import limiting_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.indexing.run_report import IndexReport
    from merganser.retrieval.bm25 import Ranking
    from merganser.store.reader import Snapshot

_DIMENSIONS = 32
_FILES = 60


@dataclass
class ClusterEmbedder:
    """Puts each text near one of a few centres, as embeddings of real texts are."""

    fingerprint: str = "c" * 64
    centres: NDArray[np.float64] = field(
        default_factory=lambda: np.random.default_rng(1).standard_normal((20, _DIMENSIONS))
    )

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: object = None
    ) -> NDArray[np.float32]:
        del on_vectors  # all come at the end
        return np.stack([self.vector(text) for text in texts])

    def vector(self, text: str) -> NDArray[np.float32]:
        random = np.random.default_rng(list(hashlib.sha256(text.encode()).digest()))
        vector = self.centres[random.integers(20)] + 0.4 * random.standard_normal(_DIMENSIONS)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


@dataclass
class Indexed:
    """An index over generated files; segments get a graph from 200 chunks on."""

    base: Path
    embedder: ClusterEmbedder = field(default_factory=ClusterEmbedder)

    @property
    def definition(self) -> IndexDefinition:
        model = ModelRef(name="c", provider="dmr", model="ai/c")
        return IndexDefinition(
            name="docs",
            folder=self.base.parent / "index",
            base=self.base,
            docs=(".",),
            respect_vcs=False,
            chunking=ChunkingOptions(size=60, overlap=0),
            embedding=EmbeddingDefinition(model=model, dimensions=None),
        )

    def write(self, number: int, version: int = 0) -> None:
        lines = (f"line {i} of {number}, version {version}, and more words\n" for i in range(8))
        (self.base / f"f{number:03}.{'md' if number % 20 else 'py'}").write_text("".join(lines))

    def index(self, **options: Any) -> IndexReport:
        return index_once(self.definition, self.embedder, **options)

    def open(self) -> Snapshot:
        return open_snapshot(self.definition.folder)

    def graphs(self) -> list[Path]:
        return sorted(self.definition.folder.glob("*.usearch*"))

    def queries(self, count: int = 30) -> list[NDArray[np.float32]]:
        return [self.embedder.vector(f"question {i}") for i in range(count)]


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Indexed:
    """Return an index of 60 files with a graph."""
    monkeypatch.setattr(publishing, "GRAPH_ROWS", 200)
    # An index so small would be written anew at every edit, and its graph with it.
    monkeypatch.setattr(compaction, "SMALL_SEGMENT_ROWS", 0)
    (tmp_path / "docs").mkdir()
    made = Indexed(tmp_path / "docs")
    for number in range(_FILES):
        made.write(number)
    made.index()
    return made


def nearest(dense: DenseIndex, query: NDArray[np.float32], **options: Any) -> Ranking:
    return dense.nearest(query, 10, similarity="cosine_similarity", **options)


def recall(found: Ranking, exact: Ranking) -> float:
    return len(set(found.keys.tolist()) & set(exact.keys.tolist())) / len(exact.keys)


def test_large_segment_gets_a_graph_that_says_what_it_reaches(indexed: Indexed):
    [path] = indexed.graphs()
    info = read_approximate(path)

    assert info is not None
    assert info.recall >= 0.96
    [snapshot] = list_snapshots(indexed.definition.folder)
    assert (snapshot.approximate, snapshot.recall) == (1.0, info.recall)
    assert info.rows == snapshot.chunks


def test_many_threads_lose_no_links_of_a_small_graph(indexed: Indexed):
    [path] = indexed.graphs()
    target = path.with_name("s999999.usearch")

    with limiting_threads(8):
        found = [build_approximate(path.with_suffix(".duckdb"), target) for _ in range(10)]

    assert {info.recall for info in found if info is not None} == {1.0}


@pytest.mark.parametrize(("limit", "threads"), [(3, 3), (None, 0)])
def test_a_graph_is_built_and_measured_by_no_more_threads_than_may_be(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch, limit: int | None, threads: int
):
    [path] = indexed.graphs()
    asked: list[tuple[str, int]] = []

    class Watched(Index):
        def add(self, *args: Any, **options: Any) -> Any:
            asked.append(("add", options["threads"]))
            return super().add(*args, **options)

        def search(self, *args: Any, **options: Any) -> Any:
            asked.append(("search", options["threads"]))
            return super().search(*args, **options)

    monkeypatch.setattr(ann, "_library", lambda: SimpleNamespace(Index=Watched))
    monkeypatch.setattr(ann, "_BATCH_ROWS", 64)
    with limiting_threads(limit):
        ann.build_approximate(path.with_suffix(".duckdb"), path.with_name("s999999.usearch"))

    # The first vectors are added by one thread, as each other's neighbours.
    assert asked[0] == ("add", 1)
    assert set(asked[1:]) == {("add", threads), ("search", threads)}


def test_all_three_ways_agree(indexed: Indexed):
    with indexed.open() as snapshot:
        by_sql, in_memory = (
            DenseIndex(snapshot, None),
            DenseIndex(snapshot, ResidentTables(snapshot)),
        )
        recalls: list[float] = []
        for query in indexed.queries():
            exact = nearest(by_sql, query, exact=True)
            found = nearest(in_memory, query)
            recalls.append(recall(found, exact))
            assert found.scores == pytest.approx(exact.scores, abs=0.05)
            approximate_path(snapshot.paths[1]).rename(indexed.base / "away")
            memory = nearest(DenseIndex(snapshot, ResidentTables(snapshot)), query)
            (indexed.base / "away").rename(approximate_path(snapshot.paths[1]))
            assert memory.keys.tolist() == exact.keys.tolist()
            assert memory.scores == pytest.approx(exact.scores, abs=1e-6)

    assert np.mean(recalls) >= 0.96


@pytest.mark.parametrize("resident", [False, True])
@pytest.mark.parametrize(
    "where",
    [Filter(paths=("f003.md",)), Filter(languages=("python",)), Filter(paths=("*.md",))],
)
def test_filters_are_exact_and_reach_the_limit(indexed: Indexed, where: Filter, *, resident: bool):
    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, ResidentTables(snapshot) if resident else None)
        tables = ResidentTables(snapshot)
        _, vectors = tables.matrix()
        mask = tables.mask(where)
        for query in indexed.queries(5):
            found = nearest(dense, query, where=where)

            cosines = np.where(mask, vectors @ query, -2.0)
            best = np.argsort(-cosines, kind="stable")[: min(10, int(mask.sum()))]
            assert tables.keys[best].tolist() == found.keys.tolist()


def test_edited_removed_and_moved_files_never_come_back(indexed: Indexed):
    for number in range(15):
        (indexed.base / f"f{number:03}.{'md' if number % 20 else 'py'}").unlink()
    indexed.write(20, version=1)
    (indexed.base / "f021.md").rename(indexed.base / "moved.md")
    indexed.index()

    with indexed.open() as snapshot:
        assert len(snapshot.segments) == 2  # the graph's and what is new
        live = set(snapshot.allowed().tolist())
        for tables in (None, ResidentTables(snapshot)):
            dense = DenseIndex(snapshot, tables)
            assert "approximate" in dense.describe()
            recalls: list[float] = []
            for query in indexed.queries():
                found = nearest(dense, query)
                assert set(found.keys.tolist()) <= live
                assert len(found) == 10
                recalls.append(recall(found, nearest(dense, query, exact=True)))
            assert np.mean(recalls) >= 0.96
        for chunk in (snapshot.file_chunks("f020.py")[0], snapshot.file_chunks("moved.md")[0]):
            found = nearest(DenseIndex(snapshot, None), indexed.embedder.vector(chunk.text))
            assert chunk.key in found.keys[found.scores > 0.9999].tolist()


def test_all_that_are_as_near_as_the_last_are_found_by_the_graph_too(indexed: Indexed):
    for number in range(12):
        (indexed.base / f"copy{number:02}.md").write_text("the very same words\n")
    indexed.index(full=True)

    with indexed.open() as snapshot:
        query = indexed.embedder.vector("the very same words\n")
        found = DenseIndex(snapshot, None).nearest(
            query, 3, similarity="cosine_similarity", equals=20
        )

        same = found.keys[found.scores > 0.999].tolist()
        assert {chunk.path for chunk in snapshot.chunks(same)} == {
            f"copy{number:02}.md" for number in range(12)
        }


def test_limit_above_the_live_chunks_gives_every_one_once(indexed: Indexed):
    for number in range(15):
        (indexed.base / f"f{number:03}.{'md' if number % 20 else 'py'}").unlink()
    indexed.index()

    with indexed.open() as snapshot:
        found = DenseIndex(snapshot, None).nearest(
            indexed.queries(1)[0], 10_000, similarity="euclidean"
        )

        assert sorted(found.keys.tolist()) == snapshot.allowed().tolist()


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def without_trailer(data: bytes) -> bytes:
    return data[:-10]


def empty(_: bytes) -> bytes:
    return b""


def of_another_kind(data: bytes) -> bytes:
    return b"x" * len(data)


@pytest.mark.parametrize("damage", [cut, without_trailer, empty, of_another_kind])
def test_damaged_graph_means_exact_search_a_note_and_a_new_graph(
    indexed: Indexed, damage: Callable[[bytes], bytes]
):
    [path] = indexed.graphs()
    path.write_bytes(damage(path.read_bytes()))

    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, None)
        query = indexed.queries(1)[0]
        found, exact = nearest(dense, query), nearest(dense, query, exact=True)
        assert found.keys.tolist() == exact.keys.tolist()
        assert len(dense.notes) == 1
        assert "damaged" in dense.notes[0]
        assert dense.describe() == "exact"

    indexed.write(30, version=2)
    indexed.index()
    assert read_approximate(path) is not None


def test_graph_of_another_segment_is_refused(indexed: Indexed):
    [path] = indexed.graphs()
    for number in range(_FILES, _FILES + 40):
        indexed.write(number)
    indexed.index()
    other = indexed.graphs()[-1]
    assert other != path
    other.write_bytes(path.read_bytes())

    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, None)
        nearest(dense, indexed.queries(1)[0])

        assert "another segment" in dense.notes[0]


def test_graph_goes_with_its_segment_and_dead_builds_are_cleared(indexed: Indexed):
    [path] = indexed.graphs()
    path.with_name("s000099.usearch.tmp").write_bytes(b"of a run that died")
    indexed.write(1, version=1)

    indexed.index(full=True, keep_snapshots=1)

    [new] = indexed.graphs()
    assert new.name != path.name
    assert not path.exists()


def test_open_reader_keeps_a_graph_that_is_collected(indexed: Indexed):
    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, None)
        query = indexed.queries(1)[0]
        before = nearest(dense, query)
        indexed.write(1, version=1)
        indexed.index(full=True, keep_snapshots=1)

        assert nearest(dense, query).keys.tolist() == before.keys.tolist()


def test_without_the_library_search_is_exact_and_says_what_is_missing(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("merganser.retrieval.dense.is_available", lambda: False)
    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, None)
        query = indexed.queries(1)[0]

        assert (
            nearest(dense, query).keys.tolist() == nearest(dense, query, exact=True).keys.tolist()
        )
        assert "pip install '.[ann]'" in dense.notes[0]


def test_graph_that_falls_short_is_told_not_used_and_not_built_again(
    indexed: Indexed, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("merganser.store.ann.MIN_RECALL", 1.1)
    indexed.write(1, version=1)

    report = indexed.index(full=True, keep_snapshots=1)

    [note] = report.notes
    assert "recall@10" in note
    assert "searches stay exact" in note
    [path] = indexed.graphs()
    assert path.stat().st_size < 1000
    [info] = list_snapshots(indexed.definition.folder)
    assert (info.approximate, info.recall) == (0.0, None)
    assert info.rejected_recall is not None
    told = [check.detail for check in diagnose_index(indexed.definition).checks]
    assert any("an approximate index reached recall@10" in detail for detail in told)
    with indexed.open() as snapshot:
        dense = DenseIndex(snapshot, None)
        nearest(dense, indexed.queries(1)[0])
        assert (dense.describe(), dense.notes) == ("exact", ())
    indexed.write(2, version=1)
    assert indexed.index().notes == ()


def test_graph_searches_at_the_same_time_do_not_disturb_each_other(indexed: Indexed):
    [path] = indexed.graphs()
    rows = read_approximate(path)
    assert rows is not None
    graph = ApproximateVectors.open(path, rows=rows.rows, dimensions=_DIMENSIONS)
    queries = indexed.queries()
    one_by_one = [graph.search(query, 10)[0].tolist() for query in queries]

    async def together() -> list[list[int]]:
        found = await asyncio.gather(*(asyncio.to_thread(graph.search, q, 10) for q in queries))
        return [rows.tolist() for rows, _ in found]

    assert one_by_one == asyncio.run(together())
