from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from merganser.embedding.embedder import Embedder
from merganser.errors import RequestRejectedError, RunnerUnavailableError, SourcePosition
from merganser.models.configure import ConfigureRequest, configure_request
from merganser.models.ref import DraftModel, ModelRef, ModelUse
from merganser.models.wire import ServedModel

if TYPE_CHECKING:
    from merganser.models.client import ModelRunner
    from merganser.models.ref import Role
    from tests.doubles.model_server import Double

CONFIGURE = "/engines/_configure"
EMBEDDER = "ai/embeddinggemma"


def use_of(model: str = EMBEDDER, role: Role = "embedding", **more: Any) -> ModelUse:
    ref = ModelRef(name=model, provider="dmr", model=model, **more)
    return ModelUse(model=ref, role=role, used_by="rag.codebase.strategies[0]")


def posted(double: Double, path: str) -> list[dict[str, Any]]:
    return [one.body for one in double.asked(path) if one.method == "POST"]


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
        "runtime-flags": ["-ngl", "33"],
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
        ({"runtime_flags": ("--ubatch-size=1024",)}, None, ("--ubatch-size", "1024")),
        ({"runtime_flags": ("--ub 1024",)}, None, ("-ub", "1024")),
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


@pytest.mark.parametrize("kind", ["refused_flags", "deadly_flags"])
async def test_what_is_refused_is_left_out_at_its_line_and_the_rest_stands(
    client: ModelRunner, double: Double, kind: str
):
    model = f"ai/{kind}"
    double.add_model(model)
    getattr(double, kind).update({"--mlock", "--made-up"})
    place = [SourcePosition(Path("c.yaml"), 6, column) for column in (10, 20, 30, 40)]
    flags = ("--mlock", "--pooling=mean", "--made-up", "7")
    use = use_of(model, runtime_flags=flags, flag_positions=tuple(place), context_size=256)
    served = await client.model(model)
    assert served is not None

    done = await client.set_up(use, served)
    again = await client.set_up(use, served)

    assert done.use.model.runtime_flags == ("--pooling=mean",)
    assert done.use.model.flag_positions == (place[1],)
    assert [text.partition(" of ")[0] for text in done.left_out] == [
        "c.yaml:6:10: the flag '--mlock'",
        "c.yaml:6:30: the flag '--made-up 7'",
    ]
    assert (again.use, again.left_out, again.is_new) == (done.use, (), False)
    (standing,) = (row["Config"] for row in double.configs)
    assert standing["context-size"] == 256
    assert standing["runtime-flags"][:2] == ["--pooling", "mean"]
    assert len(posted(double, CONFIGURE)) == 3


async def test_a_load_that_fails_for_another_reason_leaves_no_flag_out(
    client: ModelRunner, double: Double
):
    double.add_model("ai/large")
    double.fail("/engines/v1/embeddings", 500, "unable to load runner: failed to load model\n")
    use = use_of("ai/large", runtime_flags=("--threads", "2"))
    served = await client.model("ai/large")
    assert served is not None

    with pytest.raises(RequestRejectedError, match="failed to load model"):
        await client.set_up(use, served)


async def test_vectors_are_claimed_for_what_stands_only(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.deadly_flags.add("cls")
    use = use_of(runtime_flags=("--pooling", "cls", "--threads=2"))
    served = await client.model(EMBEDDER)
    assert served is not None
    client.keep_configured(use, served)

    model = await client.as_configured(use.model, "embedding")

    assert model.runtime_flags == ("--threads=2",)
    plain = Embedder(client, use_of().model, served, dimensions=None)
    assert Embedder(client, model, served, dimensions=None).fingerprint == plain.fingerprint


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
