"""A model that changes behind its unchanged name: noticed, and never mixed with what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.core.index.conftest import Corpus


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
