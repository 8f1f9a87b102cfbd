"""A Prefect server that is lost in mid-run: a relay before a real one, which fails on request."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Literal

import httpx

if TYPE_CHECKING:
    from collections.abc import Generator

Loss = Literal["refuse", "hang", "500"]


@dataclass
class Relay:
    """A relay; all but its attributes is the real server's.

    Attributes:
        url: Of the API, as commands are given it.
        loss: How it fails once it is lost.
        lost_at: It is lost by the first request whose path ends so; "" for never.
        is_lost: Whether it fails now.
        asked: The paths that were asked while it was there.
    """

    url: str
    loss: Loss = "refuse"
    lost_at: str = ""
    is_lost: bool = False
    asked: list[str] = field(default_factory=list[str])

    def mend(self) -> None:
        """Be there again."""
        self.lost_at, self.is_lost = "", False


@contextmanager
def relay_to(server: str) -> Generator[Relay]:
    """Serve a relay to a Prefect server on loopback.

    Args:
        server: Its address, without ``/api``.
    """
    over = threading.Event()
    onward = httpx.Client(base_url=server, timeout=60.0, trust_env=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            del format, args

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if relay.lost_at and self.path.rstrip("/").endswith(relay.lost_at):
                relay.is_lost = True
            if relay.is_lost:
                self.fail()
                return
            relay.asked.append(self.path)
            left_out = {"host", "content-length", "connection", "accept-encoding"}
            headers = {k: v for k, v in self.headers.items() if k.lower() not in left_out}
            got = onward.request(self.command, self.path, content=body, headers=headers)
            self.send_response(got.status_code)
            self.send_header("content-type", got.headers.get("content-type", ""))
            self.send_header("content-length", str(len(got.content)))
            self.end_headers()
            self.wfile.write(got.content)

        def fail(self) -> None:
            self.close_connection = True
            if relay.loss == "hang":
                over.wait()
            if relay.loss == "500":
                self.send_response(500)
                self.send_header("content-length", "0")
                self.end_headers()

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = answer  # noqa: N815 - its names

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            del request, client_address  # who asked has given up

    with onward, Server(("127.0.0.1", 0), Handler) as listening:
        relay = Relay(f"http://127.0.0.1:{listening.server_port}/api")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield relay
        over.set()
        listening.shutdown()
