"""Background services: started once, reused, ended when nobody needs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from merganser.services import runner as background
from merganser.services.prefect_server import async_database_url, server_settings, shown_database
from merganser.services.supervisor import (
    Service,
    ServiceError,
    ensure_service,
    free_port,
    merganser_home,
    process_alive,
    running_service,
    stop_service,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    yield tmp_path
    stop_service("files")


def serve_files(port: int) -> list[str]:
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]


def answers(service: Service) -> bool:
    return answers_at(service.url)


def answers_at(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start(idle_seconds: float = 60.0) -> Service:
    return ensure_service("files", command=serve_files, healthy=answers, idle_seconds=idle_seconds)


def test_a_service_is_started_once_and_then_reused() -> None:
    first = start()
    second = start()

    assert (first.started, second.started) == (True, False)
    assert first.url == second.url


def test_a_service_works_in_our_folder_and_not_in_the_one_of_whoever_starts_it(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path_factory.mktemp("tree")
    monkeypatch.chdir(tree)
    monkeypatch.setenv("MERGANSER_HOME", os.path.relpath(home, tree))
    (tree / "of-the-tree").touch()

    listing = httpx.get(start().url, trust_env=False).text

    assert "files.log" in listing
    assert "of-the-tree" not in listing


def test_a_stopped_service_is_gone_and_the_next_call_starts_another() -> None:
    first = start()

    stopped = stop_service("files")
    ended = wait_until(lambda: not answers_at(first.url))
    second = start()

    assert (stopped, ended) == (True, True)
    assert second.started


def test_a_service_ends_when_its_last_user_is_gone(home: Path) -> None:
    service = start(idle_seconds=1.0)
    lease = home / "leases" / "files" / str(os.getpid())
    user = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    lease.rename(lease.with_name(str(user.pid)))

    stays = wait_until(lambda: not process_alive(service.pid), seconds=3.0)
    user.communicate(b"\n")
    ends = wait_until(lambda: not process_alive(service.pid))

    assert (stays, ends) == (False, True)


def test_an_interrupt_while_a_service_starts_leaves_nothing_behind(home: Path) -> None:
    urls: list[str] = []

    def interrupted(service: Service) -> bool:
        if not answers(service):
            return False
        urls.append(service.url)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_service("files", command=serve_files, healthy=interrupted)

    assert wait_until(lambda: not answers_at(urls[0]))
    assert not (home / "files.json").exists()


def test_a_service_that_is_busy_outlives_its_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "keeper.py").write_text(
        "from pathlib import Path\n"
        f"def busy(url): return Path({str(home / 'busy')!r}).exists() and 'http' in url\n"
    )
    (home / "busy").touch()
    monkeypatch.setenv("PYTHONPATH", str(home))
    service = ensure_service(
        "files", command=serve_files, healthy=answers, idle_seconds=1.0, busy="keeper:busy"
    )
    (home / "leases" / "files" / str(os.getpid())).unlink()

    ended = wait_until(lambda: not process_alive(service.pid), seconds=3.0)
    (home / "busy").unlink()
    ends = wait_until(lambda: not process_alive(service.pid))

    assert (ended, ends) == (False, True)


def test_a_database_is_spelled_for_the_driver_and_shown_without_its_password() -> None:
    url = async_database_url("postgresql://me:hunter2@db.example:5433/prefect?ssl=require")

    assert url == "postgresql+asyncpg://me:hunter2@db.example:5433/prefect?ssl=require"
    assert shown_database(url) == "postgresql db.example/prefect"
    assert shown_database(None) == "SQLite"
    with pytest.raises(ServiceError, match="must begin with postgresql://") as caught:
        async_database_url("mysql://me:hunter2@db/prefect")
    assert "hunter2" not in str(caught.value)


def test_a_program_that_ends_at_once_is_reported_with_its_log() -> None:
    with pytest.raises(ServiceError, match=r"(?s)files ended while starting.*no such weights"):
        ensure_service(
            "files",
            command=lambda _: [sys.executable, "-c", "raise SystemExit('no such weights')"],
            healthy=answers,
        )

    assert running_service("files", answers) is None


def test_a_state_file_of_a_dead_process_is_not_believed(home: Path) -> None:
    (home / "files.json").write_text('{"url": "http://127.0.0.1:9", "pid": 4194304, "log": ""}')

    assert running_service("files", answers) is None


def test_a_taken_port_is_replaced_by_a_free_one() -> None:
    service = start()
    taken = int(service.url.rsplit(":", 1)[1])

    assert free_port(taken) != taken


def test_a_port_is_free_again_as_soon_as_its_server_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        client = socket.create_connection(("127.0.0.1", port))
        # The server closes first, so its end of the connection lingers in TIME_WAIT.
        listener.accept()[0].close()
        client.close()

    assert free_port(port) == port


def test_the_home_is_what_the_environment_says(home: Path) -> None:
    assert home == merganser_home()


def test_the_server_settings_hold_the_recorder_triple() -> None:
    recorder = "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_"
    settings = {k: v for k, v in server_settings().items() if k.startswith(recorder)}

    expected = {"BATCH_SIZE": "200", "READ_BATCH_SIZE": "100", "FLUSH_INTERVAL": "1"}
    assert {recorder + name: value for name, value in expected.items()} == settings


def test_a_runner_that_died_is_started_again_and_one_that_was_stopped_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(background, "SERVICE", "files")
    monkeypatch.setattr(background, "ensure_runner", start)
    assert background.revive_runner() is None
    first = start()
    assert background.revive_runner() == first.url

    os.kill(first.pid, signal.SIGTERM)
    assert wait_until(lambda: not process_alive(first.pid))
    url = background.revive_runner()

    assert url is not None
    assert answers_at(url)
    stop_service("files")
    assert background.revive_runner() is None
