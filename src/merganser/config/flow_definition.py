"""What a flow is once its paths and names are found, and which rags and models it needs."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.config.rag_definition import resolve_rag
from merganser.config.resolve_model import resolve_model, unknown_name
from merganser.config.spec_agents import RagToolset
from merganser.config.spec_evaluation import ThresholdSpec
from merganser.config.spec_flows import BatchFlowSpec, EvaluateFlowSpec, IndexFlowSpec, split_table
from merganser.errors import PlanError
from merganser.models.ref import ModelRef, ModelUse, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from merganser.config.load import Config
    from merganser.config.spec_evaluation import GateSpec
    from merganser.config.spec_flows import FlowSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a new snapshot must reach to be published.

    Attributes:
        queries: Absolute path of the queries with the passages that answer them (JSONL).
        thresholds: All must hold.
    """

    queries: Path
    thresholds: tuple[ThresholdSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFlow:
    """Bring indexes up to date.

    Attributes:
        name: As in the config, or ``index-<rag>``.
        spec: What the config says of it; the other attributes are resolved from it.
        rags: At least one.
        gates: Held for each rag before anything is published; one for each file of queries.
        max_secrets: How many secrets the files of a rag may hold to be published, or None.
        shards: Absolute folder or URL that keeps embedded shards for all machines, or None.
    """

    name: str
    spec: IndexFlowSpec
    rags: tuple[str, ...]
    gates: tuple[Gate, ...] = ()
    max_secrets: int | None = None
    shards: str | None = None


@dataclass(frozen=True, slots=True)
class DataTable:
    """Rows in a file: JSON Lines, CSV or Parquet by its ending, or a table of a DuckDB file.

    Attributes:
        path: Absolute.
        table: Name of the table in a DuckDB file; "" for the other kinds.
    """

    path: Path
    table: str = ""

    def __str__(self) -> str:
        """Return ``path`` or ``path#table``, as a config writes it."""
        return f"{self.path}#{self.table}" if self.table else str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFlow:
    """Answer a file of questions.

    Attributes:
        name: As in the config, or ``batch-<agent>``.
        spec: What the config says of it; the other attributes are resolved from it.
        agent: The agent that answers.
        input: Questions.
        output: Answers.
        judge: Model that judges groundedness and relevance; None for no judging.
        overwrite: What stands at ``output`` and is no answers of a batch may go.
    """

    name: str
    spec: BatchFlowSpec
    agent: str
    input: DataTable
    output: DataTable
    judge: ModelRef | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateFlow:
    """Measure how well rags find what they should.

    Attributes:
        name: As in the config.
        spec: What the config says of it; the other attributes are resolved from it.
        rags: At least one.
        queries: Absolute path of the queries with the passages that answer them (JSONL).
    """

    name: str
    spec: EvaluateFlowSpec
    rags: tuple[str, ...]
    queries: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AskFlow:
    """Ask an agent one question.

    Attributes:
        name: ``ask-<agent>``.
        agent: The agent that answers.
        wait_for_server: How long a model server that is away is waited for; None for the default.
    """

    name: str
    agent: str
    wait_for_server: timedelta | None = None


FlowDefinition = IndexFlow | BatchFlow | EvaluateFlow | AskFlow


def wait_of_flow(flow: FlowDefinition) -> timedelta | None:
    """Return how long a flow waits for a model server that is away; None for the default."""
    return (flow if isinstance(flow, AskFlow) else flow.spec).wait_for_server


def with_wait(flow: FlowDefinition, wait: timedelta) -> FlowDefinition:
    """Return the flow with another time for which it waits for a model server."""
    if isinstance(flow, AskFlow):
        return replace(flow, wait_for_server=wait)
    spec: Any = flow.spec.model_copy(update={"wait_for_server": wait})
    return replace(flow, spec=spec)


def resolve_flows(config: Config) -> tuple[FlowDefinition, ...]:
    """Return all flows: those of the config, or one index flow a rag, and one ask flow an agent."""
    spec = config.spec
    flows = list[FlowDefinition]()
    if spec.flows:
        flows += [_flow(config, name, flow) for name, flow in spec.flows.items()]
    else:
        plain = IndexFlowSpec(type="index")
        flows += [IndexFlow(name=f"index-{rag}", spec=plain, rags=(rag,)) for rag in spec.rag]
    flows += [AskFlow(name=f"ask-{agent}", agent=agent) for agent in spec.agents]
    return tuple(flows)


def resolve_flow(config: Config, name: str) -> FlowDefinition:
    """Return one flow by its name.

    Raises:
        PlanError: There is no flow of that name.
    """
    flows = {flow.name: flow for flow in resolve_flows(config)}
    if name not in flows:
        raise PlanError(unknown_name(config, "flow", name, flows))
    return flows[name]


def _flow(config: Config, name: str, spec: FlowSpec) -> FlowDefinition:
    match spec:
        case IndexFlowSpec():
            return IndexFlow(
                name=name,
                spec=spec,
                rags=spec.rag or tuple(config.spec.rag),
                gates=_gates(config, spec.gate or ()),
                max_secrets=min(
                    (gate.secrets for gate in spec.gate or () if gate.secrets is not None),
                    default=None,
                ),
                shards=spec.shards
                and (spec.shards if "://" in spec.shards else str(_path(config, spec.shards))),
            )
        case BatchFlowSpec():
            return BatchFlow(
                name=name,
                spec=spec,
                agent=spec.agent or config.spec.entry_agent or "root",
                input=_table(config, spec.input),
                output=_table(config, spec.output),
                judge=resolve_model(config, spec.judge) if spec.judge else None,
            )
        case EvaluateFlowSpec():
            return EvaluateFlow(
                name=name,
                spec=spec,
                rags=spec.rag or tuple(config.spec.rag),
                queries=_path(config, spec.queries),
            )


def _gates(config: Config, specs: Sequence[GateSpec]) -> tuple[Gate, ...]:
    """Return one gate for each file of queries, so that each query is searched once."""
    thresholds = dict[Path, tuple[ThresholdSpec, ...]]()
    for spec in specs:
        if spec.queries is None:
            continue
        queries = _path(config, spec.queries)
        thresholds[queries] = (*thresholds.get(queries, ()), spec.threshold)
    return tuple(Gate(queries=file, thresholds=held) for file, held in thresholds.items())


def _path(config: Config, path: str) -> Path:
    return Path(os.path.normpath(config.directory / path))


def _table(config: Config, text: str) -> DataTable:
    path, table = split_table(text)
    return DataTable(_path(config, path), table)


def rags_of_agent(config: Config, agent: str) -> tuple[str, ...]:
    """Return the rags that an agent may search, by its ``rag`` key and its rag toolsets.

    Raises:
        PlanError: There is no agent of that name.
    """
    if agent not in config.spec.agents:
        raise PlanError(unknown_name(config, "agent", agent, config.spec.agents))
    spec = config.spec.agents[agent]
    refs = (toolset.ref for toolset in spec.toolsets if isinstance(toolset, RagToolset))
    return tuple(dict.fromkeys((*spec.rag, *refs)))


def rags_of_flow(config: Config, flow: FlowDefinition) -> tuple[str, ...]:
    """Return the rags that a flow indexes or evaluates, or that its agent may search."""
    match flow:
        case IndexFlow() | EvaluateFlow():
            return flow.rags
        case AskFlow() | BatchFlow():
            return rags_of_agent(config, flow.agent)


def batch_concurrency(config: Config, flow: BatchFlow) -> int:
    """Return how many questions of a batch are answered at a time.

    Without ``concurrency`` that is one more than the server has slots for the model: while the
    slots generate, the next question is searched for.
    """
    if flow.spec.concurrency is not None:
        return flow.spec.concurrency
    flags = resolve_model(config, config.spec.agents[flow.agent].model).runtime_flags
    return _parallel_slots(flags) + 1


def _parallel_slots(flags: Sequence[str]) -> int:
    """Return the N of llama.cpp's ``--parallel N`` (``-np``); 1 where it is not set."""
    for place, flag in enumerate(flags):
        name, _, value = flag.partition("=")
        if name in {"--parallel", "-np"}:
            value = value or next(iter(flags[place + 1 : place + 2]), "")
            return int(value) if value.isdecimal() and int(value) else 1
    return 1


def models_of_flow(config: Config, flow: FlowDefinition) -> tuple[ModelUse, ...]:
    """Return the models that a flow needs, each once a role.

    An index flow needs embedding models; with a gate it searches, and needs the rerankers of the
    rags too. So do flows that evaluate or ask; those that ask need the agent's model and its draft.
    """
    uses = list[ModelUse]()
    if isinstance(flow, AskFlow | BatchFlow):
        uses += _agent_models(config, flow.agent)
    searches = not isinstance(flow, IndexFlow) or bool(flow.gates)
    if isinstance(flow, BatchFlow) and flow.judge:
        uses += _with_draft(flow.judge, f"flows.{flow.name}.judge")
    for rag in rags_of_flow(config, flow):
        uses += _rag_models(config, rag, reranking=searches)
    return _distinct(uses)


def all_models(config: Config) -> tuple[ModelUse, ...]:
    """Return every model that the config names, whether a flow needs it or not."""
    uses = list[ModelUse]()
    for agent in config.spec.agents:
        uses += _agent_models(config, agent)
    for rag in config.spec.rag:
        uses += _rag_models(config, rag, reranking=True)
    used = {use.model.name for use in uses}
    for name in config.spec.models:
        if name not in used:
            uses += _with_draft(resolve_model(config, name), f"models.{name}")
    return _distinct(uses)


def _agent_models(config: Config, agent: str) -> list[ModelUse]:
    if agent not in config.spec.agents:
        raise PlanError(unknown_name(config, "agent", agent, config.spec.agents))
    return _with_draft(resolve_model(config, config.spec.agents[agent].model), f"agents.{agent}")


def _rag_models(config: Config, rag: str, *, reranking: bool) -> list[ModelUse]:
    uses = list[ModelUse]()
    definition = resolve_rag(config, rag)
    for number, strategy in enumerate(definition.strategies):
        embedding = strategy.index.embedding
        if strategy.kind == "chunked-embeddings" and embedding:
            key = f"rag.{rag}.strategies[{number}]"
            uses.append(ModelUse(model=embedding.model, role="embedding", used_by=key))
    if reranking and definition.rerank:
        key = f"rag.{rag}.results.reranking"
        uses.append(ModelUse(model=definition.rerank.model, role="reranking", used_by=key))
    return uses


def _with_draft(model: ModelRef, used_by: str) -> list[ModelUse]:
    """Return a chat model after its draft model, without which it does not load."""
    chat = ModelUse(model=model, role="chat", used_by=used_by)
    if not model.draft:
        return [chat]
    draft = ModelRef(
        name=model.draft.model,
        provider=model.provider,
        model=model.draft.model,
        base_url=model.base_url,
        token_env=model.token_env,
    )
    return [ModelUse(model=draft, role="draft", used_by=used_by), chat]


def _distinct(uses: list[ModelUse]) -> tuple[ModelUse, ...]:
    first = dict[tuple[ModelRef, Role], ModelUse]()
    for use in uses:
        first.setdefault((use.model, use.role), use)
    return tuple(first.values())
