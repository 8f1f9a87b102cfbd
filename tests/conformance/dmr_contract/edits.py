"""What a mutation is, and the tools to write one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from dmr_contract.asgi import (
    Answer,
    Call,
    any_call,
    on_answer,
    on_request,
    read_call,
    replay,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmr_contract.asgi import App, Message, Middleware, Receive, Scope, Send


TEXT = {"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True)
class Mutation:
    """One way to break the contract.

    Attributes:
        name: What the broken runner does.
        likely: The case that is expected to see it; it is tried first.
        middleware: Breaks a runner.
    """

    name: str
    likely: str
    middleware: Middleware


def text_error(status: int, message: str) -> Answer:
    """Return an error of the runner's own dialect."""
    return Answer(status, TEXT, f"{message}\n".encode())


def is_text_error(answer: Answer) -> bool:
    """Tell whether an answer is of the runner's own error dialect."""
    return answer.status >= 400 and answer.kind == "text/plain"


def on_errors(change: Callable[[Answer], Answer]) -> Middleware:
    """Change all text errors."""
    return on_answer(any_call, lambda _, got: change(got) if is_text_error(got) else got)


def turn_status(old: int, new: int, matches: Callable[[str, str], bool] = any_call) -> Middleware:
    """Answer with another status."""
    return on_answer(matches, lambda _, got: replace(got, status=new) if got.status == old else got)


def replace_text(old: str, new: str) -> Middleware:
    """Word an error otherwise."""
    return on_errors(lambda got: replace(got, body=got.body.replace(old.encode(), new.encode())))


def rewrite(old: str, new: str) -> Middleware:
    """Serve a path as if it were another."""
    return on_request(lambda _, path: path == old, lambda call: replace(call, path=new))


def edit_entries(change: Callable[[list[Any]], Any]) -> Callable[[Call, Answer], Answer]:
    """Change a JSON array answer."""

    def edit(_call: Call, got: Answer) -> Answer:
        value = got.json()
        return got.with_json(change(cast("list[Any]", value))) if isinstance(value, list) else got

    return edit


def edit_fields(change: Callable[[dict[str, Any]], Any]) -> Callable[[Call, Answer], Answer]:
    """Change a JSON object answer."""

    def edit(_call: Call, got: Answer) -> Answer:
        value = got.json()
        if got.status >= 400 or not isinstance(value, dict):
            return got
        return got.with_json(change(cast("dict[str, Any]", value)))

    return edit


def edit_body(change: Callable[[dict[str, Any]], Any]) -> Callable[[Call], Call]:
    """Change a JSON object request."""

    def edit(call: Call) -> Call:
        value = call.json()
        if not isinstance(value, dict):
            return call
        return call.with_json(change(cast("dict[str, Any]", value)))

    return edit


def deaf(matches: Callable[[str, str], bool]) -> Middleware:
    """Never learn that the client left."""

    def middleware(app: App) -> App:
        async def broken(scope: Scope, receive: Receive, send: Send) -> None:
            if not matches(scope["method"], scope["path"]):
                await app(scope, receive, send)
                return
            call = await read_call(scope, receive)

            async def nothing_more() -> Message:
                await asyncio.Event().wait()
                raise AssertionError("unreachable")

            async def send_if_heard(message: Message) -> None:
                try:
                    await send(message)
                except OSError:
                    return

            await app(scope, replay(call.body, nothing_more), send_if_heard)

        return broken

    return middleware
