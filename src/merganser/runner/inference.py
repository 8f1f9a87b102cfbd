"""Inference: from the path and the body to an engine's answer (sections 1.3, 4 and 6)."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from starlette.responses import Response

from merganser.runner.engine_routes import check_backend
from merganser.runner.engines import (
    MODE_OF,
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    Operation,
)
from merganser.runner.libraries import MissingExtraError
from merganser.runner.replies import StreamReply, TextError, json_reply, read_body, unless_gone
from merganser.runner.scheduler import DEFAULT_BACKEND
from merganser.runner.settings import BACKENDS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

    from merganser.runner.model_store import FoundModel
    from merganser.runner.state import RunnerState


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
    return await _reply(answer, stack)


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
    try:
        return await engine.answer(call)
    except httpx.TransportError:
        return EngineResponse(b"", status=502, content_type="text/plain; charset=utf-8")


async def _reply(answer: EngineResponse, stack: AsyncExitStack) -> Response:
    """Turn the engine's answer into the HTTP response and let the engine go with its end."""
    if isinstance(answer.body, bytes):
        await stack.aclose()
        return Response(answer.body, answer.status, {"Content-Type": answer.content_type})
    body = _until_closed(answer.body, stack)
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
