"""Section 1.5: scheduling and administration."""

from __future__ import annotations

import re
from datetime import datetime

from dmr_contract.target import (
    NotApplicable,
    Target,
    as_object,
    as_objects,
    assert_keys,
    assert_runner_error,
    assert_whole,
    case,
    describe,
    wait_until,
)

BACKENDS = {"llama.cpp", "vllm", "mlx", "sglang", "diffusers"}
STATUS = re.compile(r"(Running|Error|Not Installed|Installing)(: .+)?")
IN_USE_TIME = "0001-01-01T00:00:00Z"
RUNNER_KEYS = {"backend_name", "model_name", "mode", "last_used"}


@case("1.5")
def root_says_something_in_plain_text(target: Target) -> None:
    response = target.get("/")

    assert response.status_code == 200, describe(response)
    assert response.headers["content-type"].startswith("text/plain"), describe(response)
    assert response.text.strip(), describe(response)


@case("1.5")
def version_is_an_object_with_a_version(target: Target) -> None:
    response = target.get("/version")
    if response.status_code == 404 and not target.embedded:
        raise NotApplicable("this runner is older than v1.0.30 and has no /version")

    answer = as_object(response)
    assert isinstance(answer.get("version"), str), answer
    assert answer["version"], answer


@case("1.5")
def status_names_the_state_of_each_backend(target: Target) -> None:
    answer = as_object(target.get("/engines/status"))

    assert {"llama.cpp"} <= set(answer) <= BACKENDS, answer
    for backend, state in answer.items():
        assert STATUS.fullmatch(state), f"{backend}: {state!r}"
    assert answer["llama.cpp"].startswith("Running"), answer


@case("1.5")
def ps_lists_a_used_engine(target: Target) -> None:
    target.embed("a duck")

    [runner] = target.runners(target.embedding_model, "embedding")
    assert_keys(runner, RUNNER_KEYS, {"in_use", "loading", "keep_alive"}, "runner")
    assert runner["backend_name"] == "llama.cpp", runner
    assert "in_use" not in runner, "idle engines leave the key out"
    assert "loading" not in runner, runner
    used = datetime.fromisoformat(re.sub(r"\.\d+", "", runner["last_used"]))
    assert used.year >= 2026, runner
    assert re.fullmatch(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)?|-1", runner.get("keep_alive", "-1")), runner


@case("1.5")
def ps_names_the_model_as_the_first_requester_did(target: Target) -> None:
    with target.fresh(target.embedding_model):
        identifier = str(target.model(target.embedding_model)["id"])
        target.post("/engines/v1/embeddings", {"model": identifier, "input": "a duck"})

        [runner] = target.runners(target.embedding_model, "embedding")
        assert identifier == runner["model_name"]


@case("1.5")
def ps_shows_an_engine_in_use(target: Target) -> None:
    with target.busy_chat():
        [runner] = target.runners(target.chat_model, "completion")

        assert runner.get("in_use") is True, runner
        assert runner["last_used"] == IN_USE_TIME, runner

    def is_idle() -> bool:
        return "in_use" not in target.runners(target.chat_model, "completion")[0]

    wait_until(is_idle, "the engine is still in use after the client left")


@case("1.5")
def df_is_two_sizes(target: Target) -> None:
    response = target.get("/engines/df")
    if response.status_code == 500 and not target.embedded:
        raise NotApplicable("this runner has no llama.cpp directory, so df fails by contract")

    answer = as_object(response)
    assert_keys(answer, {"models_disk_usage", "default_backend_disk_usage"}, set(), "df")
    assert_whole(answer["models_disk_usage"], "models_disk_usage", least=1)
    assert_whole(answer["default_backend_disk_usage"], "default_backend_disk_usage")


@case("1.5")
def unload_counts_the_engines_it_ended(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.embed("a duck")

        assert target.unload(target.embedding_model) == 1
        assert target.unload(target.embedding_model) == 0
        assert target.runners(target.embedding_model) == []


@case("1.5")
def unload_does_not_count_unknown_models(target: Target) -> None:
    assert target.unload("ai/no-such-model-here") == 0


@case("1.5")
def unload_leaves_an_engine_in_use(target: Target) -> None:
    with target.fresh(target.chat_model), target.busy_chat():
        assert target.unload(target.chat_model) == 0
        assert len(target.runners(target.chat_model, "completion")) == 1


@case("1.5")
def unload_needs_json(target: Target) -> None:
    response = target.post("/engines/unload", content=b"{bad json")

    assert_runner_error(response, 400, "invalid request")


@case("1.5", "everything")
def unload_of_all_ends_all_engines(target: Target) -> None:
    target.embed("a duck")
    target.chat("Hi.", max_tokens=1)

    count = as_object(target.post("/engines/unload", {"all": True}))["unloaded_runners"]

    assert count >= 1, "slots may have evicted one of the two, never both"
    assert as_objects(target.get("/engines/ps")) == []


@case("1.5", "docker")
def requests_keep_the_last_calls_of_a_model(target: Target) -> None:
    marker = "a duck that is recorded"
    target.embed(marker)

    entries = as_objects(target.get("/engines/requests", params={"model": target.embedding_model}))

    assert entries, "one entry per loaded model"
    for entry in entries:
        assert_keys(entry, {"count", "model", "records"}, {"config"}, "entry")
        assert len(entry["records"]) == entry["count"] <= 10, entry
    records = [record for entry in entries for record in entry["records"]]
    [record] = [record for record in records if marker in str(record["request"])][-1:]
    assert {"id", "model", "method", "url", "timestamp", "status_code"} <= set(record), record
    assert record["method"] == "POST", record
    assert record["status_code"] == 200, record
    assert record["url"].endswith("/v1/embeddings"), record
