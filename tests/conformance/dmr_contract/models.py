"""Section 1.1: the model manager."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from typing import TYPE_CHECKING, Any, cast

from dmr_contract.target import (
    Json,
    Target,
    as_object,
    as_objects,
    assert_keys,
    assert_runner_error,
    assert_text_error,
    assert_whole,
    case,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

ABSENT = "ai/no-such-model-here"

CONFIG_KEYS = {
    "format", "quantization", "parameters", "architecture", "size", "gguf", "context_size",
    "format_version", "safetensors", "diffusers", "vllm",
}  # fmt: skip


@case("1.1")
def models_are_a_list_of_model_objects(target: Target) -> None:
    entries = as_objects(target.get("/models"))

    assert entries, "the models of the suite are local, so the list cannot be empty"
    for entry in entries:
        check_model(entry)


@case("1.1")
def model_is_found_by_its_reference(target: Target) -> None:
    entry = as_object(target.get(f"/models/{target.embedding_model}"))

    check_model(entry)
    assert entry in as_objects(target.get("/models"))


@case("1.1")
def model_is_found_by_its_id(target: Target) -> None:
    model = target.model(target.chat_model)
    digest = str(model["id"]).removeprefix("sha256:")
    for reference in (model["id"], digest, digest[:12]):
        assert model["id"] == target.model(reference)["id"]


@case("1.1")
def unknown_model_is_not_found(target: Target) -> None:
    assert_runner_error(target.get(f"/models/{ABSENT}"), 404, "model not found")
    assert_runner_error(target.get(f"/models/sha256:{'0' * 64}"), 404, "model not found")


@case("1.1")
def unknown_remote_model_says_what_failed(target: Target) -> None:
    response = target.get(f"/models/{ABSENT}", params={"remote": "true"})

    assert_text_error(
        response, response.status_code, r'error while getting remote model: [\s\S]*"[\s\S]*'
    )
    assert response.status_code in {404, 500}, describe(response)


@case("1.1")
def create_refuses_a_body_that_is_no_json(target: Target) -> None:
    response = target.post("/models/create", content=b"{not json")

    assert_text_error(response, 400, "[Ii]nvalid request body.*")


@case("1.1")
def create_refuses_an_invalid_reference(target: Target) -> None:
    response = target.post("/models/create", {"from": "ai/not a reference"})

    assert_text_error(response, 400, "Invalid model reference.*")


@case("1.1")
def unknown_action_is_not_found(target: Target) -> None:
    response = target.post(f"/models/{target.chat_model}/other")

    assert_runner_error(response, 404, 'unknown action "other"')


@case("1.1", "docker")
def tag_without_repo_or_tag_is_refused(target: Target) -> None:
    for query in ("", "?repo=ai/x", "?tag=latest"):
        response = target.post(f"/models/{target.chat_model}/tag{query}")

        assert_runner_error(response, 400, "missing repo or tag query parameter")


@case("1.1", "docker")
def tagging_an_unknown_model_is_not_found(target: Target) -> None:
    response = target.post(f"/models/{ABSENT}/tag", params={"repo": "ai/x", "tag": "latest"})

    assert_text_error(response, 404)


@case("1.1", "store", "docker")
def tag_is_created_and_removed(target: Target) -> None:
    original = target.model(target.chat_model)
    query = {"repo": "ai/conformance-tag", "tag": "v1"}
    response = target.post(f"/models/{target.chat_model}/tag", params=query)

    expected = {
        "message": 'Model tagged successfully with "ai/conformance-tag:v1"',
        "target": "ai/conformance-tag:v1",
    }
    assert expected == as_object(response, 201)
    tagged = target.model("ai/conformance-tag:v1")
    assert original["id"] == tagged["id"]
    assert "docker.io/ai/conformance-tag:v1" in tagged["tags"]

    removed = as_objects(target.send("DELETE", "/models/ai/conformance-tag:v1"))

    assert removed == [{"Untagged": "docker.io/ai/conformance-tag:v1"}]
    assert_runner_error(target.get("/models/ai/conformance-tag:v1"), 404, "model not found")
    assert original == target.model(target.chat_model)


@case("1.1")
def deleting_an_unknown_model_is_not_found(target: Target) -> None:
    assert_text_error(target.send("DELETE", f"/models/{ABSENT}"), 404)


@case("1.1", "store")
def delete_names_what_it_removed(target: Target) -> None:
    load_tagged(target, "delete-me")

    removed = as_objects(target.send("DELETE", "/models/ai/delete-me"))

    assert removed[0] == {"Untagged": "docker.io/ai/delete-me:latest"}
    assert all(len(entry) == 1 for entry in removed), removed
    deleted = [entry["Deleted"] for entry in removed[1:]]
    assert deleted, "nothing was deleted with the last tag"
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in deleted), deleted
    assert_runner_error(target.get("/models/ai/delete-me"), 404, "model not found")


@case("1.1", "store")
def delete_by_id_of_a_model_with_two_tags_needs_force(target: Target) -> None:
    identifier = load_tagged(target, "two-tags")
    tag(target, identifier, "ai/two-tags-again")

    refused = target.send("DELETE", f"/models/{identifier}")

    assert_text_error(
        refused,
        409,
        r'error while deleting model: unable to delete "[^"]+" \(must be forced\) '
        r"due to multiple tag references: resource conflict",
    )
    assert target.model(identifier)["id"] == identifier

    removed = as_objects(target.send("DELETE", f"/models/{identifier}", params={"force": "true"}))

    untagged = {entry["Untagged"] for entry in removed if "Untagged" in entry}
    assert {"docker.io/ai/two-tags:latest", "docker.io/ai/two-tags-again:latest"} == untagged
    assert_runner_error(target.get(f"/models/{identifier}"), 404, "model not found")


@case("8", "store", "docker")
def loaded_tar_is_found_by_the_digest_of_its_manifest(target: Target) -> None:
    identifier = load_tagged(target, "loaded-from-a-tar")

    entry = target.model("ai/loaded-from-a-tar")

    assert identifier == entry["id"]
    assert entry["tags"] == ["docker.io/ai/loaded-from-a-tar:latest"]
    assert entry["config"]["format"] == "gguf"
    assert entry["config"]["context_size"] == 2048
    target.send("DELETE", "/models/ai/loaded-from-a-tar")


@case("1.1", "store", "docker")
def load_refuses_what_is_no_tar(target: Target) -> None:
    response = target.post("/models/load", content=b"this is no tar archive" * 100)

    assert_text_error(response, 500, r"error while loading model: [\s\S]+")


@case("1.1", "store")
def model_without_tags_or_config_is_listed(target: Target) -> None:
    identifier = load(target, "untagged", config={})

    entry = next(e for e in as_objects(target.get("/models")) if e["id"] == identifier)

    check_model(entry)
    assert "tags" not in entry, entry
    assert "context_size" not in entry["config"], entry
    view = target.get("/engines/v1/models").json()["data"]
    assert identifier in {model["id"] for model in view}, "shown by its id, having no tag"
    target.send("DELETE", f"/models/{identifier}")


def check_model(entry: Json) -> None:
    """Expect the Model JSON: a digest, qualified tags unless untagged, an open config."""
    assert {"id", "created", "config"} <= set(entry), entry
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", entry["id"]), entry
    assert_whole(entry["created"], "created")
    if "tags" in entry:
        tags = cast("list[str]", entry["tags"])
        assert tags, f"no tags is an absent key, not an empty list: {entry}"
        for tag_name in tags:
            registry, _, rest = tag_name.partition("/")
            qualified = "." in registry or ":" in registry or registry == "localhost"
            assert qualified, f"{tag_name!r} does not begin with a registry"
            assert ":" in rest, f"{tag_name!r} has no tag"
    config = cast("Json", entry["config"])
    assert_keys(config, set(), CONFIG_KEYS, "config")
    for key in ("format", "quantization", "parameters", "architecture", "size"):
        assert isinstance(config.get(key, ""), str), f"config.{key} is a display string: {config}"
    if "context_size" in config:
        assert_whole(config["context_size"], "context_size", least=1)


def load_tagged(target: Target, name: str) -> str:
    """Load a small model and tag it ``ai/<name>``; return its id."""
    identifier = load(target, name, config={"format": "gguf", "context_size": 2048})
    tag(target, identifier, f"ai/{name}")
    return identifier


def load(target: Target, name: str, *, config: Json) -> str:
    """Bring a small model, by its tar where the server takes one; return its id."""
    identifier, archive = model_tar(name, config=config)
    if target.faults is not None:
        target.faults.add_model(identifier, config)
    else:
        check_loaded(target.post("/models/load", content=archive))
    return identifier


def tag(target: Target, identifier: str, repo: str, tag_name: str = "latest") -> None:
    """Tag a model ``<repo>:<tag_name>``."""
    if target.faults is not None:
        target.faults.tag_model(identifier, f"{repo}:{tag_name}")
        return
    query = {"repo": repo, "tag": tag_name}
    response = target.post(f"/models/{identifier}/tag", params=query)
    assert response.status_code == 201, f"{repo}:{tag_name}: {describe(response)}"


def check_loaded(response: Any) -> None:
    """Expect the one line that says a tar was loaded."""
    assert response.status_code == 200, describe(response)
    lines = response.text.splitlines()
    last = json.loads(lines[-1])
    assert last["type"] == "success", lines
    assert last["message"] == "Model loaded successfully", lines
    assert response.text.endswith("\n"), lines


def model_tar(name: str, *, config: Json) -> tuple[str, bytes]:
    """Build the archive of section 8 around a few bytes; gives the model's id and the tar.

    The bytes are a GGUF header without tensors: enough for a store, nothing an engine could run.
    """
    weights = b"GGUF" + (3).to_bytes(4, "little") + bytes(16) + name.encode()
    layer = digest(weights)
    settings = json.dumps(
        {
            "config": config,
            "descriptor": {"created": "2026-01-01T00:00:00Z"},
            "rootfs": {"type": "rootfs", "diff_ids": [f"sha256:{layer}"]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.docker.ai.model.config.v0.1+json",
                "size": len(settings),
                "digest": f"sha256:{digest(settings)}",
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.ai.gguf.v3",
                    "size": len(weights),
                    "digest": f"sha256:{layer}",
                    "annotations": {"org.cncf.model.filepath": "model.gguf"},
                }
            ],
        }
    ).encode()
    files = (
        (f"blobs/sha256/{layer}", weights),
        (f"blobs/sha256/{digest(settings)}", settings),
        ("manifest.json", manifest),
    )
    return f"sha256:{digest(manifest)}", write_tar(files)


def write_tar(files: Iterable[tuple[str, bytes]]) -> bytes:
    """Pack files in the order given."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    """Return the hex sha256."""
    return hashlib.sha256(content).hexdigest()
