"""From the spec to what the engine works with.

Nothing here looks at the disk or at a server: the same config gives the same definitions.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.config.definitions import (
    AskFlow,
    BatchFlow,
    DataTable,
    EmbeddingDefinition,
    EvaluateFlow,
    FlowDefinition,
    FusionDefinition,
    Gate,
    IndexDefinition,
    IndexFlow,
    RagDefinition,
    RerankDefinition,
    Retries,
    Schedule,
    ShardRunner,
    StrategyDefinition,
    Threshold,
)
from merganser.config.metric import parse_metric
from merganser.config.resolve_indexes import resolve_indexes
from merganser.config.spec_agents import RagToolset
from merganser.config.spec_base import suggest
from merganser.config.spec_flows import BatchFlowSpec, EvaluateFlowSpec, split_table
from merganser.config.spec_models import (
    AUTO_CHAT_MODEL,
    AUTO_EMBEDDING_MODEL,
    AUTO_MODEL,
    LOCAL_PROVIDER,
    split_reference,
)
from merganser.config.spec_rag import Bm25Spec, ChunkedEmbeddingsSpec, safe_name
from merganser.errors import PlanError
from merganser.models.ref import DraftModel, ModelRef, ModelUse, Role

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from merganser.config.load import Config
    from merganser.config.spec_evaluation import GateSpec, ThresholdSpec
    from merganser.config.spec_flows import FlowSpec, RetriesSpec, ScheduleSpec
    from merganser.config.spec_rag import RagSpec, StrategySpec
    from merganser.errors import SourcePosition

__all__ = [
    "AskFlow",
    "BatchFlow",
    "DataTable",
    "EmbeddingDefinition",
    "EvaluateFlow",
    "FlowDefinition",
    "FusionDefinition",
    "Gate",
    "IndexDefinition",
    "IndexFlow",
    "RagDefinition",
    "RerankDefinition",
    "Retries",
    "Schedule",
    "ShardRunner",
    "StrategyDefinition",
    "Threshold",
    "all_models",
    "batch_places",
    "models_of_flow",
    "rags_of_agent",
    "rags_of_flow",
    "resolve_flow",
    "resolve_flows",
    "resolve_model",
    "resolve_rag",
]


def resolve_model(config: Config, reference: str) -> ModelRef:
    """Give the model behind a declared name, an inline ``provider/model`` or ``auto``.

    Raises:
        PlanError: It is none of these.
    """
    if reference == AUTO_MODEL and reference not in config.spec.models:
        return replace(resolve_model(config, AUTO_CHAT_MODEL), name=AUTO_MODEL)
    declared = config.spec.models.get(reference)
    if declared is None:
        inline = split_reference(reference)
        if inline is None:
            raise PlanError(_unknown(config, "model", reference, config.spec.models))
        base_url, token_env, token_position = _server(config, inline[0])
        return ModelRef(
            name=reference,
            provider=inline[0],
            model=inline[1],
            base_url=base_url,
            token_env=token_env,
            token_position=token_position,
        )
    base_url, token_env, token_position = _server(config, declared.provider)
    if declared.token_key:
        token_env = declared.token_key
        token_position = config.position("models", reference, "token_key")
    options = declared.provider_opts
    draft = options.speculative_draft_model and DraftModel(
        model=options.speculative_draft_model.removeprefix(f"{LOCAL_PROVIDER}/"),
        num_tokens=options.speculative_num_tokens,
        acceptance_rate=options.speculative_acceptance_rate,
    )
    return ModelRef(
        name=reference,
        provider=declared.provider,
        model=declared.model,
        base_url=declared.base_url or base_url,
        token_env=token_env,
        token_position=token_position,
        temperature=declared.temperature,
        max_tokens=declared.max_tokens,
        top_p=declared.top_p,
        frequency_penalty=declared.frequency_penalty,
        presence_penalty=declared.presence_penalty,
        context_size=options.context_size,
        runtime_flags=options.runtime_flags,
        draft=draft or None,
        keep_alive=options.keep_alive,
        supports_tools=declared.supports_tools,
    )


def _server(config: Config, provider: str) -> tuple[str | None, str | None, SourcePosition | None]:
    """Give address, name of the token's variable, and where that stands."""
    spec = config.spec.providers.get(provider)
    if spec is None:
        return None, None, None
    place = config.position("providers", provider, "token_key") if spec.token_key else None
    return spec.base_url, spec.token_key, place


def resolve_rag(config: Config, name: str) -> RagDefinition:
    """Give one rag with its indexes, strategies and models.

    Raises:
        PlanError: There is no rag of that name.
    """
    if name not in config.spec.rag:
        raise PlanError(_unknown(config, "rag", name, config.spec.rag))
    spec = config.spec.rag[name]
    embeddings = [_embedding(config, strategy) for strategy in spec.strategies]
    indexes = resolve_indexes(config, name, embeddings)
    names = spec.strategy_names
    fusion = spec.results.fusion
    strategies = tuple(
        _strategy(strategy, names[i], indexes[i], spec)
        for i, strategy in enumerate(spec.strategies)
    )
    weights = {s.name: s.weight for s in strategies if s.weight is not None}
    by_rank = fusion.strategy in {"rrf", "reciprocal_rank_fusion"}
    return RagDefinition(
        name=name,
        description=spec.tool.description,
        instruction=spec.tool.instruction,
        tool_name=spec.tool.name or safe_name(name),
        strategies=strategies,
        indexes=tuple(dict.fromkeys(indexes)),
        fusion=FusionDefinition(
            strategy="rrf" if by_rank else "weighted" if fusion.strategy == "weighted" else "max",
            k=fusion.k,
            weights=weights,
        ),
        rerank=_rerank(config, spec),
        limit=spec.results.limit,
        deduplicate=spec.results.deduplicate,
        per_file=spec.results.per_file,
        include_score=spec.results.include_score,
        return_full_content=spec.results.return_full_content,
    )


def _strategy(
    strategy: StrategySpec, name: str, index: IndexDefinition, rag: RagSpec
) -> StrategyDefinition:
    weights = rag.results.fusion.weights
    words = isinstance(strategy, Bm25Spec)
    return StrategyDefinition(
        name=name,
        kind=strategy.type,
        index=index,
        limit=strategy.limit,
        threshold=strategy.threshold,
        weight=weights.get(name, weights.get(strategy.type)),
        k1=strategy.k1 if words else 1.5,
        b=strategy.b if words else 0.75,
    )


def _rerank(config: Config, rag: RagSpec) -> RerankDefinition | None:
    spec = rag.results.reranking
    if spec is None:
        return None
    model = resolve_model(config, spec.model)
    return RerankDefinition(
        model=replace(model, score_normalization=spec.score_normalization),
        top_k=spec.top_k or rag.results.limit,
        threshold=spec.threshold or None,
        criteria=spec.criteria,
    )


def _embedding(config: Config, strategy: StrategySpec) -> EmbeddingDefinition | None:
    if not isinstance(strategy, ChunkedEmbeddingsSpec):
        return None
    reference = strategy.embedding_model
    if reference == AUTO_MODEL and reference not in config.spec.models:
        reference = AUTO_EMBEDDING_MODEL
    return EmbeddingDefinition(
        model=resolve_model(config, reference),
        dimensions=strategy.vector_dimensions,
        batch_size=strategy.embedding_batch_size,
        concurrency=strategy.max_embedding_concurrency,
        similarity=strategy.similarity_metric,
    )


def resolve_flows(config: Config) -> tuple[FlowDefinition, ...]:
    """Give all flows: those of the config, or one index flow a rag, and one ask flow an agent."""
    spec = config.spec
    flows = list[FlowDefinition]()
    if spec.flows:
        flows += [_flow(config, name, flow) for name, flow in spec.flows.items()]
    else:
        flows += [IndexFlow(name=f"index-{rag}", rags=(rag,)) for rag in spec.rag]
    flows += [AskFlow(name=f"ask-{agent}", agent=agent) for agent in spec.agents]
    return tuple(flows)


def resolve_flow(config: Config, name: str) -> FlowDefinition:
    """Give one flow by its name.

    Raises:
        PlanError: There is no flow of that name.
    """
    flows = {flow.name: flow for flow in resolve_flows(config)}
    if name not in flows:
        raise PlanError(_unknown(config, "flow", name, flows))
    return flows[name]


def _flow(config: Config, name: str, flow: FlowSpec) -> FlowDefinition:
    spec = config.spec
    if isinstance(flow, BatchFlowSpec):
        return BatchFlow(
            name=name,
            agent=flow.agent or spec.entry_agent or "root",
            input=_table(config, flow.input),
            output=_table(config, flow.output),
            concurrency=flow.concurrency,
            max_failed=flow.max_failed,
            judge=resolve_model(config, flow.judge) if flow.judge else None,
            schedule=_schedule(flow.schedule),
            after=flow.after,
            retries=_retries(flow.retries),
        )
    if isinstance(flow, EvaluateFlowSpec):
        return EvaluateFlow(
            name=name,
            rags=flow.rag or tuple(spec.rag),
            queries=_path(config, flow.queries),
            thresholds=_thresholds(flow.metrics),
            schedule=_schedule(flow.schedule),
            after=flow.after,
            retries=_retries(flow.retries),
        )
    return IndexFlow(
        name=name,
        rags=flow.rag or tuple(spec.rag),
        gates=_gates(config, flow.gate or ()),
        keep_snapshots=flow.keep_snapshots,
        schedule=_schedule(flow.schedule),
        after=flow.after,
        retries=_retries(flow.retries),
        concurrency=flow.concurrency,
        runner=flow.runner
        and ShardRunner(
            kind=flow.runner.type, address=flow.runner.address, workers=flow.concurrency
        ),
        shards=flow.shards and _place(config, flow.shards),
    )


def _gates(config: Config, gates: Sequence[GateSpec]) -> tuple[Gate, ...]:
    """Give one gate for each file of queries, so that each query is searched once."""
    files = dict.fromkeys(_path(config, gate.queries) for gate in gates)
    return tuple(
        Gate(
            queries=file,
            thresholds=_thresholds([g for g in gates if _path(config, g.queries) == file]),
        )
        for file in files
    )


def _thresholds(specs: Sequence[GateSpec | ThresholdSpec]) -> tuple[Threshold, ...]:
    found = list[Threshold]()
    for spec in specs:
        metric = parse_metric(spec.metric)
        assert metric is not None, "the spec has checked it"
        found.append(Threshold(metric=metric, min=spec.min, max_drop=spec.max_drop))
    return tuple(found)


def _path(config: Config, path: str) -> Path:
    return Path(os.path.normpath(config.directory / path))


def _place(config: Config, text: str) -> str:
    """Give a URL as it is, and a folder as an absolute path."""
    return text if "://" in text else str(_path(config, text))


def _table(config: Config, text: str) -> DataTable:
    path, table = split_table(text)
    return DataTable(Path(os.path.normpath(config.directory / path)), table)


def _schedule(spec: ScheduleSpec | None) -> Schedule | None:
    if spec is None:
        return None
    return Schedule(
        cron=spec.cron, timezone=spec.timezone or "UTC", interval=spec.interval, watch=spec.watch
    )


def _retries(spec: RetriesSpec) -> Retries | None:
    return Retries(count=spec.count, delay=spec.delay) if spec.count else None


def rags_of_agent(config: Config, agent: str) -> tuple[str, ...]:
    """Give the rags that an agent may search, by its ``rag`` key and its rag toolsets.

    Raises:
        PlanError: There is no agent of that name.
    """
    if agent not in config.spec.agents:
        raise PlanError(_unknown(config, "agent", agent, config.spec.agents))
    spec = config.spec.agents[agent]
    refs = (toolset.ref for toolset in spec.toolsets if isinstance(toolset, RagToolset))
    return tuple(dict.fromkeys((*spec.rag, *refs)))


def batch_places(config: Config, flow: BatchFlow) -> int:
    """Give how many questions of a batch are answered at a time.

    Without ``concurrency`` that is one more than the server has slots for the model: while the
    slots generate, the next question is searched for.
    """
    if flow.concurrency is not None:
        return flow.concurrency
    flags = resolve_model(config, config.spec.agents[flow.agent].model).runtime_flags
    return _parallel_slots(flags) + 1


def _parallel_slots(flags: Sequence[str]) -> int:
    """Read llama.cpp's ``--parallel N`` (``-np``); 1 where it is not set."""
    for place, flag in enumerate(flags):
        name, _, value = flag.partition("=")
        if name in {"--parallel", "-np"}:
            value = value or next(iter(flags[place + 1 : place + 2]), "")
            return int(value) if value.isdecimal() and int(value) else 1
    return 1


def rags_of_flow(config: Config, flow: FlowDefinition) -> tuple[str, ...]:
    """Give the rags that a flow indexes or evaluates, or that its agent may search."""
    match flow:
        case IndexFlow() | EvaluateFlow():
            return flow.rags
        case AskFlow() | BatchFlow():
            return rags_of_agent(config, flow.agent)


def models_of_flow(config: Config, flow: FlowDefinition) -> tuple[ModelUse, ...]:
    """Give the models that a flow reaches, each once a role.

    An index flow embeds. Whoever searches needs the rerankers of the rags too: a flow that
    evaluates, one that has gates, and one that asks, which also needs the agent's model and draft.
    """
    uses = list[ModelUse]()
    if isinstance(flow, AskFlow | BatchFlow):
        uses += _agent_models(config, flow.agent)
    searches = not isinstance(flow, IndexFlow) or bool(flow.gates)
    if isinstance(flow, BatchFlow) and flow.judge:
        uses += _with_draft(flow.judge, "chat", f"flows.{flow.name}.judge")
    for rag in rags_of_flow(config, flow):
        uses += _rag_models(config, rag, reranking=searches)
    return _distinct(uses)


def all_models(config: Config) -> tuple[ModelUse, ...]:
    """Give every model that the config names, used by a flow or not."""
    uses = list[ModelUse]()
    for agent in config.spec.agents:
        uses += _agent_models(config, agent)
    for rag in config.spec.rag:
        uses += _rag_models(config, rag, reranking=True)
    used = {use.model.name for use in uses}
    for name in config.spec.models:
        if name not in used:
            uses += _with_draft(resolve_model(config, name), "chat", f"models.{name}")
    return _distinct(uses)


def _agent_models(config: Config, agent: str) -> list[ModelUse]:
    if agent not in config.spec.agents:
        raise PlanError(_unknown(config, "agent", agent, config.spec.agents))
    model = resolve_model(config, config.spec.agents[agent].model)
    return _with_draft(model, "chat", f"agents.{agent}")


def _rag_models(config: Config, rag: str, *, reranking: bool) -> list[ModelUse]:
    uses = list[ModelUse]()
    definition = resolve_rag(config, rag)
    for number, strategy in enumerate(definition.strategies):
        embedding = strategy.index.embedding
        if strategy.kind == "chunked-embeddings" and embedding:
            place = f"rag.{rag}.strategies[{number}]"
            uses.append(ModelUse(model=embedding.model, role="embedding", used_by=place))
    if reranking and definition.rerank:
        place = f"rag.{rag}.results.reranking"
        uses.append(ModelUse(model=definition.rerank.model, role="reranking", used_by=place))
    return uses


def _with_draft(model: ModelRef, role: Role, used_by: str) -> list[ModelUse]:
    """Give a model after its draft, without which it does not load."""
    uses = list[ModelUse]()
    if model.draft:
        draft = ModelRef(
            name=model.draft.model,
            provider=model.provider,
            model=model.draft.model,
            base_url=model.base_url,
            token_env=model.token_env,
        )
        uses.append(ModelUse(model=draft, role="draft", used_by=used_by))
    return [*uses, ModelUse(model=model, role=role, used_by=used_by)]


def _distinct(uses: list[ModelUse]) -> tuple[ModelUse, ...]:
    first = dict[tuple[ModelRef, Role], ModelUse]()
    for use in uses:
        first.setdefault((use.model, use.role), use)
    return tuple(first.values())


def _unknown(config: Config, word: str, name: str, known: Collection[str]) -> str:
    listed = f"{word}s of the file: {', '.join(known)}" if known else f"the file has no {word}"
    return f"there is no {word} {name!r} in {config.path}; {suggest(name, known) or listed}"
