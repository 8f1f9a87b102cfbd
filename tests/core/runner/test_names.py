from __future__ import annotations

import pytest

from merganser.models.ref import canonical
from merganser.runner.known_models import default_alias
from merganser.runner.model_store import is_valid, qualify


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("gemma3", "ai/gemma3:latest"),
        ("gemma3:", "ai/gemma3:latest"),
        ("myorg/model", "myorg/model:latest"),
        ("MyModel", "ai/mymodel:latest"),
        ("ai/Qwen3:14B", "ai/qwen3:14B"),
        ("hf.co/Org/M:Q4_K_M", "huggingface.co/org/m:Q4_K_M"),
        ("registry.example.com/model", "registry.example.com/model:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("abc123", "ai/abc123:latest"),
        ("0123456789ab", "0123456789ab"),
        ("  smollm2 ", "ai/smollm2:latest"),
    ],
)
def test_completes_references_as_upstream_does(given: str, expected: str) -> None:
    assert canonical(given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("qwen3", "docker.io/ai/qwen3:latest"),
        ("docker.io/ai/qwen3", "docker.io/ai/qwen3:latest"),
        ("index.docker.io/ai/qwen3:x", "docker.io/ai/qwen3:x"),
        ("hf.co/org/m", "huggingface.co/org/m:latest"),
    ],
)
def test_stored_tags_are_fully_qualified(given: str, expected: str) -> None:
    assert qualify(given) == expected


def test_shortens_to_what_people_write() -> None:
    assert canonical("docker.io/ai/qwen3:latest") == "ai/qwen3:latest"


@pytest.mark.parametrize("reference", ["", " ", "ai/not a name", "ai//x", "/x", "ai/x:"])
def test_refuses_what_cannot_be_a_name(reference: str) -> None:
    assert not is_valid(reference)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("ai/embeddinggemma", "ai/all-minilm"),
        ("ai/nomic-embed-text-v1.5", "ai/all-minilm"),
        ("ai/mxbai-embed-large", "ai/all-minilm"),
        ("ai/granite-embedding-multilingual", "ai/all-minilm"),
        ("ai/qwen3-embedding:0.6B-F16", "ai/all-minilm"),
        ("hf.co/acme/bge-small-en", "ai/all-minilm"),
        ("ai/qwen3:14B", "ai/smollm2"),
        ("gemma3", "ai/smollm2"),
        ("ai/llama3.2:1B-Q4_0", "ai/smollm2"),
        ("ai/qwen3-reranker", None),
        ("hf.co/ggml-org/qwen3-reranker-0.6b-q8_0-gguf", None),
        ("ai/no-such-model", None),
        ("acme/qwen3", None),
        ("ai/all-minilm", None),
    ],
)
def test_stands_in_for_known_families_but_never_for_rerankers(
    reference: str, expected: str | None
) -> None:
    assert default_alias(reference) == expected
