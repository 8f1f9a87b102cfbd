"""A model server that does its worst: each kind of fault is a name, of embeddings, chat or pulls.

It writes the bytes of its answers itself, so that it can break HTTP too. ``serve`` runs one.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tests.doubles.model_server import vector_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Mapping

    Answer: TypeAlias = Callable[[Mapping[str, Any]], AsyncIterator[bytes]]

DIMENSIONS = 16
_JSON = "application/json"
_EVENTS = "text/event-stream"
_BLOCK = b"0123456789abcdef" * 4096
_ESCAPES = "\x1b]0;owned\x07\x1b[2J" * 50


def _head(status: int = 200, kind: str = _JSON, **headers: object) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def _whole(
    body: bytes, status: int = 200, kind: str = _JSON, **more: object
) -> AsyncIterator[bytes]:
    yield _head(status, kind, Content_Length=len(body), **more) + body


def _said(document: Any, status: int = 200, kind: str = _JSON, **more: object) -> Answer:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return lambda _asked: _whole(body, status, kind, **more)


def _then(first: bytes, piece: bytes, pause: float = 0.0, times: int | None = None) -> Answer:
    """Answer with a beginning and then the same piece again and again."""

    async def answer(_asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
        yield first
        count = 0
        while times is None or count < times:
            await asyncio.sleep(pause)
            yield piece
            count += 1

    return answer


def _vectors(asked: Mapping[str, Any]) -> list[Any]:
    return [vector_of(str(text), DIMENSIONS).tolist() for text in asked.get("input", ())]


def _spoilt(spoil: Callable[[list[Any]], list[Any]], *, indexes: Any = None) -> Answer:
    """Answer with vectors that something was done to."""

    def answer(asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
        rows = spoil(_vectors(asked))
        numbers = indexes or range(len(rows))
        data = [{"index": i, "embedding": row} for i, row in zip(numbers, rows, strict=False)]
        return _whole(json.dumps({"data": data}).encode())

    return answer


def _delta(**content: Any) -> bytes:
    choice = {"index": 0, "delta": content, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def _layer(number: int, current: int, total: int) -> bytes:
    layer = {"id": f"sha256:{number}", "size": total, "current": current}
    return json.dumps({"type": "progress", "total": total, "layer": layer}).encode() + b"\n"


async def _many_layers(_asked: Mapping[str, Any]) -> AsyncIterator[bytes]:
    yield _head()
    for start in range(0, 100_000_000, 500):
        yield b"".join(_layer(n, 1, 10**9) for n in range(start, start + 500))


_BOMB = gzip.compress(bytes(1 << 20)) * 700
_NEST = b"[" * 3_000_000
_TOKEN = _delta(content="word ")
_ANYTHING: dict[str, Answer] = {
    "silence": _then(b"", b"", pause=0.5),
    "closed-at-once": _then(b"", b"", times=0),
    "no-http": _then(b"220 mail ready\r\n", b"", times=0),
    "headers-without-end": _then(b"HTTP/1.1 200 X\r\n", b"A: " + _BLOCK + b"\r\n"),
    "answers-of-100-without-end": _then(b"", b"HTTP/1.1 100 X\r\n\r\n", pause=0.001),
    "three-gigabytes": _then(_head(), _BLOCK, times=50_000),
    "packed-bomb": _then(_head(Content_Encoding="gzip"), _BOMB, times=1),
    "packed-twice": _said(b"x", Content_Encoding="gzip, gzip"),
    "cut-short": _then(_head(Content_Length=10_000), b'{"data": ', times=1),
    "bad-chunk": _then(_head(Transfer_Encoding="chunked"), b"zz\r\nno\r\n", times=1),
    "a-byte-at-a-time": _then(_head(), b" ", pause=0.1),
    "web-page": _said(b"<html>" + _BLOCK, kind="text/html"),
    "nested-without-end": _said(_NEST),
    "number-without-end": _said(b'{"data": ' + b"9" * 3_000_000 + b"}"),
    "no-utf-8": _said(b'{"data": "\xff\xfe'),
    "error-in-200": _said({"error": {"message": "overloaded " + _ESCAPES}}),
    "error-of-gigabytes": _then(_head(500), _BLOCK, times=50_000),
    "error-nested": _said(_NEST, 500),
    "error-a-byte-at-a-time": _then(_head(500), b" ", pause=0.1),
    "busy-for-ages": _said({"error": "busy"}, 503, Retry_After="1e300"),
    "redirected-in-a-circle": _said(b"", 307, Location="/v1/embeddings"),
    "redirected-elsewhere": _said(b"", 307, Location="http://127.0.0.9:1/"),
}
EMBEDDINGS: dict[str, Answer] = {
    **_ANYTHING,
    "nan": _spoilt(lambda rows: [[float("nan"), *row[1:]] for row in rows]),
    "infinite": _spoilt(lambda rows: [[1e999, *row[1:]] for row in rows]),
    "zero": _spoilt(lambda rows: [[0.0] * DIMENSIONS for _ in rows]),
    "too-large": _spoilt(lambda rows: [[3e38] * DIMENSIONS for _ in rows]),
    "one-a-token": _spoilt(lambda rows: [[row, row] for row in rows]),
    "too-few": _spoilt(lambda rows: rows[:-1]),
    "too-many": _spoilt(lambda rows: [*rows, rows[0]]),
    "of-two-lengths": _spoilt(lambda rows: [rows[0][:8], *rows[1:]]),
    "twice-the-same-place": _spoilt(lambda rows: rows, indexes=[0] * 100),
    "places-beyond": _spoilt(lambda rows: rows, indexes=range(1, 100)),
    "of-texts": _spoilt(lambda rows: [["a"] * DIMENSIONS for _ in rows]),
    "null": _spoilt(lambda rows: [None for _ in rows]),
    "base64-of-garbage": _spoilt(lambda rows: ["!" * 86 for _ in rows]),
    "base64-of-nan": _spoilt(
        lambda rows: [
            base64.b64encode(np.full(DIMENSIONS, np.nan, "<f4").tobytes()).decode() for _ in rows
        ]
    ),
    "of-a-million-numbers": _spoilt(lambda rows: [[0.5] * 1_000_000 for _ in rows]),
    "a-list": _said([1, 2, 3]),
    "text": _said("fine"),
}
CHAT: dict[str, Answer] = {
    **_ANYTHING,
    "tokens-without-end": _then(_head(kind=_EVENTS), _TOKEN * 200),
    "tokens-now-and-then": _then(_head(kind=_EVENTS), _TOKEN, pause=0.3),
    "reasoning-without-end": _then(_head(kind=_EVENTS), _delta(reasoning_content="hm ") * 200),
    "line-without-end": _then(_head(kind=_EVENTS) + b'data: "', _BLOCK),
    "one-token-of-megabytes": _then(_head(kind=_EVENTS), _delta(content="x" * (30 << 20)), times=1),
    "comments-without-end": _then(_head(kind=_EVENTS), b": alive\n\n", pause=0.05),
    "comments-at-full-speed": _then(_head(kind=_EVENTS), b": alive\n\n" * 5000),
    "events-bomb": _then(_head(kind=_EVENTS, Content_Encoding="gzip"), _BOMB, times=1),
    "event-nested": _then(_head(kind=_EVENTS), b"data: " + _NEST + b"\n\n", times=1),
    "events-no-json": _then(_head(kind=_EVENTS), b"data: {nope\n\n", times=3),
    "cut-in-the-middle": _then(_head(kind=_EVENTS), _TOKEN, times=3),
    "arguments-without-end": _then(
        _head(kind=_EVENTS),
        _delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "x"}}])
        * 200,
    ),
    "error-in-the-stream": _then(
        _head(kind=_EVENTS), b'data: {"error": {"message": "died", "code": 500}}\n\n', times=1
    ),
    "an-answer-of-another-kind": _said({"object": "list", "data": []}),
}
PULLS: dict[str, Answer] = {
    **{name: answer for name, answer in _ANYTHING.items() if name != "silence"},
    "line-of-gigabytes": _then(_head(), _BLOCK),
    "layers-without-end": _many_layers,
    "the-same-line-without-end": _then(_head(), _layer(1, 5, 10), pause=0.01),
    "total-of-300-digits": _then(_head(), _layer(1, 10**299, 10**300), times=2),
    "silent-after-the-first-line": _then(_head(), b"\n", pause=30.0),
    "words-without-end": _then(_head(), b"Error: no " + _BLOCK[:20_000] + b"\n", times=20_000),
    "errors-without-end": _then(_head(), b'{"type": "error", "message": "no"}\n' * 500, times=2000),
    "cut-in-the-middle": _then(_head(), _layer(1, 5, 10), times=1),
}
ROUTES = {
    "embeddings": ("/embeddings", EMBEDDINGS),
    "chat": ("/chat/completions", CHAT),
    "pull": ("/models/create", PULLS),
}


@contextmanager
def serve(route: str, fault: str) -> Generator[str]:
    """Run a server with one fault; yield its address."""
    suffix, faults = ROUTES[route]
    answer = faults[fault]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            sizes = (line.split(":") for line in head.split("\r\n") if "ontent-" in line)
            length = sum(int(value) for name, value in sizes if name.lower() == "content-length")
            body = await reader.readexactly(length)
            path = head.split(" ", 2)[1]
            asked: dict[str, Any] = json.loads(body) if body else {}
            answers = answer(asked) if path.endswith(suffix) else _right(path, route)
            async for piece in answers:
                writer.write(piece)
                await writer.drain()
        writer.close()

    ready, over = threading.Event(), asyncio.Event()
    place: list[Any] = []

    async def run() -> None:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            place.extend([asyncio.get_running_loop(), server.sockets[0].getsockname()[1]])
            ready.set()
            await over.wait()

    # ``run`` cancels the answers that have no end.
    thread = threading.Thread(target=asyncio.run, args=[run()], daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{place[1]}"
    finally:
        place[0].call_soon_threadsafe(over.set)
        thread.join(20)


def _right(path: str, route: str) -> AsyncIterator[bytes]:
    if path == "/models":
        return _whole(b"[]") if route == "pull" else _whole(b"{}", 404)
    return _whole(b'{"object": "list", "data": [{"id": "m"}]}', 200 if route != "pull" else 404)
