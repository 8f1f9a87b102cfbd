"""Hold an evaluation against its thresholds, and against an earlier state of the index."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.definitions import Threshold
    from merganser.evaluation.rag_evaluation import Evaluation, Figure

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
    """One metric held against its threshold.

    Attributes:
        threshold: What it must reach.
        figure: What it is.
        baseline: What it was, or None where there is nothing to compare with.
        problem: What it falls short of and by how much, or "".
    """

    threshold: Threshold
    figure: Figure
    baseline: float | None
    problem: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """An evaluation with its verdicts.

    Attributes:
        evaluation: The figures.
        verdicts: One a threshold.
        baseline: What was compared with, or None.
        notes: Why there was nothing to compare with, and the evaluation's own notes.
    """

    evaluation: Evaluation
    verdicts: tuple[Verdict, ...]
    _: KW_ONLY
    baseline: Baseline | None = None
    notes: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What falls short; nothing when all holds."""
        return tuple(verdict.problem for verdict in self.verdicts if verdict.problem)

    @property
    def passed(self) -> bool:
        """Whether all thresholds hold."""
        return not self.problems


def hold(
    evaluation: Evaluation,
    thresholds: Sequence[Threshold],
    baseline: Baseline | None,
    *,
    notes: Sequence[str] = (),
) -> Assessment:
    """Hold an evaluation against thresholds.

    Where there is nothing to compare with, ``max_drop`` holds; the least value is still required.

    Args:
        evaluation: Has a figure for each threshold's metric.
        thresholds: What must be reached.
        baseline: What ``max_drop`` counts from.
        notes: Added to the evaluation's.
    """
    figures = {figure.metric: figure for figure in evaluation.figures}
    return Assessment(
        evaluation,
        tuple(_judge(figures[one.metric], one, baseline) for one in thresholds),
        baseline=baseline,
        notes=(*evaluation.notes, *notes),
    )


def _judge(figure: Figure, threshold: Threshold, baseline: Baseline | None) -> Verdict:
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
