"""Engines: their administration, and inference from the path and the body to an engine's answer.

The contract is docs/model-runner.md, sections 1.3, 1.5, 3 and 4.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

import httpx
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from merganser.runner.engines import (
    MODE_OF,
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    Operation,
)
from merganser.runner.libraries import MissingExtraError
from merganser.runner.replies import StreamReply, TextError, parse_object, read_body, unless_gone
from merganser.runner.scheduler import RunnerBusyError
from merganser.runner.settings import (
    BACKENDS,
    DEFAULT_BACKEND,
    FlagError,
    InvalidRequestError,
    parse_configure,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from starlette.requests import Request

    from merganser.runner.model_store import FoundModel, ModelStore
    from merganser.runner.scheduler import Scheduler

_TEXT = "text/plain; charset=utf-8"

SERVER_NAME = "merganser-embedded"
"""In ``/version`` and in the header ``Server``: whoever asks is told that it is not Docker's."""


class EngineRoutes:
    """Shows, configures and unloads engines.

    Args:
        store: The models that are here.
        scheduler: Their engines.
        log: The last lines of the log.
    """

    def __init__(self, store: ModelStore, scheduler: Scheduler, log: Iterable[str]) -> None:
        self._store = store
        self._scheduler = scheduler
        self._log = log

    @property
    def routes(self) -> list[Route]:
        """Paths and methods."""
        return [
            Route("/", self._get_root),
            Route("/version", self._get_version),
            Route("/logs", self._get_logs),
            Route("/engines/status", self._get_status),
            Route("/engines/ps", self._get_processes),
            Route("/engines/df", self._get_disk_usage),
            Route("/engines/unload", self._unload, methods=["POST"]),
            Route("/engines/_configure", self._get_configurations),
            Route("/engines/_configure", self._configure, methods=["POST"]),
            Route("/engines/{backend}/_configure", self._configure, methods=["POST"]),
        ]

    async def _get_root(self, _: Request) -> Response:
        return PlainTextResponse("Docker Model Runner is running (merganser embedded runner)\n")

    async def _get_version(self, _: Request) -> Response:
        return JSONResponse({"version": f"{SERVER_NAME}/{version('merganser')}"})

    async def _get_logs(self, _: Request) -> Response:
        return PlainTextResponse("".join(f"{line}\n" for line in self._log))

    async def _get_status(self, _: Request) -> Response:
        status = dict.fromkeys(BACKENDS, "Not Installed: not part of the embedded runner")
        return JSONResponse({**status, DEFAULT_BACKEND: f"Running: {_describe_engines()}"})

    async def _get_processes(self, _: Request) -> Response:
        return JSONResponse(self._scheduler.processes())

    async def _get_disk_usage(self, _: Request) -> Response:
        used = self._store.size_bytes()
        return JSONResponse({"models_disk_usage": used, "default_backend_disk_usage": 0})

    async def _get_configurations(self, request: Request) -> Response:
        model = request.query_params.get("model", "")
        return JSONResponse(self._scheduler.configurations(model))

    async def _configure(self, request: Request) -> Response:
        backend = _backend_of(request)
        _require_installed(backend)
        document = parse_object(await read_body(request))
        try:
            command = parse_configure(document, backend=backend)
        except InvalidRequestError:
            raise TextError(400, "invalid request") from None
        except FlagError as error:
            raise TextError(500, str(error)) from error
        try:
            await self._scheduler.configure(command.model, command.mode, command.settings)
        except RunnerBusyError as error:
            raise TextError(409, str(error)) from error
        return Response(b"", 202)

    async def _unload(self, request: Request) -> Response:
        document = parse_object(await read_body(request))
        models: Any = document.get("models") or []
        every, backend = document.get("all") or False, document.get("backend") or ""
        if not (isinstance(models, list) and isinstance(every, bool) and isinstance(backend, str)):
            raise TextError(400, "invalid request")
        references = [str(model) for model in cast("list[object]", models)]
        count = await self._scheduler.unload(references, every=every, backend=backend)
        return JSONResponse({"unloaded_runners": count})


def _describe_engines() -> str:
    """Name the engines that are installed, with versions."""
    found = list[str]()
    for package in ("onnxruntime", "xllamacpp"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return ", ".join(found)


def _backend_of(request: Request) -> str:
    """Return the backend that the path names, or the default one.

    Raises:
        TextError: There is none of this name.
    """
    name: str = request.path_params.get("backend", DEFAULT_BACKEND)
    if name not in BACKENDS:
        raise TextError(404, "backend not found")
    return name


def _require_installed(backend: str) -> None:
    """Refuse a backend that this runner does not have.

    Raises:
        TextError: 412.
    """
    if backend != DEFAULT_BACKEND:
        hint = f"run: docker model install-runner --backend {backend}"
        raise TextError(412, f'backend "{backend}" is not installed; {hint}')


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
        _backend_of(request)
        models = [model.to_openai() for model in self._store]
        return JSONResponse({"object": "list", "data": models})

    async def _get(self, request: Request) -> Response:
        """Return one model; exact names only."""
        _backend_of(request)
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
        backend = _backend_of(request)
        body = await read_body(request)
        document = parse_object(body)
        reference = document.get("model") or ""
        if not isinstance(reference, str):
            raise TextError(400, "invalid request")
        if not reference:
            raise TextError(400, "model is required")
        model = self._find(reference)
        _require_installed(backend)
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
