"""``merganser doctor``: look at everything a run needs."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from merganser.cli.options import Reach, json_option, print_json, reach_options

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
    from merganser.config.flow_definition import all_models
    from merganser.doctor.history import diagnose_history
    from merganser.doctor.servers import diagnose
    from merganser.services.prefect_server import running_server

    config = reach.load(file) if file else None
    uses = all_models(config) if config else ()
    base_url = reach.address()
    found = asyncio.run(diagnose(uses, base_url=base_url, probe_models=not no_probes))
    log = asyncio.run(_server_log(base_url)) if logs else ""
    indexes = _look_at_indexes(config) if config else []
    history = diagnose_history()
    deployments: tuple[Check, ...] = ()
    if config and history.level == "ok":
        deployments = _look_at_deployments(config, indexes, reach.model_map)
    healthy = (
        found.healthy
        and all(check.level != "problem" for check in (history, *deployments))
        and all(index.healthy for index in indexes)
    )
    if as_json:
        seen = {"healthy": healthy, "indexes": [asdict(index) for index in indexes]}
        server = running_server()
        url = server.url if server else None
        told = {"url": url, "check": asdict(history)}
        rows = [asdict(check) for check in deployments]
        print_json({**found.as_json(), **seen, "history": told, "deployments": rows})
        return 0 if healthy else 1
    for report in found.servers:
        _show_server(report)
    for check in (*found.checks, *(check for index in indexes for check in index.checks)):
        _show(check)
    for check in (history, *deployments):
        _show(check)
    if log:
        click.echo(log)
    return 0 if healthy else 1


def _look_at_indexes(config: Config) -> list[IndexDiagnosis]:
    from merganser.config.rag_definition import resolve_rag
    from merganser.doctor.indexes import diagnose_index

    by_name = {i.name: i for rag in config.spec.rag for i in resolve_rag(config, rag).indexes}
    return [diagnose_index(definition) for definition in by_name.values()]


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
        click.echo(f"asked   {probe.url} ({probe.source}): {probe.answer}")
    if report.disk is not None:
        models, engines = report.disk.models_bytes / 1e6, report.disk.engine_bytes / 1e6
        click.echo(f"disk    {models:,.1f} MB of models, {engines:,.1f} MB of engines")


def _show(check: Check) -> None:
    took = f" ({check.seconds:.1f} s)" if check.seconds is not None else ""
    click.echo(f"{_MARKS[check.level]} {check.name}: {check.detail}{took}")
    if check.fix:
        click.echo(f"        fix: {check.fix}")


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
