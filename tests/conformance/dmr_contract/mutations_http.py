"""Mutations of paths, checks, errors, the model manager and names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from dmr_contract.asgi import (
    Answer,
    Call,
    any_call,
    call_is,
    on_answer,
    on_request,
    path_ends,
)
from dmr_contract.edits import (
    Mutation,
    edit_entries,
    edit_fields,
    on_errors,
    replace_text,
    rewrite,
    text_error,
    turn_status,
)
from dmr_contract.routing import (
    MAX_BODY_BYTES,
)

LIST = call_is("GET", "/models")


def json_error(got: Answer) -> Answer:
    """Write a text error as OpenAI does."""
    body = {"error": {"message": got.body.decode().strip(), "code": got.status}}
    return Answer(got.status, {"content-type": "application/json"}, json.dumps(body).encode())


def wrong_method_is_405(got: Answer) -> Answer:
    """Answer as most frameworks do."""
    return text_error(405, "Method Not Allowed") if got.body == b"not found\n" else got


def unqualified(entries: list[Any]) -> list[Any]:
    """Store short tags."""
    for entry in entries:
        entry["tags"] = [str(tag).removeprefix("docker.io/") for tag in entry.get("tags", [])]
    return entries


def bare_ids(entries: list[Any]) -> list[Any]:
    """Leave ``sha256:`` out of ids."""
    return [{**entry, "id": str(entry["id"]).removeprefix("sha256:")} for entry in entries]


def lower_tag(call: Call) -> Call:
    """Compare tags without case."""
    return replace(call, path=call.path.replace("No-Such-Tag", "latest"))


def cut_refused(call: Call) -> Call | Answer:
    """Refuse by the status that HTTP has for it."""
    too_large = len(call.body) > MAX_BODY_BYTES
    return text_error(413, "request too large") if too_large else call


def small_limit(call: Call) -> Call | Answer:
    """Refuse from 8 MiB on."""
    too_large = len(call.body) > 8 * 1024 * 1024
    return text_error(400, "request too large") if too_large else call


def json_first(call: Call) -> Call | Answer:
    """Look at the body before the backend."""
    return text_error(400, "invalid request") if call.json() is None else call


def local_ports(call: Call) -> Call:
    """Allow any port of this machine as an origin."""
    local = call.headers.get("origin", "").startswith("http://localhost:")
    return call.without_header("origin") if local else call


def first_tag_short(view: dict[str, Any]) -> dict[str, Any]:
    """Show names without their registry."""
    for entry in view.get("data", []):
        entry["id"] = str(entry["id"]).removeprefix("docker.io/")
    return view


HTTP_MUTATIONS = (
    # Section 1.0: routing.
    Mutation(
        "405 for a wrong method",
        "wrong_method_below_engines_is_not_found",
        on_errors(wrong_method_is_405),
    ),
    Mutation("JSON for text errors", "unknown_model_is_not_found", on_errors(json_error)),
    Mutation(
        "text errors without their newline",
        "unknown_backend_is_not_found",
        on_errors(lambda got: replace(got, body=got.body.rstrip(b"\n"))),
    ),
    Mutation(
        "text errors without nosniff",
        "unknown_backend_is_not_found",
        on_errors(lambda got: got.with_header("x-content-type-options", None)),
    ),
    Mutation(
        "text errors without a charset",
        "unknown_backend_is_not_found",
        on_errors(lambda got: got.with_header("content-type", "text/plain")),
    ),
    Mutation(
        "/v1/rerank is served",
        "rerank_below_v1_is_an_unknown_backend",
        rewrite("/v1/rerank", "/rerank"),
    ),
    Mutation(
        "/engines/llama.cpp/v1/rerank is served",
        "rerank_below_backend_and_v1_is_not_found",
        rewrite("/engines/llama.cpp/v1/rerank", "/rerank"),
    ),
    Mutation(
        "/rerank is not served",
        "rerank_is_served_at_its_three_paths",
        on_request(lambda _, path: path == "/rerank", lambda _: text_error(404, "not found")),
    ),
    Mutation(
        "/v1/embeddings is not served",
        "openai_calls_are_served_below_all_prefixes",
        on_request(
            lambda _, path: path == "/v1/embeddings", lambda _: text_error(404, "not found")
        ),
    ),
    Mutation(
        "double slashes are not cleaned",
        "double_slashes_are_cleaned",
        on_request(lambda _, path: "//" in path, lambda _: text_error(404, "not found")),
    ),
    Mutation(
        "413 for a large body",
        "body_over_ten_mebibytes_is_too_large",
        on_request(path_ends("/embeddings", "/rerank"), cut_refused),
    ),
    Mutation(
        "limit of 8 MiB",
        "body_of_ten_mebibytes_is_read",
        on_request(path_ends("/embeddings"), small_limit),
    ),
    Mutation(
        "any origin is accepted",
        "foreign_origin_is_refused",
        on_request(any_call, lambda call: call.without_header("origin")),
    ),
    Mutation(
        "local origins with a port are accepted",
        "foreign_origin_is_refused",
        on_request(any_call, local_ports),
    ),
    Mutation(
        "all origins are refused",
        "local_origin_without_port_is_allowed",
        on_request(
            any_call,
            lambda call: (
                text_error(403, "Origin not allowed") if "origin" in call.headers else call
            ),
        ),
    ),
    # Sections 1.1 and 2: the model manager and names.
    Mutation(
        "models in an object",
        "models_are_a_list_of_model_objects",
        on_answer(LIST, edit_entries(lambda entries: {"models": entries})),
    ),
    Mutation(
        "tags without a registry",
        "models_are_a_list_of_model_objects",
        on_answer(LIST, edit_entries(unqualified)),
    ),
    Mutation(
        "ids without sha256",
        "models_are_a_list_of_model_objects",
        on_answer(LIST, edit_entries(bare_ids)),
    ),
    Mutation(
        "other words for an unknown model",
        "unknown_model_is_not_found",
        replace_text("model not found", "no such model"),
    ),
    Mutation(
        "unknown actions are ignored",
        "unknown_action_is_not_found",
        on_request(call_is("POST", "/other"), lambda _: Answer(200, {}, b"")),
    ),
    Mutation(
        "delete by id needs no force",
        "delete_by_id_of_a_model_with_two_tags_needs_force",
        turn_status(409, 200, lambda method, _: method == "DELETE"),
    ),
    Mutation(
        "tags are compared without case",
        "tags_are_compared_by_case",
        on_request(lambda _, path: "No-Such-Tag" in path, lower_tag),
    ),
    # Section 1.3: views and checks.
    Mutation(
        "OpenAI list shows short names",
        "openai_list_shows_each_model_by_its_first_tag",
        on_answer(path_ends("/v1/models"), edit_fields(first_tag_short)),
    ),
    Mutation(
        "bad JSON is 422",
        "bad_json_is_an_invalid_request",
        on_answer(
            any_call,
            lambda _, got: replace(got, status=422) if got.body == b"invalid request\n" else got,
        ),
    ),
    Mutation(
        "unknown model without its quotes",
        "unknown_model_in_a_call_is_not_found",
        replace_text("'\"", ""),
    ),
    Mutation(
        "unknown model is 400",
        "unknown_model_in_a_call_is_not_found",
        on_errors(lambda got: replace(got, status=400) if b"get model" in got.body else got),
    ),
    Mutation(
        "body is read before the backend",
        "backend_is_checked_before_the_body",
        on_request(call_is("POST", "/embeddings"), json_first),
    ),
)
