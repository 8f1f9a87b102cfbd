"""Evaluate a rag of a config and check thresholds, before a snapshot is published or after.

A candidate is compared with the served snapshot, the served snapshot with the last evaluation of
the same queries.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from merganser.config.rag_definition import resolve_rag
from merganser.errors import NoSnapshotError, PlanError, SnapshotMismatchError
from merganser.evaluation.queries import read_queries
from merganser.evaluation.rag_evaluation import evaluate
from merganser.retrieval import MANY_QUERIES
from merganser.retrieval.opening import open_retrievers
from merganser.store.evaluations import (
    EvaluationRow,
    MetricRow,
    QueryRow,
    list_evaluations,
    record_evaluation,
)
from merganser.store.folder import IndexFolder
from merganser.store.reader import open_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_evaluation import ThresholdSpec
    from merganser.evaluation.queries import QuerySet
    from merganser.evaluation.rag_evaluation import Evaluation, Figure
    from merganser.retrieval.opening import FindModel
    from merganser.store.evaluations import EvaluationKind
    from merganser.store.reader import Snapshot

    OpensIndex = Callable[[IndexDefinition], Snapshot]

_EXACT = 1e-9
"""Means of the same values in another order differ by this much, and that is no drop."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What an evaluation is compared with.

    Attributes:
        title: What it is, to be read after "against": ``the served snapshot 3``.
        values: By the metric's name.
    """

    title: str
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric with its threshold.

    Attributes:
        threshold: What it must reach.
        figure: What it is.
        baseline: What it was; None where there is nothing to compare with.
        problem: What it falls short of and by how much; empty when it does not.
    """

    threshold: ThresholdSpec
    figure: Figure
    baseline: float | None
    problem: str

    def as_row(self) -> MetricRow:
        """Return it as the history keeps it."""
        figure, threshold = self.figure, self.threshold
        return MetricRow(
            str(figure.metric),
            figure.value,
            figure.low,
            figure.high,
            baseline=self.baseline,
            min=threshold.min,
            max_drop=threshold.max_drop,
            problem=self.problem,
        )


@dataclass(frozen=True, slots=True)
class Assessment:
    """An evaluation with a verdict on each threshold.

    Attributes:
        evaluation: The figures.
        verdicts: One per threshold.
        baseline: What it was compared with, or None.
        notes: Why there was nothing to compare with, and the evaluation's own notes.
    """

    evaluation: Evaluation
    verdicts: tuple[Verdict, ...]
    _: KW_ONLY
    baseline: Baseline | None = None
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What falls short; empty when all thresholds hold."""
        return tuple(verdict.problem for verdict in self.verdicts if verdict.problem)

    @property
    def passed(self) -> bool:
        """Whether all thresholds hold."""
        return not self.problems


def check_thresholds(
    evaluation: Evaluation,
    thresholds: Sequence[ThresholdSpec],
    baseline: Baseline | None,
    *,
    notes: Sequence[str] = (),
) -> Assessment:
    """Compare the figures of an evaluation with thresholds.

    Without a baseline every ``max_drop`` holds; ``min`` is still required.

    Args:
        evaluation: Has a figure for each threshold's metric.
        thresholds: What must be reached.
        baseline: What ``max_drop`` counts from.
        notes: Added to the evaluation's.
    """
    figures = {figure.metric: figure for figure in evaluation.figures}
    return Assessment(
        evaluation,
        tuple(_check(figures[one.metric], one, baseline) for one in thresholds),
        baseline=baseline,
        notes=(*evaluation.notes, *notes),
    )


def _check(figure: Figure, threshold: ThresholdSpec, baseline: Baseline | None) -> Verdict:
    before = baseline.values.get(str(figure.metric)) if baseline else None
    value = figure.value
    problem = ""
    if threshold.min is not None and value < threshold.min - _EXACT:
        short = threshold.min - value
        problem = f"{figure.metric} is {value:.4f}, {short:.4f} below the least, {threshold.min}"
    elif (
        threshold.max_drop is not None
        and before is not None
        and baseline is not None
        and before - value > threshold.max_drop + _EXACT
    ):
        problem = (
            f"{figure.metric} is {value:.4f}, {before - value:.4f} below the {before:.4f} of "
            f"{baseline.title}, and may fall by {threshold.max_drop}"
        )
    return Verdict(threshold, figure, before, problem)


async def assess_candidate(
    config: Config,
    rag: str,
    queries: Path,
    thresholds: Sequence[ThresholdSpec],
    *,
    find_model: FindModel,
    open_index: OpensIndex,
) -> Assessment:
    """Check a snapshot that is not published yet, compared with the served one.

    Both are searched with the config as it is now, so that only the snapshots differ. Where another
    model embedded the served one, its own evaluation at the time is taken, if there is one.

    Args:
        config: With the rag.
        rag: Its name.
        queries: The query set's file.
        thresholds: What must be reached.
        find_model: Finds the models.
        open_index: Opens what is to be published, and the served snapshot of what did not change.

    Raises:
        SpecErrors: The queries cannot be read.
        MerganserError: As for ``evaluate``.
    """
    subject = _Subject(config, rag, read_queries(queries), thresholds, find_model)
    return await subject.compare_with_served(open_index)


async def assess_published(
    config: Config,
    rag: str,
    queries: Path,
    thresholds: Sequence[ThresholdSpec],
    *,
    find_model: FindModel,
    generation: int | None = None,
) -> Assessment:
    """Check the served snapshot, compared with the last evaluation, or a kept one with the served.

    Args:
        config: With the rag.
        rag: Its name.
        queries: The query set's file.
        thresholds: What must be reached.
        find_model: Finds the models.
        generation: A kept snapshot, or None for the served one.

    Raises:
        SpecErrors: The queries cannot be read.
        NoSnapshotError: Nothing has been indexed, or that snapshot is not kept.
        PlanError: A snapshot is named and the rag has several indexes.
        MerganserError: As for ``evaluate``.
    """
    subject = _Subject(config, rag, read_queries(queries), thresholds, find_model)
    if generation is None:
        return check_thresholds(await subject.evaluate(), thresholds, subject.last())
    indexes = resolve_rag(config, rag).indexes
    if len(indexes) > 1:
        names = ", ".join(repr(index.name) for index in indexes)
        raise PlanError(
            f"the rag {rag!r} has several indexes ({names}), whose snapshots are numbered apart; "
            "`merganser rollback` to the snapshot, evaluate, and roll back again"
        )

    def open_kept(index: IndexDefinition) -> Snapshot:
        return open_snapshot(index.folder, generation=generation)

    return await subject.compare_with_served(open_kept)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is evaluated: a rag, with the queries and thresholds for it."""

    config: Config
    rag: str
    queries: QuerySet
    thresholds: Sequence[ThresholdSpec]
    find_model: FindModel

    async def evaluate(self, open_index: OpensIndex | None = None) -> Evaluation:
        """Evaluate the snapshots that are opened, the served ones by default."""
        metrics = list(dict.fromkeys(threshold.metric for threshold in self.thresholds))
        resident = len(self.queries.queries) >= MANY_QUERIES
        async with open_retrievers(
            self.config, [self.rag], self.find_model, resident=resident, open_index=open_index
        ) as retrievers:
            return await evaluate(retrievers[self.rag], self.queries, metrics)

    async def compare_with_served(self, open_index: OpensIndex) -> Assessment:
        """Check the snapshots that are opened, with the served ones as the baseline."""
        evaluation = await self.evaluate(open_index)
        baseline, note = await self._served()
        notes = [note] if note else []
        return check_thresholds(evaluation, self.thresholds, baseline, notes=notes)

    async def _served(self) -> tuple[Baseline | None, str]:
        """Evaluate the served snapshot, or say why it cannot be compared with."""
        try:
            found = await self.evaluate()
        except NoSnapshotError:
            return None, "nothing was served before: there is nothing to compare with"
        except SnapshotMismatchError:
            return self._recorded()
        values = {str(figure.metric): figure.value for figure in found.figures}
        return Baseline(f"the served snapshot {_generations(found.snapshots)}", values), ""

    def _recorded(self) -> tuple[Baseline | None, str]:
        """Find the evaluation that the served snapshot had when its model was in use."""
        with ExitStack() as stack:
            served = {
                index.name: stack.enter_context(open_snapshot(index.folder))
                for index in resolve_rag(self.config, self.rag).indexes
            }
            generations = {name: snapshot.generation for name, snapshot in served.items()}
            runs = {name: snapshot.meta.get("run_id", "") for name, snapshot in served.items()}
        snapshot = f"the served snapshot {_generations(generations)}"
        why = f"another model embedded {snapshot}"
        for row in self._history():
            if row.snapshots == _identity(generations, runs):
                title = f"{snapshot} on {row.started:%Y-%m-%d}"
                return Baseline(title, row.values), f"{why}; its own evaluation stands for it"
        return None, f"{why}, and these queries were not evaluated then: there is no comparison"

    def last(self) -> Baseline | None:
        """Find the last evaluation of the same queries that was not a gate."""
        for row in self._history():
            if row.kind == "evaluate":
                return Baseline(f"the evaluation of {row.started:%Y-%m-%d %H:%M} UTC", row.values)
        return None

    def _history(self) -> tuple[EvaluationRow, ...]:
        folder = _history_folder(self.config, self.rag)
        return list_evaluations(folder, rag=self.rag, queries=self.queries.fingerprint, limit=100)


def record(config: Config, assessment: Assessment, *, kind: EvaluationKind, flow: str) -> None:
    """Write an evaluation into the history of the rag's first index.

    Raises:
        StoreError: It cannot be written.
    """
    evaluation = assessment.evaluation
    row = EvaluationRow(
        evaluation_id=f"{evaluation.started:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}",
        kind=kind,
        flow=flow,
        rag=evaluation.rag,
        started=evaluation.started,
        finished=evaluation.started + timedelta(seconds=evaluation.seconds),
        snapshots=_identity(evaluation.snapshots, evaluation.runs),
        queries_file=str(evaluation.queries.path),
        queries_fingerprint=evaluation.queries.fingerprint,
        queries=len(evaluation.results),
        failed=len(evaluation.failed),
        stale=len(evaluation.stale),
        passed=assessment.passed,
        baseline=assessment.baseline.title if assessment.baseline else "",
        metrics=tuple(verdict.as_row() for verdict in assessment.verdicts),
        results=tuple(
            QueryRow(
                query_id=result.query.id,
                query=result.query.query,
                labels=len(result.query.labels),
                missed=len(result.missed),
                stale=len(result.stale),
                first_rank=result.first or 0,
                error=result.error,
                seconds=result.seconds,
                values={str(metric): value for metric, value in result.values.items()},
            )
            for result in evaluation.results
        ),
    )
    record_evaluation(_history_folder(config, evaluation.rag), row)


def earlier(config: Config, evaluation: Evaluation, *, limit: int = 20) -> list[EvaluationRow]:
    """Return the recorded evaluations that can be compared with this one, oldest first."""
    rows = list_evaluations(
        _history_folder(config, evaluation.rag),
        rag=evaluation.rag,
        queries=evaluation.queries.fingerprint,
        limit=limit,
    )
    return list(reversed(rows))


def _history_folder(config: Config, rag: str) -> IndexFolder:
    return IndexFolder(resolve_rag(config, rag).indexes[0].folder)


def _identity(generations: Mapping[str, int], runs: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={number}@{runs[name]}" for name, number in generations.items())


def _generations(snapshots: Mapping[str, int]) -> str:
    return "+".join(str(number) for number in snapshots.values())
