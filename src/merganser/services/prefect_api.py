"""The API of a Prefect server, asked without Prefect: is it one, and does it let us work.

Every answer is waited for a few seconds only, however slowly it comes, so that a wrong address is
one message and no long wait.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from merganser.humanize import without_credentials
from merganser.services.supervisor import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

URL_VARIABLE = "PREFECT_API_URL"

ANSWER_SECONDS = 6.0
"""From the look-up of the name to the last byte of the answer."""

AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
"""Prefect's own: ``user:password`` that the server asks for. No option: others can see those."""

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class ApiState:
    """What a look at an API found.

    Attributes:
        problem: Why no run can be recorded there, or "".
        fix: What to do about it, or "".
        version: The server's version; "" when it does not tell.
    """

    problem: str = ""
    fix: str = ""
    version: str = ""


def require_api(url: str, origin: str) -> None:
    """Check that an address is the API of a Prefect server that lets us in and works.

    Args:
        url: Of the API.
        origin: What names it: ``PREFECT_API_URL``, or the local server.

    Raises:
        ServiceError: It is not; the message names the origin and says what to do.
    """
    state = _look(url, origin, os.environ, wants_version=False)
    if state.problem:
        shown = without_credentials(url)
        raise ServiceError(
            f"{shown} ({origin}) {state.problem}. {state.fix}; or run with --ephemeral, which needs"
            " no server"
        )


def look_at_api(url: str, origin: str, env: Mapping[str, str] | None = None) -> ApiState:
    """Ask an API for its version and for a row of its database.

    Args:
        url: Of the API.
        origin: What names it, for the advice.
        env: The environment; the process's own by default.
    """
    return _look(url, origin, os.environ if env is None else env, wants_version=True)


def _look(url: str, origin: str, env: Mapping[str, str], *, wants_version: bool) -> ApiState:
    found = list[ApiState]()
    # A thread, as neither looking up a name nor an answer that drips has a limit of its own.
    looking = Thread(
        target=lambda: found.append(_ask(url, origin, env, wants_version=wants_version)),
        daemon=True,
    )
    looking.start()
    looking.join(ANSWER_SECONDS + 2.0)
    if found:
        return found[0]
    return ApiState(f"does not answer within {ANSWER_SECONDS:.0f} s", _start_fix(origin))


def open_api(
    url: str, env: Mapping[str, str] | None = None, *, seconds: float = ANSWER_SECONDS
) -> httpx.Client:
    """Return a client of an API that knows how to log in and whom to trust.

    Args:
        url: Of the API.
        env: The environment; the process's own by default.
        seconds: How long a connection and each part of an answer may take.
    """
    import httpx  # noqa: PLC0415 - the commands that ask nothing start without it

    variables = os.environ if env is None else env
    parts = urlsplit(url)
    options = _access(variables)
    if parts.scheme == "http":
        # Nothing to verify, and reading the authorities takes 20 ms.
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    elif variables.get("PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "").lower() in {"1", "true", "yes"}:
        options["verify"] = False
    elif bundle := variables.get("PREFECT_API_SSL_CERT_FILE"):
        options["verify"] = ssl.create_default_context(cafile=bundle)
    return httpx.Client(
        base_url=url.rstrip("/"),
        timeout=seconds,
        # Cloud may lie behind a proxy of the environment; loopback never does.
        trust_env=parts.hostname not in _LOOPBACK,
        follow_redirects=True,
        **options,
    )


def _ask(url: str, origin: str, env: Mapping[str, str], *, wants_version: bool) -> ApiState:
    import httpx  # noqa: PLC0415 - the commands that ask nothing start without it

    try:
        with open_api(url, env) as client:
            # Health tells neither whether we may come in nor whether the database can be read.
            rows = client.post("/flows/filter", json={"limit": 1})
            if state := _judge(rows, origin, env):
                return state
            if not wants_version:
                return ApiState()
            return ApiState(version=_version(client.get("/admin/version")))
    except httpx.TimeoutException:
        return ApiState(f"does not answer within {ANSWER_SECONDS:.0f} s", _start_fix(origin))
    except httpx.ConnectError as error:
        return ApiState(f"cannot be reached ({error})", _start_fix(origin))
    except httpx.HTTPError as error:
        return ApiState(f"does not speak HTTP ({type(error).__name__})", _kind_fix(origin))
    except (httpx.InvalidURL, OSError, ValueError) as error:
        return ApiState(f"is no address that can be asked ({error})", _kind_fix(origin))


def _judge(answer: httpx.Response, origin: str, env: Mapping[str, str]) -> ApiState | None:
    """Return what is wrong with the answer to a query of flows, or None."""
    status = answer.status_code
    if status in {401, 403}:
        if not _access(env):
            return ApiState(
                f"asks for a login ({status})",
                "Set PREFECT_API_AUTH_STRING=user:password, or PREFECT_API_KEY for Cloud",
            )
        return ApiState(
            f"refuses our login ({status})", "Correct PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
        )
    if status >= 500:
        return ApiState(f"is out of order: it answers {status}", _broken_fix(origin))
    if not answer.is_success or not _is_list(answer):
        return ApiState(
            f"is not the API of a Prefect server: it answers {status} without what one gives",
            _kind_fix(origin),
        )
    return None


def _is_list(answer: httpx.Response) -> bool:
    try:
        return isinstance(answer.json(), list)
    except ValueError:
        return False


def _version(answer: httpx.Response) -> str:
    """Return the version where the server tells it; Prefect Cloud does not."""
    is_json = answer.headers.get("content-type", "").startswith("application/json")
    return str(answer.json()) if answer.is_success and is_json else ""


def _access(env: Mapping[str, str]) -> dict[str, Any]:
    login = env.get("PREFECT_API_AUTH_STRING") or env.get(AUTH_VARIABLE, "")
    name, _, password = login.partition(":")
    if name:
        return {"auth": (name, password)}
    key = env.get("PREFECT_API_KEY")
    return {"headers": {"Authorization": f"Bearer {key}"}} if key else {}


def _start_fix(origin: str) -> str:
    if origin == URL_VARIABLE:
        return f"Start it, correct {URL_VARIABLE}, or unset that to use a local server"
    return "End it with merganser server --stop; the next command starts another"


def _kind_fix(origin: str) -> str:
    return f"Correct {origin}, which usually ends in /api, or unset it to use a local server"


def _broken_fix(origin: str) -> str:
    if origin == URL_VARIABLE:
        return f"Its own log says why; mend it, correct {URL_VARIABLE}, or unset that"
    return "Its log says why: merganser server --status; end it with merganser server --stop"
