"""The client against real engines and real weights, through the whole contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.doctor.servers import diagnose
from merganser.embedding.embedder import Embedder
from merganser.errors import InputTooLongError, ModelNotFoundError
from merganser.models.address import resolve_address
from merganser.models.client import ModelRunner
from merganser.models.configure import configure_request
from merganser.models.probes import probe_embedding
from merganser.models.ref import ModelRef, ModelUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from merganser.models.ref import Role
    from tests.doubles import FaultyRunner

EMBEDDER = "ai/all-minilm"
CHAT = "ai/smollm2"


def use_of(model: str, role: Role) -> ModelUse:
    ref = ModelRef(name=model, provider="dmr", model=model)
    return ModelUse(model=ref, role=role, used_by="test")


@pytest.fixture
async def real(runner: FaultyRunner) -> AsyncIterator[ModelRunner]:
    address = await resolve_address(base_url=runner.url)
    async with ModelRunner(address) as client:
        yield client


async def prepared_embedder(client: ModelRunner, model: str = EMBEDDER) -> Embedder:
    use = use_of(model, "embedding")
    served = await client.model(model) or await client.pull(model)
    request = configure_request(use, served)
    assert request is not None
    await client.configure(model, request)
    await client.preload(model, "embedding")
    return Embedder(client, use.model, served, dimensions=None)


async def test_related_texts_are_closer_than_unrelated_ones(real: ModelRunner):
    embedder = await prepared_embedder(real)
    texts = [
        "Retry the task with exponential backoff.",
        "The cat sleeps on the sofa.",
        "x " * 400,
    ]

    documents = await embedder.embed_documents(texts)
    query = await embedder.embed_query("How are failed tasks repeated?")

    scores = documents @ query
    assert int(np.argmax(scores)) == 0
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1.0, atol=1e-4)


async def test_a_text_longer_than_the_model_takes_is_embedded_in_pieces(real: ModelRunner):
    embedder = await prepared_embedder(real)
    subject = "The scheduler retries failed tasks after a pause that doubles each time. "

    long, same, other = await embedder.embed_documents(
        [subject * 100, subject, "A cat sleeps on the sofa."]
    )

    assert embedder.split_texts >= 1
    assert float(long @ same) > float(long @ other) + 0.3
    with pytest.raises(InputTooLongError) as caught:
        await real.embed(EMBEDDER, [subject * 100])
    assert caught.value.tokens is not None
    assert caught.value.limit is not None


async def test_batching_hardly_changes_a_vector(real: ModelRunner):
    embedder = await prepared_embedder(real)
    texts = [f"def function_{n}(x): return x + {n}" + " # more" * n for n in range(30)]

    together = await embedder.embed_documents(texts)
    alone = np.stack([(await embedder.embed_documents([text]))[0] for text in texts])

    # Not 1: the int8 weights scale activations over all texts of an engine batch (0.991 seen).
    assert float(np.min(np.sum(together * alone, axis=1))) > 0.98


async def test_an_alias_is_pulled_told_and_fingerprinted_by_what_answers(real: ModelRunner):
    alias = await prepared_embedder(real, "ai/embeddinggemma")

    assert alias.served.alias_of is not None
    assert "alias" in alias.served.note
    # The prefixes of EmbeddingGemma would be wrong for the model that answers.
    assert (alias.prompts.query, alias.prompts.document) == ("", "")


async def test_the_probe_of_the_packaged_embedder_tells_its_dimensions(real: ModelRunner):
    probe = await probe_embedding(real, EMBEDDER)

    assert probe.dimensions == 384
    assert probe.norm == pytest.approx(1.0, abs=1e-3)


async def test_a_chat_counts_its_tokens(real: ModelRunner):
    answer = await real.chat(CHAT, "Say hello.", max_tokens=8)
    again = await real.chat(CHAT, "Say hello.", max_tokens=8)

    assert answer.text == again.text
    assert answer.text
    assert answer.usage.output_tokens > 0
    assert answer.finish_reason in {"stop", "length"}


async def test_the_packaged_chat_model_does_not_pass_for_a_tool_caller(real: ModelRunner):
    assert await real.calls_tools(CHAT) is False


async def test_a_model_that_is_not_local_is_told(real: ModelRunner):
    with pytest.raises(ModelNotFoundError, match="docker model pull ai/no-such-model"):
        await real.embed("ai/no-such-model", ["a"])


async def test_the_doctor_finds_the_runner_healthy(runner: FaultyRunner):
    uses = [use_of(EMBEDDER, "embedding"), use_of(CHAT, "chat")]

    diagnosis = await diagnose(uses, base_url=runner.url)

    assert [check for check in diagnosis.checks if check.level == "problem"] == []
