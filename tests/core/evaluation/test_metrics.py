"""Metrics equal those of ir-measures (trec_eval), and keep their own laws."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merganser.config.spec_evaluation import MEASURES, Metric, parse_metric, suggest_metric
from merganser.evaluation.metrics import (
    Relevance,
    Target,
    bootstrap_interval,
    mark_relevant,
    measure,
    places,
)
from merganser.evaluation.queries import Label
from merganser.retrieval import Hit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_METRICS = [Metric(name, k) for name in MEASURES for k in (1, 3, 5, 10, 100)]
_THEIRS = {"recall": "R", "precision": "P", "success": "Success", "mrr": "RR", "ndcg": "nDCG"}


def theirs(
    metrics: Sequence[Metric],
    grades: Mapping[str, Mapping[str, int]],
    rankings: Mapping[str, Sequence[str]],
) -> dict[Metric, float]:
    """Let ir-measures compute the means; it has no types."""
    ir: Any = import_module("ir_measures")
    asked = {getattr(ir, _THEIRS[m.measure]) @ m.k: m for m in metrics}
    qrels = [ir.Qrel(q, doc, grade) for q, row in grades.items() for doc, grade in row.items()]
    # The rank decides, as it does for whoever reads the hits; trec_eval breaks ties by name.
    run = [
        ir.ScoredDoc(q, doc, -float(rank))
        for q, row in rankings.items()
        for rank, doc in enumerate(row)
    ]
    found = ir.calc_aggregate(list(asked), qrels, run)
    return {asked[name]: value for name, value in found.items()}


@st.composite
def ranked_files(draw: st.DrawFn) -> tuple[dict[str, int], list[Hit]]:
    """Return graded files, and hits in the order of scores that are often equal."""
    names = [f"f{number}" for number in range(12)]
    relevant = draw(st.lists(st.sampled_from(names), min_size=1, max_size=8, unique=True))
    grades = {name: draw(st.integers(1, 10)) for name in relevant}
    retrieved = draw(st.lists(st.sampled_from(names), max_size=12, unique=True))
    hits = [Hit(name, 1, 5, "", score=draw(st.sampled_from([0.1, 0.5]))) for name in retrieved]
    return grades, sorted(hits, key=lambda hit: (-hit.score, hit.path))


@settings(max_examples=60, deadline=None)
@given(st.lists(ranked_files(), min_size=1, max_size=5))
def test_means_equal_those_of_ir_measures(queries: list[tuple[dict[str, int], list[Hit]]]):
    judged = [
        mark_relevant(hits, [Target(Label(path=p, grade=g), ((1, 9),)) for p, g in grades.items()])
        for grades, hits in queries
    ]
    ours = {m: sum(measure(m, one) for one in judged) / len(judged) for m in _METRICS}

    expected = theirs(
        _METRICS,
        {str(n): grades for n, (grades, _) in enumerate(queries)},
        {str(n): [hit.path for hit in hits] for n, (_, hits) in enumerate(queries)},
    )

    assert expected == pytest.approx(ours, abs=1e-9)


@st.composite
def judgements(draw: st.DrawFn) -> Relevance:
    """Return labels and hits of which one may match several labels and one label several hits."""
    labels = draw(st.integers(1, 6))
    grades = tuple(draw(st.integers(1, 10)) for _ in range(labels))
    matches = draw(st.lists(st.sets(st.integers(0, labels - 1)), max_size=12))
    ranks = tuple(
        next((rank for rank, row in enumerate(matches, 1) if number in row), None)
        for number in range(labels)
    )
    return Relevance(grades, ranks, tuple(bool(row) for row in matches))


@settings(max_examples=60, deadline=None)
@given(judgements())
def test_ndcg_of_places_equals_that_of_ir_measures(judged: Relevance):
    metrics = [Metric("ndcg", k) for k in (1, 3, 5, 10, 100)]
    grades = {f"l{place}": grade for place, grade in places(judged)}
    missed = list(judged.grades)
    for grade in grades.values():
        missed.remove(grade)
    ranking = [f"l{n}" if f"l{n}" in grades else f"junk{n}" for n in range(1, 101)]

    expected = theirs(
        metrics, {"q": grades | {f"m{n}": g for n, g in enumerate(missed)}}, {"q": ranking}
    )

    assert expected == pytest.approx({m: measure(m, judged) for m in metrics}, abs=1e-9)


@given(judgements())
def test_values_are_bounded_and_grow_with_the_cut_off(judged: Relevance):
    for name in ("recall", "success", "mrr"):
        values = [measure(Metric(name, k), judged) for k in range(1, 101)]
        assert sorted(values) == values
    for metric in _METRICS:
        assert 0.0 <= measure(metric, judged) <= 1.0 + 1e-12


@given(judgements())
def test_places_are_distinct_and_not_before_the_hit(judged: Relevance):
    found = places(judged)
    ranks = sorted(rank for rank in judged.ranks if rank is not None)

    assert len({place for place, _ in found}) == len(found) == len(ranks)
    assert all(rank <= place for rank, (place, _) in zip(ranks, found, strict=True))


def test_one_hit_that_finds_two_labels_finds_all_there_is():
    judged = Relevance(grades=(1, 3), ranks=(1, 1), relevant=(True,))

    assert places(judged) == [(1, 3), (2, 1)]
    assert measure(Metric("recall", 1), judged) == 1.0
    assert measure(Metric("ndcg", 5), judged) == 1.0


def test_a_label_found_again_is_no_mistake_and_no_gain():
    once = Relevance(grades=(1,), ranks=(1,), relevant=(True, False))
    again = Relevance(grades=(1,), ranks=(1,), relevant=(True, True))

    for name in ("recall", "success", "mrr", "ndcg"):
        assert measure(Metric(name, 5), once) == measure(Metric(name, 5), again) == 1.0
    assert measure(Metric("precision", 2), again) == 1.0


def test_the_ideal_does_not_shrink_to_what_was_found():
    judged = Relevance(grades=(1, 1), ranks=(1, None), relevant=(True,))

    assert measure(Metric("ndcg", 5), judged) == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_an_empty_result_is_zero():
    judged = mark_relevant([], [Target(Label(path="a.py"), ((1, 9),))])

    assert {measure(metric, judged) for metric in _METRICS} == {0.0}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_an_interval_holds_the_mean_and_is_the_same_every_time(values: list[float]):
    low, high = bootstrap_interval(values)

    assert 0.0 <= low <= sum(values) / len(values) + 1e-9
    assert sum(values) / len(values) - 1e-9 <= high <= 1.0 + 1e-9
    assert (low, high) == bootstrap_interval(values)


def test_an_interval_narrows_with_more_queries():
    few, many = bootstrap_interval([0.0, 1.0] * 5), bootstrap_interval([0.0, 1.0] * 500)

    assert many[1] - many[0] < few[1] - few[0]


@pytest.mark.parametrize("name", ["recall@5", "precision@1", "success@10", "mrr@10", "ndcg@100"])
def test_names_of_metrics_come_back(name: str):
    assert str(parse_metric(name)) == name


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("recall", "write recall@5"),
        ("Recall@7", "write recall@7"),
        ("nDCG@10", "write ndcg@10"),
        ("mrr@0", "write mrr@5"),
        ("recall@101", "write recall@5"),
        ("recall@5 ", "write recall@5"),
        ("bpref@5", "write recall, precision, success, mrr, ndcg with a cut-off from 1 to 100"),
    ],
)
def test_a_wrong_name_tells_the_right_one(name: str, fix: str):
    assert parse_metric(name) is None
    assert suggest_metric(name).startswith(fix)
