"""``merganser doctor``: look at everything a run needs."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from merganser.cli.options import Reach, indexes_by_name, json_option, print_json, reach_options
from merganser.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.load import Config
    from merganser.doctor.indexes import IndexDiagnosis
    from merganser.doctor.servers import Check, ServerReport

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option("--no-probes", "--no-canaries", is_flag=True, help="Do not load models to try them.")
@click.option("--logs", is_flag=True, help="Print the end of the model server's log.")
@reach_options
@json_option
def command(file: str | None, *, no_probes: bool, logs: bool, as_json: bool, reach: Reach) -> int:
    """Look at the model server, the run history, and models, indexes and deployments of FILE.

    Exits with 1 when something would stop a run.
    """
    from merganser.config.flow_definition import all_models, models_of_flow, resolve_flows
    from merganser.doctor.deployments import diagnose_history
    from merganser.doctor.indexes import diagnose_index
    from merganser.doctor.servers import diagnose
    from merganser.services.prefect_server import running_server

    config = reach.load(file) if file else None
    uses = all_models(config) if config else ()
    base_url = reach.address()
    flows = {f.name: models_of_flow(config, f) for f in resolve_flows(config)} if config else {}
    found = asyncio.run(diagnose(uses, flows=flows, base_url=base_url, probe_models=not no_probes))
    log = asyncio.run(_server_log(base_url)) if logs else ""
    definitions = indexes_by_name(config).values() if config else ()
    indexes = [diagnose_index(definition) for definition in definitions]
    history = diagnose_history()
    deployments: tuple[Check, ...] = ()
    if config and history.level == "ok":
        deployments = _look_at_deployments(config, indexes, reach.model_map)
    of_indexes = [check for index in indexes for check in index.checks]
    checks = (*found.checks, *of_indexes, history, *deployments)
    healthy = all(check.level != "problem" for check in checks)
    if as_json:
        server = running_server()
        print_json(
            {
                **found.as_json(),
                "healthy": healthy,
                "indexes": [asdict(index) for index in indexes],
                "history": {"url": server.url if server else None, "check": asdict(history)},
                "deployments": [asdict(check) for check in deployments],
            }
        )
        return 0 if healthy else 1
    for report in found.servers:
        _show_server(report)
    for check in checks:
        _show(check)
    if log:
        say(log)
    return 0 if healthy else 1


def _look_at_deployments(
    config: Config, indexes: Sequence[IndexDiagnosis], models: Mapping[str, str]
) -> tuple[Check, ...]:
    """Ask the server that is there; none is started for it."""
    from merganser.doctor.deployments import judge_deployments
    from merganser.services.prefect_server import connect_history, running_server

    if not os.environ.get("PREFECT_API_URL") and running_server() is None:
        return ()
    connect_history()
    from merganser.deployment.runs import read_scheduled_runs

    return judge_deployments(config, read_scheduled_runs(config.path), indexes, models=models)


def _show_server(report: ServerReport) -> None:
    """Print every address in the order asked, and what its models and engines take."""
    for probe in report.probes:
        say(f"asked   {probe.url} ({probe.source}): {probe.answer}")
    if report.disk is not None:
        models, engines = report.disk.models_bytes / 1e6, report.disk.engine_bytes / 1e6
        say(f"disk    {models:,.1f} MB of models, {engines:,.1f} MB of engines")


def _show(check: Check) -> None:
    took = f" ({check.seconds:.1f} s)" if check.seconds is not None else ""
    say(f"{_MARKS[check.level]} {check.name}: {check.detail}{took}")
    if check.fix:
        say(f"        fix: {check.fix}")


async def _server_log(base_url: str | None) -> str:
    from merganser.errors import ModelRunnerError
    from merganser.models.address import resolve_address
    from merganser.models.client import ModelRunner

    try:
        async with ModelRunner(await resolve_address(base_url=base_url)) as runner:
            text = await runner.logs()
    except ModelRunnerError as error:
        return str(error)
    return "\n".join((text or "the server keeps no log").splitlines()[-40:])
