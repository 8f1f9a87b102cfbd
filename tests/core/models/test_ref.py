from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merganser.models.ref import canonical, is_hugging_face, names_same_model, pull_command

HEX64 = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        # The table of the server's own normalisation.
        ("gemma3", "ai/gemma3:latest"),
        ("gemma3:v1", "ai/gemma3:v1"),
        ("myorg/model", "myorg/model:latest"),
        ("ai/gemma3:latest", "ai/gemma3:latest"),
        ("MyModel", "ai/mymodel:latest"),
        ("MyOrg/Model:Q4_K_M", "myorg/model:Q4_K_M"),
        ("hf.co/Org/M:Q4_K_M", "huggingface.co/org/m:Q4_K_M"),
        ("huggingface.co/Org/M", "huggingface.co/org/m:latest"),
        ("registry.example.com/model", "registry.example.com/model:latest"),
        ("registry.example.com/org/model:v2", "registry.example.com/org/model:v2"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("localhost:5000/x:v1", "localhost:5000/x:v1"),
        ("abc123", "ai/abc123:latest"),
        ("gemma3:", "ai/gemma3:latest"),
        ("  gemma3 ", "ai/gemma3:latest"),
        ("", ""),
        # Ids stay; upper-case hex is a name.
        (HEX64[:12], HEX64[:12]),
        (HEX64, HEX64),
        (f"sha256:{HEX64}", f"sha256:{HEX64}"),
        (HEX64[:12].upper(), f"ai/{HEX64[:12]}:latest"),
        # What the server returns.
        ("docker.io/ai/qwen3:latest", "ai/qwen3:latest"),
        ("index.docker.io/ai/qwen3", "ai/qwen3:latest"),
        ("docker.io/qwen3", "ai/qwen3:latest"),
    ],
)
def test_a_reference_has_one_spelling(ref: str, expected: str):
    assert expected == canonical(ref)


@given(st.text(alphabet="abcXYZ019./:-_", max_size=40))
def test_the_canonical_spelling_of_a_canonical_name_is_itself(ref: str):
    once = canonical(ref)

    assert once == canonical(once) or "//" in ref or ref.startswith("/")


@pytest.mark.parametrize("ref", ["qwen3", "ai/qwen3", "docker.io/ai/qwen3:latest", HEX64[:12]])
def test_every_spelling_of_a_model_means_it(ref: str):
    tags = ["docker.io/ai/qwen3:latest"]

    assert names_same_model(ref, model_id=f"sha256:{HEX64}", tags=tags)


@pytest.mark.parametrize("ref", ["qwen3:4B", "other/qwen3", "sha256:" + "f" * 64])
def test_another_tag_organisation_or_digest_means_another_model(ref: str):
    tags = ["docker.io/ai/qwen3:latest"]

    assert not names_same_model(ref, model_id=f"sha256:{HEX64}", tags=tags)


def test_the_pull_command_leaves_the_default_tag_out():
    assert pull_command("embeddinggemma") == "docker model pull ai/embeddinggemma"


def test_hugging_face_is_known_by_both_of_its_names():
    assert is_hugging_face("hf.co/a/b")
    assert is_hugging_face("huggingface.co/a/b:Q8_0")
    assert not is_hugging_face("ai/qwen3")
