"""Where sentences and words end."""

from __future__ import annotations

import pytest

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.chunking.boundaries import last_sentence_end, parts_word


def split(text: str, *, size: int, overlap: int = 0) -> list[Chunk]:
    options = ChunkingOptions(size=size, overlap=overlap, code_aware=True, sentences=True)
    return chunk_document(text, language="text", options=options)


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("They dive. They eat.", ["They dive. "]),
        ("It costs 3.5 dollars at most", []),
        ("See Dr. Miller, J. Smith, e.g. Anna", []),
        ('He said "dive!" Then he went', ['He said "dive!" ']),
        ("潜る。魚を食べる", ["潜る。"]),
        ("वह गोता लगाता है। वह खाता है", ["वह गोता लगाता है। "]),
        ("approx. ten birds", []),
    ],
)
def test_sentences_end_where_a_reader_says(text: str, ends: list[str]):
    at = last_sentence_end(text, 0, len(text))

    assert ends == ([text[:at]] if at > 0 else [])


def test_prose_is_cut_at_ends_of_sentences_also_over_lines():
    text = "A merganser dives for its\nfood. It stays below for half\na minute. Then it eats.\n"
    text *= 3

    chunks = split(text, size=70)

    assert all(chunk.text.rstrip().endswith((".", "!")) for chunk in chunks)


def test_scripts_without_spaces_are_cut_behind_marks_and_never_inside_a_cluster():
    text = "黒い猫が眠っている。" * 20 + "นกเป็ดน้ำดำน้ำเก่งมาก" * 20

    chunks = split(text, size=60)

    assert all(c.text.endswith("。") for c in chunks[:3])
    assert not any(parts_word(text, c.end_char) for c in chunks)


def test_an_overlap_begins_at_a_sentence_or_a_word():
    text = "The red ducks dive deep. " * 40

    chunks = split(text, size=200, overlap=40)

    assert all(chunk.text.startswith("The ") for chunk in chunks)


def test_a_word_longer_than_a_chunk_is_parted():
    chunks = split("x" * 500, size=100)

    assert "".join(chunk.text for chunk in chunks) == "x" * 500
