"""Administration of the engines, and who this is (``docs/model-runner.md``, section 1.5)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from merganser.runner.replies import TextError, parse_object, read_body
from merganser.runner.scheduler import RunnerBusyError
from merganser.runner.settings import (
    BACKENDS,
    DEFAULT_BACKEND,
    FlagError,
    InvalidRequestError,
    parse_configure,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from merganser.runner.model_store import ModelStore
    from merganser.runner.scheduler import Scheduler

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
        backend = backend_of(request)
        require_installed(backend)
        document = parse_object(await read_body(request))
        try:
            command = parse_configure(document, backend=backend)
        except InvalidRequestError:
            raise TextError(400, "invalid request") from None
        except FlagError as error:
            raise TextError(500, str(error)) from error
        if not command.model:
            raise TextError(400, "model is required")
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


def backend_of(request: Request) -> str:
    """Return the backend that the path names, or the default one.

    Raises:
        TextError: There is none of this name.
    """
    name: str = request.path_params.get("backend", DEFAULT_BACKEND)
    if name not in BACKENDS:
        raise TextError(404, "backend not found")
    return name


def require_installed(backend: str) -> None:
    """Refuse a backend that this runner does not have.

    Raises:
        TextError: 412.
    """
    if backend != DEFAULT_BACKEND:
        hint = f"run: docker model install-runner --backend {backend}"
        raise TextError(412, f'backend "{backend}" is not installed; {hint}')
