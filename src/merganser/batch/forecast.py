"""Say what a batch would ask and what that would cost, from what earlier answers took."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from merganser.agent.agent_definition import describe_agent
from merganser.batch.journal import earlier_rows, tokens_of
from merganser.batch.questions import read_questions
from merganser.batch.selection import ANSWERED, plan_batch
from merganser.batch.snapshots import snapshots_of
from merganser.config.flow_definition import batch_concurrency

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.batch.selection import Selection
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.load import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchForecast:
    """What a batch run would do.

    Attributes:
        questions: In the table.
        chosen: Of them, those selected for this run.
        kept: Chosen ones that an earlier run answered.
        to_ask: Turns: equal questions are asked once.
        model: Who answers.
        concurrency: Turns at a time.
        input_tokens: Of all turns, or None when no earlier answer tells.
        output_tokens: Likewise.
        seconds: Wall time, likewise.
        output: Where the answers would go.
    """

    questions: int
    chosen: int
    kept: int
    to_ask: int
    model: str
    concurrency: int
    input_tokens: int | None
    output_tokens: int | None
    seconds: float | None
    output: str

    def to_json(self) -> dict[str, Any]:
        """Give plain data for ``--json``."""
        return {name: getattr(self, name) for name in self.__slots__}

    def lines(self) -> Iterator[str]:
        """Say it for people."""
        yield f"{self.questions} questions, {self.chosen} chosen, {self.kept} answered already"
        yield f"{self.to_ask} to ask {self.model}, {self.concurrency} at a time"
        if self.seconds is None:
            yield "cost: unknown until a first answer tells; try --limit 5"
        elif self.to_ask:
            yield (
                f"cost: about {self.input_tokens:,} tokens in, {self.output_tokens:,} out, "
                f"{self.seconds:,.0f} s, going by earlier answers"
            )
        yield f"answers: {self.output}"


def forecast_batch(config: Config, flow: BatchFlow, selection: Selection) -> BatchForecast:
    """Find out what a batch run would do; no model is asked and nothing is written.

    Raises:
        SpecErrors: The questions cannot be read.
        PlanError: Something else stands where the answers should go.
        NoSnapshotError: A rag of the agent has not been indexed yet.
    """
    agent = describe_agent(config, flow.agent)
    rows = earlier_rows(flow.output)
    plan = plan_batch(
        read_questions(flow.input),
        rows,
        config=config.fingerprint,
        snapshot=snapshots_of(config, [rag.name for rag in agent.rags]),
        selection=selection,
    )
    answered = [row for row in rows if row.get("outcome") == ANSWERED]
    places = batch_concurrency(config, flow)

    def total(values: list[float]) -> float | None:
        return fmean(values) * plan.to_ask if values else None

    tokens_in = total([tokens_of(row)[0] for row in answered])
    tokens_out = total([tokens_of(row)[1] for row in answered])
    seconds = total([float(row.get("seconds") or 0) for row in answered])
    return BatchForecast(
        questions=len(plan.questions),
        chosen=len(plan.chosen),
        kept=sum(plan.keys[name] in plan.kept for name in plan.chosen),
        to_ask=plan.to_ask,
        model=agent.model.model,
        concurrency=places,
        input_tokens=None if tokens_in is None else round(tokens_in),
        output_tokens=None if tokens_out is None else round(tokens_out),
        # A row's seconds hold its waiting for a slot, which all places share.
        seconds=None if seconds is None else seconds / places,
        output=str(flow.output),
    )
