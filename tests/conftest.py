"""Fixtures for all tests: a clean environment, no way out to the network, one real model server."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from merganser.models.client import ModelRunner
from merganser.services.prefect_server import (
    authorization,
    ensure_server,
    running_server,
    server_login,
    stop_server,
)
from merganser.services.supervisor import merganser_home
from tests.doubles import FaultyRunner
from tests.proofs import pytest_collection_modifyitems

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from playwright.sync_api import Page

__all__ = ["pytest_collection_modifyitems"]  # a hook that pytest finds here

_REAL_SERVER_FOLDERS = ("conformance", "e2e")
_FORGOTTEN_PREFIXES = ("PREFECT_", "MERGANSER_", "MODEL_RUNNER_", "HF_", "OPENAI_", "OTEL_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

# What is right is right however slow a loaded machine is; endless loops meet pytest's own timeout.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


class NonLoopbackError(ConnectionRefusedError):
    """A test tried to leave this machine."""


def _is_allowed(host: object) -> bool:
    """Tell whether a host is this machine, or the real server that the user named."""
    if not host or host == "localhost" or not isinstance(host, str):
        return True
    named = os.environ.get("MODEL_RUNNER_HOST", "")
    if named and host in named:
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Let Ctrl-C reach the programs that tests start.

    A shell that starts the tests in the background has them ignore it, and children inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse every connection and name lookup that leaves the loopback interface."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    look_up = socket.getaddrinfo

    def guard(listener: socket.socket, address: Any) -> None:
        if listener.family in {socket.AF_INET, socket.AF_INET6} and not _is_allowed(address[0]):
            raise NonLoopbackError(f"tests may not connect to {address!r}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        guard(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        guard(self, address)
        return connect_ex(self, address)

    def guarded_look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not _is_allowed(name):
            raise socket.gaierror(socket.EAI_NONAME, f"tests may not look up {name!r}")
        return look_up(host, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded_connect)
        patch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
        patch.setattr(socket, "getaddrinfo", guarded_look_up)
        yield


@pytest.fixture(scope="session", autouse=True)
def clean_environment(
    model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Hide the user's settings from tests and keep tests out of the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            forgotten = name.startswith(_FORGOTTEN_PREFIXES) and name != "MODEL_RUNNER_HOST"
            if forgotten or name.upper() in _PROXIES:
                patch.delenv(name)
        patch.setenv("MERGANSER_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("MERGANSER_CACHE", str(model_cache))
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("DO_NOT_TRACK", "1")
        yield


@pytest.fixture(autouse=True)
def no_real_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only the tests that are meant for it see the user's own model runner."""
    if not set(_REAL_SERVER_FOLDERS) & set(request.path.parts):
        monkeypatch.delenv("MODEL_RUNNER_HOST", raising=False)


@pytest.fixture(scope="session")
def model_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of converted models, kept between runs: a conversion takes seconds."""
    cache: pytest.Cache | None = getattr(request.config, "cache", None)
    return tmp_path_factory.mktemp("models") if cache is None else cache.mkdir("embedded-models")


@pytest.fixture(scope="session")
def runner(model_cache: Path) -> Iterator[FaultyRunner]:
    """Serve real models: MiniLM and SmolLM2 are there, well-known names can be pulled as aliases.

    ``runner.url`` is its address, ``runner.faults`` and ``runner.counters`` are for the tests.
    """
    with FaultyRunner(
        pulled=["ai/all-minilm", "ai/smollm2"], cache_dir=model_cache, offline=True
    ) as started:
        yield started


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Drop the faults of the shared runner after each test that used it."""
    yield
    if "runner" in request.fixturenames:
        shared: FaultyRunner = request.getfixturevalue("runner")
        shared.faults.clear()


@pytest.fixture(scope="session")
def history_url(clean_environment: None) -> Iterator[str]:
    """Start the product's own Prefect server once: it takes seconds to come up."""
    service = ensure_server(port=0)
    yield service.url
    stop_server()


@pytest.fixture(scope="session")
def login(history_url: str) -> dict[str, str]:
    """Return the headers of who may ask that server."""
    server = running_server()
    assert server is not None, history_url
    return {"Authorization": str(authorization(server.login))}


@pytest.fixture(scope="session")
def prefect_server(history_url: str) -> Iterator[str]:
    """Record the flow runs of this process there; gives the server's address."""
    from prefect.settings import (
        PREFECT_API_AUTH_STRING,
        PREFECT_API_URL,
        PREFECT_HOME,
        temporary_settings,
    )

    settings: dict[Any, Any] = {
        PREFECT_API_URL: f"{history_url}/api",
        PREFECT_API_AUTH_STRING: server_login(),
        PREFECT_HOME: merganser_home() / "prefect",
    }
    with temporary_settings(settings):
        yield history_url


@pytest.fixture
def make_runner(model_cache: Path) -> Iterator[Callable[..., FaultyRunner]]:
    """Return a function that starts further runners; options as ``RunnerOptions``."""
    with ExitStack() as stack:

        def start(**options: Any) -> FaultyRunner:
            settings: dict[str, Any] = {"cache_dir": model_cache, "offline": True, **options}
            return stack.enter_context(FaultyRunner(**settings))

        yield start


@pytest.fixture
def citing_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every model for one that cites, so that scripts hold only what the turn asks."""

    async def cites(self: ModelRunner, ref: str) -> bool:
        del self, ref
        return True

    monkeypatch.setattr(ModelRunner, "cites_sources", cites)


BROWSER_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def open_page() -> Callable[[], AbstractContextManager[Page]]:
    """Return what opens a page of headless Chromium; where CI runs, a missing one is a failure.

    While it is open, nothing else of this thread can run an event loop.
    """
    program = shutil.which("chromium")
    if program is None:
        assert "CI" not in os.environ, "CI installs chromium in .ci/run"
        pytest.skip("chromium is not installed")

    from playwright.sync_api import sync_playwright

    @contextmanager
    def opened() -> Generator[Page]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=BROWSER_OPTIONS)
            yield browser.new_page(viewport={"width": 1280, "height": 900})
            browser.close()

    return opened
