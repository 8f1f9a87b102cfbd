"""Two work trees or clones of one repository: what one index has, the other does not pay for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.indexing import siblings
from merganser.indexing.changes import find_changes
from merganser.indexing.forecast import estimate_work
from merganser.store.embedding_store import EmbeddingStore
from tests.core.conftest import Corpus, HashEmbedder, make_definition
from tests.core.documents.test_git_sources import Origin

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def first(tmp_path: Path) -> Corpus:
    """A work tree with an index."""
    origin = Origin(tmp_path / "first")
    origin.commit({f"src/m{n}.py": f"def f{n}():\n    return {n}\n" for n in range(9)})
    corpus = corpus_of(origin.root)
    corpus.index()
    assert len(corpus.embedded()) == 11
    return corpus


def forbidden(*_: object) -> None:
    pytest.fail("this costs something")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def corpus_of(root: Path, **options: Any) -> Corpus:
    folder = root.parent / f"{root.name}-index"
    return Corpus(root, make_definition(root, folder=folder, docs=(".",)), HashEmbedder(**options))


def work_tree(first: Corpus, name: str = "second", **options: Any) -> Corpus:
    """Another work tree of the same commit, made by git."""
    root = first.root.parent / name
    git(first.root, "worktree", "add", "-q", "--detach", str(root))
    return corpus_of(root, **options)


def forget_alone(second: Corpus, home: Path) -> list[tuple[object, ...]]:
    """Return the rows of an index of the same files that was made without any other."""
    shutil.rmtree(home)
    alone = Corpus(
        second.root, make_definition(second.root, folder=home.parent / "alone", docs=(".",))
    )
    alone.index()
    assert len(alone.embedded()) == 11
    return alone.rows()


def segment_of(corpus: Corpus) -> Path:
    (path,) = corpus.folder.glob("s*.duckdb")
    return path


def test_the_same_commit_in_another_work_tree_embeds_nothing(first: Corpus, home: Path):
    second = work_tree(first)

    report = second.index()

    assert (second.embedded(), report.texts_embedded, report.texts_reused) == ([], 0, 11)
    assert not [*(second.folder / "embeddings").glob("*/*copied*")]
    shutil.rmtree(first.folder)
    assert second.rows() == forget_alone(second, home)


def test_a_clone_of_the_same_commit_embeds_nothing_and_a_later_one_only_what_is_new(
    first: Corpus,
):
    root = first.root.parent / "clone"
    git(first.root, "clone", "-q", str(first.root), str(root))
    clone = corpus_of(root)
    clone.index()
    assert clone.embedded() == []

    clone.write("src/new.py", "def new():\n    return 99\n")
    clone.index()
    assert len(clone.embedded()) == 1


def test_a_plan_counts_what_another_index_has(first: Corpus):
    second = work_tree(first)

    work = estimate_work(find_changes(second.definition, fingerprint=second.embedder.fingerprint))

    assert (work.chunks, work.texts_to_embed) == (11, 0)
    assert not second.folder.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "b" * 64},
        {"salt": "the same name and other weights"},
        {"dimensions": 12},
    ],
    ids=["another model", "other drift", "other length"],
)
def test_vectors_of_another_model_are_not_taken(first: Corpus, other: dict[str, Any]):
    second = work_tree(first, **other)

    second.index()

    assert len(second.embedded()) == 11


def test_another_repository_is_not_looked_into(first: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(siblings.Siblings, "_open", forbidden)
    origin = Origin(first.root.parent / "other")
    origin.commit({"src/m1.py": "def f1():\n    return 1\n"})

    corpus_of(origin.root).index()


def test_a_damaged_segment_is_no_error_and_its_texts_are_embedded(first: Corpus, home: Path):
    path = segment_of(first)
    data = bytearray(path.read_bytes())
    for at in range(1 << 14, len(data), 512):
        data[at] ^= 0xFF
    path.write_bytes(data)
    second = work_tree(first)

    report = second.index()

    assert (report.status, len(second.embedded())) == ("published", 11)
    assert second.rows() == forget_alone(second, home)


@pytest.mark.parametrize("what", ["s*.duckdb", "g*.duckdb", "CURRENT"])
def test_a_file_that_is_gone_is_no_error(first: Corpus, what: str):
    for path in first.folder.glob(what):
        path.unlink()
    second = work_tree(first)

    assert second.index().status == "published"
    assert len(second.embedded()) == 11


def test_what_fails_in_mid_run_is_embedded(first: Corpus, monkeypatch: pytest.MonkeyPatch):
    second = work_tree(first)
    real = EmbeddingStore.fetch

    def fetch(self: EmbeddingStore, hashes: Any) -> Any:
        if "siblings" in str(self.journal_folder):
            raise OSError("gone")
        return real(self, hashes)

    monkeypatch.setattr(EmbeddingStore, "fetch", fetch)

    assert second.index().status == "published"
    assert len(second.embedded()) == 11


@pytest.mark.parametrize("harm", ["folder", "segment", "link", "notes"])
def test_what_others_could_have_written_is_not_read(first: Corpus, home: Path, harm: str):
    path = segment_of(first)
    match harm:
        case "folder":
            first.folder.chmod(0o777)
        case "segment":
            path.chmod(0o666)
        case "link":
            shutil.move(path, first.root.parent / "elsewhere")
            path.symlink_to(first.root.parent / "elsewhere")
        case _:
            (home / "indexes" / ("a" * 32)).chmod(0o777)
    second = work_tree(first)

    second.index()

    assert len(second.embedded()) == 11


def test_the_notes_are_the_users_own_and_those_of_folders_that_are_gone_go(
    first: Corpus, home: Path
):
    (note,) = (home / "indexes" / ("a" * 32)).glob("*.json")
    assert json.loads(note.read_text())["folder"] == os.path.realpath(first.folder)
    assert (note.stat().st_mode & 0o777, note.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    second = work_tree(first)
    shutil.rmtree(first.folder)

    second.index()

    assert len(second.embedded()) == 11
    assert not note.exists()


def test_a_run_that_has_nothing_to_do_asks_for_no_other_index(
    first: Corpus, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(siblings, "find_siblings", forbidden)
    monkeypatch.setattr("merganser.indexing.publishing.leave_note", forbidden)

    assert first.index().status == "unchanged"


def test_only_the_last_few_indexes_are_opened(first: Corpus):
    others = [work_tree(first, f"tree{n}") for n in range(5)]
    for other in others:
        other.index()
    second = work_tree(first)

    found = siblings.find_siblings(second.definition, second.embedder.fingerprint)

    assert [index.path for index in found] == [other.folder for other in others[:1:-1]]


def test_the_vectors_are_those_of_the_other_index_to_the_bit(first: Corpus):
    second = work_tree(first)
    second.index()

    with first.open() as one, second.open() as other:
        _, before = first.matrix(one)
        _, after = second.matrix(other)
        assert np.array_equal(np.sort(before, axis=0), np.sort(after, axis=0))
