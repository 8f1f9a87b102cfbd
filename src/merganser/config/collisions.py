"""Names and folders that would be used twice: flows, tools and index folders."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from merganser.config.checked_config import dotted
from merganser.config.spec_agents import RagToolset
from merganser.config.spec_rag import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from merganser.config.checked_config import Document
    from merganser.config.spec_root import Spec
    from merganser.config.yaml_source import Location


def check_collisions(document: Document, spec: Spec) -> None:
    """Report what would collide where it is used.

    Args:
        document: Takes the errors.
        spec: What the document says; its references hold.
    """
    _check_flow_names(document, spec)
    _check_batch_files(document, spec)
    _check_tool_names(document, spec)
    _check_databases(document, spec)


def _check_flow_names(document: Document, spec: Spec) -> None:
    """A flow is also a Python name, ``<config>__<flow>``, and shares its namespace with asking."""
    seen = dict[str, str]()
    reserved = {f"ask-{agent}": agent for agent in spec.agents}
    for name in spec.flows:
        if name in reserved:
            document.error(
                ("flows", name),
                f"the name belongs to the flow that asks the agent {reserved[name]!r}",
                fix="choose another name",
                on_key=True,
            )
        identifier = re.sub(r"[^a-z0-9]", "_", name.casefold())
        if identifier in seen:
            document.error(
                ("flows", name),
                f"too like {dotted(('flows', seen[identifier]))}: as a Python name both are"
                f" {identifier}",
                fix="choose another name",
                on_key=True,
            )
        seen.setdefault(identifier, name)


def _check_batch_files(document: Document, spec: Spec) -> None:
    for name, flow in spec.flows.items():
        if flow.type == "batch" and os.path.normpath(flow.input) == os.path.normpath(flow.output):
            document.error(
                ("flows", name, "output"),
                f"{flow.output!r} is the input too, and would be overwritten",
                fix="write the answers to another file",
            )


def _check_tool_names(document: Document, spec: Spec) -> None:
    for agent in spec.agents:
        owners = dict[str, str]()
        for location, tool, rag in _tools(spec, agent):
            if tool not in owners:
                owners[tool] = rag
            elif owners[tool] == rag:
                document.error(location, f"the agent has the rag {rag!r} already", fix="remove it")
            else:
                document.error(
                    location,
                    f"the rags {owners[tool]!r} and {rag!r} would both be the tool {tool!r}",
                    fix=f"write another name at rag.{rag}.tool.name",
                )


def _tools(spec: Spec, agent: str) -> Iterator[tuple[Location, str, str]]:
    for number, rag in enumerate(spec.agents[agent].rag):
        yield ("agents", agent, "rag", number), spec.rag[rag].tool.name or safe_name(rag), rag
    for number, toolset in enumerate(spec.agents[agent].toolsets):
        if isinstance(toolset, RagToolset):
            tool = toolset.name or spec.rag[toolset.ref].tool.name or safe_name(toolset.ref)
            yield ("agents", agent, "toolsets", number, "ref"), tool, toolset.ref


def _check_databases(document: Document, spec: Spec) -> None:
    owners = dict[str, str]()
    for name, rag in spec.rag.items():
        for number, strategy in enumerate(rag.strategies):
            if strategy.database is None:
                continue
            folder = os.path.normpath(strategy.database)
            if owners.setdefault(folder, name) != name:
                document.error(
                    ("rag", name, "strategies", number, "database"),
                    f"{strategy.database!r} holds the index of the rag {owners[folder]!r} already",
                    fix="give each rag its own, or leave it out",
                )
