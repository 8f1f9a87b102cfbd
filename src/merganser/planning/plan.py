"""What a flow will do, as data: an ordered tuple of stages.

The same config and flow give the same plan, with the same fingerprint. Two modules read the
stages, both by ``match`` over the closed union ``Stage``, so that a type checker finds a forgotten
case: ``merganser.planning.explain`` tells them, ``merganser.flows.execute`` runs them.

What only the run can know (which models are local, how many shards there are) is not in the plan.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from merganser.config.flow_definition import (
    AskFlow,
    BatchFlow,
    EvaluateFlow,
    FlowDefinition,
    Gate,
    IndexFlow,
    models_of_flow,
    rags_of_flow,
)
from merganser.config.rag_definition import resolve_rag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.config.index_definition import IndexDefinition
    from merganser.config.load import Config
    from merganser.config.spec_flows import RunnerSpec
    from merganser.models.ref import ModelUse


@dataclass(frozen=True, slots=True)
class CheckModel:
    """Ask the server whether a model is local.

    Attributes:
        use: The model with the role in which it is needed.
    """

    use: ModelUse


@dataclass(frozen=True, slots=True)
class PullModel:
    """Pull a model that is missing, by the policy of the run.

    Attributes:
        use: The model with the role in which it is needed.
    """

    use: ModelUse


@dataclass(frozen=True, slots=True)
class ConfigureModel:
    """Set context size, flags and draft model for the role, load the model and test its output.

    Attributes:
        use: The model with the role in which it is needed.
    """

    use: ModelUse


@dataclass(frozen=True, slots=True)
class SurveySources:
    """Find what was added, changed, moved and removed since the served snapshot.

    Attributes:
        index: The index whose sources are scanned.
    """

    index: IndexDefinition


@dataclass(frozen=True, slots=True)
class EmbedShards:
    """Chunk the changed files and embed the texts that no snapshot has had yet, shard by shard.

    Attributes:
        index: The index that the shards belong to.
        runner: What embeds them in other processes, or None for threads of the run.
        workers: Shards embedded at a time, or None for the default.
    """

    index: IndexDefinition
    runner: RunnerSpec | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class BuildSnapshot:
    """Write a new snapshot beside the served one.

    Attributes:
        index: The index it belongs to.
    """

    index: IndexDefinition


@dataclass(frozen=True, slots=True)
class EvaluateSnapshot:
    """Evaluate the built snapshots of a rag; when the gate fails, nothing is published.

    Attributes:
        rag: Its name.
        gate: Queries and what they must reach.
    """

    rag: str
    gate: Gate


@dataclass(frozen=True, slots=True)
class CountSecrets:
    """Count the secrets in the files of a rag; when they are too many, nothing is published.

    Attributes:
        rag: Its name.
        most: How many there may be.
    """

    rag: str
    most: int


@dataclass(frozen=True, slots=True)
class PublishSnapshot:
    """Switch readers to the new snapshot in one step, and delete snapshots that are not kept.

    Attributes:
        index: The index it belongs to.
        keep_snapshots: How many are kept, the new one included.
    """

    index: IndexDefinition
    keep_snapshots: int


@dataclass(frozen=True, slots=True)
class TakeTurn:
    """Let an agent answer one question.

    Attributes:
        agent: Its name.
        rags: Names of the rags it may search.
    """

    agent: str
    rags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerQuestions:
    """Let an agent answer a file of questions, shard by shard.

    Attributes:
        flow: The batch flow with input, output and concurrency.
        rags: Names of the rags the agent may search.
    """

    flow: BatchFlow
    rags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluateRag:
    """Measure how well a rag finds what it should.

    Attributes:
        flow: The flow with queries and thresholds.
        rag: Its name.
    """

    flow: EvaluateFlow
    rag: str


Stage = (
    CheckModel
    | PullModel
    | ConfigureModel
    | SurveySources
    | EmbedShards
    | BuildSnapshot
    | CountSecrets
    | EvaluateSnapshot
    | PublishSnapshot
    | EvaluateRag
    | TakeTurn
    | AnswerQuestions
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What one flow does.

    Attributes:
        flow: The flow's definition.
        stages: In the order in which they run.
        fingerprint: Hex digest; equal for equal configs and flows.
    """

    flow: FlowDefinition
    stages: tuple[Stage, ...]
    fingerprint: str


def build_plan(config: Config, flow: FlowDefinition) -> Plan:
    """Return the plan of one flow; the same config and flow give an equal plan.

    Args:
        config: The loaded config.
        flow: One of ``resolve_flows(config)``.
    """
    stages = tuple(_stages(config, flow))
    text = f"{config.fingerprint}\n{flow!r}\n{stages!r}"
    return Plan(flow, stages, hashlib.sha256(text.encode()).hexdigest())


def _stages(config: Config, flow: FlowDefinition) -> Iterator[Stage]:
    for use in models_of_flow(config, flow):
        yield CheckModel(use)
        yield PullModel(use)
        yield ConfigureModel(use)
    rags = rags_of_flow(config, flow)
    match flow:
        case IndexFlow():
            yield from _index_stages(config, flow)
        case EvaluateFlow():
            for rag in rags:
                yield EvaluateRag(flow, rag)
        case AskFlow():
            yield TakeTurn(flow.agent, rags)
        case BatchFlow():
            yield AnswerQuestions(flow, rags)


def _index_stages(config: Config, flow: IndexFlow) -> Iterator[Stage]:
    """Yield index after index; with gates, all are built before any is published.

    A gate evaluates a rag, which may have several indexes.
    """
    indexes = tuple(
        replace(index, shards=flow.shards) for index in distinct_indexes(config, flow.rags)
    )
    gated = bool(flow.gates) or flow.max_secrets is not None
    for group in [indexes] if gated else [(index,) for index in indexes]:
        for index in group:
            yield SurveySources(index)
            yield EmbedShards(index, flow.spec.runner, flow.spec.concurrency)
            yield BuildSnapshot(index)
        if flow.max_secrets is not None:
            yield from (CountSecrets(rag, flow.max_secrets) for rag in flow.rags)
        for gate in flow.gates:
            yield from (EvaluateSnapshot(rag, gate) for rag in flow.rags)
        for index in group:
            yield PublishSnapshot(index, flow.spec.keep_snapshots)


def distinct_indexes(config: Config, rags: tuple[str, ...]) -> Iterator[IndexDefinition]:
    """Yield the indexes of some rags, each folder once."""
    seen = set[str]()
    for rag in rags:
        for index in resolve_rag(config, rag).indexes:
            if str(index.folder) not in seen:
                seen.add(str(index.folder))
                yield index
