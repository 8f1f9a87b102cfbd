"""A virtual module: every flow of every config, importable by name in any process.

``merganser.flows.pipelines.codebase__reindex`` is the flow ``reindex`` of ``codebase.yaml``, which
is looked for in the folders of ``MERGANSER_CONFIG_PATH`` (separated like ``PATH``; the working
directory when unset). Names are spelled with underscores for whatever Python does not allow.
A deployment's entry point is such a name (PEP 562), so no code is generated.

A deployed run knows more (``merganser.planning.deployments.Facts``): its config is first looked for
where it was deployed from, so configs of one name in several folders do not meet, and it must be
the one that was deployed. If not, the run fails and says so.
"""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.config.load import load_config
from merganser.config.resolve import resolve_flow, resolve_flows
from merganser.errors import MerganserError, PlanError
from merganser.flows.compile import attribute_name, compile_flow, spell
from merganser.flows.refusal import refuse
from merganser.planning.deployments import FACTS_VARIABLE, Facts
from merganser.telemetry import start_telemetry

if TYPE_CHECKING:
    from prefect import Flow

_log = logging.getLogger(__name__)

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
    if problem := start_telemetry():  # a deployed run is a process of its own
        _log.warning(problem)
    facts = Facts.from_json(os.environ.get(FACTS_VARIABLE, ""))
    if facts is not None and attribute_name(Path(facts.config).stem, facts.flow) == name:
        return _compile_deployed(facts)
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


def _compile_deployed(facts: Facts) -> Flow[..., Any]:
    """Compile what was deployed, or a flow that fails and says why it cannot be.

    Raising here would crash the process before the run begins, and a crash is worth another try.
    """
    try:
        file = _find_deployed(facts)
        config = load_config(file, model_map=dict(facts.models))
        if config.fingerprint != facts.spec:
            raise PlanError(f"{file} is not what was deployed; redeploy: merganser deploy {file}")
        return compile_flow(config, resolve_flow(config, facts.flow))
    except MerganserError as error:
        return refuse(facts, error)


def _find_deployed(facts: Facts) -> Path:
    """Find the config of a deployment on this machine.

    Raises:
        PlanError: It is not there.
    """
    own = Path(facts.config)
    places = [own, *(folder / own.name for folder in _folders())]
    for place in places:
        if place.is_file():
            return place
    raise PlanError(
        f"no {own.name} on {socket.gethostname()}; looked at {', '.join(map(str, places))}. Put it"
        f" where it was deployed from, or set {CONFIG_PATH} for the worker"
    )


def _folders() -> list[Path]:
    return [Path(p) for p in os.environ.get(CONFIG_PATH, os.curdir).split(os.pathsep) if p]


def _config_files(config_name: str) -> list[Path]:
    return [
        file
        for folder in _folders()
        for file in sorted((*folder.glob("*.yaml"), *folder.glob("*.yml")))
        if spell(file.stem) == config_name
    ]
