"""Where run history goes: find, start or reuse a Prefect server, without importing Prefect.

The order: ``PREFECT_API_URL`` when the user set it (any server, or Cloud); an ephemeral server only
when asked for; else one local server of ours, started on demand and reused by every command.
Settings of our own server are in ``deployments/server.env``, measured, one place for all.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from merganser.services import (
    Service,
    ensure_service,
    merganser_home,
    running_service,
    stop_service,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFERRED_PORT = 4200
"""Prefect's own default, so that the address people know works."""

SERVICE = "prefect"


@dataclass(frozen=True, slots=True)
class History:
    """Where the runs of this command are recorded.

    Attributes:
        api_url: What Prefect's client talks to; None for an ephemeral server.
        ui_url: What a browser opens; None when there is no UI that stays.
        origin: Where the choice came from, for people.
    """

    api_url: str | None
    ui_url: str | None
    origin: str


def server_settings() -> dict[str, str]:
    """Read ``deployments/server.env``: one ``NAME=value`` a line, ``#`` starts a comment."""
    text = files("merganser.deployments").joinpath("server.env").read_text(encoding="utf-8")
    pairs = (line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def connect_history(*, ephemeral: bool = False) -> History:
    """Choose the server and set this process's environment for it; call before importing Prefect.

    Args:
        ephemeral: Use a server that lives and dies with this process.

    Raises:
        ServiceError: The local server did not come up.
    """
    set_client_environment()
    if ephemeral:
        os.environ.pop("PREFECT_API_URL", None)
        os.environ["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        return History(None, None, "ephemeral")
    if url := os.environ.get("PREFECT_API_URL"):
        return History(url, url.removesuffix("/").removesuffix("/api"), "PREFECT_API_URL")
    service = ensure_server()
    os.environ["PREFECT_API_URL"] = f"{service.url}/api"
    return History(os.environ["PREFECT_API_URL"], service.url, "local server")


def set_client_environment() -> None:
    """Set what every Prefect client of ours needs, leaving alone what the user has set."""
    defaults = {
        **server_settings(),
        "PREFECT_HOME": str(merganser_home() / "prefect"),
        # A command shows its own progress; the run's log is in the UI.
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        # 503 is how a locked SQLite database surfaces.
        "PREFECT_CLIENT_MAX_RETRIES": "10",
    }
    if os.environ.get("PREFECT_API_URL", "http://127.0.0.1").startswith("http://127.0.0.1"):
        # Plain http on loopback: spare each client the 25-70 ms of loading a CA bundle.
        defaults["PREFECT_API_TLS_INSECURE_SKIP_VERIFY"] = "true"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def ensure_server(*, port: int = PREFERRED_PORT) -> Service:
    """Start or reuse the local Prefect server.

    Raises:
        ServiceError: It did not come up; the message shows the end of its log.
    """
    return ensure_service(
        SERVICE,
        command=_server_command,
        healthy=server_healthy,
        env=_server_environment(),
        preferred_port=port,
    )


def running_server() -> Service | None:
    """Give the local Prefect server if it is up."""
    return running_service(SERVICE, server_healthy)


def stop_server() -> bool:
    """End the local Prefect server; False when none was running."""
    return stop_service(SERVICE)


def server_healthy(url: str) -> bool:
    """Tell whether a Prefect server answers at this root address within two seconds."""
    import httpx  # noqa: PLC0415 - `check` starts without it

    try:
        answer = httpx.get(f"{url}/api/health", timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and answer.json() is True


def _server_command(port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "prefect", "server", "start", *options]


def _server_environment() -> Mapping[str, str]:
    home = merganser_home() / "prefect"
    return {**server_settings(), "PREFECT_HOME": str(home)}
