"""Sections 1.3, 4.1, 6 and 7.5: what is loaded, when, and what a client sees of it."""

from __future__ import annotations

import time

import httpx

from dmr_contract.target import (
    INFERENCE_MODES,
    Background,
    NotApplicable,
    Target,
    as_object,
    as_objects,
    assert_text_error,
    case,
    describe,
    wait_until,
)

PRELOAD_ONLY = {"X-Preload-Only": "true"}


@case("4.1")
def path_selects_the_mode(target: Target) -> None:
    calls = {
        "embedding": (target.embedding_model, lambda: target.embed("a duck")),
        "completion": (target.chat_model, lambda: target.chat("Hi.", max_tokens=1)),
        "reranking": (target.rerank_model, lambda: target.rank("duck", ["a duck", "rain"])),
    }
    assert set(INFERENCE_MODES) == set(calls)
    for mode, (model, call) in calls.items():
        with target.fresh(model):
            response = call()

            assert response.status_code == 200, describe(response)
            assert [mode] == [runner["mode"] for runner in target.runners(model)]


@case("1.3")
def preload_only_loads_the_paths_mode_and_answers_nothing(target: Target) -> None:
    for path, model, mode in (
        ("/engines/v1/embeddings", target.embedding_model, "embedding"),
        ("/engines/v1/chat/completions", target.chat_model, "completion"),
        ("/engines/rerank", target.rerank_model, "reranking"),
    ):
        with target.fresh(model):
            preload(target, path, model)

            assert [mode] == [runner["mode"] for runner in target.runners(model)]


@case("6")
def loading_blocks_the_request_instead_of_refusing_it(target: Target) -> None:
    with target.fresh(target.embedding_model):
        slow_load(target, 0.8)
        try:
            response = target.embed("a duck")
        finally:
            quick_load(target)

        assert response.status_code == 200, describe(response)
        assert len(as_object(response)["data"]) == 1


@case("7.5", "faults")
def load_lasts_as_long_as_it_is_made_to(target: Target) -> None:
    with target.fresh(target.embedding_model):
        slow_load(target, 0.8)
        try:
            began = time.monotonic()
            target.embed("a duck")
            seconds = time.monotonic() - began
        finally:
            quick_load(target)

        assert seconds >= 0.8, f"answered after {seconds:.2f} s"


@case("7.5")
def ps_shows_an_engine_that_is_loading(target: Target) -> None:
    with target.fresh(target.embedding_model):
        slow_load(target, 0.8)
        try:
            call = Background(lambda: target.embed("a duck"))
            seen = False
            while not (seen or call.done):
                runners = target.runners(target.embedding_model, "embedding")
                seen = any(runner.get("loading") is True for runner in runners)
            response = call.result()
        finally:
            quick_load(target)

        assert response.status_code == 200, describe(response)
        assert seen, "the engine was never listed with loading: true"
        [runner] = target.runners(target.embedding_model, "embedding")
        assert "loading" not in runner, "the key is left out when the engine is up"


@case("7.5")
def concurrent_requests_share_one_load(target: Target) -> None:
    with target.fresh(target.embedding_model):
        slow_load(target, 1.5)
        try:
            began = time.monotonic()
            calls = [Background(lambda: target.embed("a duck")) for _ in range(4)]
            most = 0
            while not all(call.done for call in calls):
                runners = target.runners(target.embedding_model, "embedding")
                most = max(most, len(runners))
            seconds = time.monotonic() - began
            responses = [call.result() for call in calls]
        finally:
            quick_load(target)

        assert [response.status_code for response in responses] == [200] * 4
        assert most == 1, f"{most} engines of one model and mode at once"
        in_a_row = 4 * 1.5
        assert target.faults is None or seconds < in_a_row, f"one after the other: {seconds:.1f} s"


@case("6", "everything")
def full_slots_evict_all_idle_engines_even_those_kept_for_ever(target: Target) -> None:
    if target.slots != len(INFERENCE_MODES):
        raise NotApplicable("the number of slots is not known")
    roles = (target.embedding_model, target.chat_model, target.rerank_model)
    with target.fresh(*roles):
        target.configure(target.embedding_model, mode="embedding", keep_alive="-1")
        end_background_preload(target, target.embedding_model)
        preload(target, "/engines/v1/embeddings", target.embedding_model)
        preload(target, "/engines/v1/chat/completions", target.chat_model)
        preload(target, "/engines/rerank", target.rerank_model)
        assert len(as_objects(target.get("/engines/ps"))) == target.slots

        preload(target, "/engines/rerank", target.chat_model)

        left = as_objects(target.get("/engines/ps"))
        assert [(target.chat_model, "reranking")] == [(e["model_name"], e["mode"]) for e in left], (
            left
        )


@case("6")
def missing_draft_model_is_found_out_at_load(target: Target) -> None:
    with target.fresh(target.chat_model):
        draft = {"draft_model": "ai/no-such-model-here", "num_tokens": 8}
        target.configure(target.chat_model, speculative=draft)

        pattern = (
            "unable to load runner: error waiting for runner to be ready: "
            r"failed to get draft model: [\s\S]+"
        )
        assert_text_error(target.chat("Hi."), 500, pattern)


@case("6", "faults")
def disconnecting_ends_the_load(target: Target) -> None:
    with target.fresh(target.embedding_model):
        slow_load(target, 3.0)
        try:
            body = {"model": target.embedding_model, "input": "a duck"}
            try:
                target.post("/engines/v1/embeddings", body, timeout=httpx.Timeout(5, read=0.5))
            except httpx.ReadTimeout:
                pass
            else:
                raise AssertionError("a load of 3 s answered within half a second")
            wait_until(
                lambda: not target.runners(target.embedding_model, "embedding"),
                "the half-loaded engine was kept",
                seconds=1.5,
            )
            time.sleep(2.0)
            left = target.runners(target.embedding_model, "embedding")
        finally:
            quick_load(target)

        assert left == [], "the load went on without its requester"
        assert target.embed("a duck").status_code == 200, "the next request starts from zero"


@case("6", "faults")
def crash_at_load_is_a_text_error_with_the_engines_words(target: Target) -> None:
    with target.fresh(target.embedding_model):
        target.controls.crash_next_load("llama_model_load: error loading model")
        try:
            response = target.embed("a duck")
        finally:
            target.controls.reset()

        assert_text_error(
            response,
            500,
            r"unable to load runner: error waiting for runner to be ready: [\s\S]*"
            r"llama_model_load: error loading model[\s\S]*",
        )
        assert target.runners(target.embedding_model, "embedding") == []
        assert target.embed("a duck").status_code == 200


def preload(target: Target, path: str, model: str) -> None:
    """Load an engine by the header, which answers without a body."""
    response = target.post(path, {"model": model}, headers=PRELOAD_ONLY)
    assert (response.status_code, response.content) == (200, b""), describe(response)


def end_background_preload(target: Target, model: str) -> None:
    """Wait for the completion engine that a configuration loads, and end it (section 3)."""

    def has_ended() -> bool:
        return target.unload(model, forget=False) > 0 and not target.runners(model)

    wait_until(has_ended, "no completion engine was loaded in the background", seconds=60)


def slow_load(target: Target, seconds: float) -> None:
    """Lengthen loads where that can be done; a real engine is slow by itself."""
    if target.faults is not None:
        target.faults.slow_load(seconds)


def quick_load(target: Target) -> None:
    """Take the lengthening back."""
    if target.faults is not None:
        target.faults.reset()
