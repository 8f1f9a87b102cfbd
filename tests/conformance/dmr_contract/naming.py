"""Section 2: how references are normalised and compared."""

from __future__ import annotations

from dmr_contract.models import load_tagged, tag
from dmr_contract.target import (
    NotApplicable,
    Target,
    as_object,
    assert_runner_error,
    assert_text_error,
    case,
    describe,
)

NAMES = {
    "gemma3-conformance": "docker.io/ai/gemma3-conformance:latest",
    "myorg/model-conformance": "docker.io/myorg/model-conformance:latest",
    "MyModel-Conformance": "docker.io/ai/mymodel-conformance:latest",
    "hf.co/Org/M-Conformance:Q4_K_M": "huggingface.co/org/m-conformance:Q4_K_M",
    "huggingface.co/Org/M-Conformance": "huggingface.co/org/m-conformance:latest",
    "registry.example.com/model-conformance": "registry.example.com/model-conformance:latest",
    "abc123": "docker.io/ai/abc123:latest",
    "ai/tagged-conformance:V1-Q8_0": "docker.io/ai/tagged-conformance:V1-Q8_0",
}
"""The upstream test table, written to be nobody's model, with the tags the store keeps."""


@case("2")
def spellings_of_a_name_are_one_model(target: Target) -> None:
    expected = target.model(target.chat_model)["id"]
    for spelling in spellings(target.chat_model):
        assert expected == target.model(spelling)["id"], spelling
        view = as_object(target.get(f"/engines/v1/models/{spelling}"))
        assert "id" in view, spelling


@case("2")
def calls_accept_every_spelling_of_a_name(target: Target) -> None:
    for spelling in spellings(target.embedding_model):
        response = target.post("/engines/v1/embeddings", {"model": spelling, "input": "a duck"})

        assert response.status_code == 200, f"{spelling}: {describe(response)}"


@case("2")
def calls_accept_an_id(target: Target) -> None:
    identifier = str(target.model(target.embedding_model)["id"])
    for reference in (identifier, identifier[7:], identifier[7:19]):
        response = target.post("/engines/v1/embeddings", {"model": reference, "input": "a duck"})

        assert response.status_code == 200, f"{reference}: {describe(response)}"


@case("2")
def tags_are_compared_by_case(target: Target) -> None:
    name = target.chat_model.partition(":")[0]
    reference = f"{name}:No-Such-Tag"

    assert_text_error(target.get(f"/engines/v1/models/{reference}"), 404)


@case("2", "store")
def stored_tags_are_fully_qualified(target: Target) -> None:
    identifier = load_tagged(target, "naming-table")
    try:
        for spelling, qualified in NAMES.items():
            tag(target, identifier, *split(spelling))

            entry = target.model(spelling)

            assert identifier == entry["id"], spelling
            assert qualified in entry["tags"], f"{spelling}: {entry['tags']}"
    finally:
        target.send("DELETE", f"/models/{identifier}", params={"force": "true"})


@case("2", "store")
def tag_case_is_kept_and_name_case_is_not(target: Target) -> None:
    identifier = load_tagged(target, "tag-case")
    try:
        tag(target, identifier, "ai/tag-case", "Q4_K_M")

        assert as_object(target.get("/engines/v1/models/AI/Tag-Case:Q4_K_M"))
        assert_text_error(target.get("/engines/v1/models/ai/tag-case:q4_k_m"), 404)
    finally:
        target.send("DELETE", f"/models/{identifier}", params={"force": "true"})


@case("2", "store")
def bare_name_is_found_by_the_manager_and_not_by_calls(target: Target) -> None:
    identifier = load_tagged(target, "bare-original")
    try:
        tag(target, identifier, "some-org/bare-conformance")

        assert identifier == target.model("bare-conformance")["id"]
        assert_text_error(target.get("/engines/v1/models/bare-conformance"), 404)
        response = target.post("/v1/embeddings", {"model": "bare-conformance", "input": "x"})
        error = "error while getting model: get model '\"bare-conformance\"': model not found"
        assert_runner_error(response, 404, error)
    finally:
        target.send("DELETE", f"/models/{identifier}", params={"force": "true"})


def spellings(reference: str) -> list[str]:
    """Return other spellings of a reference on the default registry."""
    name, tag_name = split(reference)
    if name.partition("/")[0] != "ai" or tag_name != "latest":
        raise NotApplicable(f"{reference} has no short spellings")
    bare = name.removeprefix("ai/")
    return [
        name,
        bare,
        f"{name}:latest",
        f"{name}:",
        f"docker.io/{name}:latest",
        f"AI/{bare.upper()}",
        bare.title(),
    ]


def split(reference: str) -> tuple[str, str]:
    """Split a reference at its tag; none is ``latest``."""
    if reference.rfind(":") > reference.rfind("/"):
        name, _, tag = reference.rpartition(":")
        return name, tag
    return reference, "latest"
