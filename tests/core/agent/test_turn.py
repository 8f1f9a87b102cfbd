"""How a turn ends, what it tells meanwhile, and what it makes of a server's faults."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from merganser.agent.attempt import Hooks
from merganser.agent.events import Restarted, TextDelta, ToolAnswered, ToolCalled, TurnEvent
from merganser.agent.model import MOST_BROKEN_ANSWERS, ChatOptions
from merganser.agent.turn import take_turn
from merganser.config.load import Config
from merganser.errors import (
    AgentError,
    ModelNotFoundError,
    PlanError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
)
from merganser.models.client import ModelRunner
from merganser.models.retry import NO_RETRY, RetryPolicy
from tests.core.agent.conftest import GivenHits
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall
from tests.doubles.model_server import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.core.agent.conftest import Turns
    from tests.doubles.model_server import Double

SEARCH = ScriptedAnswer(tool_calls=(ScriptedCall("birds", {"query": "merganser food"}),))
NO_RETRIES = Hooks(chat=ChatOptions(retry=NO_RETRY))

WriteConfig = Callable[..., Config]


async def test_the_same_call_five_times_in_a_row_stops_the_turn(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.script_chat([SEARCH] * 9)

    with pytest.raises(AgentError, match="called 'birds' 5 times in a row"):
        await turns.ask(runner, write_config(), given_hits())

    assert len(runner.faults.scripted_requests) == 5


async def test_a_turn_that_never_ends_is_stopped(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("merganser.agent.attempt.MAX_REQUESTS", 3)
    runner.faults.script_chat([turns.call("birds", query=str(n)) for n in range(9)])

    with pytest.raises(AgentError, match="after 3 model requests"):
        await turns.ask(runner, write_config(), given_hits())


async def test_an_answer_cut_at_its_limit_is_noted(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.script_chat([ScriptedAnswer("It eats", finish_reason="length")])

    answer = await turns.ask(runner, write_config(), given_hits())

    assert (answer.text, answer.finish_reason) == ("It eats", "length")
    assert "the answer was cut at max_tokens (200)" in answer.notes


async def test_a_model_that_thinks_until_its_limit_gives_a_failed_answer(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    thought = ScriptedAnswer("<think>Fish or grass?</think>", finish_reason="length")
    runner.faults.script_chat([thought])

    answer = await turns.ask(runner, write_config(), given_hits())

    assert (answer.text, answer.outcome) == ("", "failed: no text")
    assert "Fish or grass?" in answer.reasoning


async def test_reasoning_is_kept_apart_from_the_answer(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.script_chat(["<think> The duck [9]? </think> It eats fish."])

    answer = await turns.ask(runner, write_config(), given_hits())

    assert (answer.text, answer.reasoning) == ("It eats fish.", "The duck [9]?")
    assert answer.invalid_citations == ()


async def test_events_tell_the_turn_as_it_happens(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.script_chat([SEARCH, "It eats fish [1]."])
    events: list[TurnEvent] = []

    await turns.ask(runner, write_config(), given_hits(), on_event=events.append)

    assert ToolCalled("birds", {"query": "merganser food"}) in events
    assert ToolAnswered("birds", "success", "2 passages") in events
    assert (
        "".join(event.text for event in events if isinstance(event, TextDelta))
        == "It eats fish [1]."
    )


async def test_a_server_that_is_away_for_a_moment_is_asked_again(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.inject("status", route="chat", status=503, message="busy")
    runner.faults.script_chat(["Fish."])
    events: list[TurnEvent] = []

    answer = await turns.ask(runner, write_config(), given_hits(), on_event=events.append)

    assert answer.text == "Fish."
    assert any(isinstance(event, Restarted) for event in events)


@pytest.mark.parametrize(
    "fault", [{"kind": "status", "status": 503, "retry_after": 7}, {"kind": "cut"}]
)
async def test_what_may_pass_is_a_transient_error_for_whoever_retries(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
    fault: dict[str, Any],
):
    runner.faults.inject(fault.pop("kind"), route="chat", **fault)
    runner.faults.script_chat(["It eats fish, and then it eats some more fish."])

    with pytest.raises(RunnerUnavailableError) as caught:
        await turns.ask(runner, write_config(), given_hits(), hooks=NO_RETRIES)

    assert caught.value.retry_after_seconds == fault.get("retry_after")


async def test_what_will_not_pass_is_asked_once(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
):
    runner.faults.inject("status", route="chat", status=400, message="bad request", times=3)

    with pytest.raises(RequestRejectedError, match="bad request"):
        await turns.ask(runner, write_config(), given_hits())

    assert [fault.times for fault in runner.faults.pending] == [2]


async def test_a_missing_model_names_the_command_that_pulls_it(
    turns: type[Turns],
    runner: FaultyRunner,
    write_config: WriteConfig,
    given_hits: Callable[..., Any],
    tmp_path: Path,
):
    config = write_config()
    text = config.path.read_text().replace("ai/smollm2", "ai/never-pulled")
    config.path.write_text(text)
    from merganser.config.load import load_config

    with pytest.raises(ModelNotFoundError, match="docker model pull"):
        await turns.ask(runner, load_config(config.path), given_hits())


async def test_a_missing_retriever_and_an_empty_question_are_plan_errors(
    runner: FaultyRunner, write_config: WriteConfig, given_hits: Callable[..., Any]
):
    async with ModelRunner(runner.url) as client:
        with pytest.raises(PlanError, match="needs a retriever for birds"):
            await take_turn(
                write_config(), "root", "Why?", retrievers={}, runner=client, turn_id="t"
            )
        with pytest.raises(PlanError, match="question is empty"):
            await take_turn(write_config(), "root", " ", retrievers={}, runner=client, turn_id="t")
        for long in ("é" * 42_000, "x" * 640_000):  # both are sent as JSON
            with pytest.raises(PlanError, match="the question is too long"):
                await take_turn(
                    write_config(), "root", long, retrievers={}, runner=client, turn_id="t"
                )
        with pytest.raises(PlanError, match="has no agent 'boss'; it has 'root'"):
            await take_turn(
                write_config(), "boss", "Why?", retrievers={}, runner=client, turn_id="t"
            )


NONSENSE = "data: {nope\n\n"
HALF = 'data: {"choices": [{"index": 0, "delta": {"content": "It eats"}}]}\n\n'


@pytest.mark.parametrize("broken", [NONSENSE, HALF, HALF + NONSENSE])
@pytest.mark.parametrize(("times", "restarts"), [(MOST_BROKEN_ANSWERS - 1, 4), (99, 4)])
async def test_an_answer_that_breaks_is_asked_for_again_but_not_for_ever(
    double: Double, write_config: WriteConfig, broken: str, times: int, restarts: int
):
    double.add_model("ai/smollm2")
    events: list[TurnEvent] = []
    for _ in range(times):
        response = Response(broken, media_type="text/event-stream")
        double.faults.append(Fault("/engines/v1/chat/completions", response))
    double.chat_events = [
        'data: {"choices": [{"index": 0, "delta": {"content": "Fish."}, "finish_reason": "stop"}]}'
    ]

    async def ask() -> str:
        config = write_config(rag_mode="tool")
        retry = RetryPolicy(attempts=20, first_seconds=0.0)
        async with ModelRunner(double.url) as client:
            answer = await take_turn(
                config,
                "root",
                "What?",
                retrievers={"birds": GivenHits()},
                runner=client,
                turn_id="t",
                on_event=events.append,
                hooks=Hooks(chat=ChatOptions(retry=retry)),
            )
        return answer.text

    if times < MOST_BROKEN_ANSWERS:
        assert await ask() == "Fish."
    else:
        with pytest.raises(ProtocolError, match=r"in 5 answers"):
            await ask()

    assert sum(isinstance(event, Restarted) for event in events) == restarts
