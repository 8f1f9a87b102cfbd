"""The HTTP surface: who may ask, aliases of paths, and the answers to what is not there.

The rules are Docker Model Runner's (``docs/model-runner.md``, section 1.0): a wrong method is a
404, ``/v1`` and ``/rerank`` are short for paths under ``/engines``, browsers are refused by their
``Origin``. Beyond it, a name that only resolves to this machine is refused: a page whose own name
does so is of one origin with us, and sends none.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request

from merganser.runner.engine_routes import SERVER_NAME
from merganser.runner.replies import TextError
from merganser.services.request_guard import is_local

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

DESKTOP_PREFIX = "/exp/vDD4.40"
"""Docker Desktop serves the same API under this path on its socket."""

_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - names in a header, nothing is bound
ALLOWED_ORIGINS = frozenset(
    f"{scheme}://{host}{port}"
    for scheme in ("http", "https")
    for host in _HOSTS
    for port in ("", ":*")
)
"""Compared as text, as Docker Model Runner does, so no origin with a port is allowed."""

_UNKNOWN_ACTION = re.compile(r"/models/.+/(?P<action>[^/]+)")


def build_app(
    routes: Sequence[Route],
    middleware: Iterable[Callable[[ASGIApp], ASGIApp]] = (),
    *,
    any_host: bool = False,
) -> ASGIApp:
    """Return the application of these routes, wrapped in ASGI middleware (outermost first).

    Args:
        routes: What is answered.
        middleware: Wrappers.
        any_host: Whether requests to any ``Host`` are answered, not to this machine's only.
    """
    inner = Starlette(
        routes=routes,
        exception_handlers={
            TextError: _answer_error,
            404: _answer_not_found,
            405: _answer_not_found,
            Exception: _answer_failure,
        },
    )
    inner.router.redirect_slashes = False
    app: ASGIApp = _Surface(inner, any_host=any_host)
    for wrap in reversed(tuple(middleware)):
        app = wrap(app)
    return app


class _Surface:
    """Refuses browsers, resolves aliases of paths and puts the server's name on every answer."""

    def __init__(self, app: ASGIApp, *, any_host: bool) -> None:
        self._app = app
        self._any_host = any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope)
        origin = request.headers.get("origin")
        app = self._app
        if origin is not None and origin not in ALLOWED_ORIGINS:
            app = TextError(403, "Origin not allowed").to_response()
        elif not self._any_host and not is_local(request.headers.get("host", "")):
            app = TextError(403, "Host not allowed").to_response()

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"server", SERVER_NAME.encode()))
            await send(message)

        try:
            await app({**scope, "path": _clean_path(scope["path"])}, receive, send_named)
        except ClientDisconnect:
            return
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)


def _clean_path(path: str) -> str:
    """Return the path under which a route is looked up."""
    path = re.sub(r"/{2,}", "/", path).removeprefix(DESKTOP_PREFIX) or "/"
    return f"/engines{path}" if path.split("/", 2)[1] in {"v1", "rerank"} else path


async def _answer_error(_: Request, error: Any) -> Response:
    return error.to_response()


async def _answer_not_found(request: Request, _: Exception) -> Response:
    path = request.scope["path"]
    if not path.startswith(("/models", "/engines")):
        return TextError(404, "404 page not found").to_response()
    action = _UNKNOWN_ACTION.fullmatch(path) if request.method == "POST" else None
    message = f'unknown action "{action["action"]}"' if action else "not found"
    return TextError(404, message).to_response()


async def _answer_failure(_: Request, __: Exception) -> Response:
    return TextError(500, "internal error, see the runner's log").to_response()
