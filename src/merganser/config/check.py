"""What ``merganser check`` shows: models with their roles, rags, flows and warnings.

A path of ``docs`` that does not exist is a warning here and an error when it is indexed, because a
config may be checked on another machine than the one that has the documents.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from merganser.config.config_tree import SpecWarning
from merganser.config.flow_definition import (
    AskFlow,
    BatchFlow,
    EvaluateFlow,
    FlowDefinition,
    IndexFlow,
    all_models,
    models_of_flow,
    rags_of_agent,
    resolve_flows,
)
from merganser.config.rag_definition import resolve_rag
from merganser.config.spec_models import LOCAL_PROVIDER
from merganser.globs import fixed_part
from merganser.humanize import align_columns
from merganser.models.runtime_flags import translate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.config.load import Config
    from merganser.config.rag_definition import RagDefinition


def check_as_json(config: Config) -> dict[str, Any]:
    """Return models, agents, rags, flows and warnings of a config, as JSON data."""
    flows = resolve_flows(config)
    reached = {use for flow in flows for use in models_of_flow(config, flow)}
    return {
        "ok": True,
        "path": str(config.path),
        "fingerprint": config.fingerprint,
        "agents": [
            {"name": name, "model": agent.model, "rags": list(rags_of_agent(config, name))}
            for name, agent in config.spec.agents.items()
        ],
        "models": [
            {
                "model": use.model.model,
                "provider": use.model.provider,
                "role": use.role,
                "used_by": use.used_by,
                "reached": use in reached,
            }
            for use in all_models(config)
        ],
        "rags": [_rag_as_json(resolve_rag(config, name)) for name in config.spec.rag],
        "flows": [_flow_as_json(flow) for flow in flows],
        "warnings": [
            {
                "key": warning.key,
                "problem": warning.problem,
                "position": str(warning.position) if warning.position else None,
            }
            for warning in warnings_of(config)
        ],
    }


def warnings_of(config: Config) -> tuple[SpecWarning, ...]:
    """Return the warnings of loading, of ``docs`` that do not exist and of flags of the engine."""
    found = {
        (str(position), entry): SpecWarning(
            f"{entry!r} names no file or folder in {index.base}: indexing it will fail",
            key=f"rag.{name}.docs",
            position=position,
        )
        for name in config.spec.rag
        for index in resolve_rag(config, name).indexes
        for entry, position in zip(index.docs, index.docs_positions, strict=True)
        # Path.exists() raises for a name that is too long.
        if not os.path.exists(fixed_part(entry, index.base))  # noqa: PTH110
    }
    found |= {
        (str(position), one.label): SpecWarning(
            f"{str(one.root)!r} is no folder: indexing it will fail",
            key=f"rag.{name}.docs",
            position=position,
        )
        for name in config.spec.rag
        for index in resolve_rag(config, name).indexes
        for one, position in zip(index.repositories, index.repository_positions, strict=True)
        if not one.url and not one.root.is_dir()
    }
    return (*config.warnings, *found.values(), *_flag_warnings(config))


def _flag_warnings(config: Config) -> Iterator[SpecWarning]:
    """Yield what becomes of flags that Docker Model Runner does not take as they are written."""
    for name, model in config.spec.models.items():
        location = ("models", name, "provider_opts", "runtime_flags")
        flags = translate(model.provider_opts.runtime_flags)
        for flag in flags if model.provider == LOCAL_PROVIDER else ():
            written = " ".join(flag.written)
            if flag.problem:
                problem = f"{written!r} {flag.problem}; it will be left out: remove or replace it"
            elif flag.is_translated:
                words = ", ".join(f'"{word}"' for word in flag.words)
                problem = f"{written!r} goes to the engine as {words}: write it so"
            else:
                continue
            position = config.position(*location, flag.first)
            yield SpecWarning(problem, ".".join(location), position)


def _rag_as_json(rag: RagDefinition) -> dict[str, Any]:
    return {
        "name": rag.name,
        "tool": rag.tool_name,
        "docs": list(dict.fromkeys(entry for index in rag.indexes for entry in index.entries)),
        "repositories": [
            {"label": one.label, "url": one.url or None, "ref": one.ref or None}
            | ({} if one.url else {"path": str(one.root)})
            for one in dict.fromkeys(one for index in rag.indexes for one in index.repositories)
        ],
        "strategies": [
            {"name": s.name, "type": s.kind, "limit": s.limit, "index": str(s.index.folder)}
            for s in rag.strategies
        ],
        "fusion": rag.results.fusion.method if len(rag.strategies) > 1 else None,
        "ranking": list(rag.results.ranking.names),
        "reranking": rag.rerank.model.model if rag.rerank else None,
        "limit": rag.results.limit,
    }


def _flow_as_json(flow: FlowDefinition) -> dict[str, Any]:
    match flow:
        case AskFlow():
            return {"name": flow.name, "type": "ask", "agent": flow.agent}
        case IndexFlow():
            details: dict[str, Any] = {
                "type": "index",
                "rags": list(flow.rags),
                "gates": [
                    {
                        "queries": str(gate.queries),
                        "held": [held.model_dump(mode="json") for held in gate.thresholds],
                    }
                    for gate in flow.gates
                ],
                "max_secrets": flow.max_secrets,
                "keep_snapshots": flow.spec.keep_snapshots,
            }
        case EvaluateFlow():
            details = {
                "type": "evaluate",
                "rags": list(flow.rags),
                "queries": str(flow.queries),
                "metrics": [held.model_dump(mode="json") for held in flow.spec.metrics],
            }
        case BatchFlow():
            details = {
                "type": "batch",
                "agent": flow.agent,
                "input": str(flow.input),
                "output": str(flow.output),
            }
    schedule = str(flow.spec.schedule) if flow.spec.schedule else None
    return {"name": flow.name, **details, "schedule": schedule, "after": list(flow.spec.after)}


def render_check(config: Config) -> str:
    """Return the same as ``check_as_json`` as text."""
    return "\n".join(_lines(config))


def _lines(config: Config) -> Iterator[str]:
    found = check_as_json(config)
    warnings = warnings_of(config)
    for warning in warnings:
        yield f"warning: {warning}"
    yield f"{config.path.name}: no errors, {_count(len(warnings), 'warning')}"
    for title, row_of in _ROWS.items():
        if found[title]:
            yield f"{title}:"
            yield from (f"  {line}" for line in align_columns([*map(row_of, found[title])]))


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    unused = "" if model["reached"] else " (unused)"
    return model["model"], model["role"], f"{model['used_by']}{unused}"


def _agent_row(agent: dict[str, Any]) -> tuple[str, ...]:
    return agent["name"], agent["model"], ", ".join(agent["rags"])


def _rag_row(rag: dict[str, Any]) -> tuple[str, ...]:
    ways = " + ".join(strategy["name"] for strategy in rag["strategies"])
    steps = [
        ways,
        rag["fusion"],
        rag["ranking"] and f"ranked by {' '.join(rag['ranking'])}",
        rag["reranking"] and f"reranked by {rag['reranking']}",
    ]
    return rag["name"], ", ".join(rag["docs"]), ", ".join(step for step in steps if step)


def _flow_row(flow: dict[str, Any]) -> tuple[str, ...]:
    subject = ", ".join(flow["rags"]) if "rags" in flow else flow["agent"]
    when = [flow.get("schedule"), *(f"after {name}" for name in flow.get("after", ()))]
    return flow["name"], flow["type"], subject, ", ".join(text for text in when if text)


_ROWS = {"models": _model_row, "agents": _agent_row, "rags": _rag_row, "flows": _flow_row}


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
