from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.doctor.servers import Check, Diagnosis, diagnose
from merganser.models.ref import ModelRef, ModelUse

if TYPE_CHECKING:
    from merganser.models.ref import Role
    from tests.doubles.model_server import Double

EMBEDDER = "ai/embeddinggemma"


def use_of(model: str, role: Role, **more: Any) -> ModelUse:
    ref = ModelRef(name=model, provider="dmr", model=model, **more)
    return ModelUse(model=ref, role=role, used_by="rag.x")


def check_named(diagnosis: Diagnosis, name: str) -> Check:
    return next(check for check in diagnosis.checks if check.name == name)


async def test_no_server_is_a_problem_with_every_address_and_both_ways_out():
    diagnosis = await diagnose([use_of(EMBEDDER, "embedding")], base_url="http://127.0.0.1:1")

    (check,) = diagnosis.servers[0].checks
    assert diagnosis.healthy is False
    assert "http://127.0.0.1:1/engines/v1/models" in check.detail
    assert "docker model status" in check.fix
    assert "merganser runner" in check.fix
    assert diagnosis.models[0].served is None


async def test_a_healthy_server_mirrors_status_list_df_and_logs(double: Double):
    double.add_model(EMBEDDER)

    diagnosis = await diagnose(env={"MODEL_RUNNER_HOST": double.url})

    (server,) = diagnosis.servers
    assert diagnosis.healthy
    assert (server.version, server.log) == ("v1.2.6", ("one", "two"))
    assert [model.canonical for model in server.models] == [f"{EMBEDDER}:latest"]
    assert server.disk is not None
    assert server.disk.models_bytes == 1000
    assert server.probes[0].source == "MODEL_RUNNER_HOST"


@pytest.mark.parametrize(
    ("state", "level"),
    [
        ("Running: llama.cpp 642c721", "ok"),
        ("running llama.cpp version: c55bce4", "ok"),
        ("Running: llama.cpp unknown", "note"),
        ("Error: no GPU", "problem"),
        ("Not Installed", "problem"),
    ],
)
async def test_the_state_of_the_engine_is_judged(double: Double, state: str, level: str):
    double.fail("/engines/status", 200, {"llama.cpp": state, "vllm": "Not Installed"})

    diagnosis = await diagnose(base_url=double.url)

    assert check_named(diagnosis, "engine llama.cpp").level == level
    assert diagnosis.healthy is (level != "problem")


@pytest.mark.parametrize(("answers", "level"), [(True, "ok"), (False, "problem")])
async def test_an_engine_of_unknown_version_is_judged_by_its_answers(
    double: Double, level: str, *, answers: bool
):
    double.add_model(EMBEDDER)
    double.fail("/engines/status", 200, {"llama.cpp": "Running: llama.cpp unknown"})
    if not answers:
        double.fail("/engines/v1/embeddings", 500, "unable to load runner: no file\n", times=9)

    diagnosis = await diagnose([use_of(EMBEDDER, "embedding")], base_url=double.url)

    assert check_named(diagnosis, "engine llama.cpp").level == level
    assert diagnosis.healthy is answers


@pytest.mark.parametrize(("cores", "told"), [(1, True), (2, False)])
async def test_models_that_have_no_room_together_are_told(
    double: Double, monkeypatch: pytest.MonkeyPatch, cores: int, *, told: bool
):
    monkeypatch.setattr("merganser.models.slots.os.cpu_count", lambda: cores)
    uses = [use_of(EMBEDDER, "embedding"), use_of("qwen3", "chat"), use_of("qwen3", "draft")]

    diagnosis = await diagnose(uses, flows={"ask": uses}, base_url=double.url, probe_models=False)

    slots = [check for check in diagnosis.checks if check.name == "slots"]
    assert [check.level for check in slots] == ["note"] * told
    assert all("ask: 2 engines are needed" in check.detail for check in slots)


async def test_a_missing_model_has_its_pull_command_as_the_fix(double: Double):
    diagnosis = await diagnose([use_of("qwen3", "chat")], base_url=double.url)

    assert check_named(diagnosis, "model").fix == "docker model pull ai/qwen3"
    assert diagnosis.healthy is False


async def test_each_role_is_tried(double: Double):
    for ref in (EMBEDDER, "ai/reranker", "ai/qwen3"):
        double.add_model(ref)
    double.chat_events = ['data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}']
    uses = [
        use_of(EMBEDDER, "embedding"),
        use_of("ai/reranker", "reranking"),
        use_of("ai/qwen3", "chat"),
    ]

    diagnosis = await diagnose(uses, base_url=double.url)

    assert diagnosis.healthy
    assert check_named(diagnosis, "embedding probe").detail == "16 dimensions, norm 1.0000"
    assert check_named(diagnosis, "long input").detail.startswith("texts above 512 tokens")
    assert check_named(diagnosis, "rerank probe").level == "ok"
    assert check_named(diagnosis, "tool probe").level == "note"


async def test_a_reranker_that_does_not_rerank_is_a_problem(double: Double):
    double.add_model("ai/reranker")
    double.rerank_scores = [-0.7, -0.7, -0.7]

    diagnosis = await diagnose([use_of("ai/reranker", "reranking")], base_url=double.url)

    assert check_named(diagnosis, "rerank probe").level == "problem"


async def test_a_model_that_fails_its_probe_is_reported_and_not_raised(double: Double):
    double.add_model(EMBEDDER)
    double.fail(
        "/engines/v1/embeddings", 500, "unable to load runner: not enough GPU memory\n", times=2
    )

    diagnosis = await diagnose([use_of(EMBEDDER, "embedding")], base_url=double.url)

    assert check_named(diagnosis, "embedding probe").level == "problem"


async def test_without_probes_no_model_is_loaded(double: Double):
    double.add_model(EMBEDDER)

    await diagnose([use_of(EMBEDDER, "embedding")], base_url=double.url, probe_models=False)

    assert not double.asked("/engines/v1/embeddings")


async def test_models_of_two_servers_make_two_reports(double: Double):
    double.add_model(EMBEDDER)
    uses = [
        use_of(EMBEDDER, "embedding"),
        use_of("gpt-x", "chat", base_url="http://127.0.0.1:1/v1"),
    ]

    diagnosis = await diagnose(uses, base_url=double.url, probe_models=False)

    assert [server.address for server in diagnosis.servers] == [double.url, None]
    assert [model.model for model in diagnosis.models] == [EMBEDDER, "gpt-x"]


async def test_the_diagnosis_is_plain_json(double: Double):
    double.add_model(EMBEDDER)

    diagnosis = await diagnose([use_of(EMBEDDER, "embedding")], base_url=double.url)

    assert json.loads(json.dumps(diagnosis.as_json()))["healthy"] is True
