"""Shards that are embedded by other processes, and vectors that machines share."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from merganser.embedding.service import EmbedService
from merganser.errors import StoreError
from merganser.indexing.build import build_snapshot
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import recognise_model
from merganser.indexing.publishing import publish
from merganser.indexing.shard_plan import MOST_SHARDS, plan_shards
from merganser.indexing.shards import embed_shard
from merganser.indexing.workspace import begin_run
from merganser.remote.sharing import receive_shard, share_run
from merganser.remote.worker import embed_remote_shard
from merganser.store import shared_journals

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from datetime import timedelta
    from pathlib import Path

    from merganser.embedding.embedder import Embedder
    from merganser.indexing.run_report import IndexReport
    from merganser.indexing.workspace import Workspace
    from tests.core.conftest import Corpus, HashEmbedder


@dataclass
class Telling:
    """The embedder of the tests as a service wants it."""

    embedder: HashEmbedder

    async def embed_documents(
        self, texts: Sequence[str], *, on_vectors: Callable[[Sequence[int], Any], None]
    ) -> Any:
        vectors = await self.embedder.embed_documents(texts)
        on_vectors(range(len(texts)), vectors)
        return vectors


def begin(corpus: Corpus) -> Workspace:
    model = asyncio.run(recognise_model(corpus.embedder, corpus.definition))
    found = find_changes(corpus.definition, fingerprint=model.fingerprint)
    return begin_run(found, model=model, chunks_per_shard=20)


def service_of(corpus: Corpus) -> Callable[[], EmbedService]:
    @asynccontextmanager
    async def opened() -> AsyncGenerator[Embedder]:
        yield cast("Embedder", Telling(corpus.embedder))

    return lambda: EmbedService(opened)


def index_elsewhere(corpus: Corpus, *, before: Callable[[], None] | None = None) -> IndexReport:
    """Do what the flow does with ``runner``, but for the processes."""
    with begin(corpus) as workspace:
        assert len(workspace.shards) >= 3
        run = share_run(workspace)
        if before:
            before()
        for shard in reversed(workspace.shards):
            receipt, _ = asyncio.run(embed_remote_shard(run, shard, service_of(corpus)))
            receive_shard(workspace, receipt)
        return publish(workspace, build_snapshot(workspace))


def index_here(corpus: Corpus, *, shards: int | None = None) -> IndexReport | None:
    """Index by the same shards in this process; only the first few, and die, when told so."""
    with begin(corpus) as workspace:
        for shard in workspace.shards[:shards]:
            asyncio.run(embed_shard(workspace, shard, corpus.embedder))
        if shards is None:
            return publish(workspace, build_snapshot(workspace))
    return None


def copy_of(corpus: Corpus, name: str) -> Corpus:
    """Return the same documents on another machine, without the index."""
    root = corpus.root.with_name(f"{corpus.root.name}-{name}")
    shutil.copytree(corpus.root, root, ignore=shutil.ignore_patterns(".merganser"))
    definition = replace(corpus.definition, base=root, folder=root / ".merganser" / "code")
    return replace(corpus, root=root, definition=definition)


@pytest.fixture
def documents(corpus: Corpus) -> Corpus:
    for i in range(6):
        lines = (f"def function_{i}_{n}(x):\n    return x * {n}\n" for n in range(30))
        corpus.write(f"src/mod_{i:02d}.py", "\n".join(lines))
        corpus.write(f"src/same_{i:02d}.txt", f"The same text in all files.\n{'x' * 190}\n")
    corpus.change(docs=("src",))
    return corpus


@pytest.fixture(params=[None, "folder", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    shared = tmp_path.with_name(f"{tmp_path.name}-shared")
    return {None: None, "folder": str(shared), "memory": f"memory://{shared}"}[request.param]


def test_shards_embedded_elsewhere_give_the_same_index_row_for_row(
    documents: Corpus, place: str | None
):
    here = copy_of(documents, "here")
    index_here(here)
    needed = set(here.embedded())
    documents.change(shards=place)

    report = index_elsewhere(documents)

    assert documents.rows() == here.rows()
    embedded = documents.embedded()
    assert sorted(embedded) == sorted(needed), "one process embeds a text once"
    assert report.texts_embedded == len(needed)
    assert list((documents.folder / "build").iterdir()) == []


def test_an_edit_embeds_elsewhere_only_what_is_new(documents: Corpus):
    index_here(documents)
    documents.embedded()
    for i in range(6):
        text = (documents.root / f"src/mod_{i:02d}.py").read_text()
        documents.write(f"src/mod_{i:02d}.py", f"{text}\nNEW = {i}\n", seconds_ago=5)

    report = index_elsewhere(documents)

    assert report.changed == 6
    assert all("NEW" in text for text in documents.embedded())
    assert report.texts_reused > 30


def test_words_alone_are_cut_elsewhere_too(documents: Corpus):
    here = copy_of(documents, "here")
    here.index_words()

    with begin_run(
        find_changes(documents.definition, fingerprint=""), chunks_per_shard=20
    ) as workspace:
        run = share_run(workspace)
        for shard in workspace.shards:
            receipt, _ = asyncio.run(embed_remote_shard(run, shard, None))
            receive_shard(workspace, receipt)
        publish(workspace, build_snapshot(workspace))

    assert documents.rows() == here.rows()


def test_a_machine_with_other_documents_fails_them_by_name(
    documents: Corpus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("merganser.indexing.build.MAX_FAILED_SHARE", 0.9)

    def change() -> None:
        documents.write("src/mod_03.py", "x = 1\n", seconds_ago=5)
        documents.remove("src/mod_04.py")

    report = index_elsewhere(documents, before=change)

    assert [file.path for file in report.failed] == ["src/mod_03.py", "src/mod_04.py"]
    assert {file.reason for file in report.failed} == {"elsewhere"}
    assert report.files == 10
    assert report.status == "degraded"


def test_a_process_that_does_not_reach_the_folder_says_what_to_do(documents: Corpus):
    def lose() -> None:
        for path in (documents.folder / "build").glob("*/shared"):
            shutil.rmtree(path)

    with pytest.raises(StoreError, match=r"does not reach the folder; name one .* with `shards`"):
        index_elsewhere(documents, before=lose)


def test_another_machine_takes_the_vectors_of_a_run_that_died(
    documents: Corpus, tmp_path: Path, place: str | None
):
    documents.change(shards=place or f"file://{tmp_path}/shared")
    other, undisturbed = copy_of(documents, "other"), copy_of(documents, "undisturbed")
    undisturbed.change(shards=None)
    index_here(undisturbed)
    needed = set(undisturbed.embedded())
    index_here(documents, shards=2)
    paid = documents.embedded()
    assert 0 < len(paid) < len(needed)

    index_here(other)

    assert other.rows() == undisturbed.rows()
    assert sorted([*paid, *other.embedded()]) == sorted(needed)


def test_shared_vectors_stay_for_others_for_a_day(
    documents: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    documents.change(shards=str(tmp_path / "shared"))
    index_here(documents)
    kept = list((tmp_path / "shared").rglob("*-0.*"))
    assert len(kept) >= 3
    assert not list((documents.folder / "embeddings").rglob("*.npz"))
    later = copy_of(documents, "later")
    documents.embedded()
    index_here(later)
    assert later.embedded() == []

    nothing: timedelta = shared_journals.KEEP_SHARED * 0
    monkeypatch.setattr(shared_journals, "KEEP_SHARED", nothing)
    later.write("src/new.py", "NEW = 1\n")
    later.index()

    assert [path for path in kept if path.exists()] == []


def test_a_journal_that_is_not_whole_is_embedded_again(documents: Corpus, tmp_path: Path):
    documents.change(shards=str(tmp_path / "shared"))
    index_here(documents, shards=2)
    paid = documents.embedded()
    broken, *_ = sorted((tmp_path / "shared").rglob("*-0.*"))
    broken.write_bytes(broken.read_bytes()[:-100])
    other = copy_of(documents, "other")

    index_here(other)

    again = set(other.embedded()) & set(paid)
    assert 0 < len(again) < len(paid)


def test_another_model_of_the_same_name_does_not_take_shared_vectors(
    documents: Corpus, place: str | None, tmp_path: Path
):
    documents.change(shards=place or str(tmp_path / "shared"))
    other = copy_of(documents, "other")
    other.embedder = replace(other.embedder, salt="other weights", texts=[])
    index_here(documents, shards=2)
    assert documents.embedded()

    index_here(other)

    undisturbed = copy_of(other, "undisturbed")
    undisturbed.change(shards=None)
    index_here(undisturbed)
    assert other.rows() == undisturbed.rows()


def test_a_large_run_has_larger_shards_and_not_more(documents: Corpus):
    found = find_changes(documents.definition, fingerprint="")
    (one, *_) = found.pending
    many = replace(found, added=tuple(replace(one, path=f"{n:05d}.py") for n in range(9000)))

    assert MOST_SHARDS < 9000 // 6
    shards = plan_shards(many.pending, many.definition.chunking, chunks_per_shard=6)

    assert len(shards) < 1.2 * MOST_SHARDS, "files are not divided, so shards are not full"
    assert [d.path for shard in shards for d in shard.documents] == [d.path for d in many.pending]
