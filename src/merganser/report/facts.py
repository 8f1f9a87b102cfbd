"""What a report is about: what index folders and answers tables hold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from merganser.batch.answer_rows import measure_answer
from merganser.batch.journal import partial_path
from merganser.batch.questions import read_questions
from merganser.batch.tables import read_rows
from merganser.config.flow_definition import DataTable
from merganser.errors import SpecErrors, StoreError
from merganser.store.evaluations import EvaluationRow, list_evaluations
from merganser.store.folder import IndexFolder
from merganser.store.history import FailureRow, RunRow, list_failures, list_runs
from merganser.store.snapshots import SnapshotInfo, list_snapshots, read_kept

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from merganser.config.flow_definition import BatchFlow
    from merganser.store.catalogue import Catalogue, FileRow, RedactionRow, SkippedRow

RUNS = 20
"""Most runs of a report; more rows do not fit a screen."""

_EVALUATIONS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """What one index folder holds.

    Attributes:
        name: The index's name in the config, or the folder's name.
        folder: The index folder.
        snapshots: The kept ones, newest first.
        files: Files of the served snapshot, by path.
        skipped: Files that were found and are not in it, by path.
        redactions: Secrets in whose place it has marks.
        new_skips: Paths of those that the snapshot before it did not leave out.
        runs: The latest ``RUNS``, newest first.
        failures: Files that these runs could not index.
        trends: Evaluations that can be compared, oldest first; the latest evaluated come first.
    """

    name: str
    folder: Path
    snapshots: tuple[SnapshotInfo, ...] = ()
    files: tuple[FileRow, ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    redactions: tuple[RedactionRow, ...] = ()
    new_skips: frozenset[str] = frozenset()
    runs: tuple[RunRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    trends: tuple[tuple[EvaluationRow, ...], ...] = ()

    @property
    def served(self) -> SnapshotInfo | None:
        """The served snapshot, or None when nothing has been published."""
        return next((one for one in self.snapshots if one.served), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """What one answers table holds.

    Attributes:
        name: The flow's name, or the file's.
        answers: Where the rows are.
        rows: In the questions' order; rows of a run under way come last.
        unasked: Number of questions without a row; None where the questions are not known.
    """

    name: str
    answers: DataTable
    rows: tuple[dict[str, Any], ...] = ()
    unasked: int | None = None


def read_index(name: str, folder: Path) -> IndexFacts:
    """Read an index folder; one that does not exist yet has no facts.

    Raises:
        StoreFormatError: A foreign or too new file stands there.
        StoreBusyError: Other processes kept the history busy for seconds.
        StoreError: The index is damaged.
    """
    index = IndexFolder(folder)
    snapshots = list_snapshots(folder)
    runs = list_runs(index, limit=RUNS)
    served = next((one for one in snapshots if one.served), None)
    catalogue = read_kept(index, served.generation) if served else None
    return IndexFacts(
        name=name,
        folder=folder,
        snapshots=snapshots,
        files=catalogue.files if catalogue else (),
        skipped=catalogue.skipped if catalogue else (),
        redactions=catalogue.redactions if catalogue else (),
        new_skips=_new_skips(index, snapshots, catalogue),
        runs=runs,
        failures=list_failures(index, runs),
        trends=_comparable(list_evaluations(index, limit=_EVALUATIONS)),
    )


def _new_skips(
    index: IndexFolder, snapshots: Sequence[SnapshotInfo], served: Catalogue | None
) -> frozenset[str]:
    """Return what the served snapshot leaves out and the one before it, if it is kept, did not."""
    if served is None:
        return frozenset()
    older = [one.generation for one in snapshots if one.generation < int(served.meta["generation"])]
    if not older:
        return frozenset()
    before = {(one.path, one.reason) for one in read_kept(index, max(older)).skipped}
    return frozenset(one.path for one in served.skipped if (one.path, one.reason) not in before)


def _comparable(rows: tuple[EvaluationRow, ...]) -> tuple[tuple[EvaluationRow, ...], ...]:
    """Group evaluations of the same rag by the same queries."""

    def key(row: EvaluationRow) -> tuple[str, str]:
        return row.rag, row.queries_fingerprint

    by_time = sorted((row for row in rows if row.metrics), key=lambda row: row.started)
    groups = [tuple(group) for _, group in groupby(sorted(by_time, key=key), key)]
    return tuple(sorted(groups, key=lambda group: group[-1].started, reverse=True))


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
    """Read an answers table without its config.

    Raises:
        StoreError: It is missing or empty, holds something else, or cannot be read.
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
    return tuple(_with_metrics(row) for row in latest.values())


def _with_metrics(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with its metrics, which a run adds only when it ends."""
    if isinstance(row.get("metrics"), dict):
        return row
    return {**row, "metrics": measure_answer(row, row.get("expected"))}
