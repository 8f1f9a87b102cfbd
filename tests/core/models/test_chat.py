from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import (
    InputTooLongError,
    ModelNotFoundError,
    ProtocolError,
    RunnerUnavailableError,
)
from merganser.models.chat import ChatOptions, ToolCall, Usage, merge_messages, plain_tools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from merganser.models.client import ModelRunner
    from tests.doubles.model_server import Double

MODEL = "ai/qwen3"
HELLO = [{"role": "user", "content": "hello"}]
DONE = "data: [DONE]"


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

    pieces = [piece async for piece in client.chat_stream(MODEL, HELLO)]
    answer = await client.chat(MODEL, HELLO)

    assert [piece.content for piece in pieces] == ["", "", "Hel", "lo", "", ""]
    assert (answer.content, answer.reasoning) == ("Hello", "hm")
    assert answer.finish_reason == "stop"
    assert answer.usage == Usage(7, 2)
    (body, _) = [one.body for one in double.asked("/engines/v1/chat/completions")]
    assert body["stream_options"] == {"include_usage": True}
    assert body["model"] == "ai/qwen3:latest"


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

    answer = await client.chat(MODEL, HELLO)

    assert answer.tool_calls == (
        ToolCall("c1", "search", '{"q": "x"}'),
        ToolCall("c2", "read", "{}"),
    )


async def test_one_answer_in_one_piece(client: ModelRunner, double: Double):
    message = {"role": "assistant", "content": "Hi"}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    double.chat_events = [json.dumps({"choices": [choice], "usage": {"prompt_tokens": 3}})]

    answer = await client.chat(MODEL, HELLO, stream=False)

    assert (answer.content, answer.finish_reason) == ("Hi", "length")
    assert answer.usage == Usage(3, 0)
    (seen,) = double.asked("/engines/v1/chat/completions")
    assert seen.body["stream"] is False


async def test_a_stream_that_ends_unfinished_is_transient(client: ModelRunner, double: Double):
    double.chat_events = [delta(content="Hel")]

    with pytest.raises(RunnerUnavailableError, match="broke off"):
        await client.chat(MODEL, HELLO)


async def test_an_error_inside_the_stream_is_typed(client: ModelRunner, double: Double):
    error = {
        "code": 400,
        "message": "request (9 tokens) exceeds the available context size (4 tokens)",
        "type": "exceed_context_size_error",
    }
    double.chat_events = [delta(content="Hel"), "data: " + json.dumps({"error": error})]

    with pytest.raises(InputTooLongError):
        await client.chat(MODEL, HELLO)


async def test_the_older_form_of_an_error_in_the_stream_is_read(
    client: ModelRunner, double: Double
):
    double.chat_events = ['error: {"code": 503, "message": "loading"}']

    with pytest.raises(RunnerUnavailableError, match="loading"):
        await client.chat(MODEL, HELLO)


async def test_an_event_that_is_no_json_is_a_broken_contract(client: ModelRunner, double: Double):
    double.chat_events = ["data: {nope"]

    with pytest.raises(ProtocolError, match="no JSON"):
        await client.chat(MODEL, HELLO)


async def test_silence_between_tokens_is_not_waited_for_without_end(
    client: ModelRunner, double: Double
):
    async def silent() -> AsyncIterator[str]:
        yield delta(content="Hel") + "\n\n"
        await asyncio.sleep(2)

    double.chat = silent

    with pytest.raises(RunnerUnavailableError, match=r"0\.5 s without a token"):
        await client.chat(MODEL, HELLO)


async def test_an_unknown_model_names_its_pull_command(client: ModelRunner):
    with pytest.raises(ModelNotFoundError, match="docker model pull ai/other"):
        await client.chat("other", HELLO)


async def test_a_503_before_the_first_token_is_tried_again(client: ModelRunner, double: Double):
    double.fail("/engines/v1/chat/completions", 503, "backend installer not started\n")
    double.chat_events = [delta("stop", content="Hi"), DONE]

    answer = await client.chat(MODEL, HELLO)

    assert answer.content == "Hi"


def test_messages_of_one_role_in_a_row_are_merged():
    image = {"type": "image_url", "image_url": {"url": "x"}}
    messages = [
        {"role": "system", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]

    assert merge_messages(messages) == [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": [{"type": "text", "text": "c"}, image]},
        {"role": "assistant", "content": "d"},
        {"role": "assistant", "content": "e"},
    ]
    assert messages[0]["content"] == "a"


def test_tools_get_a_description_and_lose_what_templates_refuse():
    inner: dict[str, Any] = {"type": "object", "additionalProperties": False, "properties": {}}
    schema: dict[str, Any] = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"additionalProperties": {"type": "array", "items": inner}},
    }
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]

    (tool,) = plain_tools(tools)

    assert tool["function"] == {
        "name": "f",
        "description": "Function f",
        "parameters": {
            "type": "object",
            "properties": {
                "additionalProperties": {
                    "type": "array",
                    "items": {"type": "object", "properties": {}},
                }
            },
        },
    }


async def test_options_go_into_the_body_only_when_set(client: ModelRunner, double: Double):
    double.chat_events = [delta("stop"), DONE]

    await client.chat(MODEL, HELLO)
    await client.chat(MODEL, HELLO, ChatOptions(temperature=0.0, stop=("x",), extra={"k": 1}))

    (plain, full) = [one.body for one in double.asked("/engines/v1/chat/completions")]
    assert set(plain) == {"model", "messages", "stream", "stream_options"}
    assert (full["temperature"], full["stop"], full["k"]) == (0.0, ["x"], 1)


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
    double.fail(
        "/engines/v1/chat/completions", 500, {"error": {"code": 500, "message": "Jinja error"}}
    )

    assert await client.calls_tools(MODEL) is False
