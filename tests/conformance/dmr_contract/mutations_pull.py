"""Mutations of the pull stream."""

from __future__ import annotations

import html
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from dmr_contract.asgi import (
    Answer,
    Call,
    on_answer,
    path_ends,
)
from dmr_contract.edits import (
    Mutation,
    deaf,
)

if TYPE_CHECKING:
    from dmr_contract.asgi import App, Message, Receive, Scope, Send


CREATE = path_ends("/models/create")


def without_success(_call: Call, got: Answer) -> Answer:
    """End a pull without saying so."""
    return got.with_lines([line for line in got.lines() if '"success"' not in html.unescape(line)])


def unescape_pull(_call: Call, got: Answer) -> Answer:
    """Send plain JSON whatever was asked."""
    return replace(got, body=html.unescape(got.body.decode()).encode())


def escape_pull(_call: Call, got: Answer) -> Answer:
    """Send escaped JSON whatever was asked."""
    text = html.unescape(got.body.decode())
    return replace(got, body=html.escape(text).replace("&quot;", "&#34;").encode())


def without_trailing_text(_call: Call, got: Answer) -> Answer:
    """Leave out what Go's ``http.Error`` appends to the stream."""
    return got.with_lines([line for line in got.lines() if html.unescape(line).startswith("{")])


def failure_as_status(_call: Call, got: Answer) -> Answer:
    """Tell of a late failure by the status, which cannot be: it was sent before."""
    failed = got.status == 200 and '"success"' not in html.unescape(got.body.decode())
    return replace(got, status=500) if failed else got


def success_after_failure(_call: Call, got: Answer) -> Answer:
    """Claim success at the end of every stream."""
    done = {"type": "success", "message": "Model pulled successfully", "total": 0}
    line = json.dumps({**done, "layer": {"size": 0, "current": 0}, "mode": "pull"})
    return got.with_lines([*got.lines(), line]) if got.status == 200 else got


def one_layer(_call: Call, got: Answer) -> Answer:
    """Report all bytes as one layer's."""
    lines = [json.loads(line) for line in got.lines() if line.startswith("{")]
    layers = [line["layer"].get("id") for line in lines if line["layer"].get("id")]
    kept = [line for line in lines if line["layer"].get("id") in {None, *layers[:1]}]
    return got.with_lines([json.dumps(line) for line in kept])


def overshoot(_call: Call, got: Answer) -> Answer:
    """Report twice the bytes."""
    lines = [json.loads(line) for line in got.lines() if line.startswith("{")]
    for line in lines:
        line["layer"]["current"] *= 2
    return got.with_lines([json.dumps(line) for line in lines])


def eager_headers(app: App) -> App:
    """Send a pull's headers before it may start."""

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        if not CREATE(scope["method"], scope["path"]):
            await app(scope, receive, send)
            return
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        await app(scope, receive, rest)

    return broken


PULL_MUTATIONS = (
    Mutation(
        "no success line", "pull_ends_with_its_success_line", on_answer(CREATE, without_success)
    ),
    Mutation(
        "pull lines not HTML-escaped",
        "pull_for_anything_else_is_escaped_text",
        on_answer(CREATE, unescape_pull),
    ),
    Mutation(
        "pull lines always HTML-escaped",
        "pull_for_json_is_lines_of_json",
        on_answer(CREATE, escape_pull),
    ),
    Mutation(
        "pull as application/x-ndjson",
        "pull_for_json_is_lines_of_json",
        on_answer(CREATE, lambda _, got: got.with_header("content-type", "application/x-ndjson")),
    ),
    Mutation(
        "pull may be cached",
        "pull_stream_is_not_cached_and_chunked",
        on_answer(CREATE, lambda _, got: got.with_header("cache-control", None)),
    ),
    Mutation(
        "pull in one block",
        "pull_stream_is_not_cached_and_chunked",
        on_answer(CREATE, lambda _, got: got.with_header("content-length", "0")),
    ),
    Mutation(
        "pull of a single layer",
        "pull_reports_interleaved_layers_up_to_their_size",
        on_answer(CREATE, one_layer),
    ),
    Mutation(
        "pull reports bytes twice",
        "pull_reports_interleaved_layers_up_to_their_size",
        on_answer(CREATE, overshoot),
    ),
    Mutation(
        "cached model is pulled again",
        "cached_model_is_one_success_line",
        on_answer(
            CREATE,
            lambda _, got: replace(got, body=got.body.replace(b"Using cached model", b"Pulled")),
        ),
    ),
    Mutation(
        "failed pull without its trailing text",
        "pull_that_fails_midway_keeps_status_200_and_says_so",
        on_answer(CREATE, without_trailing_text),
    ),
    Mutation(
        "failed pull has status 500",
        "pull_that_fails_midway_keeps_status_200_and_says_so",
        on_answer(CREATE, failure_as_status),
    ),
    Mutation(
        "success line after a failure",
        "pull_that_fails_midway_keeps_status_200_and_says_so",
        on_answer(CREATE, success_after_failure),
    ),
    Mutation(
        "third pull gets headers at once",
        "third_concurrent_pull_waits_without_headers",
        eager_headers,
    ),
    Mutation("pull goes on without its client", "disconnecting_cancels_the_pull", deaf(CREATE)),
)
