"""Section 3: ``_configure``, what it changes and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmr_contract.target import (
    Json,
    Target,
    as_objects,
    assert_engine_error,
    assert_keys,
    assert_runner_error,
    assert_text_error,
    case,
    describe,
    wait_until,
    words,
)

if TYPE_CHECKING:
    import httpx

SMALL_BATCH = ["--batch-size", "64", "--ubatch-size", "64"]
LARGE_BATCH = ["--batch-size", "256", "--ubatch-size", "256"]
TOO_LARGE = r"input \(\d+ tokens\) is too large to process\..*current batch size: 64\)"

ABSENT = "ai/no-such-model-here"


@case("3")
def configure_is_accepted_without_a_body(target: Target) -> None:
    with target.fresh(target.chat_model):
        for path in ("/engines/_configure", "/engines/llama.cpp/_configure"):
            response = post_when_idle(
                target, path, {"model": target.chat_model, "context-size": 1024}
            )

            assert (response.status_code, response.content) == (202, b""), describe(response)


@case("3")
def configuration_is_shown_with_capital_keys(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(
            target.chat_model, context_size=1024, runtime_flags=["--batch-size", "256"]
        )

        response = target.get("/engines/_configure", params={"model": target.chat_model})

        [entry] = as_objects(response)
        assert_keys(entry, {"Backend", "Model", "ModelID", "Mode", "Config"}, set(), "entry")
        assert entry["Backend"] == "llama.cpp", entry
        assert entry["Mode"] == "completion", entry
        assert entry["ModelID"] == target.model(target.chat_model)["id"], entry
        assert entry["Config"]["context-size"] == 1024, entry
        assert entry["Config"]["runtime-flags"] == ["--batch-size", "256"], entry


@case("3")
def configuration_is_listed_without_a_model_too(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, context_size=1024)

        identifier = target.model(target.chat_model)["id"]
        entries = as_objects(target.get("/engines/_configure"))
        assert identifier in {entry["ModelID"] for entry in entries}, entries


@case("3")
def configuration_is_replaced_and_never_merged(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, mode="embedding", runtime_flags=SMALL_BATCH)
        target.configure(target.embedding_model, mode="embedding", context_size=256)

        config = target.configurations(target.embedding_model)["embedding"]
        assert not config.get("runtime-flags"), config
        assert config["context-size"] == 256, config
        assert target.embed(words(100)).status_code == 200, "the small batch is gone"


@case("3")
def configuration_of_a_mode_does_not_touch_another(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, mode="completion", runtime_flags=SMALL_BATCH)
        assert target.embed(words(100)).status_code == 200, "completion's batch is not embedding's"

        target.configure(target.embedding_model, mode="embedding", runtime_flags=SMALL_BATCH)
        assert_engine_error(target.embed(words(100)), 500, TOO_LARGE, "server_error")
        assert {"completion", "embedding"} == set(target.configurations(target.embedding_model))


@case("3")
def mode_defaults_to_completion_or_follows_the_embeddings_flag(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, context_size=256)
        assert {"completion"} == set(target.configurations(target.embedding_model))

        target.configure(target.embedding_model, runtime_flags=["--embeddings", *SMALL_BATCH])
        assert {"completion", "embedding"} == set(target.configurations(target.embedding_model))


@case("3")
def reranking_falls_back_to_the_completion_config(target: Target) -> None:
    with target.fresh(target.rerank_model):
        target.configure(target.rerank_model, mode="completion", context_size=256)
        pattern = r"larger than the max context size|exceeds the available context size"
        refused = target.rank("duck", [words(400)])
        assert_engine_error(refused, 400, pattern, "exceed_context_size_error")

        target.configure(target.rerank_model, mode="reranking", context_size=512)
        assert target.rank("duck", [words(400)]).status_code == 200, "its own config goes first"


@case("3")
def batch_flags_lift_the_limit_of_embeddings(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, mode="embedding", runtime_flags=SMALL_BATCH)
        assert_engine_error(target.embed(words(100)), 500, TOO_LARGE, "server_error")

        target.configure(target.embedding_model, mode="embedding", runtime_flags=LARGE_BATCH)
        assert target.embed(words(100)).status_code == 200


@case("3")
def raw_flags_are_split_and_listed_flags_win(target: Target) -> None:
    small, large = " ".join(SMALL_BATCH), " ".join(LARGE_BATCH)
    with target.fresh(target.embedding_model):
        target.configure(target.embedding_model, mode="embedding", raw_runtime_flags=small)
        assert_engine_error(target.embed(words(100)), 500, TOO_LARGE, "server_error")

        target.configure(
            target.embedding_model,
            mode="embedding",
            raw_runtime_flags=large,
            runtime_flags=SMALL_BATCH,
        )
        assert_engine_error(target.embed(words(100)), 500, TOO_LARGE, "server_error")


@case("3")
def useful_flags_are_allowed(target: Target) -> None:
    flags = ["-c", "512", "-b", "256", "-ub", "256", "-np", "1", "-t", "1", "--seed", "7"]
    flags += ["--temp", "0.5", "--top-k", "5", "--top-p", "0.9", "--min-p", "0.1", "--temp=-1"]
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, runtime_flags=flags)

        assert target.configurations(target.chat_model)["completion"]["runtime-flags"] == flags


@case("3")
def unknown_flags_are_refused(target: Target) -> None:
    with target.fresh(target.chat_model):
        for field, flags in (("runtime-flags", ["--foo"]), ("raw-runtime-flags", "--foo")):
            response = target.post(
                "/engines/_configure", {"model": target.chat_model, field: flags}
            )

            message = 'runtime flag "--foo" is not allowed for backend "llama.cpp"'
            assert_runner_error(response, 500, message)
        assert target.configurations(target.chat_model) == {}


@case("3")
def only_names_of_the_list_are_flags(target: Target) -> None:
    for flags, name in ((["--ngl=33"], "--ngl"), (["--seed", "-1"], "-1"), (["-threads"], "-th")):
        body = {"model": target.embedding_model, "mode": "embedding", "runtime-flags": flags}
        response = target.post("/engines/_configure", body)

        pattern = f'runtime flag "{name}.*" is not allowed for backend "llama.cpp"'
        assert_text_error(response, 500, pattern)


@case("3")
def no_flag_hides_in_a_value(target: Target) -> None:
    body = {"model": target.embedding_model, "runtime-flags": ["--seed=--log-file"]}

    response = target.post("/engines/_configure", body)

    assert_text_error(response, 500, 'invalid flag "--seed=--log-file": value cannot start .*')


@case("3")
def a_flag_that_the_engine_cannot_read_ends_it_at_the_load(target: Target) -> None:
    for flags, said in (
        (["--threads=8"], "invalid argument: --threads=8"),
        (["--threads", "8", "9"], "invalid argument: 9"),
        (["--threads", "few"], 'error while handling argument "--threads": stoi'),
        (["--pooling", "some"], 'error while handling argument "--pooling": invalid value'),
    ):
        with target.fresh(target.embedding_model):
            target.configure(target.embedding_model, mode="embedding", runtime_flags=flags)
            response = target.embed("a duck")

            failed = "(?s)unable to load runner: error waiting for runner to be ready: llama.cpp "
            pattern = f"{failed}terminated unexpectedly: llama.cpp failed: .*{said}.*"
            assert_text_error(response, 500, pattern)


@case("3")
def paths_in_flags_are_refused(target: Target) -> None:
    for value in ("/etc/passwd", "..\\secret"):
        body = {"model": target.chat_model, "runtime-flags": ["--chat-template", value]}
        response = target.post("/engines/_configure", body)

        assert_text_error(response, 500, 'invalid runtime flag ".*": paths are not allowed.*')


@case("3")
def keep_alive_is_a_string(target: Target) -> None:
    for value in (10, 10.5, True):
        body = {"model": target.embedding_model, "keep_alive": value}

        assert_runner_error(target.post("/engines/_configure", body), 400, "invalid request")


@case("3")
def unknown_mode_is_an_invalid_request(target: Target) -> None:
    body = {"model": target.embedding_model, "mode": "rerank"}

    assert_runner_error(target.post("/engines/_configure", body), 400, "invalid request")


@case("3")
def configure_needs_json(target: Target) -> None:
    assert_runner_error(
        target.post("/engines/_configure", content=b"{bad json"), 400, "invalid request"
    )


@case("3")
def settings_without_a_model_are_accepted_and_are_nobodys(target: Target) -> None:
    before = target.get("/engines/_configure").json()

    response = target.post("/engines/_configure", {"context-size": 512})

    assert (response.status_code, response.content) == (202, b""), describe(response)
    assert before == target.get("/engines/_configure").json()


@case("3")
def configure_for_an_unknown_backend_is_not_found(target: Target) -> None:
    response = target.post("/engines/no-such-backend/_configure", {"model": target.chat_model})

    assert_runner_error(response, 404, "backend not found")


@case("3")
def unknown_model_is_accepted_and_not_listed(target: Target) -> None:
    try:
        body = {"model": ABSENT, "context-size": 512}
        response = target.post("/engines/_configure", body)

        assert (response.status_code, response.content) == (202, b""), describe(response)
        entries = as_objects(target.get("/engines/_configure"))
        assert not any(ABSENT in {entry["Model"], entry["ModelID"]} for entry in entries), entries
        assert_runner_error(target.get(f"/models/{ABSENT}"), 404, "model not found")
    finally:
        target.unload(ABSENT)


@case("3")
def serving_engine_cannot_be_reconfigured(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, context_size=4096)
        with target.busy_chat():
            changed = {"model": target.chat_model, "context-size": 2048}
            response = target.post("/engines/_configure", changed)
            assert_runner_error(response, 409, "runner already active")

            same = {"model": target.chat_model, "context-size": 4096}
            response = target.post("/engines/_configure", same)
            assert (response.status_code, response.content) == (202, b""), describe(response)

        target.configure(target.chat_model, context_size=2048)
        assert target.configurations(target.chat_model)["completion"]["context-size"] == 2048


@case("3")
def reconfiguring_evicts_the_idle_engine(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.embed("a duck")

        target.configure(target.embedding_model, mode="embedding", context_size=256)

        assert target.runners(target.embedding_model, "embedding") == []


@case("3")
def configure_preloads_in_completion_mode_whatever_was_configured(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, mode="embedding", context_size=512)

        wait_until(
            lambda: bool(target.runners(target.chat_model, "completion")),
            "no completion engine was loaded in the background",
            seconds=8 if target.embedded else 60,
        )
        assert target.runners(target.chat_model, "embedding") == []


@case("3")
def naming_the_backend_at_unload_forgets_the_config(target: Target) -> None:
    with target.fresh(target.chat_model):
        target.configure(target.chat_model, context_size=1024)

        target.unload(target.chat_model, forget=False)
        assert "completion" in target.configurations(target.chat_model)

        target.unload(target.chat_model, forget=True)
        assert target.configurations(target.chat_model) == {}


@case("3", "everything")
def unload_of_all_forgets_all_configs(target: Target) -> None:
    target.configure(target.chat_model, context_size=1024)
    target.configure(target.embedding_model, mode="embedding", context_size=256)

    target.post("/engines/unload", {"all": True})

    assert as_objects(target.get("/engines/_configure")) == []


@case("3")
def keep_alive_is_shown_and_zero_evicts_at_once(target: Target) -> None:
    with target.fresh(target.embedding_model):
        for value, shown in (("10m", "10m0s"), ("-1", "-1")):
            target.configure(target.embedding_model, mode="embedding", keep_alive=value)
            target.embed("a duck")
            [runner] = target.runners(target.embedding_model, "embedding")
            assert shown == runner.get("keep_alive"), runner

        target.configure(target.embedding_model, mode="embedding", keep_alive="0")
        assert target.embed("a duck").status_code == 200
        wait_until(
            lambda: not target.runners(target.embedding_model, "embedding"),
            "the engine outlived keep_alive 0",
        )


def post_when_idle(target: Target, path: str, body: Json) -> httpx.Response:
    """Send a configuration, again while the background preload holds the engine."""
    responses = [target.post(path, body)]

    def is_accepted() -> bool:
        if responses[-1].status_code == 409:
            responses.append(target.post(path, body))
        return responses[-1].status_code != 409

    wait_until(is_accepted, "the engine stayed busy", seconds=90)
    return responses[-1]
