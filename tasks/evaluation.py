"""Tasks that evaluate: a snapshot before it is published, and what is served.

Each leaves its figures in the history and as artifacts of the run before it fails, so that what
failed can be looked at.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prefect import get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from merganser.config.rag_definition import resolve_rag
from merganser.documents.skipping import NAMED_FILES
from merganser.errors import QualityError, StoreError
from merganser.evaluation.assess import (
    Assessment,
    assess_candidate,
    assess_published,
    earlier,
    record,
)
from merganser.evaluation.present import (
    assessment_lines,
    assessment_markdown,
    failure_lines,
    query_table,
)
from merganser.humanize import visible_name
from merganser.store.catalogue import RedactionRow
from merganser.store.reader import open_snapshot
from merganser.tasks.artifacts import artifact_key
from merganser.tasks.options import MODEL_TASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.config.flow_definition import EvaluateFlow, Gate
    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.indexing.build import BuiltSnapshot
    from merganser.retrieval.opening import FindModel
    from merganser.store.evaluations import EvaluationKind, EvaluationRow
    from merganser.store.reader import Snapshot

    Candidates = Mapping[str, BuiltSnapshot]


@task(**MODEL_TASK, task_run_name="gate {rag}")
def check_gate(
    config: Config,
    flow: str,
    rag: str,
    gate: Gate,
    *,
    candidates: Candidates,
    find_model: FindModel,
) -> Assessment:
    """Check the built snapshots of a rag against a gate.

    Args:
        config: With the rag.
        flow: Name of the flow that would publish.
        rag: Its name.
        gate: Queries and what they must reach.
        candidates: What was built, by the index's name; an index that did not change has none.
        find_model: Where models are.

    Raises:
        QualityError: It fails; the message says what, by how much, and the worst queries.
        SpecErrors: The queries cannot be read.
        MerganserError: The rag cannot be searched.
    """
    assessment = asyncio.run(
        assess_candidate(
            config,
            rag,
            gate.queries,
            gate.thresholds,
            find_model=find_model,
            open_index=lambda index: _open(index, candidates),
        )
    )
    _show(config, assessment, kind="gate", flow=flow, title=f"Gate of `{rag}`")
    if not assessment.passed:
        lines = "\n".join(failure_lines(assessment))
        raise QualityError(
            f"the gate of {rag!r} failed; nothing is published, what was served stays:\n{lines}"
        )
    return assessment


def _open(index: IndexDefinition, candidates: Candidates) -> Snapshot:
    built = candidates.get(index.name)
    return built.open() if built else open_snapshot(index.folder)


@task(**MODEL_TASK, task_run_name="count secrets {rag}")
def check_secrets(config: Config, rag: str, most: int, *, candidates: Candidates) -> int:
    """Count the secrets that were found in the files of a rag's built snapshots.

    Args:
        config: With the rag.
        rag: Its name.
        most: How many there may be.
        candidates: What was built, by the index's name; an index that did not change has none.

    Raises:
        QualityError: There are more; the message says where the first of them are.
        StoreError: A snapshot cannot be read.
    """
    found = set[RedactionRow]()
    for index in resolve_rag(config, rag).indexes:
        with _open(index, candidates) as snapshot:
            found.update(snapshot.redactions())
    if len(found) > most:
        places = sorted((row.path, row.line, row.kind) for row in found)
        named = [f"{visible_name(path)}:{line}: {kind}" for path, line, kind in places]
        more = [f"and {len(found) - NAMED_FILES:,} more"] if len(found) > NAMED_FILES else []
        lines = "\n".join(f"  {line}" for line in (*named[:NAMED_FILES], *more))
        raise QualityError(
            f"the gate of {rag!r} failed; nothing is published, what was served stays:\n"
            f"secrets in its files: {len(found):,}, allowed: {most:,}\n{lines}"
        )
    return len(found)


@task(**MODEL_TASK, task_run_name="evaluate {rag}")
def evaluate_rag(
    config: Config, flow: EvaluateFlow, rag: str, generation: int | None, find_model: FindModel
) -> Assessment:
    """Evaluate a rag and check its thresholds; the caller decides what a failure means.

    Args:
        config: With the rag.
        flow: Queries and thresholds.
        rag: Its name.
        generation: A kept snapshot, or None for the served one.
        find_model: Where models are.

    Raises:
        SpecErrors: The queries cannot be read.
        NoSnapshotError: Nothing has been indexed, or that snapshot is not kept.
        MerganserError: The rag cannot be searched.
    """
    assessment = asyncio.run(
        assess_published(
            config,
            rag,
            flow.queries,
            flow.spec.metrics,
            find_model=find_model,
            generation=generation,
        )
    )
    title = f"Evaluation of `{rag}`"
    if generation is not None:
        # A look back is no new state of affairs: it stays out of history and trend.
        _publish(assessment, title, "evaluation", ())
    else:
        _show(config, assessment, kind="evaluate", flow=flow.name, title=title)
    return assessment


def _show(
    config: Config, assessment: Assessment, *, kind: EvaluationKind, flow: str, title: str
) -> None:
    """Write the history and leave the artifacts; neither must hide what was found."""
    trend: list[EvaluationRow] = []
    try:
        record(config, assessment, kind=kind, flow=flow)
        trend = earlier(config, assessment.evaluation)
    except StoreError as error:
        get_run_logger().warning("could not write the evaluation's history: %s", error)
    _publish(assessment, title, "gate" if kind == "gate" else "evaluation", trend)


def _publish(
    assessment: Assessment, title: str, kind: str, trend: list[EvaluationRow] | tuple[()]
) -> None:
    rag = assessment.evaluation.rag
    for line in assessment_lines(assessment):
        get_run_logger().info(line)
    state = "passed" if assessment.passed else "failed"
    create_markdown_artifact(
        assessment_markdown(assessment, title, trend),
        key=artifact_key(kind, rag),
        description=f"{title.replace('`', '')}: {state}",
    )
    create_table_artifact(
        query_table(assessment),
        key=artifact_key(f"{kind}-queries", rag),
        description=f"Queries of {rag}, the worst first",
    )
