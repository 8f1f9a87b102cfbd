"""Ten questions about the demo's corpus, written before anything was tuned, and never tuned on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Ran

QUESTIONS = Path(__file__).with_name("questions.jsonl")


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.timeout(1800)  # a first index of the corpus takes minutes
def test_the_right_file_is_in_the_top_five_for_eight_of_ten_questions(
    merganser: Callable[..., Ran], demo_index: Path, tmp_path: Path
) -> None:
    asked = [json.loads(line) for line in QUESTIONS.read_text("utf-8").splitlines()]
    queries = tmp_path / "queries.jsonl"
    rows = [{"query": one["question"], "path": one["expected"]} for one in asked]
    queries.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    ran = merganser(
        *("eval", demo_index.name, "--queries", str(queries), "--rag", "codebase"),
        *("--min-success@5", "0.8", "--per-query"),
        cwd=demo_index.parent,
    )

    assert len(asked) == 10
    assert ran.code == 0, ran.out + ran.err
