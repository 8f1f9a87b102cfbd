"""Servers at the address of a Prefect server that are none, or none that works."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

WRONG = ("hanging", "dripping", "foreign", "html", "broken", "locked", "not http")


@contextmanager
def wrong_server(kind: str) -> Generator[str]:
    """Serve one kind of ``WRONG`` on loopback; gives the address as a user would set it."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            del format, args

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            match kind:
                case "hanging":
                    over.wait()
                case "dripping":
                    self.send_response(200)
                    self.send_header("content-length", "100000")
                    self.end_headers()
                    while not over.is_set():
                        self.wfile.write(b" ")
                        time.sleep(0.5)
                case "foreign":
                    self.send_error(404)
                case "html":
                    self.whole(200, b"<html>welcome</html>")
                case "broken":
                    self.whole(500, b'{"exception_message":"Internal Server Error"}')
                case "locked":
                    self.whole(401, b'{"exception_message":"Unauthorized"}')
                case _:
                    self.wfile.write(b"220 mail.example ESMTP\r\n")
            self.close_connection = True

        def whole(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = answer  # noqa: N815 - the handler's own names

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address  # who asked has given up

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        over.set()
        server.shutdown()
