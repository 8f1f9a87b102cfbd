"""An assessment as text, for a terminal, an artifact, a script or a CI server."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from merganser.evaluation.chart import as_image, draw_trend
from merganser.humanize import harmless

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from merganser.evaluation.assess import Assessment, Verdict
    from merganser.evaluation.rag_evaluation import QueryResult
    from merganser.store.evaluations import EvaluationRow

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

WORST = 5
"""Worst queries that a report names; all are in the table and in the history."""


def assessment_lines(assessment: Assessment, *, per_query: bool = False) -> Iterator[str]:
    """Yield an assessment for a terminal, line by line.

    Args:
        assessment: What to show.
        per_query: Add a line for each query.
    """
    evaluation = assessment.evaluation
    snapshots = "+".join(map(str, evaluation.snapshots.values()))
    yield (
        f"{evaluation.rag}: snapshot {snapshots}, {len(evaluation.results)} queries of "
        f"{evaluation.queries.path.name}, {evaluation.seconds:.1f} s"
    )
    if assessment.baseline:
        yield f"  compared with {assessment.baseline.title}"
    for verdict in assessment.verdicts:
        yield f"  {_figure_line(verdict)}"
    for remark in _remarks(assessment):
        yield f"  {remark}"
    if per_query:
        for result in evaluation.results:
            yield from _query_lines(result)


def _remarks(assessment: Assessment) -> Iterator[str]:
    evaluation = assessment.evaluation
    for result in evaluation.failed:
        yield f"failed, counted as 0: {result.query.id} {result.query.query!r}: {result.error}"
    for label in evaluation.stale:
        yield f"stale label, counted as not found: {label}"
    for note in assessment.notes:
        yield f"note: {note}"


def _figure_line(verdict: Verdict) -> str:
    figure, required = verdict.figure, _required(verdict)
    parts = [f"{figure.metric!s:12} {figure.value:.4f}  [{figure.low:.3f}, {figure.high:.3f}]"]
    if verdict.baseline is not None:
        parts.append(f"{figure.value - verdict.baseline:+.4f}")
    if required:
        parts += ["FAILED" if verdict.problem else "ok", f"({required})"]
    return "  ".join(parts)


def _required(verdict: Verdict) -> str:
    threshold = verdict.threshold
    texts = [] if threshold.min is None else [f"at least {threshold.min:g}"]
    if threshold.max_drop is not None:
        texts.append(f"may fall by {threshold.max_drop:g}")
    return ", ".join(texts)


def _query_lines(result: QueryResult) -> Iterator[str]:
    rank = f"rank {result.first}" if result.first else "not found"
    values = "  ".join(f"{metric} {value:.3f}" for metric, value in result.values.items())
    yield f"  {result.query.id}  {rank}  {values}  {result.query.query}"
    for label in result.missed:
        yield f"      missed: {label}"
    if result.missed and result.hits:
        yield f"      found instead: {', '.join(result.hits[:3])}"


def failure_lines(assessment: Assessment) -> Iterator[str]:
    """Yield what failed, by how much, and the queries with the lowest values."""
    for verdict in assessment.verdicts:
        if not verdict.problem:
            continue
        yield verdict.problem
        for result in assessment.evaluation.worst(verdict.figure.metric, WORST):
            value = result.values[verdict.figure.metric]
            yield f"  {value:.2f}  {result.query.id}  {result.query.query!r}: {_why(result)}"


def _why(result: QueryResult) -> str:
    if result.error:
        return f"failed: {result.error}"
    if result.first is None:
        return f"nothing found of {', '.join(result.missed)}"
    missed = f", missed {', '.join(result.missed)}" if result.missed else ""
    return f"first found at rank {result.first}{missed}"


def assessment_as_json(assessment: Assessment) -> dict[str, Any]:
    """Return an assessment as JSON values."""
    evaluation = assessment.evaluation
    return {
        "rag": evaluation.rag,
        "passed": assessment.passed,
        "queries_file": str(evaluation.queries.path),
        "queries": len(evaluation.results),
        "failed": len(evaluation.failed),
        "stale": list(evaluation.stale),
        "snapshots": dict(evaluation.snapshots),
        "compared_with": assessment.baseline.title if assessment.baseline else None,
        "seconds": round(evaluation.seconds, 3),
        "notes": list(assessment.notes),
        "metrics": [
            asdict(one.as_row()) | {"problem": one.problem or None} for one in assessment.verdicts
        ],
        "results": [_query_as_json(result) for result in evaluation.results],
    }


def _query_as_json(result: QueryResult) -> dict[str, Any]:
    return {
        "id": result.query.id,
        "query": result.query.query,
        "first_rank": result.first,
        "values": {str(metric): value for metric, value in result.values.items()},
        "missed": list(result.missed),
        "stale": list(result.stale),
        "hits": list(result.hits),
        "error": result.error or None,
        "seconds": round(result.seconds, 6),
    }


def assessment_markdown(
    assessment: Assessment, title: str, trend: Sequence[EvaluationRow] = ()
) -> str:
    """Return an assessment as markdown, with a chart over earlier ones.

    Args:
        assessment: What to show.
        title: The heading.
        trend: Comparable evaluations, oldest first; drawn when there is any.
    """
    evaluation = assessment.evaluation
    compared = assessment.baseline.title if assessment.baseline else "nothing"
    state = "passed" if assessment.passed else "FAILED"
    lines = [
        f"## {title}",
        "",
        f"**{state}**: {len(evaluation.results)} queries, compared with {compared}",
        "",
        "| metric | value | 95 % interval | before | required | |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(verdict) for verdict in assessment.verdicts]
    lines += ["", *(f"- {harmless(line.strip())}" for line in failure_lines(assessment))]
    lines += [f"- {harmless(' '.join(remark.split()))}" for remark in _remarks(assessment)]
    if trend:
        lines += ["", as_image(draw_trend(trend), f"{evaluation.rag} over time")]
    return "\n".join(lines)


def _row(verdict: Verdict) -> str:
    figure = verdict.figure
    before = "" if verdict.baseline is None else f"{verdict.baseline:.4f}"
    required = _required(verdict)
    state = "FAILED" if verdict.problem else "ok" if required else ""
    return (
        f"| {figure.metric} | {figure.value:.4f} | {figure.low:.3f} to {figure.high:.3f} | "
        f"{before} | {required} | {state} |"
    )


def query_table(assessment: Assessment) -> list[dict[str, Any]]:
    """Return the queries as rows of a table, the worst first."""
    metrics = [figure.metric for figure in assessment.evaluation.figures]
    results = sorted(
        assessment.evaluation.results,
        key=lambda result: [result.values[metric] for metric in metrics],
    )
    return [
        {
            "id": result.query.id,
            "query": result.query.query,
            **{str(metric): round(result.values[metric], 4) for metric in metrics},
            "first rank": result.first or "-",
            "missed": ", ".join(result.missed),
            "found": ", ".join(result.hits[:3]),
            "error": result.error,
        }
        for result in results
    ]


def junit(assessments: Sequence[Assessment]) -> str:
    """Return assessments as a JUnit report: a suite per rag, a case per threshold and per query.

    A case fails where its threshold does, or where its query could not be searched; a query that
    finds nothing lowers the metrics alone.
    """
    root = ET.Element("testsuites", name="merganser eval")
    for assessment in assessments:
        evaluation = assessment.evaluation
        suite = ET.SubElement(
            root,
            "testsuite",
            name=evaluation.rag,
            tests=str(len(assessment.verdicts) + len(evaluation.results)),
            failures=str(len(assessment.problems)),
            errors=str(len(evaluation.failed)),
            time=f"{evaluation.seconds:.3f}",
            timestamp=evaluation.started.isoformat(timespec="seconds"),
        )
        for verdict in assessment.verdicts:
            case = _case(suite, evaluation.rag, str(verdict.figure.metric), 0.0)
            if verdict.problem:
                ET.SubElement(case, "failure", message=verdict.problem)
            ET.SubElement(case, "system-out").text = _figure_line(verdict)
        for result in evaluation.results:
            name = f"{result.query.id}: {result.query.query}"
            case = _case(suite, f"{evaluation.rag}.queries", name, result.seconds)
            if result.error:
                ET.SubElement(case, "error", message=_xml(result.error))
            ET.SubElement(case, "system-out").text = _xml("\n".join(_query_lines(result)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, classname: str, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=classname, name=_xml(name), time=f"{seconds:.3f}"
    )


def _xml(text: str) -> str:
    """Replace the characters that XML cannot hold, escaped or not."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
