"""The Prefect server of this machine: who is let in, and how it proves to be ours."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from merganser.services.prefect_server import (
    authorization,
    own_login,
    running_server,
    server_healthy,
    server_login,
    sign_in_page,
)
from merganser.services.supervisor import (
    Service,
    ServiceError,
    ensure_service,
    free_port,
    merganser_home,
    proves_itself,
    recorded_service,
    stop_service,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

FLOW_RUNS = "/api/flow_runs/"
FOREIGN_HOSTS = ["rebound.example", "rebound.example:4200", "127.0.0.1.nip.io", "[::2]:80", ""]
FOREIGN_ORIGINS = ["https://page.example", "null", "http://localhost:1", "file://"]


@pytest.fixture
def server(history_url: str) -> Service:
    found = running_server()
    assert found is not None, history_url
    return found


def asked(server: Service, **headers: str) -> httpx.Response:
    """Ask for a run of a flow, as a page would that wants a command run."""
    body = {"name": "x", "flow_id": "00000000-0000-0000-0000-000000000000"}
    body |= {"job_variables": {"command": "touch here"}}
    return httpx.post(f"{server.url}{FLOW_RUNS}", json=body, headers=headers, trust_env=False)


def logged_in(server: Service) -> dict[str, str]:
    return {"Authorization": str(authorization(server.login))}


def test_nobody_is_let_in_without_the_password(server: Service):
    wrong = str(authorization("merganser:wrong"))

    refused = [asked(server), asked(server, Authorization=wrong)]
    paths = ("admin/version", "admin/settings", "flows/filter", "docs", "openapi.json")
    read = [httpx.get(f"{server.url}/api/{path}", trust_env=False) for path in paths]

    assert [answer.status_code for answer in refused] == [401, 401]
    assert {answer.status_code for answer in read} <= {401, 404, 405}
    assert "flow" not in "".join(answer.text for answer in read)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_name_is_refused_even_with_the_password(server: Service, host: str):
    answer = asked(server, Host=host, **logged_in(server))

    assert (answer.status_code, answer.text) == (403, "Host not allowed")


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_a_page_of_another_site_is_refused_even_with_the_password(server: Service, origin: str):
    answer = asked(server, Origin=origin, **logged_in(server))
    asks_first = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{server.url}{FLOW_RUNS}", headers=asks_first, trust_env=False)

    assert (answer.status_code, answer.text) == (403, "Origin not allowed")
    assert allowed.status_code == 403
    assert "access-control-allow-origin" not in allowed.headers


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "[::1]", "ui.localhost"])
def test_the_names_of_this_machine_are_answered_with_the_password(server: Service, name: str):
    port = server.url.rsplit(":", 1)[1]
    headers = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}

    answer = asked(server, **headers, **logged_in(server))

    assert answer.status_code not in {401, 403}


SOCKETS = [
    "/api/events/in",
    "/api/events/out",
    "/api/logs/out",
    "/api/task_runs/subscriptions/scheduled",
]


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("foreign", [{"Origin": "https://page.example"}, {"Host": "page.example"}])
def test_a_websocket_of_another_site_is_refused(
    server: Service, path: str, foreign: dict[str, str]
):
    with pytest.raises(InvalidStatus) as refused:
        asyncio.run(_open(server, path, foreign, login=server.login))

    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("login", ["", "merganser:wrong"])
def test_a_websocket_is_closed_without_the_password(server: Service, path: str, login: str):
    with pytest.raises(ConnectionClosed):
        asyncio.run(_open(server, path, {}, login=login))


async def _open(server: Service, path: str, headers: dict[str, str], *, login: str) -> Any:
    """Log in as Prefect's clients do; return the answer to it."""
    address = server.url.replace("http://", "ws://") + path
    host = headers.get("Host")
    if host:  # the client writes a Host of its own from the address
        address = address.replace("127.0.0.1", host)
    options: dict[str, Any] = {
        "additional_headers": {k: v for k, v in headers.items() if k != "Host"}
    }
    if host:
        options |= {"host": "127.0.0.1", "port": int(server.url.rsplit(":", 1)[1])}
    prefect: Any = ["prefect"]
    async with connect(address, subprotocols=prefect, proxy=None, **options) as opened:
        token = str(authorization(login)).removeprefix("Basic ") if login else None
        await opened.send(json.dumps({"type": "auth", "token": token}))
        return await asyncio.wait_for(opened.recv(), 20)


def test_only_this_user_can_read_the_password(server: Service):
    assert server.login == server_login()
    sign_in_page(server)
    for name in ("prefect.password", "prefect.json", "prefect.log", "open-ui.html"):
        assert stat.S_IMODE((merganser_home() / name).stat().st_mode) == 0o600, name
    for path in (merganser_home() / "prefect").iterdir():
        assert not path.stat().st_mode & 0o077, path


def test_the_password_is_on_no_command_line(server: Service):
    lines = [
        path.read_bytes()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.parent.stat().st_uid == os.getuid()
    ]

    secrets = (server.login.split(":")[1], server.token)
    assert [line for line in lines if any(secret.encode() in line for secret in secrets)] == []


def test_the_login_is_known_for_the_address_of_our_own_server_only(server: Service):
    assert own_login(f"{server.url}/api") == server.login
    assert own_login("http://127.0.0.1:9/api") == ""


class _Stranger(BaseHTTPRequestHandler):
    """Answers everything as a healthy server does, and keeps what it was sent."""

    heard: list[str]

    def do_GET(self) -> None:
        type(self).heard.append(f"{self.path}\n{self.headers}")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"true")

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        del format, args


@pytest.fixture
def stranger() -> Iterator[ThreadingHTTPServer]:
    _Stranger.heard = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Stranger) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening
        listening.shutdown()
        thread.join()


def test_a_stranger_at_the_address_is_not_taken_for_ours_and_hears_no_secret(
    server: Service, stranger: ThreadingHTTPServer
):
    moved = replace(server, url=f"http://127.0.0.1:{stranger.server_port}")

    assert proves_itself(server)
    assert not server_healthy(moved)
    heard = "".join(_Stranger.heard)
    assert heard
    assert server.token not in heard
    assert "uthorization" not in heard


def test_a_proof_of_another_port_is_none(server: Service):
    """A stranger may pass our question on to where we listen now."""
    port = int(server.url.rsplit(":", 1)[1])

    elsewhere = replace(server, url=server.url.replace("127.0.0.1", "localhost"))

    assert proves_itself(elsewhere)
    assert not proves_itself(replace(server, token=server.token + "x"))
    from merganser.services.request_guard import proof

    assert proof(server.token, "nonce", port) != proof(server.token, "nonce", port + 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    stop_service("idle")


def start(**options: Any) -> Service:
    """Start a service that does nothing."""
    command = ["/bin/sleep", "60"]
    return ensure_service("idle", command=lambda _: command, healthy=lambda _: True, **options)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
def test_a_folder_that_others_may_write_is_not_trusted(home: Path, mode: int):
    """As ``/tmp`` is: somebody else's password and server could lie there."""
    home.mkdir()
    home.chmod(mode)
    (home / "prefect.password").write_text("attacker:chosen\n")

    for trusting in (start, server_login):
        with pytest.raises(ServiceError, match="can be written by other users"):
            trusting()


def test_a_password_that_a_power_cut_left_empty_is_made_anew(home: Path):
    server_login()
    (home / "prefect.password").write_text("")

    login = server_login()

    assert login.startswith("merganser:")
    assert len(login) > 30
    assert server_login() == login
    assert stat.S_IMODE((home / "prefect.password").stat().st_mode) == 0o600


def test_a_folder_of_another_user_is_not_trusted(home: Path, monkeypatch: pytest.MonkeyPatch):
    home.mkdir()
    monkeypatch.setattr("os.getuid", lambda: home.stat().st_uid + 4_000)
    if home.stat().st_uid == 0:
        os.chown(home, 65_534, -1)

    with pytest.raises(ServiceError, match="can be written by other users"):
        start()


def test_what_lies_in_the_way_of_a_file_is_not_written_through(home: Path, tmp_path: Path):
    other = tmp_path / "other"
    other.write_text("theirs")
    home.mkdir()
    for name in ("idle.json", "idle.log"):
        (home / name).symlink_to(other)

    start()

    assert other.read_text() == "theirs"
    for name in ("idle.json", "idle.log"):
        assert not (home / name).is_symlink()
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_a_process_that_got_the_number_of_a_dead_one_is_neither_used_nor_ended(home: Path):
    home.mkdir()
    state = {"url": "http://127.0.0.1:9", "pid": os.getpid(), "log": ""}
    (home / "idle.json").write_text(json.dumps(state))

    assert not stop_service("idle")
    (home / "idle.json").write_text(json.dumps(state))
    assert start().pid != os.getpid()


def test_a_service_of_an_older_version_is_used(home: Path):
    service = start()
    state = json.loads((home / "idle.json").read_text())
    (home / "idle.json").write_text(json.dumps({k: state[k] for k in ("url", "pid", "log")}))

    found = recorded_service("idle")

    assert found is not None
    assert (found.token, found.login) == ("", "")
    assert proves_itself(found)
    assert start().pid == service.pid


def test_a_port_that_is_asked_for_and_taken_is_an_error_and_a_preferred_one_is_named(home: Path):
    assert not home.exists()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = int(listener.getsockname()[1])

        with pytest.raises(ServiceError, match=f"port {taken} of 127.0.0.1 is taken.*--port"):
            start(port=taken)
        service = start(preferred_port=taken)

    assert f":{taken}" not in service.url
    assert f"port {taken} belongs to another program" in service.note
    with pytest.raises(ServiceError, match=r"runs at http://127\.0\.0\.1:\d+ already"):
        start(port=free_port())
