"""Section 1.3: chat answers and chat streams."""

from __future__ import annotations

import json
from typing import cast

import httpx

from dmr_contract.target import (
    Json,
    Target,
    as_object,
    assert_engine_error,
    assert_keys,
    assert_whole,
    case,
    describe,
    words,
)

ANSWER_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["colour"],
    "additionalProperties": False,
}

TEXT_KEYS = ("content", "reasoning_content")

JSON_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": ANSWER_SCHEMA, "strict": True},
}

TOOL = {
    "type": "function",
    "function": {
        "name": "dive",
        "description": "Dive for a fish.",
        "parameters": {"type": "object", "properties": {"metres": {"type": "number"}}},
    },
}


@case("1.3")
def chat_answer_has_its_shape(target: Target) -> None:
    answer = as_object(target.chat("Say a word."))

    assert answer["object"] == "chat.completion", answer
    assert answer["id"].startswith("chatcmpl-"), answer
    assert isinstance(answer["model"], str), answer
    assert_whole(answer["created"], "created", least=1)
    assert len(answer["choices"]) == 1, answer
    choice = answer["choices"][0]
    assert choice["index"] == 0, choice
    assert choice["finish_reason"] in {"stop", "length", "tool_calls"}, choice
    assert choice["message"]["role"] == "assistant", choice
    assert isinstance(choice["message"]["content"], str), choice
    check_usage(answer["usage"])


@case("1.3")
def chat_usage_counts_the_prompt(target: Target) -> None:
    short = as_object(target.chat("Hi.", max_tokens=1))["usage"]
    long = as_object(target.chat(words(200), max_tokens=1))["usage"]

    assert long["prompt_tokens"] - short["prompt_tokens"] >= 150, (short, long)


@case("1.3")
def chat_cut_by_max_tokens_finishes_by_length(target: Target) -> None:
    answer = as_object(target.chat("Count from one to a hundred.", max_tokens=2))

    assert answer["choices"][0]["finish_reason"] == "length", answer
    assert answer["usage"]["completion_tokens"] == 2, answer


@case("1.3")
def chat_is_served_below_the_root_alias(target: Target) -> None:
    answer = as_object(target.post("/v1/chat/completions", target.chat_body("Hi.")))

    assert answer["object"] == "chat.completion", answer


@case("1.3")
def completion_is_served(target: Target) -> None:
    body = {"model": target.chat_model, "prompt": "A duck", "max_tokens": 4, "temperature": 0}
    answer = as_object(target.post("/engines/v1/completions", body))

    assert answer["object"] == "text_completion", answer
    assert isinstance(answer["choices"][0]["text"], str), answer


@case("1.3")
def json_schema_is_enforced_and_finishes_by_stop(target: Target) -> None:
    answer = as_object(
        target.chat("Which colour is grass?", response_format=JSON_FORMAT, max_tokens=200)
    )

    choice = answer["choices"][0]
    assert choice["finish_reason"] == "stop", answer
    try:
        value = json.loads(choice["message"]["content"])
    except ValueError as error:
        raise AssertionError(f"the schema was not enforced: {choice}") from error
    assert list(value) == ["colour"], value
    assert value["colour"] in {"red", "green"}, value


@case("1.3")
def json_schema_can_be_cut_by_length(target: Target) -> None:
    answer = as_object(
        target.chat("Which colour is grass?", response_format=JSON_FORMAT, max_tokens=2)
    )

    choice = answer["choices"][0]
    assert choice["finish_reason"] == "length", answer
    assert not choice["message"]["content"].rstrip().endswith("}"), "it was completed after all"


@case("1.3")
def grammar_with_tools_is_refused(target: Target) -> None:
    response = target.chat("Dive.", tools=[TOOL], grammar='root ::= "yes"')

    assert_engine_error(response, 400, "Cannot use custom grammar constraints with tools")


@case("1.3")
def chat_stream_is_server_sent_events_until_done(target: Target) -> None:
    response = target.chat("Say a word.", stream=True)

    assert response.status_code == 200, describe(response)
    kind = response.headers.get("content-type", "").partition(";")[0]
    assert kind == "text/event-stream", describe(response)
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines), lines
    assert lines[-1] == "data: [DONE]", lines
    assert response.text.endswith("\n\n"), "each event ends with an empty line"


@case("1.3")
def chat_stream_begins_with_a_role_and_null(target: Target) -> None:
    delta = stream(target)[0]["choices"][0]["delta"]

    assert delta["role"] == "assistant", delta
    assert delta["content"] is None, delta


@case("1.3")
def chat_stream_ends_with_a_finish_reason_and_an_empty_delta(target: Target) -> None:
    chunks = [chunk for chunk in stream(target) if chunk["choices"]]

    reasons = [chunk["choices"][0].get("finish_reason") for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1), reasons
    assert reasons[-1] in {"stop", "length"}, reasons
    assert chunks[-1]["choices"][0]["delta"] == {}, chunks[-1]


@case("1.3")
def chat_stream_chunks_share_their_frame(target: Target) -> None:
    chunks = stream(target)

    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["id"].startswith("chatcmpl-")
    assert all(isinstance(chunk["model"], str) for chunk in chunks)
    for chunk in chunks:
        assert_whole(chunk["created"], "created", least=1)


@case("1.3")
def chat_stream_brings_its_text_in_pieces(target: Target) -> None:
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(target, "Name a bird.", 24)]

    texts = [delta[key] for delta in deltas for key in TEXT_KEYS if delta.get(key)]
    assert len(texts) >= 2, deltas
    assert all(isinstance(text, str) for text in texts), deltas


@case("1.3")
def chat_stream_has_a_usage_chunk_on_request(target: Target) -> None:
    chunks = stream(target, stream_options={"include_usage": True})

    assert chunks[-1]["choices"] == [], chunks[-1]
    check_usage(chunks[-1]["usage"])
    assert all(chunk["choices"] for chunk in chunks[:-1])
    assert chunks[-2]["choices"][0]["finish_reason"] in {"stop", "length"}, chunks[-2]


@case("1.3")
def chat_stream_has_no_usage_chunk_unasked(target: Target) -> None:
    assert all(chunk["choices"] for chunk in stream(target))


@case("6")
def chat_over_its_context_is_refused_with_both_numbers(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, context_size=512)
        response = target.chat(words(1500))

        error = assert_engine_error(response, 400, "exceed", "exceed_context_size_error")
        limit = assert_whole(error.get("n_ctx"), "n_ctx", least=1)
        assert limit <= 512, error
        assert assert_whole(error.get("n_prompt_tokens"), "n_prompt_tokens") > limit, error


@case("6", "faults")
def cut_stream_has_no_done(target: Target) -> None:
    target.controls.cut_next_stream()
    url = f"{target.url}/engines/v1/chat/completions"
    received: list[str] = []
    broke = False
    try:
        with target.http.stream("POST", url, json=target.chat_body("Hi.", stream=True)) as answer:
            received.extend(answer.iter_lines())
    except httpx.RemoteProtocolError:
        broke = True
    finally:
        target.controls.reset()

    assert broke, "the connection is aborted, not ended"
    assert "data: [DONE]" not in received, received
    assert target.chat("Hi.").status_code == 200, "the next request is served again"


def stream(
    target: Target, text: str = "Say a word.", max_tokens: int = 8, **fields: object
) -> list[Json]:
    """Stream an answer and give its decoded chunks without ``[DONE]``."""
    response = target.chat(text, max_tokens=max_tokens, stream=True, **fields)
    assert response.status_code == 200, describe(response)
    events = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    try:
        chunks = [json.loads(event) for event in events if event != "[DONE]"]
    except ValueError as error:
        raise AssertionError(f"an event is no JSON: {events}") from error
    assert len(chunks) >= 2, f"a role and an end at least: {response.text!r}"
    for chunk in chunks:
        assert_keys(
            chunk,
            {"choices", "created", "id", "model", "object"},
            {"system_fingerprint", "usage", "timings", "prompt_progress"},
            "chunk",
        )
    return cast("list[Json]", chunks)


def check_usage(usage: Json) -> None:
    """Expect token counts that add up."""
    prompt = assert_whole(usage.get("prompt_tokens"), "prompt_tokens", least=1)
    completion = assert_whole(usage.get("completion_tokens"), "completion_tokens", least=1)
    assert usage.get("total_tokens") == prompt + completion, usage
