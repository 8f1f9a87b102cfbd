"""Connections of many requests: kept, shared in turn, never by two at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from merganser.models.transport import ParallelTransport

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class _Server:
    """Answers every request after all that were announced have come, and counts connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.url = ""
        self.together = asyncio.Barrier(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with suppress(ConnectionError):
            while (await reader.readline()).startswith(b"GET"):
                while (await reader.readline()).strip():
                    pass
                await self.together.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()

    async def close(self) -> None:
        """Leave no connection open; it would be reported in some later test."""
        for writer in self.writers:
            writer.transport.abort()
        for writer in self.writers:
            with suppress(ConnectionError):
                await writer.wait_closed()


@pytest.fixture
async def server() -> AsyncGenerator[_Server]:
    server = _Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1") as listening:
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield server
        await server.close()


def _client() -> httpx.AsyncClient:
    transport = ParallelTransport(lambda: httpx.AsyncHTTPTransport(trust_env=False))
    return httpx.AsyncClient(transport=transport)


async def test_requests_in_turn_share_a_connection(server: _Server) -> None:
    async with _client() as client:
        for _ in range(5):
            await client.get(server.url)

    assert server.connections == 1


async def test_requests_at_once_have_connections_of_their_own_and_keep_them(
    server: _Server,
) -> None:
    server.together = asyncio.Barrier(6)
    async with _client() as client:
        for _ in range(3):
            await asyncio.gather(*(client.get(server.url) for _ in range(6)))

    assert server.connections == 6


async def test_a_request_that_was_given_up_or_refused_leaves_its_place(server: _Server) -> None:
    made = 0

    def make() -> httpx.AsyncHTTPTransport:
        nonlocal made
        made += 1
        return httpx.AsyncHTTPTransport(trust_env=False)

    server.together = asyncio.Barrier(2)  # one request alone is never answered
    async with httpx.AsyncClient(transport=ParallelTransport(make)) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.get(server.url)
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:1")
        server.together = asyncio.Barrier(1)
        async with client.stream("GET", server.url):
            pass  # closed without being read
        answer = await client.get(server.url)

    assert answer.text == "ok"
    assert made == 1
