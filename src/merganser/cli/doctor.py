"""``merganser doctor``: look at everything a run needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.common import exit_cleanly, json_option, print_json, reach_options, take_reach

if TYPE_CHECKING:
    from merganser.doctor import Check

_MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option("--no-canaries", is_flag=True, help="Do not load models to try them.")
@click.option("--logs", is_flag=True, help="Print the end of the model server's log.")
@reach_options
@json_option
def command(
    file: str | None, *, no_canaries: bool, logs: bool, as_json: bool, **options: Any
) -> int:
    """Look at the model server, the models of FILE and the history; exits with 1 on problems."""
    from merganser.doctor import diagnose
    from merganser.resolve import all_models
    from merganser.server import running_server

    reach = take_reach(options)
    uses = all_models(reach.load(file)) if file else ()
    base_url = reach.address()
    with exit_cleanly():
        found = asyncio.run(diagnose(uses, base_url=base_url, canaries=not no_canaries))
        log = asyncio.run(_server_log(base_url)) if logs else ""
    server = running_server()
    history = f"running at {server.url}" if server else "not running; a run starts it"
    if as_json:
        print_json({**found.as_json(), "history": {"url": server.url if server else None}})
        return 0 if found.healthy else 1
    for check in found.checks:
        _show(check)
    click.echo(f"{_MARKS['ok']} Prefect server: {history}")
    if log:
        click.echo(log)
    return 0 if found.healthy else 1


def _show(check: Check) -> None:
    took = f" ({check.seconds:.1f} s)" if check.seconds is not None else ""
    click.echo(f"{_MARKS[check.level]} {check.name}: {check.detail}{took}")
    if check.fix:
        click.echo(f"        fix: {check.fix}")


async def _server_log(base_url: str | None) -> str:
    from merganser.errors import ModelRunnerError
    from merganser.model_runner import ModelRunner, resolve_address

    try:
        async with ModelRunner(await resolve_address(base_url=base_url)) as runner:
            text = await runner.logs()
    except ModelRunnerError as error:
        return str(error)
    return "\n".join((text or "the server keeps no log").splitlines()[-40:])
