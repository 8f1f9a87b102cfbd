"""The ONNX engine against llama.cpp itself: the same model as GGUF, the same requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from merganser.models.client import ModelRunner
from merganser.runner.artifacts import NotGgufError, read_gguf_metadata
from merganser.runner.embedded_runner import EmbeddedRunner
from merganser.runner.known_models import MINILM
from merganser.runner.weights import WeightStore
from tests.doubles.bert_gguf import BertSource, convert_bert_to_gguf
from tests.doubles.overlap_reranker import write_overlap_reranker
from tests.doubles.synthetic_reranker import SYNTHETIC_NAME, write_synthetic_reranker

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from merganser.runner.known_models import WeightFile

_TEXTS = [
    "hello world",
    "How do I bake bread?",
    "def scan(path: Path) -> list[Document]:\n    return sorted(path.rglob('*.py'))",
    "héllo WÖRLD 漢字 🎉 x**2",
    "[CLS] marks no special token here [SEP]",
    "   ",
    "word " * 300,
]


def _ignore(file: WeightFile, done_bytes: int) -> None:
    del file, done_bytes


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    store = WeightStore(tmp_path_factory.mktemp("cache"), offline=True)
    return store.obtain(MINILM, on_progress=_ignore).paths


@pytest.fixture(scope="module")
def client(
    weights: Mapping[str, Path], model_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    models = tmp_path_factory.mktemp("models")
    source = BertSource(
        weights["config.json"],
        weights["tokenizer.json"],
        weights["model.safetensors"],
        name="MiniLM",
    )
    convert_bert_to_gguf(source, models / "minilm-gguf.gguf")
    write_synthetic_reranker(weights, models / "synthetic-reranker.gguf")
    write_overlap_reranker(weights["tokenizer.json"], models / "acme" / "overlap")
    (models / "broken.gguf").write_bytes(b"GGUF\x03")
    with (
        EmbeddedRunner(
            models_dir=models,
            pulled=["ai/all-minilm"],
            cache_dir=model_cache,
            offline=True,
            slots=4,
        ) as runner,
        httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as opened,
    ):
        yield opened


def _ask(client: httpx.Client, model: str, body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/embeddings", json={"model": model, **body})


def test_vectors_and_token_counts_are_those_of_llama_cpp(client: httpx.Client) -> None:
    ours = _ask(client, "ai/all-minilm", {"input": _TEXTS}).json()
    theirs = _ask(client, "minilm-gguf", {"input": _TEXTS}).json()

    assert theirs["usage"] == ours["usage"]
    similarities = [
        float(np.dot(mine["embedding"], other["embedding"]))
        for mine, other in zip(ours["data"], theirs["data"], strict=True)
    ]
    # int8 against f16: 0.993 on average over real text, the shortest texts the farthest.
    assert min(similarities) > 0.96
    assert np.mean(similarities) > 0.985


_REFUSED: list[dict[str, Any]] = [
    {},
    {"input": []},
    {"input": [[]]},
    {"input": 3},
    {"input": None},
    {"input": ["a", None]},
    {"input": {"a": 1}},
    {"input": [["a"]]},
    {"input": [40000]},
    {"input": [-1]},
    {"input": "x", "encoding_format": "hex"},
    {"input": "x", "encoding_format": 3},
    {"input": "x", "encoding_format": None},
    {"input": "word " * 600},
    {"input": ["short", "word " * 600]},
]


@pytest.mark.parametrize("body", _REFUSED)
def test_refusals_are_those_of_llama_cpp(client: httpx.Client, body: dict[str, Any]) -> None:
    ours = _ask(client, "ai/all-minilm", body)
    theirs = _ask(client, "minilm-gguf", body)

    assert ours.status_code == theirs.status_code
    assert ours.json() == theirs.json()


def test_context_overflow_is_that_of_llama_cpp(client: httpx.Client) -> None:
    for model in ("ai/all-minilm", "minilm-gguf"):
        command = {"model": model, "mode": "embedding", "context-size": 2048}
        flags = ["--batch-size", "2048", "--ubatch-size", "2048"]
        answer = client.post("/engines/_configure", json={**command, "runtime-flags": flags})
        assert answer.status_code == 202

    ours = _ask(client, "ai/all-minilm", {"input": "word " * 600})
    theirs = _ask(client, "minilm-gguf", {"input": "word " * 600})

    assert ours.status_code == theirs.status_code == 400
    assert ours.json() == theirs.json()


def test_content_is_answered_in_llama_cpps_own_form(client: httpx.Client) -> None:
    ours = _ask(client, "ai/all-minilm", {"content": "abc"}).json()
    theirs = _ask(client, "minilm-gguf", {"content": "abc"}).json()

    assert [set(entry) for entry in ours] == [set(entry) for entry in theirs]
    assert np.array(ours[0]["embedding"]).shape == np.array(theirs[0]["embedding"]).shape


def test_an_embedding_model_cannot_chat(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}]}
    ours = client.post("/v1/chat/completions", json={"model": "ai/all-minilm", **body})
    theirs = client.post("/v1/chat/completions", json={"model": "minilm-gguf", **body})

    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


def test_the_synthetic_reranker_says_that_it_is_one(client: httpx.Client) -> None:
    config = client.get("/models/synthetic-reranker").json()["config"]

    assert config["gguf"]["general.name"] == SYNTHETIC_NAME
    assert config["gguf"]["merganser.synthetic"] == "true"


def test_rerank_is_sorted_and_cut(client: httpx.Client) -> None:
    documents = ["one text", "another text", "a third one"]
    body = {"model": "synthetic-reranker", "query": "q", "documents": documents}
    every = client.post("/rerank", json=body).json()["results"]
    best = client.post("/engines/llama.cpp/rerank", json={**body, "top_n": 2}).json()["results"]

    scores = [entry["relevance_score"] for entry in every]
    assert sorted(scores, reverse=True) == scores
    assert {entry["index"] for entry in every} == {0, 1, 2}
    assert [entry["index"] for entry in best] == [entry["index"] for entry in every[:2]]


_NOT_RERANKED: list[dict[str, Any]] = [
    {},
    {"query": 3, "documents": ["a"]},
    {"query": "q"},
    {"query": "q", "documents": []},
]


@pytest.mark.parametrize("body", _NOT_RERANKED)
def test_refusals_to_rerank_are_those_of_llama_cpp(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    ours = client.post("/rerank", json={"model": "acme/overlap", **body})
    theirs = client.post("/rerank", json={"model": "synthetic-reranker", **body})

    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


def test_a_pair_that_is_too_long_is_refused_as_llama_cpp_does(client: httpx.Client) -> None:
    body = {"query": "q", "documents": ["short", "word " * 600]}
    ours, theirs = (
        client.post("/rerank", json={"model": model, **body}).json()["error"]
        for model in ("acme/overlap", "synthetic-reranker")
    )

    # Between the two texts llama.cpp puts [SEP] twice, the tokenizer once, as in training.
    assert "(604 tokens)" in ours["message"]
    assert theirs == ours | {"message": ours["message"].replace("604", "605")}


def test_a_cross_encoder_answers_in_the_form_of_llama_cpp(client: httpx.Client) -> None:
    body = {"query": "ducks that dive", "documents": ["a barn", "diving ducks", "ducks that dive"]}
    ours = client.post("/rerank", json={"model": "acme/overlap", **body}).json()
    theirs = client.post("/rerank", json={"model": "synthetic-reranker", **body}).json()
    best = client.post("/rerank", json={"model": "acme/overlap", **body, "top_n": 1}).json()

    assert {key: type(value) for key, value in ours.items()} == {
        key: type(value) for key, value in theirs.items()
    }
    assert set(ours["results"][0]) == set(theirs["results"][0])
    assert ours["usage"] == {key: n - 3 for key, n in theirs["usage"].items()}, "one [SEP] a pair"
    assert [entry["index"] for entry in ours["results"]] == [2, 1, 0]
    assert best["results"] == ours["results"][:1]


async def test_a_cross_encoder_passes_the_test_questions(client: httpx.Client) -> None:
    async with ModelRunner(str(client.base_url)) as runner:
        probe = await runner.probe_reranking("acme/overlap")

    assert probe.trusted
    assert probe.scale == "logit"


def test_a_cross_encoder_does_not_embed(client: httpx.Client) -> None:
    answer = _ask(client, "acme/overlap", {"input": "abc"})

    assert answer.status_code == 501
    assert "does not support embeddings" in answer.json()["error"]["message"]


def test_broken_files_are_not_served(client: httpx.Client) -> None:
    assert client.get("/models/broken").status_code == 404
    assert "broken.gguf" in client.get("/logs").text


def test_ids_are_digests_of_what_is_computed(client: httpx.Client) -> None:
    ids = {entry["id"] for entry in client.get("/models").json()}

    assert len(ids) == 4
    assert all(identity.startswith("sha256:") and len(identity) == 71 for identity in ids)


def test_what_is_no_gguf_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"MZ" * 100)

    with pytest.raises(NotGgufError, match="not a GGUF file"):
        read_gguf_metadata(path)
