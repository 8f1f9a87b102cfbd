"""What a run does with the answers of its Prefect server."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from prefect.client import orchestration

from merganser.flows.recording import recorded

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.base import PrefectHttpxSyncClient


@pytest.mark.parametrize("text", ["<html>sign in</html>", "[]", "{}", "null", "3"])
def test_an_answer_of_another_program_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
):
    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    monkeypatch.setenv("MERGANSER_HOME", str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/api"
        with recorded(url) as run:
            make: type[PrefectHttpxSyncClient] = orchestration.PrefectHttpxSyncClient  # pyright: ignore[reportPrivateImportUsage]
            with make(base_url=url, enable_csrf_support=False) as client:
                answer = client.post("/flows/", json={"name": "ducks"})
            problem = run.problem
        server.shutdown()

    assert answer.json()["name"] == "ducks"
    assert "no Prefect server" in problem
