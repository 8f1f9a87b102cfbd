"""Section 4.2: embeddings as llama.cpp answers them."""

from __future__ import annotations

import base64
import math
import struct
from typing import Any, cast

from dmr_contract.target import (
    Target,
    as_object,
    assert_engine_error,
    assert_keys,
    assert_runner_error,
    assert_whole,
    case,
    describe,
    words,
)

TEXTS = ("a duck dives for fish", "the compiler reports a type error", "rain falls in autumn")

TOO_LARGE = (
    r"^input \((\d+) tokens\) is too large to process\. "
    r"increase the physical batch size \(current batch size: 512\)$"
)


@case("4.2")
def embeddings_have_their_shape(target: Target) -> None:
    answer = as_object(target.embed("a duck"))

    assert_keys(answer, {"model", "object", "usage", "data"}, set(), "answer")
    assert answer["object"] == "list", answer
    assert answer["model"] == target.embedding_model, "the model is echoed"
    [entry] = answer["data"]
    assert_keys(entry, {"embedding", "index", "object"}, set(), "entry")
    assert entry["object"] == "embedding", entry
    assert entry["index"] == 0, entry
    assert len(floats(entry["embedding"])) >= 8, entry


@case("4.2")
def embeddings_have_unit_length(target: Target) -> None:
    for vector in vectors(target, list(TEXTS)):
        norm = math.sqrt(sum(value * value for value in vector))
        assert math.isclose(norm, 1.0, abs_tol=1e-3), norm


@case("4.2")
def embeddings_keep_the_order_of_the_inputs(target: Target) -> None:
    answer = as_object(target.embed(list(TEXTS)))
    alone = [vectors(target, text)[0] for text in TEXTS]

    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]
    for position, entry in enumerate(answer["data"]):
        similarities = [dot(floats(entry["embedding"]), other) for other in alone]
        assert max(similarities) == similarities[position] > 0.98, (position, similarities)


@case("4.2")
def embeddings_by_base64_are_little_endian_floats(target: Target) -> None:
    expected = vectors(target, TEXTS[0])[0]
    answer = as_object(target.embed(TEXTS[0], encoding_format="base64"))

    [entry] = answer["data"]
    assert entry.get("encoding_format") == "base64", entry
    assert isinstance(entry["embedding"], str), entry
    raw = base64.b64decode(entry["embedding"], validate=True)
    assert len(raw) == 4 * len(expected), (len(raw), len(expected))
    decoded = struct.unpack(f"<{len(expected)}f", raw)
    for got, wanted in zip(decoded, expected, strict=True):
        assert math.isclose(got, wanted, abs_tol=1e-3), (got, wanted)


@case("4.2")
def embeddings_by_float_are_the_default(target: Target) -> None:
    by_name = as_object(target.embed(TEXTS[0], encoding_format="float"))["data"][0]["embedding"]

    for got, wanted in zip(floats(by_name), vectors(target, TEXTS[0])[0], strict=True):
        assert math.isclose(got, wanted, abs_tol=1e-3), (got, wanted)


@case("4.2")
def dimensions_are_ignored(target: Target) -> None:
    whole = vectors(target, TEXTS[0])[0]
    asked = as_object(target.embed(TEXTS[0], dimensions=8))["data"][0]["embedding"]

    assert len(whole) == len(asked) > 8


@case("4.2")
def usage_counts_real_tokens(target: Target) -> None:
    short = as_object(target.embed("duck"))["usage"]
    long = as_object(target.embed(words(300)))["usage"]
    both = as_object(target.embed(["duck", words(300)]))["usage"]

    for usage in (short, long, both):
        assert assert_whole(usage["prompt_tokens"], "prompt_tokens", least=1)
        assert usage["total_tokens"] == usage["prompt_tokens"], usage
    assert 1 <= short["prompt_tokens"] <= 10, short
    assert 300 <= long["prompt_tokens"] <= 600, long
    assert both["prompt_tokens"] == short["prompt_tokens"] + long["prompt_tokens"], both


@case("4.2")
def input_over_the_physical_batch_is_refused_by_a_500(target: Target) -> None:
    with target.fresh(target.embedding_model):
        response = target.embed(words(600))

        error = assert_engine_error(response, 500, TOO_LARGE, "server_error")
        tokens = int(str(error["message"]).partition("(")[2].partition(" ")[0])
        assert tokens >= 600, error


@case("4.2")
def one_long_input_fails_the_whole_batch(target: Target) -> None:
    with target.fresh(target.embedding_model):
        response = target.embed(["a duck", words(600), "another duck"])

        assert_engine_error(response, 500, TOO_LARGE, "server_error")
        assert "data" not in response.json(), describe(response)


@case("4.2")
def input_over_the_context_is_refused_by_a_400(target: Target) -> None:
    flags = ["--batch-size", "512", "--ubatch-size", "512"]
    with target.fresh(target.embedding_model):
        target.configure(
            target.embedding_model, mode="embedding", context_size=256, runtime_flags=flags
        )
        response = target.embed(words(400))

        pattern = (
            r"^input \(\d+ tokens\) is larger than the max context size \(256 tokens\)\. skipping$"
            r"|^request \(\d+ tokens\) exceeds the available context size \(256 tokens\)"
        )
        assert_engine_error(response, 400, pattern, "exceed_context_size_error")


@case("4.2")
def a_larger_batch_lifts_the_limit_up_to_the_context(target: Target) -> None:
    flags = ["--batch-size", "1024", "--ubatch-size", "1024"]
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, mode="embedding", runtime_flags=flags)
        response = target.embed(words(600))

        if response.status_code != 200:
            pattern = r"larger than the max context size|exceeds the available context size"
            assert_engine_error(response, 400, pattern, "exceed_context_size_error")


@case("4.2")
def long_inputs_are_not_cut(target: Target) -> None:
    one, other = vectors(target, [f"{words(400)} fish", f"{words(400)} compiler"])

    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 1e-3, "the ends were lost"


@case("4.2")
def many_inputs_are_one_request(target: Target) -> None:
    answer = as_object(target.embed([f"duck {number}" for number in range(300)]))

    assert [entry["index"] for entry in answer["data"]] == list(range(300))


@case("4.2")
def tokens_are_an_input_too(target: Target) -> None:
    answer = as_object(target.embed([[5, 6, 7], [8, 9]]))

    assert [entry["index"] for entry in answer["data"]] == [0, 1]


@case("4.2")
def empty_list_of_inputs_is_refused(target: Target) -> None:
    response = target.embed([])

    status = response.status_code
    assert status in {400, 500}, describe(response)
    assert_engine_error(response, status, '^"(input|prompt)" must not be empty$')


@case("4.2")
def missing_input_is_refused(target: Target) -> None:
    response = target.post("/engines/v1/embeddings", {"model": target.embedding_model})

    assert_engine_error(response, 400, '"input" or "content" must be provided')


@case("4.2")
def empty_text_is_embedded_or_refused(target: Target) -> None:
    response = target.embed("")

    if response.status_code != 200:
        assert_engine_error(response, 400, "Input content cannot be empty")


@case("4.2")
def unknown_encoding_is_refused(target: Target) -> None:
    assert_engine_error(
        target.embed("a duck", encoding_format="hex"), 400, "encoding_format|format"
    )


@case("4.2")
def bad_json_never_reaches_the_engine(target: Target) -> None:
    response = target.post("/v1/embeddings", content=b"{bad json")

    assert_runner_error(response, 400, "invalid request")


@case("4.2")
def chat_model_needs_a_pooling_to_embed(target: Target) -> None:
    with target.fresh(target.chat_model):
        body = {"model": target.chat_model, "input": "a duck"}
        response = target.post("/engines/v1/embeddings", body)
        pattern = "^Pooling type 'none' is not OAI compatible. Please use a different pooling type$"
        assert_engine_error(response, 400, pattern)

        target.configure(target.chat_model, mode="embedding", runtime_flags=["--pooling", "mean"])
        answer = as_object(target.post("/engines/v1/embeddings", body))
        assert len(answer["data"]) == 1, answer


def vectors(target: Target, inputs: Any) -> list[list[float]]:
    """Embed and give the vectors in the order of the answer."""
    answer = as_object(target.embed(inputs))
    return [floats(entry["embedding"]) for entry in answer["data"]]


def floats(value: Any) -> list[float]:
    """Expect a JSON array of finite numbers."""
    assert isinstance(value, list), value
    numbers = cast("list[Any]", value)
    assert all(isinstance(n, float | int) and math.isfinite(n) for n in numbers), numbers
    return [float(number) for number in numbers]


def dot(one: list[float], other: list[float]) -> float:
    """Return the inner product."""
    return sum(a * b for a, b in zip(one, other, strict=True))
