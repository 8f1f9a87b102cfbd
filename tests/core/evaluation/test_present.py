"""Assessments in words: terminal, artifact, JSON, JUnit, chart."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from merganser.config.spec_evaluation import Metric, ThresholdSpec
from merganser.evaluation.assess import Assessment, Baseline, check_thresholds
from merganser.evaluation.chart import draw_trend
from merganser.evaluation.present import (
    assessment_as_json,
    assessment_lines,
    assessment_markdown,
    failure_lines,
    junit,
    query_table,
)
from merganser.evaluation.queries import Label, LabelledQuery, QuerySet
from merganser.evaluation.rag_evaluation import Evaluation, Figure, QueryResult
from merganser.store.evaluations import EvaluationRow, MetricRow

RECALL = Metric("recall", 5)


def result(name: str, value: float, **changes: object) -> QueryResult:
    query = LabelledQuery(name, f"query {name}", (Label(path="a.py", lines=(1, 2)),))
    found = QueryResult(query=query, values={RECALL: value}, first=1 if value else None)
    return replace(found, **changes)


@pytest.fixture
def assessment() -> Assessment:
    results = (
        result("good", 1.0, hits=("a.py:1-9",)),
        result("lost", 0.0, missed=("a.py:1-2",), hits=("b.py:1-2",)),
        result("broken", 0.0, error="no\x00answer <&>", missed=("a.py:1-2",)),
        result("old", 0.0, stale=("a.py:1-2: a.py is not in the index",), missed=("a.py:1-2",)),
    )
    evaluation = Evaluation(
        "code",
        QuerySet(Path("evals.jsonl"), tuple(one.query for one in results)),
        (Figure(RECALL, 0.25, 0.0, 0.75),),
        results,
        snapshots={"code": 4},
        runs={"code": "run"},
        started=datetime(2026, 5, 1, 3, 0, tzinfo=UTC),
        seconds=1.5,
        notes=("rerank skipped (no weights) for 4 queries",),
    )
    thresholds = [ThresholdSpec(metric=RECALL, min=0.5, max_drop=0.1)]
    return check_thresholds(
        evaluation, thresholds, Baseline("the served snapshot 3", {"recall@5": 0.75})
    )


def test_the_terminal_shows_figures_and_all_that_went_wrong(assessment: Assessment):
    assert list(assessment_lines(assessment)) == [
        "code: snapshot 4, 4 queries of evals.jsonl, 1.5 s",
        "  compared with the served snapshot 3",
        "  recall@5     0.2500  [0.000, 0.750]  -0.5000  FAILED  (at least 0.5, may fall by 0.1)",
        "  failed, counted as 0: broken 'query broken': no\x00answer <&>",
        "  stale label, counted as not found: old: a.py:1-2: a.py is not in the index",
        "  note: rerank skipped (no weights) for 4 queries",
    ]


def test_each_query_is_shown_on_request(assessment: Assessment):
    lines = list(assessment_lines(assessment, per_query=True))

    assert "  good  rank 1  recall@5 1.000  query good" in lines
    assert lines[lines.index("  lost  not found  recall@5 0.000  query lost") + 1 :][:2] == [
        "      missed: a.py:1-2",
        "      found instead: b.py:1-2",
    ]


def test_a_failure_says_by_how_much_and_where(assessment: Assessment):
    assert list(failure_lines(assessment)) == [
        "recall@5 is 0.2500, 0.2500 below the least, 0.5",
        "  0.00  lost  'query lost': nothing found of a.py:1-2",
        "  0.00  broken  'query broken': failed: no\x00answer <&>",
        "  0.00  old  'query old': nothing found of a.py:1-2",
    ]


def test_json_holds_everything(assessment: Assessment):
    data = json.loads(json.dumps(assessment_as_json(assessment)))

    assert (data["passed"], data["failed"], data["queries"]) == (False, 1, 4)
    assert data["compared_with"] == "the served snapshot 3"
    assert data["metrics"][0]["problem"].startswith("recall@5 is 0.2500")
    assert [one["first_rank"] for one in data["results"]] == [1, None, None, None]


def test_junit_can_be_read_and_fails_where_thresholds_and_queries_do(assessment: Assessment):
    # Characters that XML cannot hold are in the message of a query.
    root = ET.fromstring(junit([assessment]))  # noqa: S314 - our own text

    (suite,) = root
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "1")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    broken = [case.get("name") for case in suite if case.find("error") is not None]
    assert (failed, broken) == (["recall@5"], ["broken: query broken"])


def test_a_table_has_the_worst_queries_first(assessment: Assessment):
    rows = query_table(assessment)

    assert [row["id"] for row in rows] == ["lost", "broken", "old", "good"]
    assert rows[0]["recall@5"] == 0.0
    assert rows[-1]["first rank"] == 1


def row(passed: bool, day: int, **values: float) -> EvaluationRow:  # noqa: FBT001 - reads as data
    metrics = tuple(MetricRow(f"{name}@5", value, 0.0, 1.0) for name, value in values.items())
    then = datetime(2026, 5, day, 3, 0, tzinfo=UTC)
    return EvaluationRow(
        "x", "evaluate", "f", "code", then, then, "", "", "", 1, 0, 0, passed, "", metrics=metrics
    )


def test_the_chart_has_a_point_for_each_evaluation_and_is_sound_xml():
    rows = [row(True, 1, recall=0.5), row(False, 2, recall=0.75, mrr=0.1), row(True, 3, recall=1.0, mrr=1.0)]  # fmt: skip # noqa: E501 - a table

    drawing = draw_trend(rows)

    svg = ET.fromstring(drawing)  # noqa: S314 - our own text
    circles = [element for element in svg if element.tag.endswith("circle")]
    assert len(circles) == 3 + 2
    assert [circle.get("fill") == "#fff" for circle in circles[:3]] == [False, True, False]
    heights = [float(circle.get("cy", "")) for circle in circles[:3]]
    assert heights == sorted(heights, reverse=True)
    assert "recall@5 1.000" in drawing
    assert draw_trend(rows[:1])


def test_the_artifact_shows_figures_reasons_and_the_chart(assessment: Assessment):
    text = assessment_markdown(assessment, "Gate of `code`", [row(True, 1, recall=0.5)])

    assert (
        "| recall@5 | 0.2500 | 0.000 to 0.750 | 0.7500 | at least 0.5, may fall by 0.1 | FAILED |"
        in text
    )
    assert "- recall@5 is 0.2500, 0.2500 below the least, 0.5" in text
    assert "![code over time](data:image/svg+xml;base64," in text
