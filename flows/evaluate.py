"""The stages that evaluate: gates of an index flow, and the rags of an evaluate flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.config.rag_definition import resolve_rag
from merganser.errors import QualityError
from merganser.evaluation.present import failure_lines
from merganser.tasks.evaluation import evaluate_rag, hold_gate
from merganser.tasks.options import submit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect.futures import PrefectFuture

    from merganser.config.flow_definition import EvaluateFlow, Gate
    from merganser.config.load import Config
    from merganser.evaluation.assess import Assessment
    from merganser.flows.index import IndexStages
    from merganser.flows.models import ModelStages


class EvaluationFailedError(QualityError):
    """An evaluation falls short of its thresholds.

    Attributes:
        assessments: All of the run, those that passed included.
    """

    def __init__(self, assessments: tuple[Assessment, ...]) -> None:
        self.assessments = assessments
        failed = [one for one in assessments if not one.passed]
        parts = [
            f"the evaluation of {one.evaluation.rag!r} failed:\n" + "\n".join(failure_lines(one))
            for one in failed
        ]
        super().__init__("\n".join(parts))


class EvaluationStages:
    """Evaluates within a flow run.

    Args:
        config: With the rags.
        models: What the earlier stages made ready.

    Attributes:
        assessments: What was evaluated so far.
    """

    def __init__(self, config: Config, models: ModelStages) -> None:
        self._config = config
        self._models = models
        self.assessments: tuple[Assessment, ...] = ()

    def hold_gate(
        self, flow: str, rag: str, gate: Gate, indexes: Mapping[str, IndexStages]
    ) -> list[PrefectFuture[Any]]:
        """Hold what was built for a rag against a gate.

        Args:
            flow: Name of the flow that would publish.
            rag: Its name.
            gate: Queries and what they must reach.
            indexes: The flow's indexes by name.

        Returns:
            The task, for publishing to come after it; none when nothing was built.

        Raises:
            QualityError: It fails; nothing must be published.
            MerganserError: The rag cannot be searched.
        """
        mine = [indexes[index.name] for index in resolve_rag(self._config, rag).indexes]
        candidates = {stages.name: stages.built for stages in mine if stages.built is not None}
        if not candidates:
            return []
        held = submit(
            hold_gate,
            self._config,
            flow,
            rag,
            gate,
            candidates=candidates,
            find_model=self._models.find,
            after=[task for stages in mine for task in stages.last],
        )
        self.assessments += (held.result(),)
        return [held]

    def evaluate(self, flow: EvaluateFlow, rag: str, generation: int | None) -> None:
        """Evaluate a rag of an evaluate flow.

        Args:
            flow: Queries and thresholds.
            rag: Its name.
            generation: A kept snapshot, or None for the served one.

        Raises:
            MerganserError: The rag cannot be searched.
        """
        evaluated = submit(
            evaluate_rag,
            self._config,
            flow,
            rag,
            generation,
            self._models.find,
            after=self._models.last,
        )
        self.assessments += (evaluated.result(),)

    def require(self) -> None:
        """Fail the run when a threshold was missed; the other rags were evaluated too.

        Raises:
            EvaluationFailedError: With all assessments.
        """
        if not all(one.passed for one in self.assessments):
            raise EvaluationFailedError(self.assessments)
