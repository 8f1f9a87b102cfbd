"""The HTTP surface: paths, methods and the answers to what is not there (section 1.0).

The rules are upstream's: a wrong method is a 404, ``/v1`` and ``/rerank`` are short for paths under
``/engines``, browsers are refused by their Origin.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import Response

from merganser.runner import engine_routes as engines
from merganser.runner import model_routes as models
from merganser.runner.inference import (
    get_openai_model,
    infer,
    list_openai_models,
)
from merganser.runner.replies import RequesterGoneError, TextError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from merganser.runner.engines import Operation
    from merganser.runner.state import RunnerState

Handler = Callable[..., Awaitable[Response]]

logger = logging.getLogger(__name__)

SERVER_NAME = "merganser-embedded"
DESKTOP_PREFIX = "/exp/vDD4.40"
"""Docker Desktop serves the same API under this path on its socket."""

_HOSTS = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - names in a header, nothing is bound
ALLOWED_ORIGINS = frozenset(
    f"{scheme}://{host}{port}"
    for scheme in ("http", "https")
    for host in _HOSTS
    for port in ("", ":*")
)
"""Compared as text, so no origin with a port is allowed: that is upstream's rule."""

_ENGINE = r"/engines(?:/(?P<backend>[^/]+))?"
_V1 = rf"{_ENGINE}/v1"


def _inference(operation: Operation) -> Handler:
    return partial(infer, operation=operation)


_ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("GET", r"/", engines.get_root),
    ("GET", r"/version", engines.get_version),
    ("GET", r"/logs", engines.get_logs),
    ("GET", r"/models/?", models.list_models),
    ("POST", r"/models/create", models.create_model),
    ("POST", r"/models/load", models.load_model),
    ("POST", r"/models/(?P<reference>.+)/tag", models.tag_model),
    ("DELETE", r"/models/purge", models.purge_models),
    ("DELETE", r"/models/(?P<reference>.+)", models.delete_model),
    ("GET", r"/models/(?P<reference>.+)", models.get_model),
    ("GET", r"/engines/status", engines.get_status),
    ("GET", r"/engines/ps", engines.get_processes),
    ("GET", r"/engines/df", engines.get_disk_usage),
    ("GET", r"/engines/requests", engines.get_requests),
    ("GET", r"/engines/_configure", engines.get_configurations),
    ("POST", r"/engines/unload", engines.unload),
    ("POST", rf"{_ENGINE}/_configure", engines.configure),
    ("GET", rf"{_V1}/models", list_openai_models),
    ("GET", rf"{_V1}/models/(?P<reference>.+)", get_openai_model),
    ("POST", rf"{_V1}/chat/completions", _inference("chat")),
    ("POST", rf"{_V1}/completions", _inference("completions")),
    ("POST", rf"{_V1}/embeddings", _inference("embeddings")),
    ("POST", rf"{_V1}/images/generations", _inference("images")),
    ("POST", rf"{_ENGINE}/rerank", _inference("rerank")),
    ("POST", rf"{_ENGINE}/score", _inference("score")),
)
_TABLE = [(method, re.compile(path), handler) for method, path, handler in _ROUTES]
_UNKNOWN_ACTION = re.compile(r"/models/.+/(?P<action>[^/]+)")


class RunnerApp:
    """The ASGI application of one runner.

    Args:
        state: What its routes share.
    """

    def __init__(self, state: RunnerState) -> None:
        self._state = state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = _clean_path(str(scope["path"]))
        try:
            response = await self._respond(request, _match(request.method, path))
        except RequesterGoneError:
            return
        response.headers["Server"] = SERVER_NAME
        await response(scope, receive, send)

    async def _respond(self, request: Request, handler: Handler) -> Response:
        origin = request.headers.get("origin")
        try:
            if origin is not None and origin not in ALLOWED_ORIGINS:
                return TextError(403, "Origin not allowed").to_response()
            return await handler(self._state, request)
        except TextError as error:
            return error.to_response()
        except RequesterGoneError:
            raise
        except ConnectionAbortedError:
            raise RequesterGoneError from None
        except Exception:
            logger.exception("%s %s failed", request.method, request.url.path)
            return TextError(500, "internal error, see the runner's log").to_response()


def _clean_path(path: str) -> str:
    """Give the path under which a route is looked up."""
    path = re.sub(r"/{2,}", "/", path).removeprefix(DESKTOP_PREFIX) or "/"
    first = path.split("/", 2)[1]
    return f"/engines{path}" if first in {"v1", "rerank", "score"} else path


def _match(method: str, path: str) -> Handler:
    """Find the route, or a handler for what is not there."""
    wanted = "GET" if method == "HEAD" else method
    for allowed, pattern, handler in _TABLE:
        match = pattern.fullmatch(path)
        if match and allowed == wanted:
            named = {key: value for key, value in match.groupdict().items() if value is not None}
            return partial(handler, **named)
    return partial(_not_found, method=wanted, path=path)


async def _not_found(state: RunnerState, request: Request, *, method: str, path: str) -> Response:
    del state, request
    if path.startswith(("/models", "/engines")):
        action = _UNKNOWN_ACTION.fullmatch(path)
        if method == "POST" and action:
            raise TextError(404, f'unknown action "{action["action"]}"')
        raise TextError(404, "not found")
    raise TextError(404, "404 page not found")


def build_app(state: RunnerState, middleware: Any = ()) -> Any:
    """Give the application, wrapped in ASGI middleware (outermost first)."""
    app: Any = RunnerApp(state)
    for wrap in reversed(tuple(middleware)):
        app = cast("Callable[[Any], Any]", wrap)(app)
    return app
