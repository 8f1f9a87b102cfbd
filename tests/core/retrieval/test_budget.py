"""Hits that fill a budget of tokens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.config.spec_evaluation import Metric, parse_metric
from merganser.evaluation.queries import Label, LabelledQuery, QuerySet
from merganser.evaluation.rag_evaluation import evaluate
from merganser.retrieval.budget import CUT, cost_of, count_tokens, fill_budget, trim
from merganser.retrieval.hits import Hit

if TYPE_CHECKING:
    from .conftest import Rags

WORDS = st.sampled_from(["duck", "merganser", "dives_deep", "x", "fish,", "(eels)", "鴨は潜る", ""])
LINES = st.lists(st.lists(WORDS, max_size=40).map(" ".join), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(LINES, st.integers(20, 150), st.sampled_from(["merganser", "eels fish", "鴨", "none"]))
def test_a_trimmed_hit_fits_and_has_exact_lines_and_whole_words(
    lines: list[str], room: int, query: str
):
    hit = Hit("birds.md", 5, 4 + len(lines), "\n".join(lines) + "\n", 1.0)

    part = trim(hit, query, room)

    if part is None:
        return
    assert count_tokens(part.text) <= room
    shown = part.text.split("\n")
    assert len(shown) == part.end_line - part.start_line + 1
    shown[0] = shown[0].removeprefix(f"{CUT} ")
    shown[-1] = shown[-1].removesuffix(f" {CUT}")
    where = part.start_line - 5
    assert shown[1:-1] == lines[where + 1 : where + len(shown) - 1]
    words = re.compile(r"\b[A-Za-z_]+\b")
    assert set(words.findall(" ".join(shown))) <= set(words.findall(" ".join(lines)))


@pytest.mark.parametrize(
    ("query", "first", "text"),
    [
        ("goosander", 20, "line 20 of a goosander"),
        ("nothing there", 1, "line 1"),
        ("line", 1, "line 1"),
    ],
)
def test_a_hit_is_trimmed_around_what_it_has_of_the_query(query: str, first: int, text: str):
    lines = [f"line {n}" + " of a goosander" * (n == 20) for n in range(1, 41)]

    part = trim(Hit("birds.md", 1, 40, "\n".join(lines), 1.0), query, 20)

    assert part is not None
    assert part.start_line <= first <= part.end_line
    assert text in part.text
    assert part.trimmed
    assert part.text.endswith(f" {CUT}")


def test_the_header_of_a_table_stays_and_a_long_line_is_cut_between_words():
    rows = "id,what\n" + "\n".join(f"{n},a bird" + " and an owl" * (n == 33) for n in range(10, 50))
    table = trim(Hit("rows.csv", 12, 51, rows, 1.0), "owl", 30)
    line = " ".join(f"word{n}" for n in range(10_000, 12_000))
    cut = trim(Hit("one.txt", 1, 1, line, 1.0), "word11000", 30)

    assert table is not None
    assert table.text.startswith(f"id,what\n{CUT} ")
    assert "33,a bird and an owl" in table.text
    assert table.start_line <= 35 <= table.end_line
    assert cut is not None
    assert "word11000" in cut.text
    assert set(cut.text.split()) <= {*line.split(), CUT}
    assert trim(Hit("blob.txt", 1, 1, "a" * 5000, 1.0), "a", 30) is None


def test_a_budget_is_filled_by_the_best_and_the_next_is_trimmed():
    text = "".join(f"A merganser dives, {n} times.\n" for n in range(20))
    hits = [Hit(f"{n}.md", 1, 20, text, 1.0 - n / 10) for n in range(5)]

    kept, budget = fill_budget(hits, "merganser", 2 * cost_of(hits[0]) + 100)

    assert [(hit.path, hit.trimmed) for hit in kept] == [
        ("0.md", False),
        ("1.md", False),
        ("2.md", True),
    ]
    assert (budget.trimmed, budget.left_out) == (1, 2)
    assert sum(map(cost_of, kept)) == budget.used <= budget.tokens


async def test_a_search_fills_its_budget_and_an_evaluation_measures_what_it_finds(rags: Rags):
    files = {f"{n:02}.md": f"A merganser of number {n}. " * 7 for n in range(30)}
    await rags.build(files)
    strategy = rags.strategy(limit=100)
    rag = rags.rag(strategy, budget=1000)
    rag.results.model_fields_set.discard("limit")
    retriever = rags.open(rag)

    filled = await retriever.search("merganser")
    larger = await retriever.search("merganser", budget=1500)
    limited = await retriever.search("merganser", limit=2)
    none = await retriever.search("merganser", limit=30, budget=0)

    assert filled.budget is not None
    assert 900 < filled.budget.used <= 1000
    assert filled.as_json()["budget"]["left_out"] == 30 - len(filled.hits) > 0
    assert len(larger.hits) > len(filled.hits) > 2
    assert len(limited.hits) == 2
    assert (none.budget, len(none.hits)) == (None, 30)

    found = [Label(path=none.hits[0].path), Label(path=none.hits[-1].path)]
    queries = QuerySet(Path("birds.jsonl"), (LabelledQuery("a", "merganser", tuple(found)),))
    metrics = [Metric("recall", 100), Metric("recall", 100, 1000)]
    measured = await evaluate(retriever, queries, metrics)
    assert [figure.value for figure in measured.figures] == [1.0, 0.5]


@pytest.mark.parametrize("name", ["recall@99tok", "ndcg@2000tok", "recall@tok"])
def test_what_is_no_metric_of_tokens(name: str):
    assert parse_metric(name) is None
    assert str(parse_metric("recall@2000tok")) == "recall@2000tok"
