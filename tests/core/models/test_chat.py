from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_ai.tools import ToolDefinition

from merganser.errors import (
    InputTooLongError,
    ModelNotFoundError,
    ProtocolError,
    RunnerUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from merganser.models.client import ModelRunner
    from tests.doubles.model_server import Double

MODEL = "ai/qwen3"
HELLO = "hello"
DONE = "data: [DONE]"
CHAT = "/engines/v1/chat/completions"
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"q": {"type": "string"}}}


def delta(finish: str | None = None, **content: Any) -> str:
    choice = {"index": 0, "delta": content, "finish_reason": finish}
    return "data: " + json.dumps({"choices": [choice]})


USAGE = "data: " + json.dumps(
    {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}}
)


@pytest.fixture(autouse=True)
def local_model(double: Double) -> None:
    double.add_model(MODEL)


async def test_a_stream_gives_text_reasoning_reason_and_usage(client: ModelRunner, double: Double):
    double.chat_events = [
        delta(role="assistant", content=None),
        ": a comment",
        delta(reasoning_content="hm"),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        USAGE,
        DONE,
    ]

    answer = await client.chat(MODEL, HELLO, max_tokens=9)

    assert (answer.text, answer.thinking) == ("Hello", "hm")
    assert answer.finish_reason == "stop"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (7, 2)
    (seen,) = double.asked(CHAT)
    assert seen.body["stream_options"] == {"include_usage": True}
    assert seen.body["model"] == "ai/qwen3:latest"
    assert (seen.body["temperature"], seen.body["max_tokens"]) == (0.0, 9)


async def test_tool_calls_are_put_together_from_their_pieces(client: ModelRunner, double: Double):
    def call(index: int, **more: Any) -> str:
        return delta(tool_calls=[{"index": index, **more}])

    double.chat_events = [
        call(0, id="c1", function={"name": "search", "arguments": ""}),
        call(1, id="c2", function={"name": "read", "arguments": "{}"}),
        call(0, function={"arguments": '{"q":'}),
        call(0, function={"arguments": ' "x"}'}),
        delta("tool_calls"),
        DONE,
    ]

    answer = await client.chat(MODEL, HELLO, max_tokens=9)

    assert [(call.tool_name, call.args_as_dict()) for call in answer.tool_calls] == [
        ("search", {"q": "x"}),
        ("read", {}),
    ]


async def test_a_stream_that_ends_unfinished_is_transient(client: ModelRunner, double: Double):
    double.chat_events = [delta(content="Hel")]

    with pytest.raises(RunnerUnavailableError, match="broke off"):
        await client.chat(MODEL, HELLO, max_tokens=9)


async def test_an_error_inside_the_stream_is_typed(client: ModelRunner, double: Double):
    error = {
        "code": 400,
        "message": "request (9 tokens) exceeds the available context size (4 tokens)",
        "type": "exceed_context_size_error",
    }
    double.chat_events = [delta(content="Hel"), "data: " + json.dumps({"error": error})]

    with pytest.raises(InputTooLongError):
        await client.chat(MODEL, HELLO, max_tokens=9)


async def test_an_event_that_is_no_json_is_a_broken_contract(client: ModelRunner, double: Double):
    double.chat_events = ["data: {nope"]

    with pytest.raises(ProtocolError, match="no JSON"):
        await client.chat(MODEL, HELLO, max_tokens=9)


async def test_silence_between_tokens_is_not_waited_for_without_end(
    client: ModelRunner, double: Double
):
    async def silent() -> AsyncIterator[str]:
        yield delta(content="Hel") + "\n\n"
        await asyncio.sleep(2)

    double.chat = silent

    with pytest.raises(RunnerUnavailableError, match=r"0\.5 s without a token"):
        await client.chat(MODEL, HELLO, max_tokens=9)


async def test_an_unknown_model_names_its_pull_command(client: ModelRunner):
    with pytest.raises(ModelNotFoundError, match="docker model pull ai/other"):
        await client.chat("other", HELLO, max_tokens=9)


async def test_a_503_before_the_first_token_is_tried_again(client: ModelRunner, double: Double):
    double.fail(CHAT, 503, "backend installer not started\n")
    double.chat_events = [delta("stop", content="Hi"), DONE]

    answer = await client.chat(MODEL, HELLO, max_tokens=9)

    assert answer.text == "Hi"


async def test_tools_and_a_format_go_into_the_body_only_when_given(
    client: ModelRunner, double: Double
):
    double.chat_events = [delta("stop", content="Hi"), DONE]
    tool = ToolDefinition(name="f", description="Do it.", parameters_json_schema=SCHEMA)

    await client.chat(MODEL, HELLO, max_tokens=9)
    await client.chat(MODEL, HELLO, max_tokens=9, tools=[tool], response_format={"type": "text"})

    (plain, full) = [one.body for one in double.asked(CHAT)]
    assert not {"tools", "tool_choice", "parallel_tool_calls", "response_format"} & set(plain)
    assert plain["messages"] == [{"role": "user", "content": HELLO}]
    function = {"name": "f", "description": "Do it.", "parameters": SCHEMA}
    assert full["tools"] == [{"type": "function", "function": function}]
    assert full["parallel_tool_calls"] is False
    assert full["response_format"] == {"type": "text"}


async def test_what_is_enough_ends_the_answer(client: ModelRunner, double: Double):
    async def endless() -> AsyncIterator[str]:
        while True:
            yield delta(content="word ") + "\n\n"
            await asyncio.sleep(0.01)

    double.chat = endless

    answer = await client.chat(
        MODEL, HELLO, max_tokens=9, is_enough=lambda so_far: len(so_far.text or "") > 20
    )

    assert answer.text == "word " * 5


async def test_a_model_that_calls_the_tool_passes_the_tool_probe(
    client: ModelRunner, double: Double
):
    call = {"index": 0, "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    double.chat_events = [delta("tool_calls", tool_calls=[call]), DONE]

    assert await client.calls_tools(MODEL) is True


@pytest.mark.parametrize("text", ["It is sunny.", '{"name": "get_weather"}'])
async def test_a_model_that_only_talks_fails_the_tool_probe(
    client: ModelRunner, double: Double, text: str
):
    double.chat_events = [delta("stop", content=text), DONE]

    assert await client.calls_tools(MODEL) is False


async def test_a_template_without_tools_fails_the_tool_probe(client: ModelRunner, double: Double):
    double.fail(CHAT, 500, {"error": {"code": 500, "message": "Jinja error"}})

    assert await client.calls_tools(MODEL) is False
