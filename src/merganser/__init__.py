"""Compile cagent YAML into Prefect flows that index, retrieve and answer on local models.

The names below are imported when they are first used: ``import merganser`` costs milliseconds and
brings neither Prefect nor DuckDB. ``compile_flow`` imports Prefect, ``index_once`` and
``Retriever`` import DuckDB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merganser.config.flow_definition import resolve_flow, resolve_flows
    from merganser.config.load import Config, load_config
    from merganser.config.rag_definition import resolve_rag
    from merganser.errors import MerganserError, SpecError, SpecErrors
    from merganser.flows.compile import compile_flow
    from merganser.indexing.run import index_once
    from merganser.indexing.run_report import IndexReport
    from merganser.planning.plan import Plan, build_plan
    from merganser.retrieval import Hit, Retriever, SearchResult

__all__ = [
    "Config",
    "Hit",
    "IndexReport",
    "MerganserError",
    "Plan",
    "Retriever",
    "SearchResult",
    "SpecError",
    "SpecErrors",
    "build_plan",
    "compile_flow",
    "index_once",
    "load_config",
    "resolve_flow",
    "resolve_flows",
    "resolve_rag",
]

_HOMES = {
    "Config": "config.load",
    "Hit": "retrieval",
    "IndexReport": "indexing.run_report",
    "MerganserError": "errors",
    "Plan": "planning.plan",
    "Retriever": "retrieval",
    "SearchResult": "retrieval",
    "SpecError": "errors",
    "SpecErrors": "errors",
    "build_plan": "planning.plan",
    "compile_flow": "flows.compile",
    "index_once": "indexing.run",
    "load_config": "config.load",
    "resolve_flow": "config.flow_definition",
    "resolve_flows": "config.flow_definition",
    "resolve_rag": "config.rag_definition",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
