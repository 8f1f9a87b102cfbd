"""Run the embedded runner: in a thread for tests, in the foreground for ``merganser runner``."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from merganser.errors import MerganserError
from merganser.runner.app import build_app
from merganser.runner.artifacts import find_local_models
from merganser.runner.engine_routes import EngineRoutes, InferenceRoutes
from merganser.runner.known_models import CATALOGUE
from merganser.runner.loading import load_engine
from merganser.runner.model_routes import ModelRoutes
from merganser.runner.model_store import ModelStore
from merganser.runner.pulls import Puller
from merganser.runner.scheduler import DEFAULT_IDLE_SECONDS, Scheduler
from merganser.runner.weights import WeightStore, default_cache_dir
from merganser.services.request_guard import TOKEN_VARIABLE, ProvesItself, is_local

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from starlette.types import ASGIApp

    from merganser.runner.loading import EngineLoader

LOOPBACK = "127.0.0.1"
LOG_LINES = 500

logger = logging.getLogger("merganser.runner")


class RunnerStartError(MerganserError):
    """The embedded runner could not be started."""


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How a runner is set up.

    Attributes:
        models_dir: Folder with the user's own GGUF and ONNX models.
        aliases: Names to serve by another model; asked before the built-in ones.
        default_aliases: Let packaged models stand in for well-known ones.
        pulled: Models that are there from the start; None means the packaged ones whose weights
            are on this machine.
        cache_dir: For downloads and conversions; None means the user's cache.
        offline: Never ask the model hub; None lets ``HF_HUB_OFFLINE`` decide.
        store: Keeps the models; None means an empty one.
        weights: Finds the packaged models' files; None means by ``cache_dir`` and ``offline``.
        load_engine: Loads engines.
        slots: Engines at one time; None means ``min(cores, 8)``.
        idle_seconds: Time after which an idle engine is freed.
        middleware: ASGI wrappers, outermost first.
        any_host: Answer whatever name it is called by; otherwise loopback's only.
    """

    _: KW_ONLY
    models_dir: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    default_aliases: bool = True
    pulled: Sequence[str] | None = ()
    cache_dir: Path | None = None
    offline: bool | None = None
    store: ModelStore | None = None
    weights: WeightStore | None = None
    load_engine: EngineLoader = load_engine
    slots: int | None = None
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    middleware: Sequence[Callable[[ASGIApp], ASGIApp]] = ()
    any_host: bool = False


class _LogLines(logging.Handler):
    """Keeps the last lines for ``GET /logs``."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@asynccontextmanager
async def _opened(options: RunnerOptions) -> AsyncGenerator[ASGIApp]:
    """Build a runner's application, and end its engines afterwards."""
    store = options.store or ModelStore()
    scheduler = Scheduler(
        store,
        load_engine=options.load_engine,
        slots=options.slots,
        idle_seconds=options.idle_seconds,
    )
    cache_dir = options.cache_dir or default_cache_dir()
    cache_dir.mkdir(parents=True, exist_ok=True)
    weights = options.weights or WeightStore(cache_dir, offline=options.offline)
    puller = Puller(
        store, weights, aliases=options.aliases, default_aliases=options.default_aliases
    )
    lines = deque[str](maxlen=LOG_LINES)
    handler = _LogLines(lines)
    logger.addHandler(handler)
    try:
        if (folder := options.models_dir) is not None:
            for reference, artifact in await asyncio.to_thread(find_local_models, folder):
                store.add(artifact, reference)
        for reference in options.pulled or ():
            await puller.make_available(reference)
        if options.pulled is None:
            present = Puller(store, WeightStore(cache_dir, offline=True), aliases={})
            for reference in CATALOGUE:
                with suppress(MerganserError):
                    await present.make_available(reference)
        routes = [
            *ModelRoutes(store, puller).routes,
            *EngineRoutes(store, scheduler, lines).routes,
            *InferenceRoutes(store, scheduler).routes,
        ]
        yield build_app(routes, options.middleware, any_host=options.any_host)
        await scheduler.close()
    finally:
        logger.removeHandler(handler)


def _bind(host: str, port: int) -> socket.socket:
    """Take the port at once, so that the address is known before the first request.

    Raises:
        RunnerStartError: The port is taken.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise RunnerStartError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port"
        ) from error
    return listener


class _Server(uvicorn.Server):
    """Serves one application on a port that is taken already."""

    def __init__(self, app: ASGIApp, on_ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=2,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and say so."""
        await super().startup(sockets)
        self._on_ready()


class EmbeddedRunner:
    """A runner in a thread of this process, on a free loopback port.

    ``with EmbeddedRunner(pulled=["ai/all-minilm"]) as runner: httpx.get(runner.url + "/models")``

    Args:
        port: 0 takes any free one.
        **options: The fields of ``RunnerOptions``.

    Raises:
        RunnerStartError: The port is taken.
    """

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self._options = RunnerOptions(**options)
        self._listener = _bind(LOOPBACK, port)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name="merganser-runner", daemon=True
        )
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._server: uvicorn.Server | None = None

    @property
    def url(self) -> str:
        """Root address, without a slash at its end."""
        return _address(self._listener)

    def __enter__(self) -> Self:
        """Start and wait until it answers.

        Raises:
            RunnerStartError: It did not come up, or a model of ``pulled`` cannot be had.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise RunnerStartError(f"the embedded runner did not start: {self._failure}") from (
                self._failure
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, end the engines and wait for it."""
        if self._server is not None:
            self._server.should_exit = True
        self._thread.join()

    async def _main(self) -> None:
        try:
            async with _opened(self._options) as app:
                self._server = _Server(app, self._ready.set)
                await self._server.serve([self._listener])
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            self._ready.set()
            self._listener.close()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    host: str = LOOPBACK,
    port: int = 12434,
    *,
    on_ready: Callable[[str], None],
    **options: Any,
) -> None:
    """Run in the foreground until a signal comes; what ``merganser runner`` calls.

    Args:
        host: Address to listen on. Anyone who can reach it can use the models, so it is loopback
            unless the user says otherwise; then it answers to any name.
        port: Port; 12434 is Docker Model Runner's own.
        on_ready: Called with the address when it answers.
        **options: The fields of ``RunnerOptions``.

    Raises:
        RunnerStartError: The port is taken.
        KeyboardInterrupt: Ctrl-C came; everything is closed.
    """
    listener = _bind(host, port)
    token = os.environ.get(TOKEN_VARIABLE)  # of the one that commands share

    async def main() -> bool:
        async with _opened(RunnerOptions(any_host=not is_local(host), **options)) as opened:
            app = ProvesItself(opened, token, listener.getsockname()[1]) if token else opened
            server = _Server(app, lambda: on_ready(_address(listener)))
            await server.serve([listener])
            return server.should_exit

    # uvicorn raises the signal again for the handler that was there before; a process that was
    # started in the background has none.
    if asyncio.run(main()):
        raise KeyboardInterrupt
