"""The admin port: faults, scripts and counters for tests in another process.

It is a second server on loopback, so that nothing a client sends to the runner itself can change
how it behaves. All bodies are JSON::

    GET  /faults        the faults that may still strike
    POST /faults        one fault, or a list: the fields of ``Fault``
    DELETE /faults      drop faults and scripts
    POST /script        a list of answers: text, or the fields of ``ScriptedAnswer``
    GET  /script        the chat requests that the script has answered
    GET  /counters      totals; DELETE begins again at zero
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from merganser.runner.faults import Fault, Faults, ScriptedAnswer, ScriptedCall
from merganser.runner.replies import TextError, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from merganser.runner.counters import Counters


class AdminApp:
    """The ASGI application of the admin port.

    Args:
        faults: Of the runner.
        counters: Of the runner.
    """

    def __init__(self, faults: Faults, counters: Counters) -> None:
        self._faults = faults
        self._counters = counters
        self._routes: dict[tuple[str, str], Callable[[Any], object]] = {
            ("GET", "/faults"): lambda _: [asdict(fault) for fault in faults.pending],
            ("POST", "/faults"): self._inject,
            ("DELETE", "/faults"): lambda _: faults.clear(),
            ("GET", "/script"): lambda _: list(faults.scripted_requests),
            ("POST", "/script"): self._script,
            ("GET", "/counters"): lambda _: counters.to_json(),
            ("DELETE", "/counters"): lambda _: counters.reset(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            response = await self._respond(Request(scope, receive))
            await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        action = self._routes.get((request.method, request.url.path))
        if action is None or "origin" in request.headers:
            return TextError(404, "not found").to_response()
        try:
            body = await request.body()
            return json_reply(action(json.loads(body) if body else None))
        except (ValueError, TypeError) as error:
            return TextError(400, str(error)).to_response()

    def _inject(self, given: Any) -> None:
        for fields in given if isinstance(given, list) else [given]:  # pyright: ignore[reportUnknownVariableType] - any JSON
            self._faults.inject(Fault(**fields))  # pyright: ignore[reportUnknownArgumentType] - checked by the constructor

    def _script(self, given: Any) -> None:
        self._faults.script_chat([_answer(entry) for entry in given])


def _answer(entry: Any) -> ScriptedAnswer:
    if isinstance(entry, str):
        return ScriptedAnswer(entry)
    fields: dict[str, Any] = dict(entry)
    fields["tool_calls"] = tuple(ScriptedCall(**call) for call in fields.get("tool_calls", ()))
    return ScriptedAnswer(**fields)
