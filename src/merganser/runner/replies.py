"""Answers in the runner's own dialect, plain text with a newline, and requests as they come in.

The forms are those of ``docs/model-runner.md``, section 1.0.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Docker Model Runner's limit for every POST under ``/engines``."""


class TextError(Exception):
    """Ends a request with a plain-text error.

    Attributes:
        status: HTTP status.
        message: Without its trailing newline.
        headers: Further headers.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(message)

    def to_response(self) -> Response:
        """Return what Go's ``http.Error`` would send."""
        headers = {"X-Content-Type-Options": "nosniff", **self.headers}
        return PlainTextResponse(f"{self.message}\n", self.status, headers)


class StreamReply(Response):
    """Sends pieces as they come; ends the connection when the pieces break off.

    Starlette's own streaming response cancels its pieces again at every step of their cleaning up,
    so that an engine would never hear that its requester has gone.

    Args:
        pieces: The body. ``ConnectionAbortedError`` from it closes the connection without the
            body's end, which is what a client sees of an engine that dies in mid-stream.
        status: HTTP status.
        content_type: MIME type of the body.
        headers: Further headers.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        *,
        status: int = 200,
        content_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, status, {"Content-Type": content_type, **(headers or {})})
        del self.headers["content-length"]
        self._pieces = pieces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, unless the client goes away first."""
        del scope
        start = {"type": "http.response.start", "status": self.status_code}
        await send({**start, "headers": self.raw_headers})
        with suppress(ConnectionAbortedError, ClientDisconnect):
            await unless_gone(receive, self._send_pieces(send))

    async def _send_pieces(self, send: Send) -> None:
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Do the work, but cancel it as soon as the client disconnects.

    Raises:
        ClientDisconnect: It did.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        for task in (working, gone):
            if not task.done():
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request) -> bytes:
    """Read the whole body.

    Raises:
        TextError: It is larger than the limit: 400, not 413.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise TextError(400, "request too large")
    return bytes(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse a body as Go would into a struct: a JSON object, or null for an empty one.

    Raises:
        TextError: It is neither.
    """
    try:
        document = json.loads(body)
    except ValueError:
        raise TextError(400, "invalid request") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise TextError(400, "invalid request")
    return document  # pyright: ignore[reportUnknownVariableType] - any JSON object
