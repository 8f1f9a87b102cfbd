"""Mutations of the engine's half: embeddings, reranking and chat."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from dmr_contract.asgi import Answer, Call, call_is, on_answer, on_request
from dmr_contract.edits import Mutation, edit_body, edit_fields, text_error, turn_status

if TYPE_CHECKING:
    from collections.abc import Callable

    from dmr_contract.asgi import Middleware

EMBEDDINGS = call_is("POST", "/embeddings")
RERANK = call_is("POST", "/rerank")
CHAT = call_is("POST", "/chat/completions")

LONG_WORDS = 450
"""More words than any physical batch of 512 tokens holds with its frame."""


def edit_vectors(change: Callable[[Any, Call], Any]) -> Middleware:
    """Change each vector of an answer."""

    def edit(call: Call, got: Answer) -> Answer:
        answer = got.json()
        if got.status != 200 or not isinstance(answer, dict) or "data" not in answer:
            return got
        fields = cast("dict[str, Any]", answer)
        for entry in fields["data"]:
            entry["embedding"] = change(entry["embedding"], call)
        return got.with_json(fields)

    return on_answer(EMBEDDINGS, edit)


def doubled(vector: Any, _call: Call) -> Any:
    """Leave the unit sphere."""
    if not isinstance(vector, list):
        return vector
    return [2 * value for value in cast("list[float]", vector)]


def big_endian(vector: Any, _call: Call) -> Any:
    """Swap the bytes of each float."""
    if not isinstance(vector, str):
        return vector
    raw = base64.b64decode(vector)
    swapped = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return base64.b64encode(swapped).decode()


def float64(vector: Any, _call: Call) -> Any:
    """Send floats of eight bytes, as numpy has them by default."""
    if not isinstance(vector, str):
        return vector
    raw = base64.b64decode(vector)
    return base64.b64encode(raw + raw).decode()


def shortened(vector: Any, call: Call) -> Any:
    """Honour ``dimensions``."""
    wanted = call.fields().get("dimensions")
    return cast("list[float]", vector)[:wanted] if isinstance(vector, list) else vector


def truncated(body: dict[str, Any]) -> dict[str, Any]:
    """Cut long inputs instead of refusing them."""

    def cut(text: Any) -> Any:
        return " ".join(text.split()[:200]) if isinstance(text, str) else text

    given = body.get("input")
    if isinstance(given, list):
        return {**body, "input": [cut(text) for text in cast("list[Any]", given)]}
    return {**body, "input": cut(given)} if "input" in body else body


def without_long(body: dict[str, Any]) -> dict[str, Any]:
    """Leave a long input out of its batch and embed the others."""
    given = body.get("input")
    if not isinstance(given, list):
        return body
    texts = cast("list[Any]", given)
    kept = [text for text in texts if len(str(text).split()) < LONG_WORDS]
    return {**body, "input": kept or texts}


def turned_vectors(answer: dict[str, Any]) -> dict[str, Any]:
    """Number the vectors in another order than the inputs'."""
    data = [entry["embedding"] for entry in answer["data"]]
    for entry, vector in zip(answer["data"], reversed(data), strict=True):
        entry["embedding"] = vector
    return answer


def no_usage(answer: dict[str, Any]) -> dict[str, Any]:
    """Count nothing."""
    return {**answer, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def empty_batch(call: Call) -> Call | Answer:
    """Answer an empty list by an empty list."""
    if call.fields().get("input") != []:
        return call
    empty: dict[str, Any] = {
        "object": "list",
        "data": [],
        "usage": {"prompt_tokens": 0, "total_tokens": 0},
    }
    return Answer(200, {"content-type": "application/json"}, json.dumps(empty).encode())


def text_for_engine_error(_call: Call, got: Answer) -> Answer:
    """Word an engine's error in the runner's dialect."""
    answer = got.json()
    if got.status < 400 or not isinstance(answer, dict):
        return got
    return text_error(got.status, str(cast("dict[str, Any]", answer)["error"]["message"]))


def without_numbers(_call: Call, got: Answer) -> Answer:
    """Leave the numbers out of a length error, as old builds do."""
    answer = got.json()
    if got.status < 400 or not isinstance(answer, dict):
        return got
    fields = cast("dict[str, Any]", answer)
    error = {key: value for key, value in fields["error"].items() if not key.startswith("n_")}
    return got.with_json({"error": error})


def turned_results(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the documents' worst first."""
    return {**answer, "results": answer["results"][::-1]} if "results" in answer else answer


def in_input_order(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the documents in the order they came."""
    if "results" not in answer:
        return answer
    return {**answer, "results": sorted(answer["results"], key=lambda result: result["index"])}


def with_documents(answer: dict[str, Any]) -> dict[str, Any]:
    """Echo the documents as other servers do."""
    results = [{**result, "document": {"text": ""}} for result in answer["results"]]
    return {**answer, "results": results}


def is_stream(got: Answer) -> bool:
    """Tell whether an answer is one of events."""
    return got.kind == "text/event-stream"


def edit_events(change: Callable[[list[Any]], list[Any]]) -> Middleware:
    """Change the decoded events of a chat stream; ``[DONE]`` is a string among them."""

    def edit(_call: Call, got: Answer) -> Answer:
        if not is_stream(got):
            return got
        texts = [line[6:] for line in got.lines() if line.startswith("data: ")]
        events = change([text if text == "[DONE]" else json.loads(text) for text in texts])
        lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
        return replace(got, body="".join(f"data: {line}\n\n" for line in lines).encode())

    return on_answer(CHAT, edit)


def without_done(events: list[Any]) -> list[Any]:
    """End without the end mark."""
    return [event for event in events if event != "[DONE]"]


def without_usage(events: list[Any]) -> list[Any]:
    """Leave the usage chunk out."""
    return [event for event in events if isinstance(event, str) or event["choices"]]


def empty_first_text(events: list[Any]) -> list[Any]:
    """Begin with an empty text as OpenAI does."""
    events[0]["choices"][0]["delta"]["content"] = ""
    return events


def text_in_last_delta(events: list[Any]) -> list[Any]:
    """Say something together with the finish reason."""
    for event in events:
        if not isinstance(event, str) and event["choices"]:
            choice = event["choices"][0]
            if choice.get("finish_reason"):
                choice["delta"] = {"content": ""}
    return events


def new_ids(events: list[Any]) -> list[Any]:
    """Return each chunk an id of its own."""
    for number, event in enumerate(events):
        if not isinstance(event, str):
            event["id"] = f"chatcmpl-{number}"
    return events


def one_piece(events: list[Any]) -> list[Any]:
    """Send the whole text in one chunk."""
    chunks = [event for event in events if not isinstance(event, str) and event["choices"]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    middle = chunks[1]
    middle["choices"][0]["delta"] = {"content": text}
    return [chunks[0], middle, chunks[-1], "[DONE]"]


def unlabelled(_call: Call, got: Answer) -> Answer:
    """Send events without their ``data:``, one JSON a line."""
    if not is_stream(got):
        return got
    return replace(got, body=got.body.replace(b"data: ", b""))


def always_stop(answer: dict[str, Any]) -> dict[str, Any]:
    """Hide that an answer was cut."""
    for choice in answer.get("choices", []):
        choice["finish_reason"] = "stop"
    return answer


def without_total(answer: dict[str, Any]) -> dict[str, Any]:
    """Miscount."""
    return {**answer, "usage": {**answer.get("usage", {}), "total_tokens": 0}}


def drop(*keys: str) -> Middleware:
    """Ignore fields of chat and rerank requests."""

    def edit(body: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in body.items() if key not in keys}

    return on_request(call_is("POST", "/chat/completions", "/rerank"), edit_body(edit))


ENGINE_MUTATIONS = (
    # Section 4.2: embeddings.
    Mutation("un-normalised vectors", "embeddings_have_unit_length", edit_vectors(doubled)),
    Mutation(
        "big-endian base64",
        "embeddings_by_base64_are_little_endian_floats",
        edit_vectors(big_endian),
    ),
    Mutation(
        "base64 of longer floats",
        "embeddings_by_base64_are_little_endian_floats",
        edit_vectors(float64),
    ),
    Mutation("honoured dimensions", "dimensions_are_ignored", edit_vectors(shortened)),
    Mutation(
        "base64 is ignored",
        "embeddings_by_base64_are_little_endian_floats",
        on_request(
            EMBEDDINGS,
            edit_body(lambda body: {k: v for k, v in body.items() if k != "encoding_format"}),
        ),
    ),
    Mutation(
        "long input is cut",
        "input_over_the_physical_batch_is_refused_by_a_500",
        on_request(EMBEDDINGS, edit_body(truncated)),
    ),
    Mutation(
        "inputs are cut at 200 words",
        "long_inputs_are_not_cut",
        on_request(EMBEDDINGS, edit_body(truncated)),
    ),
    Mutation(
        "long input is left out of its batch",
        "one_long_input_fails_the_whole_batch",
        on_request(EMBEDDINGS, edit_body(without_long)),
    ),
    Mutation(
        "413 for a long input",
        "input_over_the_physical_batch_is_refused_by_a_500",
        turn_status(500, 413, EMBEDDINGS),
    ),
    Mutation(
        "text for an engine's error",
        "input_over_the_physical_batch_is_refused_by_a_500",
        on_answer(EMBEDDINGS, text_for_engine_error),
    ),
    Mutation(
        "vectors in another order",
        "embeddings_keep_the_order_of_the_inputs",
        on_answer(EMBEDDINGS, edit_fields(turned_vectors)),
    ),
    Mutation(
        "usage of zero", "usage_counts_real_tokens", on_answer(EMBEDDINGS, edit_fields(no_usage))
    ),
    Mutation(
        "empty list is answered",
        "empty_list_of_inputs_is_refused",
        on_request(EMBEDDINGS, empty_batch),
    ),
    # Section 4.3: reranking.
    Mutation(
        "worst document first",
        "rerank_is_sorted_by_score",
        on_answer(RERANK, edit_fields(turned_results)),
    ),
    Mutation(
        "documents in input order",
        "rerank_is_sorted_by_score",
        on_answer(RERANK, edit_fields(in_input_order)),
    ),
    Mutation(
        "documents are echoed",
        "rerank_has_its_shape",
        on_answer(RERANK, edit_fields(with_documents)),
    ),
    Mutation("top_n is ignored", "rerank_is_cut_to_top_n", drop("top_n")),
    # Section 1.3: chat.
    Mutation(
        "no [DONE]", "chat_stream_is_server_sent_events_until_done", edit_events(without_done)
    ),
    Mutation(
        "no usage chunk", "chat_stream_has_a_usage_chunk_on_request", edit_events(without_usage)
    ),
    Mutation(
        "usage chunk unasked",
        "chat_stream_has_no_usage_chunk_unasked",
        on_request(
            CHAT,
            edit_body(
                lambda body: (
                    {**body, "stream_options": {"include_usage": True}}
                    if body.get("stream")
                    else body
                )
            ),
        ),
    ),
    Mutation(
        "first delta is an empty text",
        "chat_stream_begins_with_a_role_and_null",
        edit_events(empty_first_text),
    ),
    Mutation(
        "text beside the finish reason",
        "chat_stream_ends_with_a_finish_reason_and_an_empty_delta",
        edit_events(text_in_last_delta),
    ),
    Mutation(
        "each chunk has its own id", "chat_stream_chunks_share_their_frame", edit_events(new_ids)
    ),
    Mutation("text in one piece", "chat_stream_brings_its_text_in_pieces", edit_events(one_piece)),
    Mutation(
        "lines of JSON instead of events",
        "chat_stream_is_server_sent_events_until_done",
        on_answer(CHAT, unlabelled),
    ),
    Mutation(
        "a cut answer finishes by stop",
        "chat_cut_by_max_tokens_finishes_by_length",
        on_answer(CHAT, edit_fields(always_stop)),
    ),
    Mutation(
        "json_schema is ignored",
        "json_schema_is_enforced_and_finishes_by_stop",
        drop("response_format"),
    ),
    Mutation(
        "totals that do not add up",
        "chat_answer_has_its_shape",
        on_answer(CHAT, edit_fields(without_total)),
    ),
    Mutation(
        "context error without its numbers",
        "chat_over_its_context_is_refused_with_both_numbers",
        on_answer(CHAT, without_numbers),
    ),
)
