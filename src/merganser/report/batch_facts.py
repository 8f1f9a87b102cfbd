"""What is known of a batch: its answers, and how many of its questions have none yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from merganser.batch.answer_metrics import measure_answer
from merganser.batch.journal import partial_path
from merganser.batch.questions import read_questions
from merganser.batch.tables import read_rows
from merganser.config.definitions import DataTable
from merganser.errors import SpecErrors, StoreError

if TYPE_CHECKING:
    from merganser.config.definitions import BatchFlow


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """One answers table.

    Attributes:
        name: Of the flow, or of the file.
        answers: Where the rows are.
        rows: In the questions' order; of a run under way, those so far come last.
        unasked: Questions without a row; None where the questions are not known.
    """

    name: str
    answers: DataTable
    rows: tuple[dict[str, Any], ...] = ()
    unasked: int | None = None


def read_batch(flow: BatchFlow) -> BatchFacts:
    """Read the answers of a batch flow; one that never ran has none.

    Raises:
        StoreError: The file holds something else, or cannot be read.
    """
    rows = _rows(flow.output)
    try:
        asked = {question.id for question in read_questions(flow.input)}
    except SpecErrors:
        return BatchFacts(name=flow.name, answers=flow.output, rows=rows)
    unasked = len(asked - {str(row.get("id")) for row in rows})
    return BatchFacts(name=flow.name, answers=flow.output, rows=rows, unasked=unasked)


def read_answers(answers: DataTable) -> BatchFacts:
    """Read an answers table of which no config is known.

    Raises:
        StoreError: It is not there, holds something else, or cannot be read.
    """
    rows = _rows(answers)
    if not rows:
        raise StoreError(f"{answers} holds no answers yet; `merganser batch` writes them")
    return BatchFacts(name=answers.table or answers.path.stem, answers=answers, rows=rows)


def _rows(answers: DataTable) -> tuple[dict[str, Any], ...]:
    rows = [*read_rows(answers), *read_rows(DataTable(partial_path(answers)))]
    if rows and not any("outcome" in row for row in rows):
        raise StoreError(f"{answers} holds rows that are no answers of a batch")
    latest = {str(row.get("id")): row for row in rows}
    return tuple(_measured(row) for row in latest.values())


def _measured(row: dict[str, Any]) -> dict[str, Any]:
    """Give a row with its metrics, which a run adds at its end."""
    if isinstance(row.get("metrics"), dict):
        return row
    return {**row, "metrics": measure_answer(row, row.get("expected"))}
