"""A switchable ASGI middleware that breaks one thing of a runner at a time."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
Middleware: TypeAlias = Callable[[App], App]


@dataclass(frozen=True, slots=True)
class Call:
    """A request as a mutation sees it; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Decode the body; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def fields(self) -> dict[str, Any]:
        """Decode the body as an object; empty when it is none."""
        value = self.json()
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    def with_json(self, value: Any) -> Call:
        """Replace the body."""
        return replace(self, body=json.dumps(value).encode())

    def without_header(self, name: str) -> Call:
        """Drop a header."""
        headers = {key: value for key, value in self.headers.items() if key != name}
        return replace(self, headers=headers)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer as a mutation sees it; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """The content type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0]

    def json(self) -> Any:
        """Decode the body; None when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def with_json(self, value: Any) -> Answer:
        """Replace the body."""
        return replace(self, body=json.dumps(value).encode())

    def with_header(self, name: str, value: str | None) -> Answer:
        """Set a header, or drop it for None."""
        headers = {key: text for key, text in self.headers.items() if key != name}
        return replace(self, headers=headers if value is None else {**headers, name: value})

    def with_lines(self, lines: list[str]) -> Answer:
        """Replace the body by lines that each end."""
        return replace(self, body="".join(f"{line}\n" for line in lines).encode())

    def lines(self) -> list[str]:
        """Return the body's lines."""
        return self.body.decode().splitlines()


class Switch:
    """An ASGI application that is another one, or the same one broken.

    Attributes:
        middleware: The mutation that is on, or None.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.middleware: Middleware | None = None
        self._broken: tuple[Middleware, App] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.middleware is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._broken is None or self._broken[0] is not self.middleware:
            self._broken = (self.middleware, self.middleware(self._app))
        await self._broken[1](scope, receive, send)


def on_request(
    matches: Callable[[str, str], bool], change: Callable[[Call], Call | Answer]
) -> Middleware:
    """Change requests of some (method, path), or answer them without asking the runner."""

    def middleware(app: App) -> App:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            if not matches(scope["method"], scope["path"]):
                await app(scope, receive, send)
                return
            changed = change(await read_call(scope, receive))
            if isinstance(changed, Answer):
                await send_answer(changed, send)
            else:
                await app(scope_of(changed, scope), replay(changed.body, receive), send)

        return broken

    return middleware


def on_answer(
    matches: Callable[[str, str], bool], change: Callable[[Call, Answer], Answer]
) -> Middleware:
    """Change the answers to some (method, path); streams arrive in one piece."""

    def middleware(app: App) -> App:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            if not matches(scope["method"], scope["path"]):
                await app(scope, receive, send)
                return
            call = await read_call(scope, receive)
            recorder = Recorder()
            await app(scope, replay(call.body, receive), recorder)
            await send_answer(change(call, recorder.answer()), send)

        return broken

    return middleware


def any_call(_method: str, _path: str) -> bool:
    """Match every call."""
    return True


def path_ends(*ends: str) -> Callable[[str, str], bool]:
    """Match calls by the end of their path."""

    def matches(_method: str, path: str) -> bool:
        return path.endswith(ends)

    return matches


def call_is(method: str, *ends: str) -> Callable[[str, str], bool]:
    """Match calls by method and the end of their path."""

    def matches(got: str, path: str) -> bool:
        return got == method and path.endswith(ends)

    return matches


class Recorder:
    """A ``send`` that keeps everything."""

    def __init__(self) -> None:
        self._status = 500
        self._headers = dict[str, str]()
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = int(message["status"])
            pairs = message.get("headers", ())
            self._headers = {bytes(k).decode().lower(): bytes(v).decode() for k, v in pairs}
        elif message["type"] == "http.response.body":
            self._body.extend(message.get("body", b""))

    def answer(self) -> Answer:
        """Return what was kept."""
        return Answer(self._status, self._headers, bytes(self._body))


async def read_call(scope: Scope, receive: Receive) -> Call:
    """Read a request to its end."""
    body = bytearray()
    while True:
        message = await receive()
        body.extend(message.get("body", b""))
        if not message.get("more_body", False):
            break
    headers = {bytes(k).decode().lower(): bytes(v).decode() for k, v in scope["headers"]}
    return Call(scope["method"], scope["path"], headers, bytes(body))


def scope_of(call: Call, scope: Scope) -> Scope:
    """Return the scope of a changed request."""
    headers = {**call.headers, "content-length": str(len(call.body))}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {
        **scope,
        "method": call.method,
        "path": call.path,
        "raw_path": call.path.encode(),
        "headers": pairs,
    }


def replay(body: bytes, receive: Receive) -> Receive:
    """Return the body once, then whatever follows it, which is the client's leaving."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again


async def send_answer(answer: Answer, send: Send) -> None:
    """Send a whole answer; a length that was announced is corrected."""
    headers = dict(answer.headers)
    if "content-length" in headers:
        headers["content-length"] = str(len(answer.body))
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": pairs})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})
