"""Tasks of a batch run: try the judge, answer a shard, show the answers.

Durability of each model request would cost more than it saves here: a flushed row is the resume
record, and a task run is a shard of questions.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from merganser.batch.answer_rows import (
    ANSWERED,
    outcome_of,
    places_of,
    reason_of,
    seconds_of,
    summarize,
)
from merganser.tasks.artifacts import artifact_key, code, facts_table, one_line, quoted
from merganser.tasks.options import LOCAL_TASK, MODEL_TASK

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.batch.journal import AnswerJournal, BatchReport
    from merganser.batch.selection import BatchShard
    from merganser.batch.session import BatchSession, ShardReport

_SHOWN_ROWS = 200
"""Rows of the answers' artifact: the page stays readable, and the file has them all."""

_SHOWN_ANSWERS = 50
"""Failed ones, and others, in the artifact that is read from top to bottom."""


@task(**MODEL_TASK, task_run_name="try judge {model}")
def try_judge(session: BatchSession, model: str) -> str:
    """Check the judge against its labelled examples before any question is asked.

    Raises:
        PlanError: It got too many of them wrong.
        ModelRunnerError: Its server failed.
    """
    session.try_judge()
    return model


@task(**MODEL_TASK, task_run_name="answer {shard.number}")
def answer_shard(shard: BatchShard, session: BatchSession, journal: AnswerJournal) -> ShardReport:
    """Answer the questions of one shard; each answered row is on disk at once.

    Raises:
        StoreError: An index cannot be read.
    """
    return session.answer(shard, journal)


@task(**LOCAL_TASK, task_run_name="report {name}")
def show_answers(name: str, report: BatchReport, rows: Sequence[Mapping[str, Any]]) -> None:
    """Leave two artifacts: how the batch went with its answers, and a table to search in."""
    create_markdown_artifact(
        batch_markdown(name, report, rows),
        key=artifact_key("batch", name),
        description=f"{report.answered} of {report.questions} questions answered",
    )
    if rows:
        create_table_artifact(
            [_shown(row) for row in rows[:_SHOWN_ROWS]],
            key=artifact_key("answers", name),
            description=f"The first {min(len(rows), _SHOWN_ROWS)} of {len(rows)} answers",
        )


def batch_markdown(name: str, report: BatchReport, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write how a batch went, with its first answers."""
    facts = [
        ("questions", report.questions),
        ("answered", report.answered),
        ("failed", f"{len(report.failed):,} ({report.failed_share:.1%})"),
        ("not asked yet", len(report.missing) + report.left_out),
        ("asked in this run", report.asked),
        ("kept from earlier runs", report.reused),
        ("tokens of this run", f"{report.tokens[0]:,} in, {report.tokens[1]:,} out"),
        *((f"mean {metric}", f"{value:.3f}") for metric, value in report.metrics.items()),
    ]
    outcomes = [(name, count) for name, count in summarize(rows).outcomes.items()]
    lines = [f"## Batch {code(name)}", "", *facts_table(facts), "", "### Outcomes", ""]
    lines += facts_table(outcomes, ("outcome", "questions"))
    failed = [row for row in rows if outcome_of(row) != ANSWERED]
    others = [row for row in rows if outcome_of(row) == ANSWERED]
    for title, some in (("Failed", failed), ("Answered", others)):
        if some:
            more = f" (the first {_SHOWN_ANSWERS})" if len(some) > _SHOWN_ANSWERS else ""
            lines += ["", f"### {title}{more}"]
            lines += [_answer_markdown(row) for row in some[:_SHOWN_ANSWERS]]
    return "\n".join(lines)


def _answer_markdown(row: Mapping[str, Any]) -> str:
    """Write one question with its answer, what it cites, and what came of it."""
    head = f"**{one_line(str(row['id']))}** {one_line(row['question'])}"
    cited = (" ".join(one).rstrip() for one in places_of(row, cited=True))
    cites = ", ".join(map(code, cited)) or "no source"
    end = f"{cites} · {one_line(_failure(row))} · {seconds_of(row):.1f} s"
    return "\n\n".join(("", head, quoted(row.get("answer") or "(no text)"), end))


def _failure(row: Mapping[str, Any]) -> str:
    return ": ".join(part for part in (outcome_of(row), reason_of(row)) if part)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "outcome": _failure(row),
        "question": row["question"],
        "cites": ", ".join(place for place, _ in places_of(row, cited=True)),
        "answer": row.get("answer") or "",
        "seconds": row.get("seconds"),
        "metrics": json.dumps(row.get("metrics") or {}),
    }
