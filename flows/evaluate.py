"""The stages that evaluate: gates of an index flow, and the rags of an evaluate flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.config.rag_definition import resolve_rag
from merganser.errors import QualityError
from merganser.evaluation.present import failure_lines
from merganser.tasks.evaluation import check_gate, check_secrets, evaluate_rag
from merganser.tasks.options import submit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.futures import PrefectFuture

    from merganser.config.flow_definition import EvaluateFlow, Gate
    from merganser.config.load import Config
    from merganser.evaluation.assess import Assessment
    from merganser.flows.index import IndexStages
    from merganser.flows.models import ModelStages
    from merganser.indexing.build import BuiltSnapshot


class EvaluationFailedError(QualityError):
    """An evaluation falls short of its thresholds.

    Attributes:
        assessments: All assessments of the run, those that passed included.
    """

    def __init__(self, assessments: tuple[Assessment, ...]) -> None:
        self.assessments = assessments
        failed = [one for one in assessments if not one.passed]
        parts = [
            f"the evaluation of {one.evaluation.rag!r} failed:\n" + "\n".join(failure_lines(one))
            for one in failed
        ]
        super().__init__("\n".join(parts))


def check_built(
    config: Config,
    models: ModelStages,
    flow: str,
    rag: str,
    gate: Gate,
    *,
    indexes: Mapping[str, IndexStages],
) -> PrefectFuture[Assessment] | None:
    """Check what was built for a rag against a gate.

    Args:
        config: With the rag.
        models: What the earlier stages made ready.
        flow: Name of the flow that would publish.
        rag: Its name.
        gate: Queries and what they must reach.
        indexes: The flow's indexes by name.

    Returns:
        The task, for publishing to come after it; None when nothing was built.

    Raises:
        QualityError: It fails; nothing must be published.
        MerganserError: The rag cannot be searched.
    """
    mine, candidates = _built(config, rag, indexes)
    if not candidates:
        return None
    checked = submit(
        check_gate,
        config,
        flow,
        rag,
        gate,
        candidates=candidates,
        find_model=models.find,
        after=[task for stages in mine for task in stages.last],
    )
    checked.result()
    return checked


def count_secrets(
    config: Config, rag: str, most: int, *, indexes: Mapping[str, IndexStages]
) -> PrefectFuture[int] | None:
    """Count the secrets in the files of what was built for a rag.

    Args:
        config: With the rag.
        rag: Its name.
        most: How many there may be.
        indexes: The flow's indexes by name.

    Returns:
        The task, for publishing to come after it; None when nothing was built.

    Raises:
        QualityError: There are more; nothing must be published.
    """
    mine, candidates = _built(config, rag, indexes)
    if not candidates:
        return None
    after = [task for stages in mine for task in stages.last]
    counted = submit(check_secrets, config, rag, most, candidates=candidates, after=after)
    counted.result()
    return counted


def _built(
    config: Config, rag: str, indexes: Mapping[str, IndexStages]
) -> tuple[list[IndexStages], dict[str, BuiltSnapshot]]:
    """Return the indexes of a rag, and those snapshots that are not published yet by name."""
    mine = [indexes[index.name] for index in resolve_rag(config, rag).indexes]
    return mine, {stages.name: stages.built for stages in mine if stages.built is not None}


def evaluate(
    config: Config, models: ModelStages, flow: EvaluateFlow, rag: str, generation: int | None
) -> Assessment:
    """Evaluate a rag of an evaluate flow.

    Args:
        config: With the rag.
        models: What the earlier stages made ready.
        flow: Queries and thresholds.
        rag: Its name.
        generation: A kept snapshot, or None for the served one.

    Raises:
        MerganserError: The rag cannot be searched.
    """
    return submit(
        evaluate_rag, config, flow, rag, generation, models.find, after=models.last
    ).result()


def require_passed(assessments: tuple[Assessment, ...]) -> None:
    """Fail the run when a threshold was missed, after all rags were evaluated.

    Raises:
        EvaluationFailedError: With all assessments.
    """
    if not all(one.passed for one in assessments):
        raise EvaluationFailedError(assessments)
