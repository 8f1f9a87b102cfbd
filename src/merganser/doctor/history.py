"""Ask the Prefect server that a run would use whether it is there, lets us in and says its version.

Nothing is started, and neither Prefect nor a password appears here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from merganser.doctor.servers import Check
from merganser.humanize import without_credentials
from merganser.services.prefect_server import AUTH_VARIABLE, running_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

_NAME = "Prefect server"
_TIMEOUT_SECONDS = 5.0
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def diagnose_history(env: Mapping[str, str] | None = None) -> Check:
    """Look at ``PREFECT_API_URL``, else at the local server; never raises for what is wrong.

    Args:
        env: The environment; the process's own by default.
    """
    variables = os.environ if env is None else env
    if url := variables.get("PREFECT_API_URL"):
        return _ask(url.removesuffix("/"), "PREFECT_API_URL", variables)
    server = running_server()
    if server is None:
        return Check(_NAME, "ok", "not running; a run starts it")
    return _ask(f"{server.url}/api", "local server", variables)


def _ask(url: str, origin: str, env: Mapping[str, str]) -> Check:
    import httpx  # noqa: PLC0415 - the commands that ask nothing start without it

    shown = f"{without_credentials(url)} ({origin})"
    try:
        # Cloud may lie behind a proxy of the environment; loopback never does.
        trusts = urlsplit(url).hostname not in _LOOPBACK
        with httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=trusts, **_access(env)) as client:
            health = client.get(f"{url}/health")
            version = client.get(f"{url}/admin/version")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fix = "start it, correct PREFECT_API_URL, or unset that to use a local server"
        return Check(_NAME, "problem", f"{shown} does not answer: {type(error).__name__}", fix=fix)
    # Health needs no password, so the second answer tells whether we may come in.
    refused = {health.status_code, version.status_code} & {401, 403}
    if refused:
        fix = "set PREFECT_API_AUTH_STRING=user:password, or PREFECT_API_KEY for Cloud"
        return Check(_NAME, "problem", f"{shown} refuses us ({min(refused)})", fix=fix)
    if not health.is_success:
        fix = "is this the API of a Prefect server? It usually ends in /api"
        return Check(_NAME, "problem", f"{shown} answers {health.status_code}", fix=fix)
    return Check(_NAME, "ok", f"{shown}{_version(version)}")


def _version(answer: httpx.Response) -> str:
    """Give the version where the server says it; Cloud does not."""
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return f", version {answer.json()}" if answer.is_success and is_json else ""


def _access(env: Mapping[str, str]) -> dict[str, Any]:
    login = env.get("PREFECT_API_AUTH_STRING") or env.get(AUTH_VARIABLE, "")
    name, _, password = login.partition(":")
    if name:
        return {"auth": (name, password)}
    key = env.get("PREFECT_API_KEY")
    return {"headers": {"Authorization": f"Bearer {key}"}} if key else {}
