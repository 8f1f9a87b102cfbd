"""Query sets: every way to write them, and every wrong line at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import SpecErrors
from merganser.evaluation.queries import Label, read_queries
from merganser.store.filters import Filter

if TYPE_CHECKING:
    from pathlib import Path


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "evals.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def problems(tmp_path: Path, *lines: str) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        read_queries(write(tmp_path, *lines))
    return [
        f"{error.position.line}:{error.position.column}: {error.problem}"
        for error in caught.value.errors
        if error.position
    ]


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ({"path": "a.py"}, [Label(path="a.py")]),
        ({"path": "./a.py", "lines": "10-40"}, [Label(path="a.py", lines=(10, 40))]),
        ({"path": "a.py", "lines": "7"}, [Label(path="a.py", lines=(7, 7))]),
        ({"path": "a.py", "lines": 7}, [Label(path="a.py", lines=(7, 7))]),
        ({"path": "a.py", "start_line": 3, "end_line": 9}, [Label(path="a.py", lines=(3, 9))]),
        ({"path": "a.py", "start_line": 3}, [Label(path="a.py", lines=(3, 3))]),
        ({"path": "a.py", "quote": "x", "grade": 3}, [Label(path="a.py", quote="x", grade=3)]),
        ({"expected": "a.py"}, [Label(path="a.py")]),
        ({"expected": {"path": "a.py", "lines": "1-2"}}, [Label(path="a.py", lines=(1, 2))]),
        ({"expected": ["a", {"path": "b"}, "a"]}, [Label(path="a"), Label(path="b")]),
    ],
    ids=str,
)  # fmt: skip
def test_passages_can_be_named_in_these_ways(
    tmp_path: Path, line: dict[str, Any], labels: list[Label]
):
    queries = read_queries(write(tmp_path, json.dumps({"query": "why?", **line})))

    assert labels == list(queries.queries[0].labels)


def test_ids_filters_and_empty_lines(tmp_path: Path):
    path = write(
        tmp_path,
        '\ufeff{"query": "a", "path": "a.py"}',
        "",
        '{"id": "second", "query": "b", "path": "b.py", '
        '"filters": {"path": ["src/", "!*.md"], "language": "python", "symbol": [], '
        '"kind": "code"}}',
    )

    first, second = read_queries(path).queries

    assert (first.id, first.where) == ("1", None)
    assert second.id == "second"
    assert second.where == Filter(paths=("src/", "!*.md"), languages=("python",), kinds=("code",))


def test_every_wrong_line_is_reported_with_its_place(tmp_path: Path):
    lines = (
        '{"query": "a", "path": "a.py"}',
        "nonsense",
        '["a list"]',
        '{"query": " ", "path": "a.py"}',
        '{"path": "a.py"}',
        '{"query": "a", "qoute": "x", "path": "a.py"}',
        '{"query": "a"}',
        '{"query": "a", "expected": []}',
        '{"query": "a", "path": "b.py", "expected": ["a.py"]}',
        '{"query": "a", "expected": [7]}',
        '{"query": "a", "expected": [{"path": "a.py", "line": 3}]}',
        '{"query": "a", "path": "a.py", "lines": "40-10"}',
        '{"query": "a", "path": "a.py", "lines": "ten"}',
        '{"query": "a", "path": "a.py", "lines": "1-2", "start_line": 1}',
        '{"query": "a", "path": "a.py", "end_line": 4}',
        '{"query": "a", "path": "a.py", "lines": 3, "quote": "x"}',
        '{"query": "a", "path": "a.py", "quote": ""}',
        '{"query": "a", "path": "a.py", "grade": 0}',
        '{"query": "a", "path": "a.py", "grade": true}',
        '{"query": "a", "path": "/etc/passwd"}',
        '{"query": "a", "lines": "1-2"}',
        '{"query": "a", "path": "a.py", "id": "1"}',
        '{"query": "a", "path": "a.py", "id": {}}',
        '{"query": "a", "path": "a.py", "filters": ["src/"]}',
        '{"query": "a", "path": "a.py", "filters": {"path": [1]}}',
        '{"query": "a", "path": "a.py", "filters": {"paths": "src/"}}',
    )
    # No more than 20 of one file are shown.
    half = len(lines) // 2
    found = problems(tmp_path, *lines[:half])
    found += problems(tmp_path, lines[0], *[""] * (half - 1), *lines[half:])

    assert found == [
        "2:1: is no JSON: Expecting value",
        "3:1: must be an object, got ['a list']",
        "4:2: query must be a text that is not empty, got ' '",
        "5:1: query must be a text that is not empty, got None",
        "6:16: unknown key 'qoute'",
        "7:1: says nothing of what is to be found",
        "8:16: expected is empty",
        "9:16: has path beside expected",
        "10:16: must name a path, got 7",
        "11:46: unknown key 'line'",
        "12:32: ends at line 10, before it begins at 40",
        "13:32: lines must be a span, got 'ten'",
        "14:32: lines must be a span, got '1-2'",
        "15:1: start_line must be a line number from 1, got None",
        "16:44: has both lines and a quote",
        "17:32: quote must be a text that is not empty, got ''",
        "18:32: grade must be 1 to 10, got 0",
        "19:32: grade must be 1 to 10, got True",
        "20:16: path must be relative, got '/etc/passwd'",
        "21:1: path must be a text that is not empty, got None",
        "22:32: the id '1' is taken by line 1",
        "23:32: id must be a text or a number, got {}",
        "24:32: filters must be an object, got ['src/']",
        "25:44: path must be a text or a list of texts, got [1]",
        "26:44: unknown key 'paths'",
    ]


def test_of_many_wrong_lines_the_first_are_shown_in_order(tmp_path: Path):
    with pytest.raises(SpecErrors) as caught:
        read_queries(write(tmp_path, *["nonsense"] * 1_234))

    head, *shown = caught.value.errors
    assert "1,234 lines are wrong, of which the first 20 are shown" in head.problem
    assert [error.position.line for error in shown if error.position] == list(range(1, 21))


def test_a_message_shows_the_line_and_the_fix(tmp_path: Path):
    path = write(tmp_path, '{"query": "a", "path": "a.py", "lines": "ten"}')

    with pytest.raises(SpecErrors) as caught:
        read_queries(path)

    assert str(caught.value) == (
        f"{path}:1:32: lines must be a span, got 'ten'\n"
        '    {"query": "a", "path": "a.py", "lines": "ten"}\n'
        "                                   ^\n"
        '    fix: write "lines": "10-40" or "lines": 10, or start_line and end_line'
    )


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe\xff"], ids=str)
def test_a_file_without_queries_is_an_error(tmp_path: Path, content: bytes | None):
    path = tmp_path / "evals.jsonl"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SpecErrors, match=r"evals\.jsonl"):
        read_queries(path)


def test_the_fingerprint_is_of_what_is_asked_and_expected(tmp_path: Path):
    def fingerprint(*lines: dict[str, Any]) -> str:
        return read_queries(write(tmp_path, *map(json.dumps, lines))).fingerprint

    written = fingerprint({"query": "a", "path": "a.py", "lines": "1-2"})

    same = {"path": "./a.py", "lines": "1-2"}
    assert written == fingerprint({"id": "x", "query": "a", "expected": same})
    assert written != fingerprint({"query": "b", "path": "a.py", "lines": "1-2"})
    assert written != fingerprint({"query": "a", "path": "a.py", "lines": "1-3"})
    assert written != fingerprint({"query": "a", "path": "a.py", "lines": "1-2", "grade": 2})
    assert written != fingerprint(
        {"query": "a", "path": "a.py", "lines": "1-2", "filters": {"path": "src/"}}
    )


def test_a_kind_that_is_none_is_refused(tmp_path: Path):
    path = write(tmp_path, '{"query": "a", "path": "a.py", "filters": {"kind": "doc"}}')

    with pytest.raises(SpecErrors, match="there is no kind 'doc'"):
        read_queries(path)
