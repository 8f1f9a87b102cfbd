"""Where answers go: a row on disk as soon as it is answered, a whole table in order at the end.

The rows are the resume record. While a run goes on they are appended to ``<output>.partial`` in the
order in which they are finished; at the end, and when the run is interrupted, the whole output is
written in the questions' order and replaces the old one in one step. A row carries the key of what
it answers (question, filters, config, snapshot): a later run keeps the rows whose keys still hold.
"""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, cast

from filelock import FileLock, Timeout

from merganser.batch.answer_rows import (
    ANSWERED,
    mean_metrics,
    measure_answer,
    rests_on_stale,
    sum_tokens,
)
from merganser.batch.tables import dump_row, may_hold_answers, read_rows, write_rows
from merganser.config.flow_definition import DataTable
from merganser.errors import MerganserError, PlanError, StoreBusyError, StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from merganser.batch.questions import Question
    from merganser.batch.selection import BatchPlan


@dataclass(frozen=True, slots=True)
class BatchReport:
    """How a batch went.

    Attributes:
        questions: Rows of the questions table.
        answered: Rows with the outcome ``answered``.
        failed: Ids of the questions with any other outcome, in the table's order.
        missing: Ids of the chosen questions that have no row, after an interruption.
        stale: Ids of the answered questions whose answers rest on what is not in its file any more.
        left_out: Questions without a row that were not chosen.
        reused: Questions whose row comes from an earlier run.
        asked: Questions that a model was asked in this run.
        tokens: Tokens of this run's turns, in and out.
        metrics: Mean of each metric over the rows that have it; failed questions count as 0.
    """

    questions: int
    answered: int
    _: KW_ONLY
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    left_out: int = 0
    reused: int = 0
    asked: int = 0
    tokens: tuple[int, int] = (0, 0)
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def failed_share(self) -> float:
        """Share of the questions with a row that have no answer to rely on, 0 to 1."""
        rows = self.answered + len(self.failed)
        return len(self.failed) / rows if rows else 0.0


class BatchFailedError(MerganserError):
    """More questions of a batch failed than the flow allows; the answers are written nevertheless.

    Attributes:
        report: How the batch went.
    """

    def __init__(self, report: BatchReport, allowed: float) -> None:
        self.report = report
        named = ", ".join(report.failed[:5]) + (", ..." if len(report.failed) > 5 else "")
        super().__init__(
            f"{len(report.failed)} of {len(report.failed) + report.answered} questions failed "
            f"({report.failed_share:.1%}, allowed are {allowed:.1%}): {named}; the answers are "
            "written, and the next run asks the failed ones again"
        )


class AnswerJournal:
    """The answers of one run: one flushed line a question, then the whole table in order.

    A context manager that holds the output's lock. Leaving it, also by an interruption, writes the
    answers known so far in the questions' order and removes the partial file.

    Attributes:
        output: The answers table.
        partial: The file beside it to which rows are appended as they come.
    """

    def __init__(self, output: DataTable, plan: BatchPlan) -> None:
        self.output = output
        self.partial = partial_path(output)
        self._plan = plan
        self._rows: dict[str, dict[str, Any]] = dict(plan.kept)
        self._lock = FileLock(self.partial.with_suffix(".lock"))
        self._file: int | None = None
        self._answered_at = float("-inf")

    def __enter__(self) -> Self:
        self.partial.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PlanError(f"another run is writing {self.output}; wait for it to end") from error
        _end_last_line(self.partial)
        self._file = os.open(self.partial, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        return self

    def __exit__(self, *_exc: object) -> None:
        assert self._file is not None
        try:
            write_rows(self.output, self.rows())
            self.partial.unlink(missing_ok=True)
        finally:
            os.close(self._file)
            self._file = None
            self._lock.release()

    def add(self, row: Mapping[str, Any]) -> None:
        """Write a row and flush it to disk.

        Raises:
            StoreError: It cannot be written.
        """
        assert self._file is not None, "the journal is not open"
        try:
            # One write to a file opened for appending: rows of several threads never mix.
            os.write(self._file, f"{dump_row(row)}\n".encode())
            os.fsync(self._file)
        except OSError as error:
            raise StoreError(f"cannot write {str(self.partial)!r}: {error.strerror}") from error
        self._rows[str(row["key"])] = dict(row)
        if row["outcome"] == ANSWERED:
            self._answered_at = monotonic()

    def has_answered(self, key: str) -> bool:
        """Return whether the question of that key is answered."""
        return self._rows.get(key, {}).get("outcome") == ANSWERED

    def answered_within(self, seconds: float) -> bool:
        """Return whether any question was answered in the last seconds."""
        return monotonic() - self._answered_at < seconds

    @property
    def to_ask(self) -> int:
        """Questions that a model is asked in this run, for progress."""
        return self._plan.to_ask

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows known so far in the questions' order, with their metrics."""
        known = ((q, self._rows.get(self._plan.keys[q.id])) for q in self._plan.questions)
        return [_finished(question, row) for question, row in known if row is not None]

    def report(self) -> BatchReport:
        """Count what the answers table holds."""
        plan = self._plan
        outcomes = {
            question.id: self._rows.get(plan.keys[question.id], {}).get("outcome")
            for question in plan.questions
        }
        unanswered = [name for name, outcome in outcomes.items() if outcome is None]
        fresh = [row for key, row in self._rows.items() if key not in plan.kept]
        return BatchReport(
            len(outcomes),
            sum(outcome == ANSWERED for outcome in outcomes.values()),
            failed=tuple(i for i, outcome in outcomes.items() if outcome not in {None, ANSWERED}),
            missing=tuple(name for name in unanswered if name in plan.chosen),
            stale=tuple(
                q.id
                for q in plan.questions
                if outcomes[q.id] == ANSWERED and rests_on_stale(self._rows[plan.keys[q.id]])
            ),
            left_out=sum(name not in plan.chosen for name in unanswered),
            reused=sum(plan.keys[question_id] in plan.kept for question_id in outcomes),
            asked=len(fresh),
            tokens=sum_tokens(fresh),
            metrics=mean_metrics(self.rows()),
        )


def partial_path(output: DataTable) -> Path:
    """Return the file of rows that are not in the output yet."""
    table = f".{output.table}" if output.table else ""
    return output.path.with_name(f"{output.path.name}{table}.partial")


def earlier_rows(output: DataTable, *, overwrite: bool = False) -> list[dict[str, Any]]:
    """Read the rows of the last whole answers table and of a run that was killed after it.

    Args:
        output: The answers table; it need not exist.
        overwrite: Something else that stands there has no rows for us, and may go.

    Raises:
        PlanError: Something else stands where the answers should go; it is not overwritten.
        StoreError: It cannot be read.
    """
    try:
        rows = read_rows(output)
        is_ours = may_hold_answers(output) and all(isinstance(r.get("key"), str) for r in rows)
    except StoreBusyError:
        raise
    except StoreError:
        if not overwrite:
            raise
        rows, is_ours = [], False
    if not is_ours:
        if not overwrite:
            raise PlanError(
                f"{output} holds something that is no answers of a batch, so it is not "
                "overwritten; name another output, or add --overwrite"
            )
        rows = []
    return [*rows, *read_rows(DataTable(partial_path(output)))]


def question_columns(question: Question) -> dict[str, Any]:
    """Return the columns of a row that come from its question."""
    row: dict[str, Any] = {"id": question.id, "question": question.question}
    return row if question.expected is None else {**row, "expected": question.expected}


def _finished(question: Question, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the output has it: equal questions may expect different answers."""
    head = question_columns(question)
    rest = {k: v for k, v in row.items() if k not in {"id", "question", "expected"}}
    verdicts = cast("dict[str, float]", row.get("verdicts") or {})
    metrics = measure_answer(row, question.expected) | verdicts
    return head | rest | {"metrics": metrics}


def _end_last_line(path: Path) -> None:
    """End a line that a killed run left unfinished, so that the next row starts its own."""
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.write(b"\n")
