"""Inference: from the path and the body to an engine's answer.

See ``docs/model-runner.md``, sections 1.3 and 4.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import httpx
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from merganser.runner.engine_routes import backend_of, require_installed
from merganser.runner.engines import (
    MODE_OF,
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    Operation,
)
from merganser.runner.libraries import MissingExtraError
from merganser.runner.replies import StreamReply, TextError, parse_object, read_body, unless_gone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from merganser.runner.model_store import FoundModel, ModelStore
    from merganser.runner.scheduler import Scheduler

_TEXT = "text/plain; charset=utf-8"


class InferenceRoutes:
    """Has engines answer, and lists the models as OpenAI does.

    Args:
        store: The models that are here.
        scheduler: Their engines.
    """

    def __init__(self, store: ModelStore, scheduler: Scheduler) -> None:
        self._store = store
        self._scheduler = scheduler

    @property
    def routes(self) -> list[Route]:
        """Paths and methods, with and without a backend's name."""
        paths: dict[str, Operation] = {
            "/v1/chat/completions": "chat",
            "/v1/completions": "completions",
            "/v1/embeddings": "embeddings",
            "/rerank": "rerank",
        }
        routes = list[Route]()
        for root in ("/engines", "/engines/{backend}"):
            routes.append(Route(f"{root}/v1/models", self._list))
            routes.append(Route(f"{root}/v1/models/{{reference:path}}", self._get))
            routes += [
                Route(root + path, partial(self._infer, operation=operation), methods=["POST"])
                for path, operation in paths.items()
            ]
        return routes

    async def _list(self, request: Request) -> Response:
        backend_of(request)
        models = [model.to_openai() for model in self._store]
        return JSONResponse({"object": "list", "data": models})

    async def _get(self, request: Request) -> Response:
        """Return one model; exact names only."""
        backend_of(request)
        return JSONResponse(self._find(request.path_params["reference"]).to_openai())

    def _find(self, reference: str) -> FoundModel:
        model = self._store.find(reference)
        if model is None:
            name = f"'\"{reference}\"'"
            raise TextError(404, f"error while getting model: get model {name}: model not found")
        return model

    async def _infer(self, request: Request, operation: Operation) -> Response:
        """Answer a request for an engine.

        The checks come in the contract's order: backend, size, JSON, model name, model, engine.

        Raises:
            TextError: A check fails or the engine cannot be had.
            ClientDisconnect: The client did not wait.
        """
        backend = backend_of(request)
        body = await read_body(request)
        document = parse_object(body)
        reference = document.get("model") or ""
        if not isinstance(reference, str):
            raise TextError(400, "invalid request")
        if not reference:
            raise TextError(400, "model is required")
        model = self._find(reference)
        require_installed(backend)
        call = EngineRequest(operation, body, document)
        preload = request.headers.get("x-preload-only", "").lower() == "true"
        stack = AsyncExitStack()
        try:
            work = self._answer(call, model, stack, preload=preload)
            answer = await unless_gone(request.receive, work)
        except BaseException:
            await stack.aclose()
            raise
        if isinstance(answer.body, bytes):
            await stack.aclose()
            return Response(answer.body, answer.status, {"Content-Type": answer.content_type})
        pieces = _until_closed(answer.body, stack)
        return StreamReply(pieces, status=answer.status, content_type=answer.content_type)

    async def _answer(
        self, call: EngineRequest, model: FoundModel, stack: AsyncExitStack, *, preload: bool
    ) -> EngineResponse:
        """Have the engine answer; the engine is kept until the stack is closed.

        Raises:
            TextError: It cannot be loaded.
        """
        reference, mode = str(call.document["model"]), MODE_OF[call.operation]
        try:
            engine = await stack.enter_async_context(self._scheduler.use(model, reference, mode))
        except MissingExtraError as error:
            raise TextError(412, str(error)) from error
        except EngineLoadError as error:
            message = f"unable to load runner: error waiting for runner to be ready: {error}"
            raise TextError(500, message) from error
        if preload:
            return EngineResponse(b"", content_type=_TEXT)
        try:
            return await engine.answer(call)
        except httpx.TransportError:
            return EngineResponse(b"", status=502, content_type=_TEXT)


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
