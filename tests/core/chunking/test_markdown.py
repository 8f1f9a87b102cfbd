"""What the chunks of Markdown look like."""

from __future__ import annotations

import pytest

from merganser.chunking import Chunk, ChunkingOptions, chunk_document


def split(text: str, *, size: int = 60, code_aware: bool = False) -> list[Chunk]:
    options = ChunkingOptions(size=size, overlap=0, code_aware=code_aware)
    return chunk_document(text, language="markdown", options=options)


MANUAL = """Some words before any heading, enough for a chunk.

# Install

Get it from the registry, with any client you like.

## Linux

Use the package of your distribution, or build it.

## Windows, old and new

Use the installer, then start the machine once more.

Use
===

Call it from a terminal, and read what it prints there.
"""


@pytest.mark.parametrize("code_aware", [False, True])
def test_sections_are_chunks_named_by_the_path_of_headings(code_aware: bool):  # noqa: FBT001 - pytest passes it by name
    chunks = split(MANUAL, size=90, code_aware=code_aware)

    assert [(c.symbol, c.kind, c.start_line, c.end_line) for c in chunks] == [
        ("", "text", 1, 2),
        ("Install", "section", 3, 6),
        ("Install > Linux", "section", 7, 10),
        ("Install > Windows, old and new", "section", 11, 14),
        ("Use", "section", 15, 18),
    ]


def test_small_sections_share_a_chunk_named_by_their_parent():
    text = "# A\n\n" + "intro " * 20 + "\n\n## B\n\nb\n\n## C\n\nc\n"

    chunks = split(text, size=130)

    assert [(c.symbol, c.start_line, c.end_line) for c in chunks] == [("A", 1, 4), ("A", 5, 11)]


@pytest.mark.parametrize(
    "text",
    [
        "```sh\n# no heading\n```\n",
        "~~~~\n# no heading\n~~~\n# neither\n~~~~\n",
        "<!--\n# no heading\n-->\n",
        "    # no heading\n",
        "---\ntitle: x\n# no heading\n---\n",
        "#hashtag\n",
        "- item\n---\n",
        "```\n# never closed\n",
    ],
)
def test_what_only_looks_like_a_heading_names_nothing(text: str):
    chunks = split(text + "words\n")

    assert {""} == {chunk.symbol for chunk in chunks}


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n", "One"),
        ("# One ##\r\nx\r\n", "One"),
        ("###### Deep\n", "Deep"),
        ("One\n---\n", "One"),
        ("One\r\n===\r\nx", "One"),
        ("```\ncode\n```\n# One\n", "One"),
        ("`` # not a fence ``\n# One\n", "One"),
    ],
)
def test_headings_of_both_kinds_are_read(text: str, title: str):
    chunks = split(text)

    assert title == chunks[-1].symbol


def test_a_long_section_is_cut_at_paragraphs():
    text = "# T\n\n" + "\n\n".join(["word " * 9 + "end."] * 6) + "\n"

    chunks = split(text, size=120)

    assert {"T"} == {chunk.symbol for chunk in chunks}
    assert all(chunk.text.endswith("end.\n\n") for chunk in chunks[:-1])


# A megabyte each: whatever takes time in proportion to the square meets the timeout of the tests.
@pytest.mark.parametrize(
    "text",
    [
        "---\r\n" + "a\r\n" * 300_000,
        "---\n" + "--- a\n" * 150_000,
        "# a" + " " * 1_000_000 + "b",
        "# " + "#" * 1_000_000 + "b",
        "#" + " #" * 500_000 + "b",
        "```a`\n" * 150_000,
    ],
    ids=["front matter", "rules", "spaces", "hashes", "runs of hashes", "fences"],
)
def test_a_text_is_read_in_time_that_grows_with_its_length(text: str):
    chunks = split(text, size=1500)

    assert text == "".join(chunk.text for chunk in chunks)


def test_a_title_without_end_is_shortened_in_what_bears_it():
    text = f"# {'Title ' * 20_000}\n\n" + "words\n" * 5_000

    chunks = split(text, size=100)

    assert {len(chunk.symbol) for chunk in chunks} == {200}


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# a #", "a"),
        ("# a ##  ", "a"),
        ("# a#", "a#"),
        ("# #", ""),
        ("## a # b", "a # b"),
        ("# a \t#", "a"),
    ],
)
def test_closing_hashes_are_no_part_of_a_title(line: str, title: str):
    assert [c.symbol for c in split(f"{line}\ntext\n")] == [title]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_rule_at_the_top_that_nothing_closes_is_no_front_matter(end: str):
    text = end.join(["---", "# Title", "words", ""])

    assert [c.symbol for c in split(text)] == ["Title"]
