"""Where run history goes: find, start or reuse a Prefect server, without importing Prefect.

The order: none when that is asked for; ``PREFECT_API_URL`` when the user set it (any server, or
Cloud); else one local server of ours, started on demand and reused by every command.
Settings of our own server are in ``deployments/server.env``, measured, one place for all.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import ssl
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from merganser.humanize import without_credentials
from merganser.services.prefect_api import AUTH_VARIABLE, URL_VARIABLE, require_api
from merganser.services.records import send_kept_records
from merganser.services.supervisor import (
    Service,
    ServiceError,
    ensure_service,
    merganser_home,
    private_folder,
    proves_itself,
    recorded_service,
    running_service,
    stop_service,
    unwritable_home,
    write_private,
)

PREFERRED_PORT = 4200
"""Prefect's own default, so that the address people know works."""

SERVICE = "prefect"

NO_SERVER = "http://no-server.invalid/api"
"""Stands for the API where no server is to be used; nothing is ever sent there."""

CLIENT_AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"
"""Prefect's own: ``user:password`` that clients log in with."""

DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"

HISTORY_VARIABLE = "MERGANSER_HISTORY_DAYS"
"""How many days the local server keeps runs, their logs and artifacts; 0 keeps them for ever."""

HISTORY_DAYS = 90

_DRIVERS = {
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
    "sqlite": "sqlite+aiosqlite",
}


@dataclass(frozen=True, slots=True)
class History:
    """Where the runs of this command are recorded.

    Attributes:
        api_url: Address for Prefect's client; ``NO_SERVER`` without one.
        ui_url: Address for a browser; None without a server.
        note: What people should know of it, or "".
        signs_in: A browser needs the password of the local server.
    """

    api_url: str
    ui_url: str | None
    note: str = ""
    signs_in: bool = False


def server_settings() -> dict[str, str]:
    """Read ``deployments/server.env``: one ``NAME=value`` a line, ``#`` starts a comment."""
    text = files("merganser.deployments").joinpath("server.env").read_text(encoding="utf-8")
    pairs = (line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def connect_history(*, ephemeral: bool = False) -> History:
    """Choose the server and set this process's environment for it; call before importing Prefect.

    Args:
        ephemeral: Use no server: the runs of this process are not recorded.

    Raises:
        ServiceError: What ``PREFECT_API_URL`` names does not do, or the local server did not come
            up.
    """
    set_client_environment()
    if ephemeral:
        os.environ[URL_VARIABLE] = NO_SERVER
        os.environ["PREFECT_LOGGING_TO_API_ENABLED"] = "false"
        return History(NO_SERVER, None)
    if url := os.environ.get(URL_VARIABLE):
        login = own_login(url)
        if login and not os.environ.get(CLIENT_AUTH_VARIABLE):
            os.environ[CLIENT_AUTH_VARIABLE] = login
        require_api(url, URL_VARIABLE)
        send_kept_records(url)
        ui_url = without_credentials(url).removesuffix("/").removesuffix("/api")
        return History(url, ui_url, signs_in=bool(login))
    service = ensure_server()
    if service.login:
        os.environ[CLIENT_AUTH_VARIABLE] = service.login
    require_api(f"{service.url}/api", "local server")
    os.environ[URL_VARIABLE] = f"{service.url}/api"
    send_kept_records(os.environ[URL_VARIABLE])
    return History(
        os.environ[URL_VARIABLE],
        service.url,
        note=service.note or _older(service),
        signs_in=bool(service.token),
    )


def own_login(url: str) -> str:
    """Return ``user:password`` for an API if it is this user's local server, else ""."""
    service = recorded_service(SERVICE)
    if service is None or url.rstrip("/") != f"{service.url}/api" or not proves_itself(service):
        return ""
    return service.login


def _older(service: Service) -> str:
    if service.token:
        return ""
    return (
        f"an older version started the Prefect server at {service.url}, without a password: any"
        " program of this machine may use it. When no run is under way, end it with merganser"
        " server --stop; the next command starts one with a password"
    )


def authorization(login: str) -> str | None:
    """Return what the header ``Authorization`` says for a login, None where none is asked for."""
    return f"Basic {base64.b64encode(login.encode()).decode()}" if login else None


def sign_in_page(service: Service) -> Path:
    """Write the page that opens the UI signed in, for nobody else to read.

    The login is in no address that a command line shows: the page goes to it.
    """
    page = merganser_home() / "open-ui.html"
    login = base64.b64encode(login_of(service).encode()).decode()
    address = f"{service.url}/merganser/sign-in#{login}" if service.token else service.url
    script = f"<script>location.replace({json.dumps(address)})</script>"
    write_private(page, f"<!doctype html><title>Prefect UI</title>{script}\n")
    return page


def login_of(service: Service) -> str:
    """Return ``user:password`` that a server of ours asks for; "" for none that is known here."""
    return service.login or os.environ.get(AUTH_VARIABLE, "")


def server_login() -> str:
    """Return ``user:password`` that a server of ours asks for: the user's, else a random one.

    It stays the same, so that a browser that knows it once is let in again.

    Raises:
        ServiceError: The file that holds it cannot be written or read.
    """
    if chosen := os.environ.get(AUTH_VARIABLE):
        return chosen
    path = merganser_home() / "prefect.password"
    try:
        private_folder(path.parent)
        if path.exists() and not path.read_text().strip():
            path.unlink()  # a power cut may leave it empty, and no password lets everybody in
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}")
            write_private(draft, f"merganser:{secrets.token_urlsafe(24)}\n")
            with suppress(FileExistsError):  # another command was quicker
                path.hardlink_to(draft)
            draft.unlink()
        path.chmod(0o600)
        return path.read_text().strip()
    except OSError as error:
        raise unwritable_home(SERVICE, error) from error


def set_client_environment() -> None:
    """Set what every Prefect client of ours needs, leaving alone what the user has set."""
    defaults = {
        **server_settings(),
        "PREFECT_HOME": str(merganser_home() / "prefect"),
        # Whoever may start the local server with a password may talk to it.
        CLIENT_AUTH_VARIABLE: os.environ.get(AUTH_VARIABLE, ""),
        # A command shows its own progress; the run's log is in the UI.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # 503 is how a locked SQLite database surfaces.
        "PREFECT_CLIENT_MAX_RETRIES": "10",
        # A dead run is told by missing heartbeats; every 3 minutes is too seldom.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        # A due run waits for the next look; one look costs milliseconds.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }
    with suppress(OSError):  # Prefect makes its folder, not the one that it is in
        private_folder(merganser_home())
        if os.environ.get("PREFECT_API_URL", "http://127.0.0.1").startswith("http://127.0.0.1"):
            defaults["PREFECT_API_SSL_CERT_FILE"] = str(_short_bundle())
    for name, value in defaults.items():
        if value:
            os.environ.setdefault(name, value)


def ensure_server(
    *, port: int | None = None, host: str = "127.0.0.1", database_url: str | None = None
) -> Service:
    """Start or reuse the local Prefect server.

    Args:
        port: No other one will do; 0 takes any. ``PREFERRED_PORT`` when None, or another one.
        host: Address to listen at.
        database_url: Where the history is kept, for a new server; SQLite in our folder when None.

    Raises:
        ServiceError: Its database is damaged, its port is taken, or it did not come up; the message
            shows the end of its log.
    """
    login = server_login()
    env = {
        **server_settings(),
        "PREFECT_HOME": str(merganser_home() / "prefect"),
        AUTH_VARIABLE: login,
    }
    if database_url:
        # In the environment, where other users' process lists do not show it.
        env[DATABASE_VARIABLE] = async_database_url(database_url)
    elif DATABASE_VARIABLE not in os.environ:
        env.update(pruning_settings())
        if running_server() is None:
            require_database(merganser_home() / "prefect" / "prefect.db")
    return ensure_service(
        SERVICE,
        command=lambda port: [
            *(sys.executable, "-P", "-m", "merganser.services.local_server"),
            *(host, str(port)),
        ],
        healthy=server_healthy,
        env=env,
        login="" if os.environ.get(AUTH_VARIABLE) else login,  # the user's own is written nowhere
        host=host,
        port=port,
        preferred_port=PREFERRED_PORT,
        busy=f"{__name__}:schedules_active",
    )


def pruning_settings() -> dict[str, str]:
    """Return what has our own database forget old runs, leaving alone what the user has set.

    Raises:
        ServiceError: ``MERGANSER_HISTORY_DAYS`` is no number of days.
    """
    text = os.environ.get(HISTORY_VARIABLE) or str(HISTORY_DAYS)
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days < 36_500:
        raise ServiceError(
            f"{HISTORY_VARIABLE} is {text!r}; it must be a number of days, and 0 keeps all runs"
        )
    vacuum = "PREFECT_SERVER_SERVICES_DB_VACUUM_"
    wanted = {
        f"{vacuum}ENABLED": "events,flow_runs" if days else "events",
        # Prefect takes no hour and less.
        f"{vacuum}RETENTION_PERIOD": str(max(int(days * 86_400), 3_601)),
    }
    return {name: value for name, value in wanted.items() if name not in os.environ}


def require_database(path: Path) -> None:
    """Check that the file of our own history can be opened, before a server fails over it.

    Raises:
        ServiceError: It is damaged; the message says what to do.
    """
    if not path.exists():
        return
    import sqlite3  # noqa: PLC0415 - only who starts a server looks

    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5.0)) as found:
            found.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if "locked" in str(error):  # somebody writes it, so it is one
            return
        raise ServiceError(
            f"the run history {path} cannot be read ({error}). Move it away and the next command"
            " begins a new one (indexes and answers are not in it); or run with --ephemeral, which"
            " needs no server"
        ) from error


def running_server() -> Service | None:
    """Return the local Prefect server if it is up, else None."""
    return running_service(SERVICE, server_healthy)


def stop_server() -> bool:
    """End the local Prefect server; False when none was running."""
    return stop_service(SERVICE)


def server_healthy(service: Service) -> bool:
    """Return whether our Prefect server answers at its address within a few seconds."""
    if service.token:  # it answers nobody before it has started
        return proves_itself(service)
    import httpx  # noqa: PLC0415 - `check` starts without it

    # The server is plain http on this machine: no authority has to be read, which takes 20 ms.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        answer = httpx.get(
            f"{service.url}/api/health", timeout=2.0, trust_env=False, verify=context
        )
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json() is True


def schedules_active(url: str) -> bool:
    """Return whether the server has a deployment with an active schedule, and so must stay."""
    import httpx  # noqa: PLC0415 - `check` starts without it

    name, _, password = os.environ.get(AUTH_VARIABLE, "").partition(":")
    asked = {"deployments": {"tags": {"all_": ["merganser"]}}, "limit": 200}
    try:
        answer = httpx.post(
            f"{url}/api/deployments/filter",
            json=asked,
            timeout=30.0,
            trust_env=False,
            auth=(name, password) if name else None,
        )
        deployments: list[dict[str, Any]] = answer.raise_for_status().json()
    except httpx.HTTPError:
        return False
    return any(
        schedule["active"]
        for one in deployments
        if not one["paused"]
        for schedule in one["schedules"]
    )


def async_database_url(url: str) -> str:
    """Spell a database's address as Prefect's driver needs it.

    Raises:
        ServiceError: It is neither PostgreSQL nor SQLite; its password is not repeated.
    """
    scheme, separator, rest = url.partition("://")
    driver = _DRIVERS.get(scheme.partition("+")[0])
    if not separator or driver is None:
        raise ServiceError(
            "the database's address must begin with postgresql:// or sqlite:///, for example"
            " postgresql://user:password@host/prefect"
        )
    return f"{driver}://{rest}"


def shown_database(url: str | None) -> str:
    """Name a database without user, password and options."""
    if url is None:
        return "SQLite"
    parts = urlsplit(url)
    where = parts.hostname or ""
    return f"{parts.scheme.partition('+')[0]} {where}{parts.path}".strip()


def _short_bundle() -> Path:
    """Return a file with one certificate authority, for clients that will not need any.

    Each of a command's four Prefect clients reads a whole bundle, 20 ms of CPU, whatever the
    scheme of its address; turning verification off does not prevent it.

    Raises:
        OSError: It cannot be written.
    """
    path = merganser_home() / "one-authority.pem"
    if not path.exists() or not path.stat().st_size:  # a power cut may leave it empty
        import certifi  # noqa: PLC0415 - once

        authorities = Path(certifi.where()).read_text(encoding="utf-8")
        first, end, _ = authorities.partition("-----END CERTIFICATE-----\n")
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(first + end, encoding="utf-8")
        draft.replace(path)
    return path
