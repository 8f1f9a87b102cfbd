"""A virtual module: every flow of every config, importable by name in any process.

``merganser.flows.pipelines.codebase__reindex`` is the flow ``reindex`` of ``codebase.yaml``, which
is looked for in the folders of ``MERGANSER_CONFIG_PATH`` (separated like ``PATH``; the working
directory when unset). Names are spelled with underscores for whatever Python does not allow.
A deployment's entry point is such a name (PEP 562), so no code is generated.

A deployed run has its ``merganser.planning.deployments.DeploymentSpec``: the config is first looked
for where it was deployed from, so that several folders may hold configs of one name, and it must be
the one that was deployed. If it is not, the run fails and says so.
"""

from __future__ import annotations

import inspect
import logging
import os
import socket
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client

from merganser.config.flow_definition import resolve_flow, resolve_flows
from merganser.config.load import load_config
from merganser.errors import MerganserError, PlanError
from merganser.flows.compile import attribute_name, compile_flow, spell
from merganser.planning.deployments import SPEC_VARIABLE, DeploymentSpec
from merganser.telemetry import start_telemetry

_log = logging.getLogger(__name__)


CONFIG_PATH = "MERGANSER_CONFIG_PATH"

RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Set by Prefect for the process of a deployed run."""


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
    spec = DeploymentSpec.from_json(os.environ.get(SPEC_VARIABLE, ""))
    if spec is not None and attribute_name(Path(spec.config).stem, spec.flow) == name:
        return _compile_deployed(spec)
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


def _compile_deployed(spec: DeploymentSpec) -> Flow[..., Any]:
    """Compile what was deployed, or a flow that fails and says why it cannot be compiled.

    Raising here would crash the process before the run begins, and a crashed run is started again.
    """
    try:
        file = _find_deployed(spec)
        config = load_config(file, model_map=dict(spec.models))
        if config.fingerprint != spec.spec:
            raise PlanError(f"{file} is not what was deployed; redeploy: merganser deploy {file}")
        return compile_flow(config, resolve_flow(config, spec.flow))
    except MerganserError as error:
        return _failing_flow(spec, error)


def _failing_flow(spec: DeploymentSpec, error: MerganserError) -> Flow[..., Any]:
    """Make a flow that takes whatever the run was given and fails with the error.

    Raises:
        MerganserError: The same error, when no run is to begin in this process.
    """
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id is None:
        raise error

    def body(**parameters: Any) -> None:
        del parameters
        raise error

    with get_client(sync_client=True) as client:
        given = client.read_flow_run(UUID(run_id)).parameters
    kind = inspect.Parameter.KEYWORD_ONLY
    names = [inspect.Parameter(name, kind, default=None) for name in given]
    # Prefect binds a run's parameters by the signature.
    body.__signature__ = inspect.Signature(names)
    return Flow(body, name=spec.flow, persist_result=False, validate_parameters=False)


def _find_deployed(spec: DeploymentSpec) -> Path:
    """Find the config of a deployment on this machine.

    Raises:
        PlanError: It is not there.
    """
    own = Path(spec.config)
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
