"""``merganser server``: the Prefect server with the measured settings."""

from __future__ import annotations

import os
import time
import webbrowser

import click

from merganser.cli.options import json_option, print_json, show_service
from merganser.cli.terminal import say


@click.command()
@click.option("--port", default=4200, show_default=True, help="Port; another one when it is taken.")
@click.option("--public", is_flag=True, help="Listen at all addresses; needs a password.")
@click.option(
    "--database-url",
    envvar="MERGANSER_DATABASE_URL",
    metavar="URL",
    help="PostgreSQL for several workers; better in MERGANSER_DATABASE_URL than here "
    "[default: SQLite].",
)
@click.option("--background", is_flag=True, help="Start it and return; it ends when unused.")
@click.option("--status", is_flag=True, help="Tell whether it runs.")
@click.option("--stop", is_flag=True, help="End it.")
@click.option("--ui", is_flag=True, help="Open the UI in a browser.")
@json_option
def command(
    *,
    port: int,
    public: bool,
    database_url: str | None,
    background: bool,
    status: bool,
    stop: bool,
    ui: bool,
    as_json: bool,
) -> int:
    """Run the Prefect server that keeps the history of all runs, until Ctrl-C.

    With PREFECT_SERVER_API_AUTH_STRING=user:password it asks for these; every command that has the
    same variable, or PREFECT_API_AUTH_STRING, knows them.
    """
    from merganser.services.prefect_server import (
        AUTH_VARIABLE,
        ensure_server,
        running_server,
        shown_database,
    )

    if status or stop:
        return show_service(running_server(), stop=stop, as_json=as_json)
    if public and not os.environ.get(AUTH_VARIABLE):
        raise click.UsageError(
            f"whoever reaches this machine could run flows here; set {AUTH_VARIABLE}=user:password"
        )
    host = "0.0.0.0" if public else "127.0.0.1"  # noqa: S104 - asked for, and with a password
    service = ensure_server(port=port, host=host, database_url=database_url)
    if database_url and not service.started:
        text = f"a server runs already at {service.url}; end it first: merganser server --stop"
        raise click.ClickException(text)
    if as_json:
        database = shown_database(database_url) if service.started else None
        url, log = service.url, service.log
        print_json({"running": True, "url": url, "log": log, "database": database})
    else:
        say(f"Prefect UI: {service.url}\nAPI: {service.url}/api\nlog: {service.log}")
        if service.started:
            say(f"database: {shown_database(database_url)}")
    if ui:
        webbrowser.open(service.url)
    if background:
        return 0
    try:
        while running_server():
            time.sleep(2.0)
    except KeyboardInterrupt:
        if service.started:
            from merganser.services.prefect_server import stop_server

            stop_server()
        raise click.Abort from None
    say("the server ended; see its log", err=True)
    return 1
