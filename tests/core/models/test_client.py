from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from merganser.errors import (
    InputTooLongError,
    ModelNotFoundError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
    RunnerUnreachableError,
)
from merganser.models.client import ModelRunner
from merganser.models.inference import normalize_scores
from merganser.models.probes import probe_embedding
from merganser.models.retry import RetryPolicy
from merganser.models.wire import DiskUsage, Timeouts

if TYPE_CHECKING:
    from tests.doubles.model_server import Double

EMBEDDER = "ai/embeddinggemma"
RERANKER = "ai/qwen3-reranker"
EMBEDDINGS = "/engines/v1/embeddings"


def embedding_answer(*vectors: list[float | None], **more: Any) -> dict[str, Any]:
    rows = [{"index": i, "embedding": vector, **more} for i, vector in enumerate(vectors)]
    return {"data": rows}


async def test_a_local_model_is_found_by_any_of_its_spellings(client: ModelRunner, double: Double):
    digest = double.add_model(EMBEDDER)

    found = [await client.model(ref) for ref in ("embeddinggemma", "docker.io/ai/embeddinggemma")]

    assert [model.id for model in found if model] == [digest, digest]


async def test_the_servers_bare_name_fallback_is_not_taken_for_the_model(
    client: ModelRunner, double: Double
):
    double.add_model("other/embeddinggemma:300M")

    assert await client.model(EMBEDDER) is None


async def test_a_model_of_the_servers_own_default_registry_is_found(
    client: ModelRunner, double: Double
):
    double.registry = "localhost:5000"
    double.add_model(EMBEDDER)

    served = await client.model(EMBEDDER)

    assert served is not None
    assert served.tags == (f"localhost:5000/{EMBEDDER}:latest",)


async def test_a_model_of_a_registry_that_is_not_the_default_is_another(
    client: ModelRunner, double: Double
):
    double.tags[f"localhost:5000/{EMBEDDER}:latest"] = double.add_model("ai/other")

    assert await client.model(EMBEDDER) is None


async def test_a_model_without_metadata_is_read(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)

    (model,) = await client.list_models()

    assert (model.context_size, model.architecture, model.name) == (None, None, None)


async def test_metadata_and_alias_are_read(client: ModelRunner, double: Double):
    gguf = {"general.name": "all-MiniLM-L6-v2"}
    config = {"context_size": 512, "architecture": "bert", "quantization": "F16", "gguf": gguf}
    double.add_model(EMBEDDER, config=config, merganser={"alias_of": "local/minilm"})

    model = await client.model(EMBEDDER)

    assert model is not None
    assert (model.context_size, model.architecture, model.quantization) == (512, "bert", "F16")
    assert (model.name, model.alias_of) == ("all-MiniLM-L6-v2", "local/minilm")
    assert "alias" in model.note


async def test_status_disk_and_logs_mirror_the_docker_commands(client: ModelRunner, double: Double):
    status = await client.status()

    assert (status.running, status.version) == (True, "v1.2.6")
    assert status.engines == (("llama.cpp", "Running: llama.cpp 642c721"),)
    assert await client.df() == DiskUsage(1000, 200)
    assert await client.logs() == "one\ntwo\n"


async def test_an_old_server_has_no_version(client: ModelRunner, double: Double):
    double.fail("/version", 404, "404 page not found\n")

    assert await client.version() is None


async def test_vectors_come_in_the_order_of_the_texts(client: ModelRunner, double: Double):
    # The double answers its rows backwards.
    double.add_model(EMBEDDER)
    texts = ["a", "b", "c"]

    batch = await client.embed(EMBEDDER, texts)
    alone = [(await client.embed(EMBEDDER, [text])).vectors[0] for text in texts]

    np.testing.assert_array_equal(alone, batch.vectors)
    assert (batch.vectors.dtype, batch.prompt_tokens) == (np.float32, 3)


async def test_both_encodings_give_the_same_vectors(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)

    packed = await client.embed(EMBEDDER, ["a"])
    double.fail(EMBEDDINGS, 400, {"error": {"code": 400, "message": "bad encoding_format"}})
    plain = await client.embed(EMBEDDER, ["a"])

    assert double.asked(EMBEDDINGS)[-1].body["encoding_format"] == "float"
    np.testing.assert_allclose(packed.vectors, plain.vectors, rtol=1e-6)


async def test_a_server_without_base64_is_asked_for_floats_from_then_on(
    client: ModelRunner, double: Double
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 400, {"error": {"code": 400, "message": "bad encoding_format"}})

    await client.embed(EMBEDDER, ["a"])
    await client.embed(EMBEDDER, ["a"])

    asked = [one.body["encoding_format"] for one in double.asked(EMBEDDINGS)]
    assert asked == ["base64", "float", "float"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (embedding_answer([1.0, 0.0]), "expected 2 embeddings, got 1"),
        (embedding_answer([1.0, 0.0], [1.0]), "unequal dimensions"),
        (embedding_answer([1.0, 0.0], [None, 0.0]), "no number"),
        (embedding_answer([], []), "unequal dimensions"),
        ({"data": [{"index": 0, "embedding": [1.0]}] * 2}, "out of place"),
        ({"data": [{"index": 5, "embedding": [1.0]}] * 2}, "out of place"),
        (
            {"data": [{"index": i, "embedding": "!!"} for i in range(2)]},
            "cannot be read",
        ),
        (
            {
                "data": [
                    {"index": i, "embedding": base64.b64encode(b"abc").decode()} for i in range(2)
                ]
            },
            "cannot be read",
        ),
        ({}, "got 0"),
    ],
)
async def test_an_answer_that_would_poison_an_index_is_refused(
    client: ModelRunner, double: Double, answer: dict[str, Any], problem: str
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 200, answer)

    with pytest.raises(ProtocolError, match=problem):
        await client.embed(EMBEDDER, ["a", "b"])


async def test_not_a_number_in_base64_is_refused(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    packed = base64.b64encode(np.asarray([np.nan, 1.0], dtype="<f4").tobytes()).decode()
    double.fail(EMBEDDINGS, 200, {"data": [{"index": 0, "embedding": packed}]})

    with pytest.raises(ProtocolError, match="no number"):
        await client.embed(EMBEDDER, ["a"])


async def test_an_answer_without_json_is_refused(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 200, "<html>")

    with pytest.raises(ProtocolError, match="without JSON"):
        await client.embed(EMBEDDER, ["a"])


async def test_one_long_text_fails_the_request_with_its_numbers(
    client: ModelRunner, double: Double
):
    double.add_model(EMBEDDER)

    with pytest.raises(InputTooLongError) as caught:
        await client.embed(EMBEDDER, ["short", "long " * 600])

    assert (caught.value.tokens, caught.value.limit) == (600, 512)
    assert len(double.asked(EMBEDDINGS)) == 1


async def test_a_missing_model_names_its_pull_command(client: ModelRunner):
    with pytest.raises(ModelNotFoundError, match="docker model pull ai/embeddinggemma"):
        await client.embed("embeddinggemma", ["a"])


async def test_a_503_is_tried_again_within_the_call(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 503, "backend installer not started\n", times=2)

    await client.embed(EMBEDDER, ["a"])

    assert len(double.asked(EMBEDDINGS)) == 3


async def test_a_503_that_lasts_surfaces_as_transient(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 503, "busy", times=9)

    with pytest.raises(RunnerUnavailableError):
        await client.embed(EMBEDDER, ["a"])

    assert len(double.asked(EMBEDDINGS)) == 3


async def test_a_long_retry_after_is_left_to_the_caller(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 429, "slow down", headers={"Retry-After": "60"})

    with pytest.raises(RunnerUnavailableError) as caught:
        await client.embed(EMBEDDER, ["a"])

    assert caught.value.retry_after_seconds == 60
    assert len(double.asked(EMBEDDINGS)) == 1


async def test_a_500_is_never_repeated_blindly(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 500, {"error": {"code": 500, "message": "boom"}})

    with pytest.raises(RequestRejectedError, match="boom"):
        await client.embed(EMBEDDER, ["a"])

    assert len(double.asked(EMBEDDINGS)) == 1


async def test_a_first_request_waits_for_the_load_and_a_later_one_does_not(double: Double):
    double.add_model(EMBEDDER)
    timeouts = Timeouts(load=3.0, inference=0.2)
    once = RetryPolicy(attempts=1)
    double.fail(EMBEDDINGS, 200, embedding_answer([1.0]), delay=0.5)

    async with ModelRunner(double.url, timeouts=timeouts, retry=once) as client:
        await client.embed(EMBEDDER, ["loading takes longer than an inference may"])
        double.fail(EMBEDDINGS, 200, embedding_answer([1.0]), delay=0.5)
        with pytest.raises(RunnerUnavailableError, match="in time"):
            await client.embed(EMBEDDER, ["a"])
        # It may have been unloaded, and a short wait would end every load before its end.
        double.fail(EMBEDDINGS, 200, embedding_answer([1.0]), delay=0.5)
        await client.embed(EMBEDDER, ["a"])


async def test_a_server_that_is_gone_is_unreachable():
    async with ModelRunner("http://127.0.0.1:1", retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(RunnerUnreachableError, match="docker model status"):
            await client.embed(EMBEDDER, ["a"])


async def test_a_server_without_management_is_asked_at_its_own_paths(double: Double):
    double.managed = False
    double.tags["text-embedding-x"] = ""

    async with ModelRunner(f"{double.url}/v1") as client:
        found = await client.model("text-embedding-x")
        missing = await client.model("another")

    assert found is not None
    assert (found.canonical, found.managed, missing) == ("text-embedding-x", False, None)
    assert "manages no models" in found.note


async def test_a_server_that_lists_no_models_is_believed(double: Double):
    double.managed = False
    double.fail("/v1/models", 404, {"detail": "Not Found"})

    async with ModelRunner(f"{double.url}/v1") as client:
        found = await client.model("gpt-x")

    assert found is not None
    assert found.canonical == "gpt-x"


async def test_wrong_credentials_are_not_taken_for_a_server_without_a_list(double: Double):
    double.managed = False
    double.fail("/v1/models", 401, {"error": {"message": "bad key", "type": "auth"}})

    async with ModelRunner(f"{double.url}/v1") as client:
        with pytest.raises(RequestRejectedError, match="token_key"):
            await client.model("gpt-x")


async def test_the_token_of_a_server_is_sent(double: Double):
    async with ModelRunner(double.url, token="t0ken") as client:  # noqa: S106 - made up
        await client.version()

    assert double.seen[0].headers["authorization"] == "Bearer t0ken"


async def test_rerank_scores_come_best_first_and_raw(client: ModelRunner, double: Double):
    double.add_model(RERANKER)
    double.rerank_scores = [-3.0, 4.5, 4.5]

    scores = await client.rerank(RERANKER, "q", ["a", "b", "c"])

    assert [(one.index, one.score) for one in scores] == [(1, 4.5), (2, 4.5), (0, -3.0)]
    assert double.asked("/engines/rerank")


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([{"index": 0, "relevance_score": 1.0}], "expected 2 rerank scores, got 1"),
        ([{"index": 0, "relevance_score": 1.0}] * 2, "out of place"),
        ([{"index": 7, "relevance_score": 1.0}], "out of place"),
        ([{"index": 0, "relevance_score": None}], "no number"),
    ],
)
async def test_a_rerank_answer_with_holes_is_refused(
    client: ModelRunner, double: Double, results: list[dict[str, Any]], problem: str
):
    double.add_model(RERANKER)
    double.fail("/engines/rerank", 200, {"results": results})

    with pytest.raises(ProtocolError, match=problem):
        await client.rerank(RERANKER, "q", ["a", "b"])


async def test_a_server_too_old_to_rerank_says_which_version_can(
    client: ModelRunner, double: Double
):
    double.fail("/engines/rerank", 404, "404 page not found\n")

    with pytest.raises(RequestRejectedError, match=r"v1\.0\.4"):
        await client.rerank(RERANKER, "q", ["a"])


def test_probabilities_stay_and_logits_go_through_a_sigmoid():
    assert normalize_scores([0.9, 0.1], "auto") == [0.9, 0.1]
    assert normalize_scores([0.0, 2.0], "auto") == pytest.approx([0.5, 0.8808], abs=1e-4)
    assert normalize_scores([0.0], "sigmoid") == [0.5]
    assert normalize_scores([-5.0, 7.0], "none") == [-5.0, 7.0]
    assert normalize_scores([1000.0, -1000.0], "sigmoid") == [1.0, 0.0]


async def test_a_model_that_once_gave_logits_keeps_its_scale(client: ModelRunner, double: Double):
    double.add_model(RERANKER)
    inside = [0.25, 0.75]
    before = client.normalize(RERANKER, inside, "auto")
    double.rerank_scores = [-2.0, 2.0]

    await client.rerank(RERANKER, "q", ["a", "b"])

    assert before == inside
    assert client.normalize(RERANKER, inside, "auto") == normalize_scores(inside, "sigmoid")
    assert client.normalize("ai/another", inside, "auto") == inside


async def test_the_embedding_probe_tells_dimensions_and_norm(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)

    probe = await probe_embedding(client, EMBEDDER)

    assert probe.dimensions == 16
    assert probe.norm == pytest.approx(1.0, abs=1e-5)


async def test_a_real_reranker_passes_its_probe(client: ModelRunner, double: Double):
    double.add_model(RERANKER)

    probe = await client.probe_reranking(RERANKER)

    assert (probe.ordered, probe.trusted, probe.scale) == (True, True, "probability")


@pytest.mark.parametrize("scores", [[-0.7, -0.7, -0.7], [1e-20, 2e-20, 3e-20], [3.0, 2.0, 1.0]])
async def test_a_model_that_is_no_reranker_fails_its_probe(
    client: ModelRunner, double: Double, scores: list[float]
):
    double.add_model(RERANKER)
    double.rerank_scores = scores

    probe = await client.probe_reranking(RERANKER)

    assert probe.trusted is False
