"""Which files the patterns of a filter choose."""

from __future__ import annotations

import pytest
from pathspec import GitIgnoreSpec

from merganser.store.catalogue import FileRow
from merganser.store.filters import Filter, allowed_files

PATHS = (
    "README.md",
    "docs/guide.md",
    "docs/deep/er/guide.txt",
    "src/app.py",
    "src/tests/test_app.py",
    "tests/test_a.py",
    "a b/c d.md",
)


def chosen(patterns: tuple[str, ...], *paths: str) -> list[str]:
    files = [
        FileRow(path, "text", 1, 0, 0, 0, "00", 1, number, number, 1, 1)
        for number, path in enumerate(paths)
    ]
    return [file.path for file in allowed_files(files, Filter(paths=patterns))]


@pytest.mark.parametrize(
    "patterns",
    [
        ("src/",),
        ("src",),
        ("*.md",),
        ("/*.md",),
        ("docs/*",),
        ("docs/*.md",),
        ("docs/**/*.txt",),
        ("**/deep",),
        ("tests/**/test_*.py",),
        ("tests/",),
        ("/tests/",),
        ("*", "!*.md"),
        ("docs", "!docs/deep/"),
        ("!*.md",),
        ("[a-d]*",),
        ("a\\ b/",),
        ("# a comment",),
        ("",),
    ],
)
def test_a_pattern_means_what_it_means_in_gitignore(patterns: tuple[str, ...]):
    expected = GitIgnoreSpec.from_lines(patterns)

    assert chosen(patterns, *PATHS) == [path for path in PATHS if expected.match_file(path)]


@pytest.mark.parametrize(
    "path",
    ["a [v2]/b.py", "what?.md", "a*b", "#1.md", "50%.md", "a:b", "-x", "a\nb", "\"'`$(x)", "a\\b"],
)
def test_a_pattern_that_is_a_path_to_the_letter_stands_for_it(path: str):
    assert chosen((path,), path, "other") == [path]
    assert chosen(("*", f"!{path}"), path, "other") == ["other"]


def test_the_last_pattern_that_matches_decides():
    assert chosen(("!*.md", "docs/"), *PATHS) == ["docs/guide.md", "docs/deep/er/guide.txt"]


def test_what_begins_with_an_exclamation_mark_is_named_with_a_backslash():
    assert chosen(("\\!a.md",), "!a.md", "a.md") == ["!a.md"]


def test_a_folder_with_brackets_stands_for_what_is_in_it():
    assert chosen(("shop [v2]/",), "shop [v2]/a.py", "shop v/a.py") == [
        "shop [v2]/a.py",
        "shop v/a.py",
    ]


@pytest.mark.parametrize("pattern", ["*a" * 40 + "*b", "**/*a*a/" * 20 + "b", "[a]*" * 40 + "b"])
def test_a_pattern_full_of_stars_ends(pattern: str):
    assert chosen((pattern,), "a" * 255, "/".join(["a" * 100] * 40)) == []


def test_a_path_of_two_thousand_folders_is_matched():
    deep = "a/" * 2_000 + "b.md"

    assert chosen(("*.md",), deep) == [deep]
    assert chosen(("a/a/a/",), deep) == [deep]
