"""A server that is away is waited for, aloud and not for ever; answers are answers."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest

from merganser.errors import (
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
    RunnerUnreachableError,
    ServerAwayError,
    TransientError,
)
from merganser.models import outage
from merganser.models.outage import outlast, server_of, waiting_for_server
from tests.doubles.model_server import EMBEDDER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from merganser.models.client import ModelRunner
    from tests.doubles.model_server import Double

URL = "http://127.0.0.1:9/engines/v1/embeddings"
EMBEDDINGS = "/engines/v1/embeddings"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(outage, "_LONGEST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(outage, "_LOOK_SECONDS", 0.005)


def failing(
    times: int, error: Exception | None = None
) -> tuple[Callable[[], Awaitable[str]], list[int]]:
    """Return an operation that fails so often, and the list that grows with its tries."""
    tries: list[int] = []

    async def ask() -> str:
        tries.append(len(tries))
        if len(tries) <= times:
            raise error or RunnerUnreachableError("refused", url=URL)
        return "answer"

    return ask, tries


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_server_that_is_away_is_asked_until_it_answers(
    client: ModelRunner, double: Double, status: int
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, status, "restarting", times=12)
    heard: list[str] = []

    with waiting_for_server(60, tell=heard.append):
        batch = await client.embed(EMBEDDER, ["one", "two"])

    assert len(batch.vectors) == 2
    assert f"{double.url} cannot serve since" in heard[0]
    assert "is back after" in heard[1]
    assert len(heard) == 2


async def test_nothing_is_waited_for_outside_of_a_run_or_with_no_time():
    ask, tries = failing(5)

    with pytest.raises(RunnerUnreachableError):
        await outlast(ask)
    with waiting_for_server(0), pytest.raises(RunnerUnreachableError):
        await outlast(ask)

    assert len(tries) == 2


@pytest.mark.parametrize(
    "answer", [RequestRejectedError("no", status=400), ProtocolError("what?"), ValueError("ours")]
)
async def test_an_answer_is_not_waited_for(answer: Exception):
    ask, tries = failing(5, answer)

    with waiting_for_server(60), pytest.raises(type(answer)):
        await outlast(ask)

    assert len(tries) == 1


async def test_the_end_of_a_wait_says_what_was_waited_for_and_is_not_tried_again():
    ask, _ = failing(10**6)

    with waiting_for_server(0.1), pytest.raises(ServerAwayError, match="refused") as ended:
        await outlast(lambda: outlast(ask))

    assert not isinstance(ended.value, TransientError)
    assert "What is finished is kept" in str(ended.value)


async def test_of_many_requests_one_speaks_and_one_asks_at_a_time():
    heard: list[str] = []
    is_back = False
    tries = 0

    async def ask() -> str:
        nonlocal tries
        tries += 1
        if not is_back:
            raise RunnerUnreachableError("refused", url=URL)
        return "answer"

    with waiting_for_server(60, tell=heard.append):
        requests = [asyncio.create_task(outlast(ask)) for _ in range(200)]
        await asyncio.sleep(0.3)
        is_back, asked = True, tries
        answers = await asyncio.gather(*requests)

    assert answers == ["answer"] * 200
    assert asked <= 200 + 0.3 / 0.01
    assert [text.partition(" since")[0].partition(" after")[0] for text in heard] == [
        "http://127.0.0.1:9 cannot serve",
        "http://127.0.0.1:9 is back",
    ]


async def test_a_request_that_fails_while_others_are_answered_ends_too(
    monkeypatch: pytest.MonkeyPatch,
):
    # The engine dies of one request; each time another is answered the outage is over.
    monkeypatch.setattr(outage, "_LONGEST_PAUSE_SECONDS", 0.1)
    dropped, tries = failing(20, RunnerUnavailableError("dropped", url=URL))

    async def poison() -> str:
        neighbour, _ = failing(1)
        await outlast(neighbour)
        return await dropped()

    with waiting_for_server(0.5), pytest.raises(ServerAwayError, match="dropped") as ended:
        await outlast(poison)

    assert ended.value.seconds >= 0.5
    assert len(tries) < 12


async def test_what_a_server_asks_for_is_kept(monkeypatch: pytest.MonkeyPatch):
    error = RunnerUnavailableError("full", status=503, url=URL)
    error.retry_after_seconds = 0.5
    ask, tries = failing(1, error)

    with waiting_for_server(60):
        waiting = asyncio.create_task(outlast(ask))
        await asyncio.sleep(0.2)
        before = len(tries)
        await waiting

    assert (before, len(tries)) == (1, 2)


def test_leaving_the_run_ends_waits_in_every_thread():
    ended: list[BaseException] = []

    def wait() -> None:
        ask, _ = failing(10**6)
        try:
            asyncio.run(_of(outlast(ask)))
        except ServerAwayError as error:
            ended.append(error)

    with waiting_for_server(3600):
        threads = [threading.Thread(target=copy_context().run, args=(wait,)) for _ in range(3)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(10)

    assert len(ended) == 3


async def _of(work: Awaitable[str]) -> str:
    return await work


async def test_a_task_that_waits_is_cancelled_at_once():
    ask, _ = failing(10**6)

    with waiting_for_server(3600):
        task = asyncio.create_task(outlast(ask))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)


@pytest.mark.parametrize(
    ("url", "server"),
    [
        (URL, "http://127.0.0.1:9"),
        ("unix:///var/run/docker.sock/exp/vDD4.40/models", "unix:///var/run/docker.sock"),
        ("https://models.example", "https://models.example"),
        ("", "the model server"),
    ],
)
def test_a_server_is_named_without_the_path_that_was_asked(url: str, server: str):
    assert server_of(RunnerUnreachableError("x", url=url)) == server
