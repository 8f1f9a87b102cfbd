"""Records of runs that are kept for a server that is away."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from merganser.services.records import Outbox, request, send_kept_records
from merganser.services.supervisor import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class _Api(ThreadingHTTPServer):
    """Takes everything, and remembers the paths."""

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.paths: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, _Api)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.paths.append(self.path)
        self.send_response(201)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def kept(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the record of a run whose server is away and whose process is gone."""
    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    outbox = Outbox(f"http://127.0.0.1:{port}/api")
    outbox.lose("it is away")
    for name in ("one", "two"):
        outbox.put(request("POST", "/artifacts/", {"key": name}))
    file = outbox.close()
    assert file is not None
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps({**json.loads(head), "pid": 0}), *lines, ""]))
    return file


@pytest.fixture
def api(kept: Path, port: int) -> Iterator[_Api]:
    del kept  # made while nobody listens
    with _Api(port) as api:
        threading.Thread(target=api.serve_forever, daemon=True).start()
        yield api
        api.shutdown()


@pytest.mark.parametrize("tail", ["", '{"at": "2026-11-30T20:0', '{"at": 1}', "\0\0\0"])
def test_a_record_that_was_cut_off_is_sent_as_far_as_it_goes(
    kept: Path, api: _Api, port: int, tail: str
):
    kept.write_text(kept.read_text() + tail)

    send_kept_records(f"http://127.0.0.1:{port}/api")

    end = time.monotonic() + 20
    while kept.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not kept.exists()
    assert api.paths == ["/api/artifacts/"] * 2
