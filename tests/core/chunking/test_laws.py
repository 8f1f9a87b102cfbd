"""The laws that hold for every text, language and option."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from merganser.chunking import Chunk, ChunkingOptions, chunk_document
from merganser.chunking.boundaries import parts_word
from merganser.chunking.languages import LANGUAGES

NAMES = [*LANGUAGES, "markdown", "restructuredtext", "asciidoc", "org", "jsonl", "yaml", None]

# Fragments that mean something to a parser, a heading reader or a cutter, in any order and number.
FRAGMENTS = st.sampled_from(
    [
        *("\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\f", "\t", " ", "    ", "\v", "\x85", "\u2028"),
        *("def f(x):\n", "    return x\n", "class A:\n", "@decorator\n", "async ", "# comment\n"),
        *("func (s *T) M() {\n", "}\n", "{", "(", ")", "[", "]", ";", "impl A {\n", "fn f() {\n"),
        *("# Title\n", "## Sub\n", "Title\n=====\n", "---\n", "```\n", "~~~\n", "<!--", "-->"),
        *("export const f = () => {\n", "template <class T>\n", "#ifdef X\n", "#endif\n", '"""'),
        *("\ufeff", "é", "e\u0301", "漢字", "👩‍👩‍👧", "🇩🇪", "👍🏽", "\u200d", "\U0010ffff", "\x01"),
        *("word ", "x" * 40, "漢" * 40, "a, " * 20, "'", "\\\n", "//", "/*", "*/"),
    ]
)
TEXTS = st.lists(
    st.one_of(FRAGMENTS, st.text(st.characters(exclude_characters="\0"), max_size=20)), max_size=60
).map("".join)
OPTIONS = st.builds(
    ChunkingOptions,
    size=st.integers(2, 200),
    overlap=st.integers(0, 60),
    respect_word_boundaries=st.booleans(),
    code_aware=st.booleans(),
    sentences=st.booleans(),
)
PLAIN = OPTIONS.map(
    lambda o: ChunkingOptions(
        size=o.size,
        overlap=0,
        respect_word_boundaries=o.respect_word_boundaries,
        code_aware=o.code_aware,
        sentences=o.sentences,
    )
)


def _is_roomy(options: ChunkingOptions) -> bool:
    """Whether a chunk holds more than one cluster of combined characters."""
    return options.size >= 100


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=PLAIN)
@example(text="\ufeff\r\na\r", language="python", options=ChunkingOptions(size=2, overlap=0))
def test_without_overlap_the_joined_chunks_are_the_text(
    text: str, language: str | None, options: ChunkingOptions
):
    chunks = chunk_document(text, language=language, options=options)

    assert text == "".join(chunk.text for chunk in chunks)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
def test_spans_cover_the_text_in_order_and_hold_what_they_say(
    text: str, language: str | None, options: ChunkingOptions
):
    chunks = chunk_document(text, language=language, options=options)

    assert [text[c.start_char : c.end_char] for c in chunks] == [c.text for c in chunks]
    assert list(range(len(chunks))) == [c.ord for c in chunks]
    if text:
        assert (0, len(text)) == (chunks[0].start_char, chunks[-1].end_char)
    for before, after in pairwise(chunks):
        assert before.start_char < after.start_char <= before.end_char < after.end_char


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
def test_no_chunk_is_empty_or_longer_than_the_size(
    text: str, language: str | None, options: ChunkingOptions
):
    chunks = chunk_document(text, language=language, options=options)

    assert all(1 <= len(chunk.text) <= options.size for chunk in chunks)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
def test_lines_are_those_an_editor_shows(text: str, language: str | None, options: ChunkingOptions):
    chunks = chunk_document(text, language=language, options=options)

    for chunk in chunks:
        assert _line_of(text, chunk.start_char) == chunk.start_line
        assert _line_of(text, chunk.end_char - 1) == chunk.end_line


def _line_of(text: str, position: int) -> int:
    """Count the lines that begin at or before a character, the slow and plain way."""
    return 1 + sum(1 for character in text[:position] if character == "\n")


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
@example(
    text="\n\r\n", language="bash", options=ChunkingOptions(size=2, overlap=0, code_aware=True)
)
def test_no_break_parts_a_line_end(text: str, language: str | None, options: ChunkingOptions):
    chunks = chunk_document(text, language=language, options=options)

    for cut in {c.start_char for c in chunks} | {c.end_char for c in chunks}:
        assert text[max(cut - 1, 0) : cut + 1] != "\r\n" or cut == 0


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=PLAIN.filter(_is_roomy))
def test_a_blank_chunk_stands_only_in_more_white_space_than_fits(
    text: str, language: str | None, options: ChunkingOptions
):
    chunks = chunk_document(text, language=language, options=options)

    for chunk in chunks:
        if chunk.text.isspace():
            assert _blank_run(text, chunk) * 3 > options.size or text.isspace()


def _blank_run(text: str, chunk: Chunk) -> int:
    """Measure the run of white space that a blank chunk stands in."""
    before = text[: chunk.start_char]
    after = text[chunk.end_char :]
    left = len(before) - len(before.rstrip())
    right = len(after) - len(after.lstrip())
    return left + len(chunk.text) + right


@settings(max_examples=100, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
def test_the_same_text_gives_the_same_chunks(
    text: str, language: str | None, options: ChunkingOptions
):
    first = chunk_document(text, language=language, options=options)
    second = chunk_document(text, language=language, options=options)

    assert first == second


@pytest.mark.parametrize("language", NAMES)
def test_an_empty_text_has_no_chunks(language: str | None):
    chunks = chunk_document("", language=language, options=ChunkingOptions(code_aware=True))

    assert chunks == []


@pytest.mark.parametrize("language", NAMES)
@pytest.mark.parametrize(
    "text",
    [
        "(" * 30_000,
        "x = " + "[" * 20_000 + "]" * 20_000,
        "[\n" * 20_000,
        "if x {\n" * 5_000 + "}\n" * 5_000,
        "if x:\n" + "".join(" " * i + "if x:\n" for i in range(1, 300)),
        "x" * 100_000,
        "\r" * 5_000,
        "# " * 5_000,
        "`" * 5_000 + "\n" + "`" * 5_001,
        "<!--" * 3_000,
    ],
    ids=["parens", "brackets", "lists", "blocks", "ifs", "line", "cr", "hashes", "ticks", "html"],
)
def test_deep_nesting_and_endless_lines_are_split_like_any_text(language: str | None, text: str):
    options = ChunkingOptions(size=500, overlap=0, code_aware=True)

    chunks = chunk_document(text, language=language, options=options)

    assert text == "".join(chunk.text for chunk in chunks)
    assert max(len(chunk.text) for chunk in chunks) <= 500


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, language=st.sampled_from(NAMES), options=OPTIONS)
def test_no_chunk_ends_inside_a_word_that_fits_in_one(
    text: str, language: str | None, options: ChunkingOptions
):
    options = replace(options, sentences=True, size=max(options.size, 20))

    for chunk in chunk_document(text, language=language, options=options):
        end = chunk.end_char
        if parts_word(text, end):
            first = next((i for i in range(end, 0, -1) if not parts_word(text, i)), 0)
            last = next((i for i in range(end, len(text)) if not parts_word(text, i)), len(text))
            assert last - first > options.size - min(options.overlap, options.size // 2)
