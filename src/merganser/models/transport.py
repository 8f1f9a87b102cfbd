"""The HTTP client that a model server is asked with: one connection a request, and no proxies."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from merganser.models.address import Address

OPENED = ("connect_tcp.complete", "connect_unix_socket.complete")
"""Events of httpx's ``trace`` that end the making of a connection."""


def open_client(
    address: Address, *, timeout: httpx.Timeout, headers: Mapping[str, str] | None = None
) -> httpx.AsyncClient:
    """Make the HTTP client for an address.

    Proxy variables are ignored, as they break loopback addresses. No ``Origin`` is sent (any
    that is not on the server's list is refused) and no user agent that has
    ``docker-model-cli/`` in it, for which the server mixes text into its answers.
    """
    # Made once for all transports: reading the certificate authorities takes 20 ms.
    context = httpx.create_ssl_context(verify=address.tls(), trust_env=False)
    return httpx.AsyncClient(
        transport=ParallelTransport(
            lambda: httpx.AsyncHTTPTransport(uds=address.uds, verify=context, trust_env=False)
        ),
        trust_env=False,
        timeout=timeout,
        headers={
            "User-Agent": "merganser",
            "Accept-Encoding": "gzip, deflate",
            **(headers or {}),
        },
    )


class ParallelTransport(httpx.AsyncBaseTransport):
    """Lends every request a transport that no other is using, until its answer is read.

    httpcore's pool goes through all of its connections before and after every request, and asks
    the operating system of each idle one whether it is still open. An embedder that looks for its
    pace leaves dozens of them, and then the pool takes longer than the request. So each request in
    flight has a pool of its own, the one that was idle last, with mostly one connection in it.

    Args:
        make: Makes one more transport.
    """

    def __init__(self, make: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._make = make
        self._all: list[httpx.AsyncBaseTransport] = []
        self._idle: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; see ``httpx.AsyncBaseTransport``."""
        if not self._idle:
            self._idle.append(self._make())
            self._all.append(self._idle[-1])
        transport = self._idle.pop()
        give_back = partial(self._idle.append, transport)
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            give_back()
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LentStream(response.stream, give_back)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._all:
            await transport.aclose()


class _LentStream(httpx.AsyncByteStream):
    """The body of an answer; closing it gives the transport back, once."""

    def __init__(self, stream: httpx.AsyncByteStream, give_back: Callable[[], None]) -> None:
        self._stream = stream
        self._give_back: Callable[[], None] | None = give_back

    async def __aiter__(self) -> AsyncGenerator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        give_back, self._give_back = self._give_back, None
        try:
            await self._stream.aclose()
        finally:
            if give_back is not None:
                give_back()
