"""Inference: from the path and the body to an engine's answer (sections 1.3, 4 and 6)."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import httpx
from starlette.responses import Response

from merganser.runner.engine_routes import check_backend
from merganser.runner.engines import (
    MODE_OF,
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    Operation,
    encode_json,
)
from merganser.runner.libraries import MissingExtraError
from merganser.runner.replies import StreamReply, TextError, json_reply, read_body, unless_gone
from merganser.runner.scheduler import DEFAULT_BACKEND
from merganser.runner.scripted import scripted_response
from merganser.runner.settings import BACKENDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from merganser.runner.faults import Fault
    from merganser.runner.model_store import FoundModel
    from merganser.runner.state import RunnerState

_DEATH = {
    "type": "error",
    "code": None,
    "message": "llama.cpp terminated unexpectedly: llama.cpp exit status: signal: killed",
    "param": None,
    "sequence_number": 1,
}
_STATUS_TEXTS = {429: "too many requests", 500: "internal error", 503: "service unavailable"}


async def list_openai_models(
    state: RunnerState, request: Request, backend: str = DEFAULT_BACKEND
) -> Response:
    """GET …/v1/models."""
    del request
    _require_backend(backend)
    return json_reply({"object": "list", "data": [model.to_openai() for model in state.store]})


async def get_openai_model(
    state: RunnerState, request: Request, reference: str, backend: str = DEFAULT_BACKEND
) -> Response:
    """GET …/v1/models/{ref}; exact names only."""
    del request
    _require_backend(backend)
    return json_reply(_find(state, reference).to_openai())


async def infer(
    state: RunnerState, request: Request, operation: Operation, backend: str = DEFAULT_BACKEND
) -> Response:
    """POST one of the inference paths.

    The checks come in upstream's order: backend, size, JSON, model name, model, engine.

    Raises:
        TextError: A check fails or the engine cannot be had.
        RequesterGoneError: The client did not wait.
    """
    _require_backend(backend)
    body = await read_body(request)
    document = _parse(body)
    reference = document.get("model") or ""
    if not isinstance(reference, str):
        raise TextError(400, "invalid request")
    fault = state.faults.take(*GENERAL_FAULTS, route=operation, model=reference)
    if fault is not None and (reply := await apply_general_fault(fault, request)):
        return reply
    if not reference:
        raise TextError(400, "model is required")
    model = _find(state, reference)
    check_backend(backend)
    call = EngineRequest(operation, body, document)
    stack = AsyncExitStack()
    try:
        answer = await unless_gone(request.receive, _answer(state, request, call, model, stack))
    except BaseException:
        await stack.aclose()
        raise
    _record(state, request, call, model, answer)
    return await _reply(state, call, answer, stack)


async def _answer(
    state: RunnerState,
    request: Request,
    call: EngineRequest,
    model: FoundModel,
    stack: AsyncExitStack,
) -> EngineResponse:
    """Have the engine answer; the engine is kept until the stack is closed.

    Raises:
        TextError: It cannot be loaded.
    """
    preload = request.headers.get("x-preload-only", "").lower() == "true"
    if call.operation == "chat" and not preload:
        scripted = state.faults.take_scripted(call.document)
        if scripted is not None:
            return scripted_response(scripted, call.document)
    reference, mode = str(call.document["model"]), MODE_OF[call.operation]
    try:
        engine = await stack.enter_async_context(state.scheduler.use(model, reference, mode))
    except MissingExtraError as error:
        raise TextError(412, str(error)) from error
    except EngineLoadError as error:
        message = f"unable to load runner: error waiting for runner to be ready: {error}"
        raise TextError(500, message) from error
    if preload:
        return EngineResponse(b"", content_type="text/plain; charset=utf-8")
    if state.faults.take("engine-death", route=call.operation, model=reference):
        await state.scheduler.kill(model, mode)
        text = "text/plain; charset=utf-8"
        return EngineResponse(encode_json(_DEATH) + b"\n", status=500, content_type=text)
    try:
        answer = await engine.answer(call)
    except httpx.TransportError:
        return EngineResponse(b"", status=502, content_type="text/plain; charset=utf-8")
    except asyncio.CancelledError:
        _count(state, call)  # the vectors are being computed, whether anybody waits or not
        raise
    if answer.status == HTTPStatus.OK:
        _count(state, call)
    return _spoil(state, call, answer)


async def _reply(
    state: RunnerState, call: EngineRequest, answer: EngineResponse, stack: AsyncExitStack
) -> Response:
    """Turn the engine's answer into the HTTP response and let the engine go with its end."""
    reference = str(call.document["model"])
    cut = state.faults.take("cut", route=call.operation, model=reference)
    if isinstance(answer.body, bytes):
        await stack.aclose()
        if cut is None:
            headers = {"Content-Type": answer.content_type}
            return Response(answer.body, answer.status, headers)
        pieces = _single(answer.body)
    else:
        pieces = answer.body
    body = _until_closed(pieces if cut is None else _cut(pieces, cut.after_bytes), stack)
    return StreamReply(body, status=answer.status, content_type=answer.content_type)


async def _until_closed(
    pieces: AsyncIterator[bytes], stack: AsyncExitStack
) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except httpx.TransportError:
        raise ConnectionAbortedError from None
    finally:
        await stack.aclose()


async def _single(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _cut(pieces: AsyncIterator[bytes], after_bytes: int) -> AsyncIterator[bytes]:
    left = after_bytes
    async for piece in pieces:
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            break
    raise ConnectionAbortedError


GENERAL_FAULTS: tuple[Any, ...] = ("status", "slow", "hang", "garbage")
"""Faults that any route can have."""


async def apply_general_fault(fault: Fault, request: Request) -> Response | None:
    """Let a fault strike; None means that the request then goes on as usual.

    Raises:
        TextError: The fault is a status.
        RequesterGoneError: The client did not wait for it.
    """
    match fault.kind:
        case "status":
            message = fault.message or _STATUS_TEXTS.get(fault.status, "fault")
            retry = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
            raise TextError(fault.status, message, retry)
        case "slow":
            await unless_gone(request.receive, asyncio.sleep(fault.seconds))
            return None
        case "garbage":
            return Response(b"<html>not JSON</html>", media_type="application/json")
        case _:
            await unless_gone(request.receive, asyncio.Event().wait())
            return None


def _require_backend(name: str) -> None:
    if name not in BACKENDS:
        raise TextError(404, "backend not found")


def _parse(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        raise TextError(400, "invalid request") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise TextError(400, "invalid request")
    return document  # pyright: ignore[reportUnknownVariableType] - any JSON object


def _find(state: RunnerState, reference: str) -> FoundModel:
    model = state.store.find(reference)
    if model is None:
        raise TextError(
            404, f"error while getting model: get model '\"{reference}\"': model not found"
        )
    return model


def _count(state: RunnerState, call: EngineRequest) -> None:
    if call.operation == "embeddings":
        given = call.document.get("input", call.document.get("content", ""))
        items = cast("list[object]", given) if isinstance(given, list) else [given]
        state.counters.embedded([str(item) for item in items])


def _record(
    state: RunnerState,
    request: Request,
    call: EngineRequest,
    model: FoundModel,
    answer: EngineResponse,
) -> None:
    body = answer.body if isinstance(answer.body, bytes) else b""
    record: dict[str, Any] = {
        "method": request.method,
        "url": request.url.path,
        "request": call.body.decode("utf-8", "replace"),
        "timestamp": datetime.now(UTC).isoformat(),
        "status_code": answer.status,
        "user_agent": request.headers.get("user-agent", ""),
    }
    failed = answer.status >= HTTPStatus.BAD_REQUEST
    record["error" if failed else "response"] = body.decode("utf-8", "replace")
    state.requests.add(model.name, record)


def _spoil(state: RunnerState, call: EngineRequest, answer: EngineResponse) -> EngineResponse:
    """Apply the faults that change vectors."""
    if call.operation != "embeddings" or answer.status != HTTPStatus.OK:
        return answer
    reference = str(call.document["model"])
    fault = state.faults.take("wrong-dimension", "nan", route="embeddings", model=reference)
    if fault is None or not isinstance(answer.body, bytes):
        return answer
    document = json.loads(answer.body)
    for entry in document["data"]:
        if fault.kind == "wrong-dimension":
            entry["embedding"] = _resize(entry["embedding"], fault.dimensions)
    if fault.kind == "nan":
        first = document["data"][0]
        first["embedding"] = _poison(first["embedding"])
    return EngineResponse(encode_json(document))


def _resize(vector: list[float] | str, dimensions: int) -> list[float] | str:
    values = (_decode(vector) * dimensions)[:dimensions]
    return _encode(values) if isinstance(vector, str) else values


def _poison(vector: list[float] | str) -> list[Any] | str:
    """Make the first number NaN; JSON has none, so floats become null as llama.cpp writes it."""
    if isinstance(vector, str):
        return _encode([float("nan"), *_decode(vector)[1:]])
    return [None, *vector[1:]]


def _decode(vector: list[float] | str) -> list[float]:
    if isinstance(vector, list):
        return vector
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def _encode(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode("ascii")
