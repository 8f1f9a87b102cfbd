"""Headings of reStructuredText, AsciiDoc and Org, and the rows and records of tables."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.chunking import ChunkingOptions, chunk_document
from merganser.chunking.records import find_csv_table


def symbols(text: str, language: str, size: int = 30) -> list[str]:
    options = ChunkingOptions(size=size, overlap=0)
    return [chunk.symbol for chunk in chunk_document(text, language=language, options=options)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One\n===\n\nwords and words\n\nTwo\n---\n\nwords and words\n", ["One", "One > Two"]),
        ("One\n---\n\nwords and words\n\nTwo\n===\n\nwords and words\n", ["One", "One > Two"]),
        ("***\nOne\n***\n\nwords, words\n\nTwo\n***\n\nwords, words\n", ["One", "One > Two"]),
        ("=======\n  One\n=======\r\nwords and more words and more\n", ["One", "One"]),
        ("a paragraph\nof two lines\n------------\nwords and words\n", ["", ""]),
        ("words and words\n\n----\n\nwords and words", ["", ""]),
        ("::\n\n   One\n   ===\n\nwords and more words\n", ["", ""]),
        ("A title\n==\nis too long for its underline\n", ["", ""]),
    ],
)
def test_headings_of_restructuredtext_are_those_of_docutils(text: str, found: list[str]):
    assert symbols(text, "restructuredtext") == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("= One\n:toc:\n\nwords and words\n\n== Two\n\nwords, words\n", ["One", "One > Two"]),
        (
            "Title one\n=========\n\nwords\n\nTwos\n----\n\nwords, words\n",
            ["Title one", "Title one > Twos"],
        ),
        ("= One\n\n----\n== not\n----\n== Two\nwords, words, more", ["One", "One > Two"]),
        ("= One\n\n----\nnever closed\n\n== Two\nwords and words", ["One", "One > Two"]),
        ("= One\n\n|===\n|== not\n|===\n\n== Two\nwords and words", ["One", "One > Two"]),
        ("=One and more words and more\n", [""]),
    ],
)
def test_headings_of_asciidoc_stand_outside_blocks(text: str, found: list[str]):
    assert symbols(text, "asciidoc") == found


def test_headings_of_org_lose_their_keywords_and_tags():
    text = "* TODO One :a:b:\nwords and more\n** Two\nwords and more\n*no* heading\n"

    assert symbols(text, "org", size=40) == ["One", "One > Two"]


TABLE = "name,note\n" + "".join(f'bird {n},"it dives,\nand swims"\n' for n in range(1, 9))


def test_each_chunk_of_a_table_has_the_header_and_whole_rows():
    options = ChunkingOptions(size=100, overlap=20)
    chunks = chunk_document(TABLE, language="csv", options=options)

    rows: list[list[str]] = []
    for chunk in chunks:
        header, *below = csv.reader(io.StringIO(chunk.text))
        assert header == ["name", "note"]
        assert len(chunk.text) <= 100
        assert chunk.text.endswith("".join(TABLE.splitlines(keepends=True)[chunk.end_line - 1]))
        rows += below
    assert rows == [*csv.reader(io.StringIO(TABLE))][1:]
    assert [chunk.symbol for chunk in chunks] == ["rows 1-2", "rows 3-5", "rows 6-8"]
    assert [(chunk.start_line, chunk.end_line) for chunk in chunks] == [
        *((1, 5), (6, 11), (12, 17))
    ]


@pytest.mark.parametrize(
    ("text", "is_named"),
    [
        ("a;b\n1;2\n", True),
        ("a\tb\n1\t2\n", True),
        ("2021,2022\n1,2\n", True),
        ("1.5,2\n3,4\n", False),
        ("a,a\n1,2\n", False),
        ("words\nwords\n", False),
        ("a,b\n", False),
    ],
)
def test_a_header_is_told_from_a_row(text: str, *, is_named: bool):
    assert bool(find_csv_table(text)) is is_named


def test_a_quote_that_nothing_closes_takes_no_rows_with_it():
    text = 'size,note\n"5,x\n' + "6,y\n" * 200

    chunks = chunk_document(text, language="csv", options=ChunkingOptions(size=100, overlap=0))

    assert chunks[-1].symbol.endswith("-201")


def test_records_of_json_lines_are_counted_and_whole():
    text = "".join(f'{{"id": {n}, "text": "a record"}}\n' for n in range(6))

    chunks = chunk_document(text, language="jsonl", options=ChunkingOptions(size=70, overlap=10))

    assert text == "".join(chunk.text for chunk in chunks)
    assert [chunk.symbol for chunk in chunks] == ["records 1-2", "records 3-4", "records 5-6"]


def test_a_long_table_of_markdown_keeps_its_header():
    rows = "".join(f"| {n} | words and words |\n" for n in range(20))
    text = f"# Ducks\n\n| id | note |\n|----|------|\n{rows}\nThe end.\n"

    chunks = chunk_document(text, language="markdown", options=ChunkingOptions(size=150, overlap=0))

    assert all("| id | note |" in chunk.text for chunk in chunks if "words" in chunk.text)
    assert all(len(chunk.text) <= 150 for chunk in chunks)


PARTS = st.sampled_from(
    [
        "a,b\n",
        "1,2\n",
        '"x\ny",2\n',
        '"',
        ",",
        ";",
        "\t",
        "\n",
        "\r\n",
        "\r",
        "w" * 40,
        "é",
        "|--|\n",
    ]
)


@settings(max_examples=300, deadline=None)
@given(parts=st.lists(PARTS, max_size=40), size=st.integers(2, 90), overlap=st.integers(0, 30))
def test_tables_lose_nothing_and_keep_to_the_size(parts: list[str], size: int, overlap: int):
    text = "".join(parts)

    options = ChunkingOptions(size=size, overlap=overlap)
    chunks = chunk_document(text, language="csv", options=options)

    at = 0
    for chunk in chunks:
        assert len(chunk.text) <= size
        assert chunk.text.endswith(text[chunk.start_char : chunk.end_char])
        assert chunk.start_char <= at < chunk.end_char
        assert chunk.start_line == text.count("\n", 0, chunk.start_char) + 1
        at = chunk.end_char
    assert at == len(text)


@pytest.mark.parametrize("language", ["restructuredtext", "asciidoc", "org", "csv", "jsonl"])
@pytest.mark.parametrize(
    "piece", ["====\n", "a\n=\n", "----\n-----\n", '"', '"\n', ',"\n', "* a\n", "= a\n", "|", "{\n"]
)
def test_a_megabyte_takes_time_in_proportion(language: str, piece: str):
    text = (piece * 1_000_000)[:1_000_000]

    chunks = chunk_document(text, language=language, options=ChunkingOptions(overlap=0))

    assert chunks[-1].end_char == len(text)
