from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from merganser.runner.embedded_runner import EmbeddedRunner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.doubles import FaultyRunner


@pytest.fixture
def client(runner: FaultyRunner) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=runner.url, trust_env=False, timeout=60) as opened:
        yield opened


def _embed(client: httpx.Client, texts: list[str], **options: Any) -> np.ndarray[Any, Any]:
    answer = client.post(
        "/engines/v1/embeddings", json={"model": "ai/all-minilm", "input": texts, **options}
    )
    answer.raise_for_status()
    return np.array([entry["embedding"] for entry in answer.json()["data"]])


def test_says_what_it_is(client: httpx.Client) -> None:
    answer = client.get("/version")

    assert answer.json()["version"].startswith("merganser-embedded/")
    assert answer.headers["server"] == "merganser-embedded"


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:80", "127.0.0.1", "127.3.2.1:1", "[::1]:12434", "a.localhost"]
)
def test_this_machine_may_be_called_by_its_own_names(client: httpx.Client, host: str) -> None:
    assert client.get("/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:12434",
        "127.0.0.1.evil.example",
        "192.168.0.7",
        "localhost.co",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/engines/requests", "/models", "/version"])
def test_a_name_that_only_resolves_to_this_machine_is_refused(
    client: httpx.Client, host: str, path: str
) -> None:
    answer = client.get(path, headers={"Host": host})

    assert (answer.status_code, answer.text) == (403, "Host not allowed\n")


def test_a_runner_that_listens_elsewhere_on_purpose_answers_to_any_name() -> None:
    with EmbeddedRunner(any_host=True) as runner:
        answer = httpx.get(f"{runner.url}/models", headers={"Host": "box.lan"}, trust_env=False)

    assert answer.status_code == 200


def test_paraphrases_are_nearer_than_other_texts(client: httpx.Client) -> None:
    vectors = _embed(
        client, ["How do I bake bread?", "A recipe for a loaf", "The stock market fell today"]
    )

    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-3)


def test_base64_and_float_are_the_same_vectors(client: httpx.Client) -> None:
    floats = _embed(client, ["one", "two words"])
    answer = client.post(
        "/v1/embeddings",
        json={
            "model": "ai/all-minilm",
            "input": ["one", "two words"],
            "encoding_format": "base64",
        },
    )
    rows = [
        np.frombuffer(base64.b64decode(entry["embedding"]), "<f4")
        for entry in answer.json()["data"]
    ]

    np.testing.assert_allclose(floats, rows, atol=1e-6)


def test_chat_answers_with_a_real_model(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/chat/completions",
        json={
            "model": "ai/smollm2",
            "messages": [{"role": "user", "content": "Say hello."}],
            "max_tokens": 8,
        },
    )
    document = answer.json()

    assert document["choices"][0]["message"]["content"]
    assert document["usage"]["completion_tokens"] <= 8
    assert document["model"].startswith("ai/smollm2")


def test_counts_embedded_texts(client: httpx.Client, runner: FaultyRunner) -> None:
    runner.counters.reset()
    _embed(client, ["a", "b", "a"])

    assert runner.counters.texts_embedded == 3
    assert runner.counters.distinct_texts == 2
    assert runner.counters.route("embeddings") == 1
