"""Who may ask a service of this machine, and how it proves to be ours.

A web page that the user visits, and a name that resolves to this machine, reach loopback too: the
first sends its ``Origin``, the second its own name as ``Host``. Who listens at a service's address
need not be the service, which may have ended: it proves that it is ours by a token that only this
user's files hold, without sending it.
"""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]
    App = Callable[..., Awaitable[None]]

TOKEN_VARIABLE = "MERGANSER_SERVICE_TOKEN"  # noqa: S105 - a name
"""What a service proves itself with, in its environment, which other users cannot read."""

PROOF_PATH = "/merganser/proof"

_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "host.docker.internal"})
"""Of this machine; the last is Docker Desktop's, and nobody can register a name like it."""


def is_local(host: str) -> bool:
    """Tell whether a ``Host`` header, or an address to listen on, is this machine's loopback."""
    name = host.strip().lower()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    name = name.removesuffix(".")
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def proof(token: str, nonce: str, port: int) -> str:
    """Return what shows that whoever listens at a port knows the token."""
    return hmac.digest(token.encode(), f"{nonce} {port}".encode(), "sha256").hex()


class ProvesItself:
    """Answers the question for a proof, and passes on all others.

    Args:
        app: Answers them.
        token: What is proved to be known.
        port: Where we listen.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and scope["path"] == PROOF_PATH:
            nonce = parse_qs(scope["query_string"].decode("latin-1")).get("nonce", [""])[0]
            await answer(send, 200, proof(self._token, nonce, self._port))
        else:
            await self._app(scope, receive, send)


class OwnNamesOnly:
    """Refuses requests to another name than this machine's, and those of another site's pages.

    Args:
        app: Answers all others.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or end it."""
        refusal = "" if scope["type"] == "lifespan" else _refusal(scope["headers"])
        if not refusal:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(send, 403, refusal)
        else:  # before it was accepted, which the server turns into a 403
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})


def _refusal(headers: list[tuple[bytes, bytes]]) -> str:
    """Return why a request is refused, or ""."""
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if len(hosts) != 1 or not is_local(hosts[0]):
        return "Host not allowed"
    if any(urlsplit(origin).netloc.lower() != hosts[0].lower() for origin in origins):
        return "Origin not allowed"
    return ""


async def answer(
    send: Send, status: int, text: str, *, headers: Mapping[str, str] | None = None
) -> None:
    """Answer a request with a text."""
    named = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-store"}
    pairs = [
        (name.encode(), value.encode()) for name, value in {**named, **(headers or {})}.items()
    ]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": text.encode()})
