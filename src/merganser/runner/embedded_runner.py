"""Run the embedded runner: in a thread for tests, in the foreground for ``merganser runner``."""

from __future__ import annotations

import asyncio
import logging
import socket
import tempfile
import threading
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import KW_ONLY, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import uvicorn

from merganser.errors import MerganserError
from merganser.runner.admin import AdminApp
from merganser.runner.app import build_app
from merganser.runner.artifacts import prepare
from merganser.runner.counters import Counters
from merganser.runner.faults import Faults
from merganser.runner.known_models import CATALOGUE
from merganser.runner.local_models import find_local_models
from merganser.runner.model_store import ModelStore
from merganser.runner.pulls import Puller
from merganser.runner.scheduler import DEFAULT_IDLE_SECONDS, Scheduler
from merganser.runner.state import RequestLog, RunnerState
from merganser.runner.weights import WeightStore, default_cache_dir

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from types import TracebackType

    from merganser.runner.known_models import WeightFile

LOOPBACK = "127.0.0.1"
LOG_LINES = 500
START_SECONDS = 60.0

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
        pulled: Models that are there from the start.
        cache_dir: For downloads and conversions; None means the user's cache.
        offline: Never ask the model hub; None lets ``HF_HUB_OFFLINE`` decide.
        slots: Engines at one time; None means ``min(cores, 8)``.
        idle_seconds: Time after which an idle engine is freed.
        middleware: ASGI wrappers, outermost first.
    """

    _: KW_ONLY
    models_dir: Path | None = None
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    default_aliases: bool = True
    pulled: Sequence[str] = ()
    cache_dir: Path | None = None
    offline: bool | None = None
    slots: int | None = None
    idle_seconds: float = DEFAULT_IDLE_SECONDS
    middleware: Sequence[Callable[[Any], Any]] = ()


class _LogLines(logging.Handler):
    """Keeps the last lines for ``GET /logs``."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


@asynccontextmanager
async def _running_state(
    options: RunnerOptions, faults: Faults, counters: Counters
) -> AsyncGenerator[RunnerState]:
    """Build a runner's parts, and end its engines afterwards."""
    store = ModelStore()
    scheduler = Scheduler(store, faults, slots=options.slots, idle_seconds=options.idle_seconds)
    cache_dir = options.cache_dir or default_cache_dir()
    cache_dir.mkdir(parents=True, exist_ok=True)
    weights = WeightStore(cache_dir, offline=options.offline)
    puller = Puller(
        store, weights, faults, aliases=options.aliases, default_aliases=options.default_aliases
    )
    lines = deque[str](maxlen=LOG_LINES)
    handler = _LogLines(lines)
    logger.addHandler(handler)
    try:
        with tempfile.TemporaryDirectory(prefix="merganser-models-") as scratch:
            if (folder := options.models_dir) is not None:
                for reference, artifact in await asyncio.to_thread(find_local_models, folder):
                    store.add(artifact, reference)
            for reference in options.pulled:
                await puller.make_available(reference)
            yield RunnerState(
                version=f"merganser-embedded/{version('merganser')}",
                store=store,
                puller=puller,
                scheduler=scheduler,
                faults=faults,
                counters=counters,
                requests=RequestLog(),
                scratch=Path(scratch),
                log=lines,
            )
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


def _uvicorn(app: Any) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=2,
        )
    )


class EmbeddedRunner:
    """A runner in a thread of this process, on a free loopback port.

    ``with EmbeddedRunner(pulled=["ai/all-minilm"]) as runner: httpx.get(runner.url + "/models")``

    Args:
        port: 0 takes any free one.
        **options: The fields of ``RunnerOptions``.

    Attributes:
        faults: Faults to come; see ``faults.py``.
        counters: What was done.
    """

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self.faults = Faults()
        self.counters = Counters()
        self._options = RunnerOptions(**options)
        self._sockets = [_bind(LOOPBACK, port), _bind(LOOPBACK, 0)]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main()), name="merganser-runner", daemon=True
        )
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._servers = list[uvicorn.Server]()

    @property
    def url(self) -> str:
        """Root address, without a slash at its end."""
        return _address(self._sockets[0])

    @property
    def admin_url(self) -> str:
        """Root address of the admin port; see ``admin.py``."""
        return _address(self._sockets[1])

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
        for server in self._servers:
            server.should_exit = True
        self._thread.join()

    async def _main(self) -> None:
        try:
            async with _running_state(self._options, self.faults, self.counters) as state:
                app = build_app(state, self._options.middleware)
                apps = [app, AdminApp(self.faults, self.counters)]
                self._servers = [_uvicorn(each) for each in apps]
                await _serve_all(self._servers, self._sockets, self._ready.set)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._failure = error
        finally:
            self._ready.set()
            for listener in self._sockets:
                listener.close()


async def _serve_all(
    servers: Sequence[uvicorn.Server],
    sockets: Sequence[socket.socket],
    on_ready: Callable[[], None],
) -> None:
    """Run servers side by side until each was told to exit."""
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, sockets, strict=True)
    ]
    while not all(server.started for server in servers):
        if any(task.done() for task in tasks):
            break
        await asyncio.sleep(0.01)
    on_ready()
    await asyncio.gather(*tasks)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    host: str = LOOPBACK,
    port: int = 12434,
    *,
    models_dir: Path | None = None,
    aliases: Mapping[str, str] | None = None,
    admin_port: int | None = None,
    pulled: Sequence[str] | None = None,
    offline: bool | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run in the foreground until a signal comes; what ``merganser runner`` calls.

    Args:
        host: Address to listen on. Anyone who can reach it can use the models and read the last
            prompts, so it is loopback unless the user says otherwise.
        port: Port; 12434 is Docker Model Runner's own.
        models_dir: Folder with the user's own models.
        aliases: Names to serve by another model.
        admin_port: Also open the admin port on loopback, for tests.
        pulled: Models that are there from the start; None means those whose weights are already on
            this machine.
        offline: Never ask the model hub.
        on_ready: Called with the address when it answers.

    Raises:
        RunnerStartError: The port is taken.
        KeyboardInterrupt: Ctrl-C came; everything is closed.
    """
    listeners = [_bind(host, port)]
    if admin_port is not None:
        listeners.append(_bind(LOOPBACK, admin_port))
    options = RunnerOptions(
        models_dir=models_dir, aliases=aliases or {}, pulled=pulled or (), offline=offline
    )

    def announce() -> None:
        if on_ready is not None:
            on_ready(_address(listeners[0]))

    async def main() -> bool:
        faults, counters = Faults(), Counters()
        async with AsyncExitStack() as stack:
            state = await stack.enter_async_context(_running_state(options, faults, counters))
            if pulled is None:
                await asyncio.to_thread(_add_local, state, options.cache_dir or default_cache_dir())
            apps = [build_app(state), AdminApp(faults, counters)]
            servers = [_uvicorn(app) for app, _ in zip(apps, listeners, strict=False)]
            await _serve_all(servers, listeners, announce)
            return all(server.should_exit for server in servers)

    # uvicorn raises the signal again for whoever handled it before, which is nobody where this was
    # started in the background.
    if asyncio.run(main()):
        raise KeyboardInterrupt


def _add_local(state: RunnerState, cache_dir: Path) -> None:
    """List the catalogue's models whose weights are here, so that no pull is needed."""
    store = WeightStore(cache_dir, offline=True)
    for model in CATALOGUE.values():
        with suppress(MerganserError):
            artifact = prepare(model, store, _ignore_progress)
            state.store.add(artifact, model.reference)


def _ignore_progress(file: WeightFile, done_bytes: int) -> None:
    del file, done_bytes
