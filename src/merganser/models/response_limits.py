"""What an answer of a model server may be: its size, its compression and where it may send us.

No server is trusted with our memory, nor with choosing who else gets the texts and the token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from merganser.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Mapping

MOST_BYTES = 64 << 20
"""Of an answer, decompressed; lists of models, logs and scores are far below it."""

MOST_ERROR_BYTES = 1 << 20
"""Of an error's text that are read; the rest says nothing more."""

MOST_REDIRECTS = 5

# What is decompressed piece by piece: at most a thousandfold, so that a piece of 64 kB stays small.
_ENCODINGS = frozenset({"", "identity", "gzip", "x-gzip", "deflate"})
# Those that keep the method, and those that make a GET of it.
_SAME_METHOD = frozenset({307, 308})
_MAKES_GET = frozenset({301, 302, 303})


def require_encoding(headers: Mapping[str, str], url: str) -> None:
    """Refuse what is compressed in a way that nobody asked for: it may unpack to anything at once.

    Raises:
        ProtocolError: It is.
    """
    encoding = headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _ENCODINGS:
        raise ProtocolError(f"{url}: the answer is compressed as {encoding[:80]!r}", url=url)


async def bounded(
    headers: Mapping[str, str],
    parts: AsyncIterable[bytes],
    *,
    most_bytes: int,
    is_error: bool,
    url: str,
) -> AsyncGenerator[bytes]:
    """Yield the pieces of an answer, decompressed; of an error only the first megabyte.

    Raises:
        ProtocolError: It is larger than allowed, or compressed in a way that nobody asked for.
    """
    require_encoding(headers, url)
    size = 0
    async for part in parts:
        size += len(part)
        if is_error and size > MOST_ERROR_BYTES:
            yield part[: MOST_ERROR_BYTES - size]
            return
        if size > most_bytes:
            message = f"{url}: the answer is larger than {most_bytes >> 20} MB and was not read"
            raise ProtocolError(message, url=url)
        yield part


async def read_body(response: httpx.Response, most_bytes: int, url: str) -> bytes:
    """Return the body of an answer, within ``bounded``'s limits."""
    pieces = bounded(
        response.headers,
        response.aiter_bytes(),
        most_bytes=most_bytes,
        is_error=response.is_error,
        url=url,
    )
    return b"".join([piece async for piece in pieces])


def as_whole(response: httpx.Response, body: bytes) -> httpx.Response:
    """Return an answer that was read piece by piece as one that is there."""
    left_out = {"content-encoding", "content-length", "transfer-encoding"}
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
    return httpx.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


def redirected(request: httpx.Request, response: httpx.Response, url: str) -> httpx.Request | None:
    """Return the request that a redirect asks for; None for every other answer.

    Raises:
        ProtocolError: It leads to another host.
    """
    location = response.headers.get("Location")
    target = redirect_target(request.method, request.url, response.status_code, location, url)
    if target is None:
        return None
    return httpx.Request(
        request.method,
        target,
        headers=request.headers,
        content=request.content,
        extensions={"timeout": request.extensions["timeout"]},
    )


def redirect_target(
    method: str, asked: httpx.URL, status: int, location: str | None, url: str
) -> httpx.URL | None:
    """Return where a redirect leads that may be followed; None for every other answer.

    Args:
        method: Of the request.
        asked: Its address.
        status: Of the answer.
        location: Its header of that name.
        url: What was asked, for messages.

    Raises:
        ProtocolError: It leads to another host, whom the texts and the token are not for.
    """
    makes_get = status in _MAKES_GET and method == "GET"
    if location is None or not (status in _SAME_METHOD or makes_get):
        return None
    try:
        target = asked.join(location)
    except httpx.InvalidURL as exc:
        raise ProtocolError(f"{url} answered {status} to no address: {exc}", url=url) from exc
    ours, theirs = ((u.scheme, u.host, u.port) for u in (asked, target))
    if ours != theirs:
        message = (
            f"{url} answered {status}, a redirect to {theirs[0]}://{target.netloc.decode()}: it is "
            "not followed to another host or port; set base_url to where the server is"
        )
        raise ProtocolError(message, status=status, url=url)
    return target
