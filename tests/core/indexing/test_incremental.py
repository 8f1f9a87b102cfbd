"""What a run does to an index, and that it costs no more than it must."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from merganser.chunking import ChunkingOptions
from merganser.documents.files import read_file
from merganser.documents.reading import read_document
from merganser.errors import PlanError, SourcePosition, SpecErrors, StoreError
from merganser.indexing.changes import find_changes
from merganser.store.folder import IndexFolder
from merganser.store.history import list_runs
from merganser.store.tokens import query_terms
from tests.core.conftest import settle

if TYPE_CHECKING:
    from merganser.documents.reading import DocumentText
    from merganser.documents.scanning import Document
    from tests.core.conftest import Corpus, HashEmbedder


def test_first_run_indexes_every_file(small: Corpus):
    with small.open() as snapshot:
        paths = [file.path for file in snapshot.files()]

    assert [f"src/mod_{i:02d}.py" for i in range(12)] == paths


def test_no_op_publishes_nothing_and_opens_no_file(small: Corpus, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    real_open: Any = Path.open

    def spying_open(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.suffix)
        return real_open(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", spying_open)  # read_bytes and read_text go through it

    def spying_read(path: str | Path, max_bytes: int) -> bytes:
        opened.append(Path(path).suffix)
        return read_file(path, max_bytes)

    monkeypatch.setattr("merganser.documents.reading.read_file", spying_read)

    report = small.index()

    assert report.status == "unchanged"
    assert (report.generation, report.served) == (None, 1)
    assert small.embedded() == []
    assert ".py" not in opened
    published = sorted(path.name for path in small.folder.glob("[gs]*.duckdb"))
    assert published == ["g000001.duckdb", "s000001.duckdb"]


def test_edit_embeds_only_the_new_text(small: Corpus):
    path = small.root / "src/mod_03.py"
    small.write("src/mod_03.py", path.read_text().replace("x + 7", "x * 7"), seconds_ago=30)

    report = small.index()

    assert (report.changed, report.unchanged) == (1, 11)
    assert report.texts_embedded == len(small.embedded()) == 1
    assert report.texts_reused > 0


def test_moved_file_embeds_nothing(small: Corpus):
    small.move("src/mod_05.py", "lib/renamed.py")

    report = small.index()

    assert (report.moved, report.added, report.removed) == (1, 0, 0)
    assert small.embedded() == []
    with small.open() as snapshot:
        assert snapshot.file_chunks("src/mod_05.py") == []
        assert snapshot.file_chunks("lib/renamed.py")
        assert len(snapshot.postings(query_terms("renamed")).key) == len(
            snapshot.file_chunks("lib/renamed.py")
        )


def test_copy_of_a_file_embeds_nothing(small: Corpus):
    small.write("copy.py", (small.root / "src/mod_00.py").read_text())

    report = small.index()

    assert report.added == 1
    assert small.embedded() == []


def test_removed_and_shrunk_files_leave_nothing_behind(small: Corpus):
    small.remove("src/mod_01.py")
    small.write("src/mod_02.py", "def run_2_0(x):\n    return x + 0\n", seconds_ago=20)

    report = small.index()

    assert (report.removed, report.changed) == (1, 1)
    with small.open() as snapshot:
        assert snapshot.file_chunks("src/mod_01.py") == []
        assert len(snapshot.file_chunks("src/mod_02.py")) == 1
        assert len(snapshot.postings(["run_1_3"]).key) == 0
        assert len(snapshot.postings(["run_2_3"]).key) == 0
        keys, _ = small.matrix(snapshot)
        assert len(keys) == snapshot.chunk_count == len(snapshot.allowed())


def test_new_mtime_with_the_old_content_changes_nothing_and_is_remembered(
    small: Corpus, monkeypatch: pytest.MonkeyPatch
):
    file = small.root / "src/mod_04.py"
    os.utime(file, (1_600_000_000, 1_600_000_000))
    settle()

    assert small.index().status == "unchanged"

    def hash_file(path: str) -> str:
        pytest.fail(f"{path} was read again")

    monkeypatch.setattr("merganser.indexing.changes.hash_file", hash_file)
    assert small.index().status == "unchanged"


def test_edit_that_keeps_size_and_mtime_is_seen_when_it_may_be_hidden(corpus: Corpus):
    file = corpus.write("a.txt", "first version\n", seconds_ago=0)
    status = file.stat()
    corpus.index()

    file.write_text("other version\n")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    report = corpus.index()

    assert report.changed == 1


def test_file_skipped_after_reading_is_read_once(small: Corpus, monkeypatch: pytest.MonkeyPatch):
    binary = small.write("data.txt", "x")
    binary.write_bytes(b"\x00\x01\x02" * 500)
    os.utime(binary, (1_600_000_000, 1_600_000_000))
    settle()
    first = small.index()
    read: list[str] = []

    def spying_read(document: Document) -> DocumentText:
        read.append(document.path)
        return read_document(document)

    monkeypatch.setattr("merganser.indexing.shards.read_document", spying_read)

    second = small.index()

    assert (first.status, second.status) == ("unchanged", "unchanged")
    assert [(s.path, s.reason) for s in second.skipped if s.path == "data.txt"] == [
        ("data.txt", "binary")
    ]
    assert read == []


def test_changed_chunking_does_everything_again_and_reuses_equal_texts(small: Corpus):
    small.change(chunking=ChunkingOptions(size=400, overlap=0))

    report = small.index()

    assert report.reasons == ("the chunking changed",)
    assert report.changed == 12
    small.change(chunking=ChunkingOptions(size=200, overlap=0))
    small.embedded()
    small.index()
    assert small.embedded() == []


def test_what_was_skipped_is_looked_at_again_when_everything_is_done_again(small: Corpus):
    small.write("page.html", "<script>app()</script>")
    assert "empty" in {skip.reason for skip in small.index().skipped}
    observed = small.folder / "observed.json"
    assert '"empty"' in observed.read_text("utf-8")
    observed.write_text(observed.read_text("utf-8").replace('"empty"', '"minified"'), "utf-8")

    small.change(chunking=ChunkingOptions(size=400, overlap=0))

    reasons = {skip.path: skip.reason for skip in small.index().skipped}
    assert reasons["page.html"] == "empty"


def test_changed_model_embeds_everything_and_switching_back_nothing(small: Corpus):
    before = small.rows()
    small.embedder.fingerprint = "b" * 64

    report = small.index()

    assert report.reasons == ("the embedding model changed",)
    assert report.texts_embedded == len(set(small.embedded()) - set(_drift_texts()))
    small.embedder.fingerprint = "a" * 64
    small.index()
    assert set(small.embedded()) <= set(_drift_texts())
    assert small.rows() == before


def _drift_texts() -> tuple[str, ...]:
    from merganser.indexing.drift import DRIFT_TEXTS

    return DRIFT_TEXTS


def test_index_without_a_model_has_words_only(corpus: Corpus):
    corpus.write("a.md", "# Ducks\n\nA merganser dives.\n")

    report = corpus.index_words()

    assert report.embedding is False
    with corpus.open() as snapshot:
        assert snapshot.dimensions is None
        assert len(snapshot.postings(query_terms("merganser")).key) == 1
        assert corpus.matrix(snapshot)[1].shape == (0, 0)


def test_run_over_a_part_keeps_the_rest(small: Corpus):
    small.write("docs/guide.md", "# Guide\n\nHow to run.\n")
    small.index()
    small.write("src/mod_00.py", "x = 1\n", seconds_ago=5)
    small.remove("docs/guide.md")

    small.change(docs=("src",))
    report = small.index()

    assert (report.changed, report.removed, report.outside) == (1, 0, 1)
    with small.open() as snapshot:
        assert snapshot.file_chunks("docs/guide.md")
    small.change(docs=(".",))
    assert small.index().removed == 1


def test_full_run_over_a_part_drops_the_rest(small: Corpus):
    small.write("docs/guide.md", "# Guide\n\nHow to run.\n")
    small.index()

    small.change(docs=("docs",))
    small.index(full=True)

    with small.open() as snapshot:
        assert [file.path for file in snapshot.files()] == ["docs/guide.md"]


def test_ignore_rule_alone_removes_files(small: Corpus):
    small.write(".gitignore", "mod_0*.py\n")

    report = small.index()

    assert report.removed == 10


def test_part_cannot_be_run_alone_after_the_model_changed(small: Corpus):
    small.write("docs/guide.md", "# Guide\n\nHow to run.\n")
    small.index()
    small.embedder.fingerprint = "b" * 64
    small.change(docs=("docs",))

    with pytest.raises(PlanError, match="outside of this run's docs"):
        small.index()


def test_missing_docs_entry_is_named_with_its_position(small: Corpus):
    position = SourcePosition(Path("agent.yaml"), 7, 12)
    small.change(docs=("src", "nowhere"), docs_positions=(None, position))

    with pytest.raises(SpecErrors, match=r"agent\.yaml:7:12: .*'nowhere' names no file"):
        small.index()


def test_empty_corpus_says_what_was_skipped(corpus: Corpus):
    corpus.write("big.bin", "x").write_bytes(b"\x00" * 100)

    with pytest.raises(PlanError, match=r"nothing to index for 'code'(?s:.*)skipped: 1 "):
        corpus.index()


def test_corpus_of_blank_files_is_empty(corpus: Corpus):
    corpus.write("blank.txt", "\n\n")

    with pytest.raises(PlanError, match="nothing to index"):
        corpus.index()
    assert IndexFolder(corpus.folder).read_current() is None


def test_unreadable_file_keeps_its_old_version(small: Corpus, monkeypatch: pytest.MonkeyPatch):
    old = small.rows()
    small.write("src/mod_06.py", "changed = True\n", seconds_ago=5)
    target = small.root / "src/mod_06.py"

    def refuse(path: str | Path, max_bytes: int) -> bytes:
        if Path(path) == target:
            raise PermissionError(13, "Permission denied")
        return read_file(path, max_bytes)

    monkeypatch.setattr("merganser.documents.reading.read_file", refuse)
    report = small.index()

    assert report.status == "degraded"
    assert [(f.path, f.reason, f.detail) for f in report.failed] == [
        ("src/mod_06.py", "unreadable", "Permission denied")
    ]
    assert small.rows() == old
    monkeypatch.undo()
    assert small.index().changed == 1


def test_too_many_failures_publish_nothing(small: Corpus, monkeypatch: pytest.MonkeyPatch):
    old = small.rows()
    for i in range(4):
        small.write(f"src/mod_{i:02d}.py", "changed = True\n", seconds_ago=5)

    def split(*_: object, **__: object) -> None:
        raise ValueError("a chunker's defect")

    monkeypatch.setattr("merganser.indexing.shards.chunk_document", split)

    with pytest.raises(StoreError, match=r"4 of 12 files failed.*a chunker's defect"):
        small.index()
    assert small.rows() == old
    assert list_runs(IndexFolder(small.folder))[0].status == "failed"


def test_vector_dimensions_of_the_config_are_held_against_the_model(corpus: Corpus):
    corpus.write("a.txt", "some text\n")
    embedding = corpus.definition.embedding
    assert embedding is not None
    corpus.change(embedding=replace(embedding, dimensions=768))

    with pytest.raises(PlanError, match="vector_dimensions is 768, but the model 'ai/embed' gives"):
        corpus.index()


def test_survey_tells_before_anything_is_done(small: Corpus):
    small.write("new.py", "x = 1\n")
    small.remove("src/mod_00.py")
    small.move("src/mod_01.py", "src/moved.py")
    files = sorted(small.folder.rglob("*"))

    found = find_changes(small.definition, fingerprint=small.embedder.fingerprint)

    assert [d.path for d in found.added] == ["new.py"]
    assert found.removed == ("src/mod_00.py",)
    assert [(m.origin, m.document.path) for m in found.moved] == [("src/mod_01.py", "src/moved.py")]
    assert found.unchanged == 10
    assert files == sorted(small.folder.rglob("*"))


_NAMES = st.sampled_from([f"{folder}f{i}.{ext}" for folder in ("", "d/") for i in range(3)
                          for ext in ("py", "md")])  # fmt: skip
_TEXTS = st.lists(
    st.sampled_from(["def f(x):\n    return x\n", "# Title\n", "plain words here\n", "Ünïcode\r\n",
                     "x = 'a' * 40\n" * 9, "\n"]),
    max_size=12,
).map("".join)  # fmt: skip
_EDIT = st.one_of(
    st.tuples(st.just("write"), _NAMES, _TEXTS),
    st.tuples(st.just("remove"), _NAMES, st.just("")),
    st.tuples(st.just("move"), _NAMES, _NAMES),
    st.tuples(
        st.just("ignore"), st.just(".gitignore"), st.sampled_from(["*.md\n", "d/\n", "f1.*\n", ""])
    ),
    st.tuples(st.just("cut"), st.just(""), st.sampled_from(["40", "80", "200"])),
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(runs=st.lists(st.lists(_EDIT, max_size=6), min_size=1, max_size=5))
def test_incremental_equals_full(
    runs: list[list[tuple[str, str, str]]], request: pytest.FixtureRequest
):
    template: Corpus = request.getfixturevalue("corpus")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = type(template)(
            root, replace(template.definition, folder=root / ".merganser", base=root),
            type(template.embedder)(),
        )  # fmt: skip
        made.write("anchor.txt", "always here\n")
        for age, edits in enumerate(runs):
            for kind, name, argument in edits:
                _apply(made, kind, name, argument, age)
            made.index(keep_snapshots=2)
        full = type(template)(
            root, replace(made.definition, folder=root / ".merganser-full"), made.embedder
        )
        full.change(docs=(".",), folder=root / ".merganser" / "full")
        full.index()

        assert full.rows() == made.rows()


def _apply(corpus: Corpus, kind: str, name: str, argument: str, age: int) -> None:
    exists = (corpus.root / name).exists()
    if kind == "cut":
        corpus.change(chunking=replace(corpus.definition.chunking, size=int(argument)))
    elif kind in ("write", "ignore"):
        corpus.write(name, argument, seconds_ago=1000 - age)
    elif kind == "remove" and exists:
        corpus.remove(name)
    elif kind == "move" and exists:
        corpus.move(name, argument)


def test_vectors_are_those_of_the_texts(small: Corpus):
    embedder: HashEmbedder = small.embedder
    with small.open() as snapshot:
        keys, vectors = small.matrix(snapshot)
        texts = [chunk.text for chunk in snapshot.chunks(keys.tolist())]

    import asyncio

    expected = asyncio.run(embedder.embed_documents(texts))
    assert expected.tobytes() == vectors.tobytes()
