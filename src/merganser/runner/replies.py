"""Answers in the runner's own dialect: plain text with a newline, never JSON (section 1)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from merganser.runner.engines import encode_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

MAX_BODY_BYTES = 10 * 1024 * 1024
"""Upstream's limit for every POST under ``/engines``."""


class TextError(Exception):
    """Ends a request with a plain-text error.

    Attributes:
        status: HTTP status.
        message: Without its trailing newline.
        headers: More headers.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        super().__init__(message)

    def to_response(self) -> Response:
        """Give what Go's ``http.Error`` would have sent."""
        headers = {"X-Content-Type-Options": "nosniff", **self.headers}
        return text_reply(f"{self.message}\n", status=self.status, headers=headers)


class RequesterGoneError(Exception):
    """The client closed the connection before it got its answer."""


def text_reply(
    text: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer in plain text."""
    return Response(
        text.encode(), status, dict(headers or {}), media_type="text/plain; charset=utf-8"
    )


def json_reply(value: object, *, status: int = 200) -> Response:
    """Answer in JSON."""
    return Response(encode_json(value), status, media_type="application/json")


class StreamReply(Response):
    """Sends pieces as they come; ends the connection when the pieces break off.

    Args:
        pieces: The body. ``ConnectionAbortedError`` from it closes the connection without the
            body's end, which is how an engine that dies in mid-stream looks to a client.
        status: HTTP status.
        content_type: Of the body.
        headers: More headers.
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
        with suppress(ConnectionAbortedError, RequesterGoneError):
            await unless_gone(receive, self._send_pieces(send))

    async def _send_pieces(self, send: Send) -> None:
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def unless_gone(receive: Receive, work: Awaitable[T]) -> T:
    """Do the work, but cancel it as soon as the client disconnects.

    Raises:
        RequesterGoneError: It did.
    """
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise RequesterGoneError
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


async def read_body(request: Request, *, limit: int = MAX_BODY_BYTES) -> bytes:
    """Read the whole body.

    Raises:
        TextError: It is larger than the limit: 400, as upstream, not 413.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise TextError(400, "request too large")
    return bytes(body)
