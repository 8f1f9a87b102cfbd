"""A virtual module: every flow of every config, importable by name in any process.

``merganser.flows.pipelines.codebase__reindex`` is the flow ``reindex`` of ``codebase.yaml``, which
is looked for in the folders of ``MERGANSER_CONFIG_PATH`` (separated like ``PATH``; the working
directory when unset). Names are spelled with underscores for whatever Python does not allow.
A deployment's entry point is such a name (PEP 562), so no code is generated.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.errors import PlanError
from merganser.flows.compile import compile_flow, spell
from merganser.load import load_config
from merganser.resolve import resolve_flows

if TYPE_CHECKING:
    from prefect import Flow

CONFIG_PATH = "MERGANSER_CONFIG_PATH"


def __getattr__(name: str) -> Flow[..., Any]:
    """Compile the flow of that name.

    Raises:
        AttributeError: No config on the path has such a flow.
        PlanError: Two configs or flows are spelled alike.
        SpecErrors: The config that the name points at is wrong.
    """
    config_name, separator, flow_name = name.partition("__")
    if not config_name or not separator:
        raise AttributeError(name)
    found = [
        (config, flow)
        for file in _config_files(config_name)
        for config in [load_config(file)]
        for flow in resolve_flows(config)
        if spell(flow.name) == flow_name
    ]
    if not found:
        where = ", ".join(str(folder) for folder in _folders())
        raise AttributeError(f"no flow {name!r} in the configs of {where}")
    if len(found) > 1:
        places = ", ".join(f"{config.path} ({flow.name})" for config, flow in found)
        raise PlanError(f"{name!r} is ambiguous: {places}; rename one of them")
    return compile_flow(*found[0])


def _folders() -> list[Path]:
    return [Path(p) for p in os.environ.get(CONFIG_PATH, os.curdir).split(os.pathsep) if p]


def _config_files(config_name: str) -> list[Path]:
    return [
        file
        for folder in _folders()
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
        if spell(file.stem) == config_name
    ]
