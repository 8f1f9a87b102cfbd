"""Each option does what it is named for, and each is part of the fingerprint."""

from __future__ import annotations

from itertools import pairwise

import pytest

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.chunking import chunks as split_module

PROSE = "The quick brown fox jumps over the lazy dog. Nobody minded.\n\n" * 20


def split(text: str = PROSE, language: str | None = "text", **options: int) -> list[Chunk]:
    return chunk_document(text, language=language, options=ChunkingOptions(**options))  # pyright: ignore[reportArgumentType] - bool is an int here


def test_size_is_the_length_of_every_chunk_but_the_last():
    chunks = split(size=100, overlap=0)

    assert {100} == {len(chunk.text) for chunk in chunks[:-1]}


def test_overlap_repeats_so_many_characters_within_the_size():
    chunks = split(size=100, overlap=30)

    assert {30} == {b.end_char - a.start_char for b, a in pairwise(chunks)}
    assert {100} == {len(chunk.text) for chunk in chunks[:-1]}


def test_an_overlap_of_more_than_half_the_size_counts_as_half():
    assert split(size=100, overlap=50) == split(size=100, overlap=5000)


def test_without_word_boundaries_cuts_fall_inside_words():
    chunks = split(size=100, overlap=0)

    assert any(b.text[-1].isalpha() and a.text[0].isalpha() for b, a in pairwise(chunks))


def test_word_boundaries_move_cuts_and_overlaps_to_white_space():
    chunks = split(size=100, overlap=30, respect_word_boundaries=True)

    starts = [PROSE[chunk.start_char - 1] for chunk in chunks[1:]]
    ends = [PROSE[chunk.end_char - 1 : chunk.end_char + 1] for chunk in chunks[:-1]]
    assert all(before.isspace() for before in starts)
    assert all(any(c.isspace() for c in around) for around in ends)


def test_word_boundaries_never_drop_what_has_no_white_space():
    text = "漢字" * 500

    chunks = split(text, size=100, overlap=0, respect_word_boundaries=True)

    assert text == "".join(chunk.text for chunk in chunks)


def test_code_aware_cuts_text_at_paragraphs():
    chunks = split(size=100, overlap=0, code_aware=True)

    assert all(chunk.text.endswith("\n\n") for chunk in chunks)


def test_code_aware_begins_overlaps_at_lines():
    text = "".join(f"key_{i}: value\n" for i in range(60))

    chunks = split(text, language="ini", size=100, overlap=30, code_aware=True)

    assert all(chunk.text.startswith("key_") for chunk in chunks)
    assert all(after.start_char < before.end_char for before, after in pairwise(chunks))


def test_code_aware_turns_on_the_syntax_tree():
    text = "def a():\n    return 1\n\n\ndef b():\n    return 2\n"

    aware = split(text, language="python", size=30, overlap=0, code_aware=True)
    plain = split(text, language="python", size=30, overlap=0)

    assert [chunk.symbol for chunk in aware] == ["a", "b"]
    assert {""} == {chunk.symbol for chunk in plain}


BASE = ChunkingOptions(size=200, overlap=20)
VARIANTS = [
    ChunkingOptions(size=201, overlap=20),
    ChunkingOptions(size=200, overlap=21),
    ChunkingOptions(size=200, overlap=20, respect_word_boundaries=True),
    ChunkingOptions(size=200, overlap=20, code_aware=True),
]


@pytest.mark.parametrize("changed", VARIANTS, ids=["size", "overlap", "words", "code"])
def test_every_option_changes_the_chunks_and_the_fingerprint(changed: ChunkingOptions):
    before = chunk_document(PROSE, language="text", options=BASE)
    after = chunk_document(PROSE, language="text", options=changed)

    assert before != after
    assert BASE.fingerprint() != changed.fingerprint()


def test_equal_options_have_equal_fingerprints():
    assert BASE.fingerprint() == ChunkingOptions(size=200, overlap=20).fingerprint()


def test_a_new_chunker_changes_every_fingerprint(monkeypatch: pytest.MonkeyPatch):
    before = BASE.fingerprint()
    monkeypatch.setattr(split_module, "CHUNKER_VERSION", split_module.CHUNKER_VERSION + 1)

    assert before != BASE.fingerprint()


def test_a_new_grammar_changes_only_the_fingerprints_that_use_it(monkeypatch: pytest.MonkeyPatch):
    aware = ChunkingOptions(code_aware=True)
    before = (BASE.fingerprint(), aware.fingerprint())
    monkeypatch.setattr(split_module, "grammar_versions", lambda: ("tree-sitter==99",))

    assert before[0] == BASE.fingerprint()
    assert before[1] != aware.fingerprint()


@pytest.mark.parametrize(("size", "overlap"), [(1, 0), (0, 0), (-5, 0), (100, -1)])
def test_lengths_out_of_range_are_refused(size: int, overlap: int):
    with pytest.raises(ValueError, match="at least"):
        ChunkingOptions(size=size, overlap=overlap)


@pytest.mark.parametrize(
    "cluster",
    ["e\u0301", "👍🏽", "🇩🇪", "👩\u200d👩\u200d👧", "\r\n"],
    ids=["accent", "skin", "flag", "family", "crlf"],
)
def test_what_is_shown_as_one_character_is_not_parted(cluster: str):
    for lead in range(len(cluster) + 1):
        chunks = split("x" * lead + cluster * 50, size=20, overlap=0)

        assert all(
            chunk.text.count(cluster) * len(cluster) == len(chunk.text.lstrip("x"))
            for chunk in chunks
        )
