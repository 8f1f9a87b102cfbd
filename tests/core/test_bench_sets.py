"""The sets that retrieval is measured on: readable, pinned, and each on one side of the split."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from merganser.evaluation.queries import read_queries

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / "sets"
SETS: dict[str, dict[str, Any]] = json.loads((FOLDER / "sets.json").read_text("utf-8"))


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_pinned_licensed_and_on_the_side_that_the_documents_say(name: str) -> None:
    about = SETS[name]
    queries = [one.query for one in read_queries(FOLDER / f"{name}.jsonl").queries]
    assert len(set(queries)) == len(queries)
    assert re.fullmatch(r"[0-9a-f]{40}", about["commit"])
    assert about["licence"]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in (ROOT / "docs" / "retrieval-quality.md").read_text("utf-8").splitlines()
        if line.endswith(("| tuning |", "| checking |"))
    ]
    (row,) = (
        row
        for row in rows
        if name in re.split(r"[, (]+", row[0]) and not re.search("words|same", row[0])
    )
    assert row[3] == about["role"]
    assert str(len(queries)) in re.findall(r"\d+", row[2])


def test_questions_that_nothing_answers_name_a_checking_tree() -> None:
    lines = (FOLDER / "unanswerable.jsonl").read_text("utf-8").splitlines()
    assert {SETS[json.loads(line)["set"]]["role"] for line in lines} == {"checking"}
    assert len(lines) == 20


def test_words_of_one_file_are_drawn_alike_from_any_order() -> None:
    draw = runpy.run_path(str(ROOT / "benchmarks" / "bench_sets.py"))["words_of_one_file"]
    texts = [
        ("a.py", "lonesome_name twicewritten"),
        ("a.py", "lonesome_name Twicewritten"),
        ("b.py", "twicewritten shortest sevenly"),
    ]
    # The spelling counts, and so does the length.
    assert draw(texts) == {"lonesome_name": "a.py", "Twicewritten": "a.py", "shortest": "b.py"}
    assert list(draw(texts, 2)) == list(draw(texts[::-1], 2))
