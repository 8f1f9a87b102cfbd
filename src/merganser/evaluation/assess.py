"""Evaluate a rag of a config: a snapshot that is not published yet, the served one, or a kept one.

What an evaluation is compared with is found here too: the served snapshot for a candidate, and the
last evaluation of the same queries for the served one.
"""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from merganser.config.resolve import resolve_rag
from merganser.errors import NoSnapshotError, PlanError, SnapshotMismatchError
from merganser.evaluation.compare import Assessment, Baseline, hold
from merganser.evaluation.queries import read_queries
from merganser.evaluation.rag_evaluation import Evaluation, evaluate
from merganser.retrieval import MANY_QUERIES
from merganser.retrieval.opening import open_retrievers
from merganser.store import (
    EvaluationRow,
    IndexFolder,
    MetricRow,
    QueryRow,
    list_evaluations,
    open_snapshot,
    record_evaluation,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from merganser.config.definitions import IndexDefinition, Threshold
    from merganser.config.load import Config
    from merganser.config.metric import Metric
    from merganser.evaluation.queries import QuerySet
    from merganser.retrieval.opening import FindModel
    from merganser.store import EvaluationKind, Snapshot

    OpensIndex = Callable[[IndexDefinition], Snapshot]


async def assess_candidate(
    config: Config,
    rag: str,
    queries: Path,
    thresholds: Sequence[Threshold],
    *,
    find_model: FindModel,
    open_index: OpensIndex,
) -> Assessment:
    """Hold a snapshot that is not published yet against its thresholds and the served one.

    Both are searched with the config as it is now, so that only the snapshots differ. Where another
    model embedded the served one, its own evaluation at the time is taken, if there is one.

    Args:
        config: With the rag.
        rag: Its name.
        queries: The query set's file.
        thresholds: What must be reached.
        find_model: Where models are.
        open_index: Opens what is to be published, and the served snapshot of what did not change.

    Raises:
        SpecErrors: The queries cannot be read.
        MerganserError: As for ``evaluate``.
    """
    asked = read_queries(queries)
    metrics = _metrics(thresholds)
    candidate = await _evaluate(
        config, rag, asked, metrics, find_model=find_model, open_index=open_index
    )
    baseline, note = await _served(config, rag, asked, metrics, find_model)
    return hold(candidate, thresholds, baseline, notes=[note] if note else [])


async def assess_published(
    config: Config,
    rag: str,
    queries: Path,
    thresholds: Sequence[Threshold],
    *,
    find_model: FindModel,
    generation: int | None = None,
) -> Assessment:
    """Hold the served snapshot against the last evaluation, or a kept one against the served one.

    Args:
        config: With the rag.
        rag: Its name.
        queries: The query set's file.
        thresholds: What must be reached.
        find_model: Where models are.
        generation: A kept snapshot, or None for the served one.

    Raises:
        SpecErrors: The queries cannot be read.
        NoSnapshotError: Nothing has been indexed, or that snapshot is not kept.
        PlanError: A snapshot is named and the rag has several indexes.
        MerganserError: As for ``evaluate``.
    """
    asked = read_queries(queries)
    metrics = _metrics(thresholds)
    if generation is None:
        current = await _evaluate(
            config, rag, asked, metrics, find_model=find_model, open_index=_open_served
        )
        return hold(current, thresholds, _last(config, rag, asked))
    indexes = resolve_rag(config, rag).indexes
    if len(indexes) > 1:
        names = ", ".join(repr(index.name) for index in indexes)
        raise PlanError(
            f"the rag {rag!r} has several indexes ({names}), whose snapshots are numbered apart; "
            "`merganser rollback` to the snapshot, evaluate, and roll back again"
        )

    def open_kept(index: IndexDefinition) -> Snapshot:
        return open_snapshot(index.folder, generation=generation)

    kept = await _evaluate(config, rag, asked, metrics, find_model=find_model, open_index=open_kept)
    baseline, note = await _served(config, rag, asked, metrics, find_model)
    return hold(kept, thresholds, baseline, notes=[note] if note else [])


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
        metrics=tuple(
            MetricRow(
                str(one.figure.metric),
                one.figure.value,
                one.figure.low,
                one.figure.high,
                baseline=one.baseline,
                min=one.threshold.min,
                max_drop=one.threshold.max_drop,
                problem=one.problem,
            )
            for one in assessment.verdicts
        ),
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
    record_evaluation(_home(config, evaluation.rag), row)


def earlier(config: Config, evaluation: Evaluation, *, limit: int = 20) -> list[EvaluationRow]:
    """Give the recorded evaluations that can be compared with this one, oldest first."""
    rows = list_evaluations(
        _home(config, evaluation.rag),
        rag=evaluation.rag,
        queries=evaluation.queries.fingerprint,
        limit=limit,
    )
    return list(reversed(rows))


async def _evaluate(
    config: Config,
    rag: str,
    queries: QuerySet,
    metrics: Sequence[Metric],
    *,
    find_model: FindModel,
    open_index: OpensIndex,
) -> Evaluation:
    resident = len(queries.queries) >= MANY_QUERIES
    async with open_retrievers(
        config, [rag], find_model, resident=resident, open_index=open_index
    ) as retrievers:
        return await evaluate(retrievers[rag], queries, metrics)


async def _served(
    config: Config, rag: str, queries: QuerySet, metrics: Sequence[Metric], find_model: FindModel
) -> tuple[Baseline | None, str]:
    """Evaluate the served snapshot, or say why it cannot be compared with."""
    try:
        found = await _evaluate(
            config, rag, queries, metrics, find_model=find_model, open_index=_open_served
        )
    except NoSnapshotError:
        return None, "nothing was served before: there is nothing to compare with"
    except SnapshotMismatchError:
        return _recorded(config, rag, queries)
    values = {str(figure.metric): figure.value for figure in found.figures}
    return Baseline(f"the served snapshot {_generations(found.snapshots)}", values), ""


def _recorded(config: Config, rag: str, queries: QuerySet) -> tuple[Baseline | None, str]:
    """Find the evaluation that the served snapshot had when its model was in use."""
    with ExitStack() as stack:
        served = {
            index.name: stack.enter_context(_open_served(index))
            for index in resolve_rag(config, rag).indexes
        }
        generations = {name: snapshot.generation for name, snapshot in served.items()}
        runs = {name: snapshot.meta.get("run_id", "") for name, snapshot in served.items()}
    why = f"another model embedded the served snapshot {_generations(generations)}"
    rows = list_evaluations(_home(config, rag), rag=rag, queries=queries.fingerprint, limit=100)
    for row in rows:
        if row.snapshots == _identity(generations, runs):
            title = f"the served snapshot {_generations(generations)} on {row.started:%Y-%m-%d}"
            return Baseline(title, row.values), f"{why}; its own evaluation stands for it"
    return None, f"{why}, and these queries were not evaluated then: there is no comparison"


def _last(config: Config, rag: str, queries: QuerySet) -> Baseline | None:
    rows = list_evaluations(_home(config, rag), rag=rag, queries=queries.fingerprint, limit=100)
    for row in rows:
        if row.kind == "evaluate":
            return Baseline(f"the evaluation of {row.started:%Y-%m-%d %H:%M} UTC", row.values)
    return None


def _open_served(index: IndexDefinition) -> Snapshot:
    return open_snapshot(index.folder)


def _home(config: Config, rag: str) -> IndexFolder:
    return IndexFolder(resolve_rag(config, rag).indexes[0].folder)


def _metrics(thresholds: Sequence[Threshold]) -> list[Metric]:
    return list(dict.fromkeys(threshold.metric for threshold in thresholds))


def _identity(generations: Mapping[str, int], runs: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={number}@{runs[name]}" for name, number in generations.items())


def _generations(snapshots: Mapping[str, int]) -> str:
    return "+".join(str(number) for number in snapshots.values())
