"""A model server that lists its models and answers nothing else, ever."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

MODEL = "silent"


@dataclass
class SilentServer:
    """What a test sees of it.

    Attributes:
        url: To the root of the OpenAI-compatible API.
        asked: Set once somebody waits for an answer.
    """

    url: str
    asked: threading.Event = field(default_factory=threading.Event)


@contextmanager
def silent_server() -> Generator[SilentServer]:
    """Serve on loopback."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            del format, args

        def do_GET(self) -> None:
            body = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            server.asked.set()
            over.wait()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address  # who asked has ended

    with Server(("127.0.0.1", 0), Handler) as listening:
        server = SilentServer(f"http://127.0.0.1:{listening.server_port}/v1")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield server
        over.set()
        listening.shutdown()
