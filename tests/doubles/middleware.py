"""ASGI middleware that counts requests and answers some of them instead of the runner.

What it answers has the form of a real Docker Model Runner's failures (docs/model-runner.md). It
asks the runner itself, through the contract, for what it needs to know.
"""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from merganser.runner.engines import encode_json
from merganser.runner.known_models import CATALOGUE, MINILM, default_alias
from merganser.runner.model_routes import pull_reply
from merganser.runner.pulls import RawText, layer_line, progress_line
from merganser.runner.replies import TextError, unless_gone
from tests.doubles.scripted import scripted_response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from merganser.runner.pulls import Line
    from tests.doubles.counters import Counters
    from tests.doubles.faults import Fault, Faults

_LABELS = [
    ("chat", r"POST .*/v1/chat/completions"),
    ("completions", r"POST .*/v1/completions"),
    ("embeddings", r"POST .*/v1/embeddings"),
    ("rerank", r"POST .*/rerank"),
    ("pull", r"POST .*/models/create"),
    ("delete", r"DELETE .*/models/.+"),
    ("v1-models", r"GET .*/v1/models.*"),
    ("models", r"GET .*/models.*"),
    ("configure", r".* .*/_configure"),
    ("unload", r"POST .*/engines/unload"),
    ("status", r"GET .*/engines/status"),
    ("ps", r"GET .*/engines/ps"),
    ("df", r"GET .*/engines/df"),
    ("version", r"GET .*/version"),
    ("logs", r"GET .*/logs"),
    ("root", r"GET /"),
]
_INFERENCE = {"chat", "completions", "embeddings", "rerank"}
_STATUS_TEXTS = {429: "too many requests", 500: "internal error", 503: "service unavailable"}
_DEATH = {
    "type": "error",
    "code": None,
    "message": "llama.cpp terminated unexpectedly: llama.cpp exit status: signal: killed",
    "param": None,
    "sequence_number": 1,
}
_REFUSED_PULLS: dict[Any, tuple[int, str]] = {
    "pull-not-found": (404, "Model not found"),
    "pull-unauthorized": (401, "Unauthorized"),
    "pull-unsupported": (422, "error while pulling model: unsupported config media type"),
    "pull-failed": (500, "error while pulling model: registry unreachable"),
}
_BROKEN_PULLS: tuple[Any, ...] = (
    "pull-error-line",
    "pull-stream-unauthorized",
    "pull-stream-not-found",
    "pull-cut",
    "pull-stall",
    "pull-doubled",
    "pull-cached",
)


def route_label(method: str, path: str) -> str:
    """Return the short name by which faults and counters know a route."""
    request = f"{method} {path}"
    return next((label for label, form in _LABELS if re.fullmatch(form, request)), "unknown")


class FaultInjection:
    """Wraps a runner's application.

    Args:
        app: What is wrapped.
        faults: What is to go wrong.
        counters: Told about every request.
    """

    def __init__(self, app: ASGIApp, *, faults: Faults, counters: Counters) -> None:
        self._app = app
        self._faults = faults
        self._counters = counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or have it answered."""
        label = route_label(scope["method"], scope["path"])
        with self._counters.request(label), suppress(ClientDisconnect):
            body = await _read(receive)
            fields = _parse(body)
            model = str(fields.get("from" if label == "pull" else "model", ""))
            reply = await self._strike(label, model, fields, scope, receive)
            if label in _INFERENCE and (
                fault := self._faults.take("cut", route=label, model=model)
            ):
                send = _cut(send, fault.after_bytes)
            await (reply or self._app)(scope, _replay(body, receive), send)

    async def _strike(
        self, label: str, model: str, fields: Mapping[str, Any], scope: Scope, receive: Receive
    ) -> Response | None:
        """Return what is answered instead of the runner; None lets the runner answer.

        Raises:
            ClientDisconnect: The client did not wait for a slow answer.
        """
        fault = self._faults.take("status", "slow", "hang", "garbage", route=label, model=model)
        if fault is not None and (reply := await _general(fault, receive)):
            return reply
        if label == "pull":
            return await self._strike_pull(model, fields, scope)
        if label not in _INFERENCE:
            return None
        if self._faults.take("engine-death", route=label, model=model):
            await self._ask("POST", "/engines/unload", {"models": [model]})
            return Response(encode_json(_DEATH) + b"\n", 500, media_type="text/plain")
        is_scripted = label == "chat" and self._faults.has_script and not _is_preload(scope)
        if is_scripted and (await self._ask("GET", f"/v1/models/{model}")).is_success:
            answer = self._faults.take_scripted(fields)
            return scripted_response(answer, fields) if answer else None
        return None

    async def _strike_pull(
        self, model: str, fields: Mapping[str, Any], scope: Scope
    ) -> Response | None:
        if fault := self._faults.take(*_REFUSED_PULLS, route="pull", model=model):
            status, message = _REFUSED_PULLS[fault.kind]
            return TextError(status, fault.message or message).to_response()
        if (await self._ask("GET", f"/v1/models/{model}")).is_success:
            return None
        fault = self._faults.take(*_BROKEN_PULLS, route="pull", model=model)
        if fault is None:
            return None
        as_json = (b"accept", b"application/json") in scope["headers"]
        lines = self._broken_pull(fault, model, fields)
        return pull_reply(await anext(lines), lines, as_json=as_json)

    async def _broken_pull(
        self, fault: Fault, model: str, fields: Mapping[str, Any]
    ) -> AsyncIterator[Line]:
        known = CATALOGUE.get(default_alias(model) or model, MINILM)
        begun = layer_line(known, known.files[0], known.files[0].size_bytes // 3)
        match fault.kind:
            case "pull-error-line":
                yield begun
                yield progress_line("error", "Error: unexpected EOF")
                yield RawText(f'error while pulling model: failed to pull "{model}"')
            case "pull-stream-unauthorized" | "pull-stream-not-found":
                yield progress_line("progress", "Fetching file list...")
                unauthorized = fault.kind == "pull-stream-unauthorized"
                yield RawText("Unauthorized" if unauthorized else "Model not found")
            case "pull-cut" | "pull-stall":
                yield begun
                if fault.kind == "pull-stall":
                    await asyncio.sleep(fault.seconds or 3600.0)
                raise ConnectionAbortedError
            case "pull-doubled":
                for line in _doubled_lines(known.files, known.size_bytes):
                    yield line
                for line in await self._pull(fields):
                    if line["type"] != "progress":
                        yield line
            case _:  # pull-cached does the work, quietly
                await self._pull(fields)
                for line in await self._pull(fields):
                    yield line

    async def _pull(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        answer = await self._ask("POST", "/models/create", fields)
        return [json.loads(line) for line in answer.text.splitlines()]

    async def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Ask the wrapped runner."""
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Accept": "application/json"}
            return await client.request(method, path, json=body, headers=headers, timeout=None)


async def _general(fault: Fault, receive: Receive) -> Response | None:
    """Let a fault strike that any route can have; None means that the request goes on.

    Raises:
        ClientDisconnect: The client did not wait.
    """
    match fault.kind:
        case "status":
            message = fault.message or _STATUS_TEXTS.get(fault.status, "fault")
            retry = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            return TextError(fault.status, message, retry).to_response()
        case "garbage":
            return Response(b"<html>not JSON</html>", media_type="application/json")
        case "slow":
            await unless_gone(receive, asyncio.sleep(fault.seconds))
        case _:
            await unless_gone(receive, asyncio.Event().wait())
    return None


def _doubled_lines(files: Any, total: int) -> list[Line]:
    """Report every byte twice under different ids, as pulls from Hugging Face do."""
    found = f"Found {len(files)} files ({total / 1e6:.2f} MB total)"
    lines: list[Line] = [
        progress_line("progress", "Fetching file list..."),
        progress_line("progress", found, total=total),
    ]
    for prefix in ("path", "blob"):
        for file in files:
            for share in (0.5, 1.0):
                done = int(file.size_bytes * share)
                layer = {"id": f"sha256:{prefix}-{file.sha256}", "size": file.size_bytes}
                lines.append(progress_line("progress", "", total=total, current=done, **layer))
        if prefix == "path":
            lines.append(progress_line("progress", "Building model artifact..."))
    return lines


async def _read(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}  # pyright: ignore[reportUnknownVariableType] - any JSON object


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that was read once more."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


def _cut(send: Send, after_bytes: int) -> Send:
    """Return a channel that breaks off after so many bytes of the body."""
    left = after_bytes

    async def limited(message: Message) -> None:
        nonlocal left
        body = message.get("body", b"")
        if len(body) < left:
            left -= len(body)
            await send(message)
            return
        await send({**message, "body": body[:left], "more_body": True})
        raise ClientDisconnect

    return limited


def _is_preload(scope: Scope) -> bool:
    return any(name == b"x-preload-only" for name, _ in scope["headers"])
