"""Section 1.3: the OpenAI views of the models, and the order of the checks before an engine."""

from __future__ import annotations

from dmr_contract.routing import MAX_BODY_BYTES, OPENAI_PREFIXES
from dmr_contract.target import (
    Json,
    Target,
    as_object,
    as_objects,
    assert_keys,
    assert_runner_error,
    assert_whole,
    case,
)

DETAILS = {"context_window", "architecture", "parameters", "quantization", "size"}

INFERENCE_PATHS = (
    "/v1/chat/completions",
    "/engines/v1/completions",
    "/engines/llama.cpp/v1/embeddings",
    "/rerank",
    "/engines/rerank",
)

ABSENT = "ai/no-such-model-here"
ABSENT_ERROR = f"error while getting model: get model '\"{ABSENT}\"': model not found"


@case("1.3")
def openai_list_is_the_same_below_all_prefixes(target: Target) -> None:
    views = [as_object(target.get(f"{prefix}/models")) for prefix in OPENAI_PREFIXES]

    assert views[0] == views[1] == views[2]
    assert_keys(views[0], {"object", "data"}, set(), "list")
    assert views[0]["object"] == "list"
    for entry in views[0]["data"]:
        check_entry(entry)


@case("1.3")
def openai_list_shows_each_model_by_its_first_tag(target: Target) -> None:
    models = as_objects(target.get("/models"))
    view = as_object(target.get("/engines/v1/models"))

    expected = sorted(model["tags"][0] if "tags" in model else model["id"] for model in models)
    assert expected == sorted(entry["id"] for entry in view["data"])


@case("1.3")
def openai_view_of_one_model(target: Target) -> None:
    model = target.model(target.embedding_model)
    for prefix in OPENAI_PREFIXES:
        entry = as_object(target.get(f"{prefix}/models/{target.embedding_model}"))

        check_entry(entry)
        assert model["tags"][0] == entry["id"]
        assert model["created"] == entry["created"]


@case("1.3")
def openai_view_of_an_unknown_model_is_not_found(target: Target) -> None:
    for prefix in OPENAI_PREFIXES:
        response = target.get(f"{prefix}/models/{ABSENT}")

        assert_runner_error(response, 404, ABSENT_ERROR)


@case("1.3")
def bad_json_is_an_invalid_request(target: Target) -> None:
    for path in INFERENCE_PATHS:
        response = target.post(path, content=b'{"model": ')

        assert_runner_error(response, 400, "invalid request")


@case("1.3")
def model_is_required(target: Target) -> None:
    for path in INFERENCE_PATHS:
        for body in ({}, {"model": ""}):
            assert_runner_error(target.post(path, body), 400, "model is required")


@case("1.3")
def unknown_model_in_a_call_is_not_found(target: Target) -> None:
    for path in INFERENCE_PATHS:
        body = {"model": ABSENT, "input": "x", "query": "x", "documents": ["x"], "prompt": "x"}

        assert_runner_error(target.post(path, body), 404, ABSENT_ERROR)


@case("1.3")
def backend_is_checked_before_the_body(target: Target) -> None:
    response = target.post("/engines/no-such-backend/v1/embeddings", content=b"{bad json")

    assert_runner_error(response, 404, "backend not found")


@case("1.3")
def size_is_checked_before_the_json(target: Target) -> None:
    response = target.post("/engines/v1/embeddings", content=b"x" * (MAX_BODY_BYTES + 1))

    assert_runner_error(response, 400, "request too large")


@case("1.3")
def model_is_looked_up_before_the_engine_reads_the_rest(target: Target) -> None:
    response = target.post("/engines/v1/chat/completions", {"model": ABSENT, "messages": 17})

    assert_runner_error(response, 404, ABSENT_ERROR)


def check_entry(entry: Json) -> None:
    """Expect an OpenAI model object with Docker's details."""
    assert_keys(entry, {"id", "object", "created", "owned_by", "dmr"}, set(), "model")
    assert entry["object"] == "model", entry
    assert entry["owned_by"] == "docker", entry
    assert_whole(entry["created"], "created")
    assert_keys(entry["dmr"], set(), DETAILS, "dmr")
    if "context_window" in entry["dmr"]:
        assert_whole(entry["dmr"]["context_window"], "context_window", least=1)
