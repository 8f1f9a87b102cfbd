from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from merganser.errors import (
    ModelNotFoundError,
    PullError,
    RequestRejectedError,
    RunnerUnavailableError,
)
from merganser.models.client import ModelRunner
from merganser.models.configure import ConfigureRequest, configure_request
from merganser.models.ensure import PullPolicy, ensure_model, prepare_model
from merganser.models.ref import DraftModel, ModelRef, ModelUse
from merganser.models.wire import ServedModel

if TYPE_CHECKING:
    from merganser.models.ref import Role
    from tests.doubles.model_server import Double

SUCCESS = json.dumps({"type": "success", "message": "Model pulled successfully"})
CONFIGURE = "/engines/_configure"
EMBEDDER = "ai/embeddinggemma"


def use_of(model: str = EMBEDDER, role: Role = "embedding", **more: Any) -> ModelUse:
    ref = ModelRef(name=model, provider="dmr", model=model, **more)
    return ModelUse(model=ref, role=role, used_by="rag.codebase.strategies[0]")


def posted(double: Double, path: str) -> list[dict[str, Any]]:
    return [one.body for one in double.asked(path) if one.method == "POST"]


@pytest.mark.parametrize(
    ("policy", "local", "pulls"),
    [
        ("missing", True, 0),
        ("missing", False, 1),
        ("always", True, 1),
        ("never", True, 0),
        ("ask", True, 0),
        ("ask", False, 1),
    ],
)
async def test_the_policy_decides_what_is_pulled(
    client: ModelRunner, double: Double, policy: PullPolicy, *, local: bool, pulls: int
):
    double.pull_lines = [SUCCESS]
    if local:
        double.add_model(EMBEDDER)

    served = await ensure_model(client, use_of(), policy=policy, confirm=lambda _: True)

    assert served.canonical == "ai/embeddinggemma:latest"
    assert len(double.asked("/models/create")) == pulls


async def test_never_names_the_pull_command_and_who_wants_the_model(client: ModelRunner):
    with pytest.raises(ModelNotFoundError) as caught:
        await ensure_model(client, use_of(), policy="never")

    assert "`docker model pull ai/embeddinggemma`" in str(caught.value)
    assert "rag.codebase.strategies[0]" in str(caught.value)


async def test_a_declined_pull_is_a_missing_model(client: ModelRunner, double: Double):
    with pytest.raises(ModelNotFoundError, match="declined"):
        await ensure_model(client, use_of(), policy="ask", confirm=lambda _: False)

    assert not double.asked("/models/create")


async def test_without_anyone_to_ask_the_model_is_pulled(client: ModelRunner, double: Double):
    double.pull_lines = [SUCCESS]

    await ensure_model(client, use_of(), policy="ask", confirm=None)

    assert len(double.asked("/models/create")) == 1


async def test_a_success_without_the_model_is_a_failure(client: ModelRunner, double: Double):
    double.pull_lines = [SUCCESS]
    double.pull_adds = False

    with pytest.raises(PullError, match="reported success"):
        await ensure_model(client, use_of())


async def test_another_server_pulls_and_configures_nothing(double: Double):
    double.managed = False
    double.tags["nomic-embed"] = ""
    use = use_of("nomic-embed", context_size=2048)

    async with ModelRunner(f"{double.url}/v1") as client:
        prepared = await prepare_model(client, use)
        with pytest.raises(ModelNotFoundError, match="pulls nothing"):
            await ensure_model(client, use_of("another"))

    assert "manages no models" in prepared.notes[0]
    assert prepared.configured is False
    assert not double.asked(CONFIGURE)


def test_a_plain_chat_model_needs_no_configuration():
    assert configure_request(use_of("ai/qwen3", "chat")) is None


def test_a_draft_model_is_configured_with_its_target_alone():
    draft = DraftModel(model="ai/qwen3:0.6B-Q4_K_M", num_tokens=16, acceptance_rate=0.8)
    chat = use_of(
        "ai/qwen3:14B",
        "chat",
        draft=draft,
        context_size=8192,
        runtime_flags=("--ngl=33",),
        keep_alive="10m",
    )

    request = configure_request(chat)

    assert request is not None
    assert request.body("qwen3:14B") == {
        "model": "ai/qwen3:14B",
        "mode": "completion",
        "context-size": 8192,
        "runtime-flags": ["--ngl=33"],
        "speculative": {
            "draft_model": "ai/qwen3:0.6B-Q4_K_M",
            "num_tokens": 16,
            "min_acceptance_rate": 0.8,
        },
        "keep_alive": "10m",
    }
    assert configure_request(use_of("ai/qwen3:0.6B", "draft", draft=draft)) is None


@pytest.mark.parametrize(
    ("more", "packaged", "flags"),
    [
        ({}, None, ("--batch-size", "2048", "--ubatch-size", "2048")),
        ({}, 512, ("--batch-size", "512", "--ubatch-size", "512")),
        ({}, 32768, ("--batch-size", "2048", "--ubatch-size", "2048")),
        ({"context_size": 4096}, 512, ("--batch-size", "4096", "--ubatch-size", "4096")),
        ({"runtime_flags": ("-ub", "1024")}, None, ("-ub", "1024")),
        ({"runtime_flags": ("--ubatch-size=1024",)}, None, ("--ubatch-size=1024",)),
        (
            {"runtime_flags": ("--pooling", "mean")},
            512,
            ("--pooling", "mean", "--batch-size", "512", "--ubatch-size", "512"),
        ),
    ],
)
@pytest.mark.parametrize("role", ["embedding", "reranking"])
def test_the_batch_is_as_large_as_an_input_may_be(
    role: Role, more: dict[str, Any], packaged: int | None, flags: tuple[str, ...]
):
    served = ServedModel(EMBEDDER, EMBEDDER, "sha256:1", context_size=packaged)

    request = configure_request(use_of(role=role, **more), served)

    assert request is not None
    assert (request.mode, request.runtime_flags) == (role, flags)


async def test_a_configuration_that_stands_is_not_sent_again(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    request = ConfigureRequest(mode="embedding", context_size=512, keep_alive="10m")

    changed = [await client.configure(EMBEDDER, request)]
    # The server echoes a duration in its own spelling.
    double.configs[0]["Config"]["keep_alive"] = "10m0s"
    changed.append(await client.configure(EMBEDDER, request))
    changed.append(await client.configure(EMBEDDER, ConfigureRequest(mode="embedding")))

    assert changed == [True, False, True]
    assert len(posted(double, CONFIGURE)) == 2


async def test_a_configuration_of_another_mode_does_not_count(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    await client.configure(EMBEDDER, ConfigureRequest(mode="completion", context_size=512))

    changed = await client.configure(EMBEDDER, ConfigureRequest(mode="embedding", context_size=512))

    assert changed is True


async def test_a_server_too_old_to_say_is_configured_anyway(client: ModelRunner, double: Double):
    double.fail(CONFIGURE, 404, "not found\n")

    assert await client.configure(EMBEDDER, ConfigureRequest(mode="embedding", context_size=1))


async def test_another_draft_model_unloads_the_old_engine_first(
    client: ModelRunner, double: Double
):
    draft = DraftModel(model="ai/qwen3:0.6B", num_tokens=16, acceptance_rate=0.8)
    await client.configure(EMBEDDER, ConfigureRequest(mode="completion", draft=draft))

    await client.configure(EMBEDDER, ConfigureRequest(mode="completion", context_size=512))

    (unload,) = posted(double, "/engines/unload")
    assert (unload["all"], unload["backend"]) == (False, "")


async def test_a_busy_model_is_waited_for(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.busy_polls = 2

    changed = await client.configure(EMBEDDER, ConfigureRequest(mode="embedding", context_size=9))

    assert changed is True
    assert len(double.asked("/engines/ps")) == 3


async def test_a_model_that_stays_busy_is_transient(client: ModelRunner, double: Double):
    double.busy_polls = 99

    with pytest.raises(RunnerUnavailableError, match="docker model ps"):
        await client.configure(EMBEDDER, ConfigureRequest(mode="embedding", context_size=9))


async def test_a_flag_that_is_not_allowed_is_said(client: ModelRunner, double: Double):
    double.fail(CONFIGURE, 404, "not found\n")
    double.fail(CONFIGURE, 500, 'runtime flag "--foo" is not allowed for backend "llama.cpp"\n')

    with pytest.raises(RequestRejectedError, match="--foo"):
        await client.configure(
            EMBEDDER, ConfigureRequest(mode="embedding", runtime_flags=("--foo",))
        )


async def test_preparing_pulls_then_configures_then_loads(client: ModelRunner, double: Double):
    double.pull_lines = [SUCCESS]

    prepared = await prepare_model(client, use_of())

    asked = [(one.method, one.path) for one in double.seen]
    order = [
        asked.index(("POST", path))
        for path in ("/models/create", CONFIGURE, "/engines/v1/embeddings")
    ]
    assert order == sorted(order)
    assert prepared.configured is True


async def test_the_completion_engine_that_configuring_starts_is_cleared_away(
    client: ModelRunner, double: Double
):
    double.add_model(EMBEDDER)

    await prepare_model(client, use_of())

    loads = double.asked("/engines/v1/embeddings")
    assert [one.headers["x-preload-only"] for one in loads] == ["true", "true"]
    assert len(posted(double, "/engines/unload")) == 1
    assert double.engines == []


async def test_a_completion_engine_in_use_is_left_alone(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    engine = {"model_name": EMBEDDER, "mode": "completion", "in_use": True}
    double.engines.append(engine)

    await client.preload(EMBEDDER, "embedding")

    assert not double.asked("/engines/unload")


async def test_loading_a_reranker_goes_through_its_own_endpoint(
    client: ModelRunner, double: Double
):
    double.add_model("ai/reranker")

    await client.preload("ai/reranker", "reranking")

    (seen,) = double.asked("/engines/rerank")
    assert seen.headers["x-preload-only"] == "true"
