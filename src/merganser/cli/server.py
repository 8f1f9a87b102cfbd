"""``merganser server``: the Prefect server with the measured settings."""

from __future__ import annotations

import os
import time
import webbrowser
from typing import TYPE_CHECKING

import click

from merganser.cli.options import SIGN_IN, json_option, print_json, show_service
from merganser.cli.terminal import say

if TYPE_CHECKING:
    from merganser.services.supervisor import Service


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port; 0 takes any free one [default: 4200, or another one when that is taken].",
)
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
@click.option("--ui", is_flag=True, help="Open the UI in a browser, signed in.")
@json_option
def command(
    *,
    port: int | None,
    public: bool,
    database_url: str | None,
    background: bool,
    status: bool,
    stop: bool,
    ui: bool,
    as_json: bool,
) -> int:
    """Run the Prefect server that keeps the history of all runs, until Ctrl-C.

    It asks for a password, which commands of this user know; --ui signs a browser in, once, and
    --status --json shows what to send. PREFECT_SERVER_API_AUTH_STRING=user:password sets another;
    commands on other machines need it as PREFECT_API_AUTH_STRING.
    """
    from merganser.services.prefect_server import (
        AUTH_VARIABLE,
        authorization,
        ensure_server,
        login_of,
        running_server,
        shown_database,
    )

    if status or stop:
        found = running_server()
        told = {} if stop else {"authorization": authorization(login_of(found) if found else "")}
        return show_service(found, stop=stop, as_json=as_json, told=told)
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
        login = authorization(login_of(service))
        told = {"running": True, "url": url, "authorization": login, "log": log}
        print_json({**told, "database": database})
    else:
        say(f"Prefect UI: {service.url} ({SIGN_IN})\nAPI: {service.url}/api\nlog: {service.log}")
        if service.note:
            say(f"note: {service.note}")
        if service.started:
            say(f"database: {shown_database(database_url)}")
    if ui:
        _open_signed_in(service)
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


def _open_signed_in(service: Service) -> None:
    from merganser.services.prefect_server import sign_in_page

    page = sign_in_page(service).as_uri()
    if not webbrowser.open(page):
        say(f"no browser could be started here; open {page}", err=True)
