"""Section 1.0: paths, aliases, limits and origins, with the exact refusals."""

from __future__ import annotations

import json

from dmr_contract.target import (
    Json,
    NotApplicable,
    Target,
    as_json,
    as_object,
    assert_runner_error,
    case,
    describe,
)

MAX_BODY_BYTES = 10 * 1024 * 1024

OPENAI_PREFIXES = ("/v1", "/engines/v1", "/engines/llama.cpp/v1")
RERANK_PATHS = ("/rerank", "/engines/rerank", "/engines/llama.cpp/rerank")


@case("1.0")
def wrong_method_below_models_is_not_found(target: Target) -> None:
    for method, path in (("PUT", "/models"), ("PATCH", "/models/ai/nothing")):
        assert_runner_error(target.send(method, path), 404, "not found")


@case("1.0")
def wrong_method_below_engines_is_not_found(target: Target) -> None:
    for method, path in (
        ("PUT", "/engines/ps"),
        ("POST", "/engines/status"),
        ("GET", "/engines/unload"),
        ("GET", "/engines/v1/chat/completions"),
        ("GET", "/v1/embeddings"),
        ("PUT", "/engines/llama.cpp/v1/embeddings"),
        ("GET", "/rerank"),
    ):
        assert_runner_error(target.send(method, path), 404, "not found")


@case("1.0")
def unknown_path_below_engines_is_not_found(target: Target) -> None:
    assert_runner_error(target.get("/engines/nothing-of-the-kind"), 404, "not found")
    assert_runner_error(target.post("/engines/llama.cpp/v1/nothing", {}), 404, "not found")


@case("1.0")
def wrong_method_below_api_is_not_allowed(target: Target) -> None:
    if target.get("/api/version").status_code == 404:
        raise NotApplicable("the Ollama view is not served, and section 7 does not ask for it")

    response = target.send("DELETE", "/api/version")

    assert response.status_code == 405, describe(response)


@case("1.0")
def unknown_backend_is_not_found(target: Target) -> None:
    body: Json = {"model": target.chat_model, "messages": []}
    for path in ("v1/chat/completions", "v1/embeddings", "v1/completions", "rerank"):
        response = target.post(f"/engines/no-such-backend/{path}", body)

        assert_runner_error(response, 404, "backend not found")


@case("1.0")
def rerank_below_v1_is_an_unknown_backend(target: Target) -> None:
    body = {"model": target.rerank_model, "query": "duck", "documents": ["a duck"]}
    for path in ("/v1/rerank", "/engines/v1/rerank"):
        assert_runner_error(target.post(path, body), 404, "backend not found")


@case("1.0")
def rerank_below_backend_and_v1_is_not_found(target: Target) -> None:
    body = {"model": target.rerank_model, "query": "duck", "documents": ["a duck"]}

    assert_runner_error(target.post("/engines/llama.cpp/v1/rerank", body), 404, "not found")


@case("1.0")
def rerank_is_served_at_its_three_paths(target: Target) -> None:
    for path in RERANK_PATHS:
        assert_runner_error(target.post(path, {}), 400, "model is required")


@case("1.0")
def openai_calls_are_served_below_all_prefixes(target: Target) -> None:
    for prefix in OPENAI_PREFIXES:
        for call in ("chat/completions", "completions", "embeddings"):
            response = target.post(f"{prefix}/{call}", {})

            assert_runner_error(response, 400, "model is required")


@case("1.0")
def openai_calls_answer_the_same_below_all_prefixes(target: Target) -> None:
    body = {"model": target.embedding_model, "input": "a duck"}
    answers = [as_object(target.post(f"{prefix}/embeddings", body)) for prefix in OPENAI_PREFIXES]

    assert all(len(answer["data"]) == 1 for answer in answers)
    lengths = {len(answer["data"][0]["embedding"]) for answer in answers}
    assert len(lengths) == 1, f"vectors of different lengths: {lengths}"


@case("1.0")
def double_slashes_are_cleaned(target: Target) -> None:
    response = target.get("/engines//status", follow_redirects=True)

    assert "llama.cpp" in as_object(response)


@case("1.0")
def body_over_ten_mebibytes_is_too_large(target: Target) -> None:
    for path in ("/engines/v1/embeddings", "/engines/v1/chat/completions", "/engines/rerank"):
        response = target.post(path, content=padded_body(MAX_BODY_BYTES + 1))

        assert_runner_error(response, 400, "request too large")


@case("1.0")
def body_of_ten_mebibytes_is_read(target: Target) -> None:
    response = target.post("/engines/v1/embeddings", content=padded_body(MAX_BODY_BYTES))

    assert_runner_error(response, 400, "model is required")


@case("1.0")
def authorization_is_ignored(target: Target) -> None:
    headers = {"Authorization": "Bearer anything"}

    assert isinstance(as_json(target.get("/models", headers=headers)), list)


@case("1.0")
def foreign_origin_is_refused(target: Target) -> None:
    for origin in (
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
    ):
        for method, path in (("GET", "/models"), ("GET", "/engines/ps"), ("POST", "/rerank")):
            response = target.send(method, path, headers={"Origin": origin})

            assert_runner_error(response, 403, "Origin not allowed")


@case("1.0")
def local_origin_without_port_is_allowed(target: Target) -> None:
    for origin in ("http://localhost", "https://127.0.0.1", "http://0.0.0.0", "http://localhost:*"):
        response = target.get("/models", headers={"Origin": origin})

        assert response.status_code == 200, f"{origin}: {describe(response)}"


def padded_body(size: int) -> bytes:
    """Return a JSON object of exactly ``size`` bytes that names no model."""
    frame = len(json.dumps({"padding": ""}))
    return json.dumps({"padding": "x" * (size - frame)}).encode()
