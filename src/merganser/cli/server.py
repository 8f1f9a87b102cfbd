"""``merganser server``: the Prefect server with the measured settings."""

from __future__ import annotations

import time
import webbrowser

import click

from merganser.cli.common import json_option, print_json


@click.command()
@click.option("--port", default=4200, show_default=True, help="Port on 127.0.0.1.")
@click.option("--background", is_flag=True, help="Start it and return; it ends when unused.")
@click.option("--status", is_flag=True, help="Tell whether it runs.")
@click.option("--stop", is_flag=True, help="End it.")
@click.option("--ui", is_flag=True, help="Open the UI in a browser.")
@json_option
def command(
    *, port: int, background: bool, status: bool, stop: bool, ui: bool, as_json: bool
) -> int:
    """Run the Prefect server that keeps the history of all runs, until Ctrl-C."""
    from merganser.server import ensure_server, running_server, stop_server

    if status or stop:
        service = running_server()
        stopped = stop and stop_server()
        text = f"running at {service.url}" if service else "not running"
        if as_json:
            url = service.url if service and not stopped else None
            print_json({"running": url is not None, "url": url})
        else:
            click.echo("stopped" if stopped else text)
        return 0 if service else 1
    service = ensure_server(port=port)
    if as_json:
        print_json({"running": True, "url": service.url, "log": service.log})
    else:
        click.echo(f"Prefect UI: {service.url}\nAPI: {service.url}/api\nlog: {service.log}")
    if ui:
        webbrowser.open(service.url)
    if background:
        return 0
    try:
        while running_server():
            time.sleep(2.0)
    except KeyboardInterrupt:
        if service.started:
            stop_server()
        raise click.Abort from None
    click.echo("the server ended; see its log", err=True)
    return 1
