"""A model that changes behind its unchanged name: noticed, and never mixed with what it was."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from merganser.errors import DriftedError
from merganser.indexing.changes import find_changes
from merganser.indexing.drift import recognise_model
from merganser.indexing.shards import embed_shard
from merganser.indexing.workspace import begin_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.core.conftest import Corpus


def test_another_model_behind_the_same_fingerprint_embeds_everything_anew(small: Corpus):
    before = small.rows()
    small.embedder.salt = "other weights"

    report = small.index()

    texts = small.embedded()
    assert report.reasons == ("the embedding model changed behind its unchanged name",)
    assert report.generation == 2
    assert len(texts) == len(set(texts)) == report.texts_embedded
    with small.open() as snapshot:
        assert snapshot.chunk_count == report.chunks
    after = small.rows()
    assert before != after
    small.change(folder=small.root / ".merganser" / "fresh")
    small.index()
    assert small.rows() == after


def test_once_noticed_it_is_the_model_like_any_other(small: Corpus):
    small.embedder.salt = "other weights"
    small.index()
    small.embedded()

    assert small.index().status == "unchanged"
    small.write("new.txt", "a new text\n")
    assert small.index().texts_embedded == 1
    assert small.embedded() == ["a new text\n"]


def test_the_former_model_is_known_again_and_its_vectors_are_reused(small: Corpus):
    before = small.rows()
    small.embedder.salt = "other weights"
    small.index()
    small.embedder.salt = ""
    small.embedded()

    report = small.index()

    assert (report.generation, report.texts_embedded, small.embedded()) == (3, 0, [])
    assert small.rows() == before


def test_noise_in_the_last_digits_is_no_other_model(small: Corpus):
    small.embedder.noise = 1e-3

    report = small.index()

    assert (report.status, report.served) == ("unchanged", 1)


def test_a_model_that_changes_in_mid_run_is_noticed_and_nothing_of_it_kept(small: Corpus):
    before = small.rows()
    small.write("new.txt", "a new text\n")

    def change(texts: Sequence[str]) -> None:
        if "a new text\n" in texts:
            small.embedder.salt = "another pooling"

    small.embedder.before = change

    with pytest.raises(DriftedError, match="other vectors than when the run began"):
        small.index()

    assert small.rows() == before
    assert not list(small.definition.folder.glob("embeddings/*/*.npz"))
    small.embedder.salt, small.embedder.before = "", None
    small.embedded()
    assert small.index().texts_embedded == 1


def die_in_the_second_shard(corpus: Corpus) -> set[str]:
    """Begin a first run of six texts that dies; give the texts whose vectors it committed."""
    for number in range(6):
        corpus.write(f"{number}.txt", f"text {number}\n")
    model = asyncio.run(recognise_model(corpus.embedder, corpus.definition))
    found = find_changes(corpus.definition, fingerprint=model.fingerprint)
    with begin_run(found, model=model, chunks_per_shard=2) as workspace:
        asyncio.run(embed_shard(workspace, workspace.shards[0], corpus.embedder))
    committed = set(corpus.embedded())
    assert 0 < len(committed) < 6
    return committed


def test_vectors_of_a_dead_run_are_not_taken_up_by_another_model_of_the_same_name(
    corpus: Corpus,
):
    committed = die_in_the_second_shard(corpus)
    corpus.embedder.salt = "other weights"

    report = corpus.index()

    assert committed < set(corpus.embedded())
    assert report.texts_embedded == 6
    mixed = corpus.rows()
    corpus.change(folder=corpus.root / ".merganser" / "fresh")
    corpus.index()
    assert corpus.rows() == mixed


def test_vectors_of_a_dead_run_are_taken_up_by_its_own_model(corpus: Corpus):
    committed = die_in_the_second_shard(corpus)
    corpus.embedder.noise = 1e-3

    corpus.index()

    assert committed.isdisjoint(corpus.embedded())
    assert list(corpus.folder.glob("embeddings/*")) == []


def test_journals_without_a_drift_sample_belong_to_no_model(corpus: Corpus):
    die_in_the_second_shard(corpus)
    [sample_file] = corpus.folder.glob("embeddings/*/canaries")
    sample_file.write_bytes(b"cut off")

    assert corpus.index().texts_embedded == 6
