"""An index that merganser 0.1.0 left: it is opened, searched and continued, and embedded once.

``tests/fixtures/index-format-1.tar.xz`` was made by that version on another machine, with MiniLM of
the embedded runner: two snapshots (an edit and a move between them), an evaluation, and what a run
that died left, a changed file whose new text has its vector in a journal.
"""

from __future__ import annotations

import tarfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from merganser.config.load import load_config
from merganser.config.rag_definition import resolve_rag
from merganser.embedding.embedder import Embedder
from merganser.indexing.run import index_once_async
from merganser.models.client import ModelRunner
from merganser.retrieval import Retriever
from merganser.store.evaluations import list_evaluations
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.reader import open_snapshot
from merganser.store.resident import ResidentTables
from merganser.store.snapshots import list_snapshots, rollback

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from merganser.config.index_definition import EmbeddingDefinition
    from merganser.config.rag_definition import RagDefinition
    from tests.doubles import FaultyRunner

FIXTURE = Path(__file__).parents[2] / "fixtures" / "index-format-1.tar.xz"


@pytest.fixture
def rag(tmp_path: Path) -> RagDefinition:
    with tarfile.open(FIXTURE) as archive:
        archive.extractall(tmp_path, filter="data")
    return resolve_rag(load_config(tmp_path / "birds.yaml"), "birds")


@asynccontextmanager
async def _embedding(rag: RagDefinition, runner: FaultyRunner) -> AsyncGenerator[Embedder]:
    [index] = rag.indexes
    assert index.embedding is not None
    async with ModelRunner(runner.url) as client:
        served = await client.model(index.embedding.model.model)
        assert served is not None
        yield Embedder(client, index.embedding.model, served, dimensions=None)


async def test_the_next_run_embeds_nothing_that_has_a_vector(
    rag: RagDefinition, runner: FaultyRunner
):
    [index] = rag.indexes
    async with _embedding(rag, runner) as embedder:
        continued = await index_once_async(index, embedder)
        again = await index_once_async(index, embedder)
        (index.base / "docs" / "geese.md").write_text("# Geese\n\nGeese hiss.\n")
        edited = await index_once_async(index, embedder)

    assert (continued.generation, continued.changed, continued.files) == (3, 5, 5)
    # What it was made by left secrets as they are, among others.
    assert {"the chunking changed", "what is done about secrets changed"} <= {*continued.reasons}
    assert (continued.texts_embedded, continued.texts_reused) == (0, 8)
    assert [skip.path for skip in continued.skipped] == ["src/blob.py"]
    assert again.status == "unchanged"
    assert (edited.generation, edited.changed, edited.texts_embedded) == (4, 1, 1)
    with open_snapshot(index.folder) as snapshot:
        assert {file.path for file in snapshot.files()} == {
            "docs/divers.md",
            "docs/ducks.md",
            "docs/geese.md",
            "src/ponds.py",
            "src/retries.py",
        }
    assert not any(index.folder.glob("embeddings/*")), "what the journal held is in a segment"


async def test_its_segments_stay_beside_new_ones_and_are_copied_into_them(
    rag: RagDefinition, runner: FaultyRunner, monkeypatch: pytest.MonkeyPatch
):
    [index] = (replace(one, secrets="keep") for one in rag.indexes)

    def same_rules(*_: object) -> tuple[str, ...]:
        return ()  # were they those that it was made by, its files would not be read again

    monkeypatch.setattr("merganser.indexing.changes._reasons", same_rules)
    with open_snapshot(index.folder) as snapshot:
        before = {file.path: snapshot.file_chunks(file.path) for file in snapshot.files()}
        old = {segment.segment for segment in snapshot.segments}
    # Nothing of the old segment is to die in the first run: the changed file is as it was.
    for path, chunks in before.items():
        (index.base / path).write_text("".join(chunk.text for chunk in chunks))
    (index.base / "docs" / "new.md").write_text("# Grebes\n\nGrebes dance.\n")
    kept: list[set[int]] = []
    async with _embedding(rag, runner) as embedder:
        for change in (None, "docs/new.md", next(iter(before))):
            if change:
                (index.base / change).write_text("# Coots\n\nCoots fight.\n")
            report = await index_once_async(index, embedder)
            with open_snapshot(index.folder) as snapshot:
                kept.append({segment.segment for segment in snapshot.segments})
                assert not snapshot.redactions()
                keys = snapshot.allowed().tolist()
                resident = ResidentTables(snapshot).chunks(keys)
                assert resident == snapshot.chunks(keys)
                assert {chunk.place for chunk in resident} == {""}
                for path, chunks in before.items():
                    if path != change:
                        found = snapshot.file_chunks(path)
                        assert [c.text for c in found] == [c.text for c in chunks]

    assert report.unchanged == len(before)
    assert kept[0] & old, "an old segment stood beside the new one"
    assert not kept[2] & old, "their chunks were copied into new ones"


async def test_a_full_run_reuses_the_vectors_of_the_segments(
    rag: RagDefinition, runner: FaultyRunner
):
    [index] = rag.indexes
    async with _embedding(rag, runner) as embedder:
        report = await index_once_async(index, embedder, full=True)

    assert (report.files, report.texts_embedded) == (5, 0)


async def test_it_is_searched_by_words_and_by_meaning(rag: RagDefinition, runner: FaultyRunner):
    async with _embedding(rag, runner) as embedder, ModelRunner(runner.url) as client:

        async def embedder_for(_: EmbeddingDefinition) -> Embedder:
            return embedder

        with Retriever.open(rag, runner=client, embedder_for=embedder_for) as retriever:
            by_both = await retriever.search("call the action again when the network is down")

    assert by_both.hits[0].path == "src/retries.py"
    [index] = rag.indexes
    with open_snapshot(index.folder) as snapshot:
        found = snapshot.postings(["wedg"])
        assert [chunk.path for chunk in snapshot.chunks(found.key.tolist())] == ["docs/geese.md"]


def test_the_snapshot_before_is_served_again(rag: RagDefinition):
    [index] = rag.indexes

    assert rollback(index.folder) == 1
    with open_snapshot(index.folder) as snapshot:
        assert "docs/loons.md" in {file.path for file in snapshot.files()}
        assert not len(snapshot.postings(["wedg"]).key)
    assert [(s.generation, s.served) for s in list_snapshots(index.folder)] == [
        (2, False),
        (1, True),
    ]


def test_its_runs_and_evaluations_are_read(rag: RagDefinition):
    [index] = rag.indexes
    folder = IndexFolder(index.folder)

    runs = list_runs(folder)
    [evaluation] = list_evaluations(folder, rag="birds")

    assert [(run.status, run.texts_embedded, run.texts_reused) for run in runs] == [
        ("failed", 0, 0),
        ("published", 1, 1),
        ("published", 8, 0),
    ]
    assert runs[0].error == "the machine was switched off"
    assert evaluation.passed
    assert {row.metric: row.value for row in evaluation.metrics} == {"recall@5": 1, "mrr@10": 1}
