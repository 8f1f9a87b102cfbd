"""What a server must not get away with while it streams: size, time, nonsense, redirects."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response, StreamingResponse

from merganser.errors import ProtocolError, PullError, RequestRejectedError
from merganser.models.chat import EndlessAnswerError
from merganser.models.client import ModelRunner
from merganser.models.retry import NO_RETRY
from merganser.models.wire import Timeouts
from tests.doubles.model_server import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.doubles.model_server import Double

MODEL = "ai/qwen3"
CHAT = "/engines/v1/chat/completions"
EVENTS = "text/event-stream"
PULL = "/models/create"


def delta(text: str, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return "data: " + json.dumps({"choices": [choice]})


@pytest.fixture(autouse=True)
def local_model(double: Double) -> None:
    double.add_model(MODEL)
    double.chat_events = [delta("Hi", "stop"), "data: [DONE]"]


def answers(double: Double, body: str | bytes, **headers: str) -> None:
    response = Response(body, media_type=EVENTS, headers=headers)
    double.faults.append(Fault(CHAT, response))


@pytest.mark.parametrize("is_packed", [False, True])
async def test_a_stream_that_is_too_large_is_not_read_on(
    client: ModelRunner, double: Double, monkeypatch: pytest.MonkeyPatch, *, is_packed: bool
):
    monkeypatch.setattr("merganser.models.chat.MOST_ANSWER_BYTES", 1 << 20)
    body = b": alive\n\n" * 200_000
    headers = {"Content-Encoding": "gzip"} if is_packed else {}
    answers(double, gzip.compress(body) if is_packed else body, **headers)

    with pytest.raises(EndlessAnswerError, match="larger than 1 MB"):
        await client.chat(MODEL, "hello", max_tokens=9)


async def test_a_packed_stream_is_read(client: ModelRunner, double: Double):
    body = "\n\n".join([*double.chat_events, ""]).encode()
    answers(double, gzip.compress(body), **{"Content-Encoding": "gzip"})

    assert (await client.chat(MODEL, "hello", max_tokens=9)).text == "Hi"


@pytest.mark.parametrize("piece", ["word ", ""])
async def test_a_model_that_never_stops_is_stopped(
    client: ModelRunner, double: Double, piece: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("merganser.models.chat._SLACK_CHARACTERS", 10)
    answers(double, f"{delta(piece or 'x')}\n\n" * 500)

    with pytest.raises(EndlessAnswerError, match="and no end, for max_tokens 2"):
        await client.chat(MODEL, "hello", max_tokens=2)


async def test_an_answer_that_comes_too_slowly_is_given_up(double: Double):
    async def drip() -> AsyncIterator[str]:
        while True:
            yield delta("a") + "\n\n"
            await asyncio.sleep(0.02)

    double.chat = drip
    patience = Timeouts(load=0.2, token=5, answer=0.1)

    async with ModelRunner(double.url, timeouts=patience, retry=NO_RETRY, env={}) as client:
        with pytest.raises(EndlessAnswerError, match="did not end its answer within"):
            await client.chat(MODEL, "hello", max_tokens=0)


async def test_an_event_that_is_nested_without_end_is_a_broken_contract(
    client: ModelRunner, double: Double
):
    answers(double, "data: " + "[" * 200_000 + "\n\n")

    with pytest.raises(ProtocolError, match="nested too deeply"):
        await client.chat(MODEL, "hello", max_tokens=9)


async def test_what_is_no_stream_is_shown(client: ModelRunner, double: Double):
    double.fail(CHAT, 200, "<html>Log in first</html>")

    with pytest.raises(ProtocolError, match="Log in first"):
        await client.chat(MODEL, "hello", max_tokens=9)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "upstream overloaded"}, ProtocolError),
        ({"message": "no such option", "type": "invalid_request_error"}, RequestRejectedError),
    ],
)
async def test_an_error_in_an_answer_of_200_is_shown(
    client: ModelRunner, double: Double, error: dict[str, str], kind: type[Exception]
):
    double.fail(CHAT, 200, {"error": error})

    with pytest.raises(kind, match=error["message"]):
        await client.chat(MODEL, "hello", max_tokens=9)


async def test_a_chat_is_redirected_on_the_same_host_alone(client: ModelRunner, double: Double):
    double.fail(CHAT, 307, "", headers={"Location": CHAT})

    answer = await client.chat(MODEL, "hello", max_tokens=9)

    assert answer.text == "Hi"
    first, second = double.asked(CHAT)
    assert first.body == second.body
    double.fail(CHAT, 307, "", headers={"Location": "http://127.0.0.2/x"})
    with pytest.raises(ProtocolError, match="set base_url"):
        await client.chat(MODEL, "hello", max_tokens=9)


async def test_the_text_of_an_error_is_read_for_a_megabyte(client: ModelRunner, double: Double):
    sent = 0

    async def large() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1 << 16
            yield b"x" * (1 << 16)
            await asyncio.sleep(0)

    for path in (CHAT, PULL):
        double.faults.append(Fault(path, StreamingResponse(large(), 400)))

    with pytest.raises(RequestRejectedError):
        await client.chat(MODEL, "hello", max_tokens=9)
    with pytest.raises(PullError):
        await client.pull("ai/other")
    assert sent < 2 * 1000 << 16


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x" * 200_000, "tells more than"),
        ('{"error": {"message": "the disk is full"}}', "the disk is full"),
        ("[" * 50_000, "failed"),
    ],
)
async def test_an_odd_line_of_a_pull_ends_it(
    client: ModelRunner, double: Double, line: str, said: str
):
    double.pull_lines = [line]

    with pytest.raises(PullError, match=said) as caught:
        await client.pull("ai/other")

    assert len(str(caught.value)) < 3000


async def test_a_pull_is_redirected_on_the_same_host(client: ModelRunner, double: Double):
    double.fail(PULL, 307, "", headers={"Location": PULL})
    double.pull_lines = ['{"type": "success", "message": "done"}']

    served = await client.pull("ai/other")

    assert served.canonical == "ai/other:latest"


async def test_a_pull_that_talks_and_does_not_get_on_has_broken_off(
    double: Double, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("merganser.models.pull._STANDSTILL", 0.01)
    line = {"type": "progress", "total": 10, "layer": {"id": "a", "size": 10, "current": 5}}
    double.pull_lines = [json.dumps(line)] * 500
    double.pull_pauses = dict.fromkeys(range(500), 0.01)

    async with ModelRunner(double.url, timeouts=Timeouts(stall=5), pull_retry=NO_RETRY) as client:
        with pytest.raises(PullError, match="no progress"):
            await client.pull("ai/other")
