"""A server that restarts comes back without its configurations: none of its answers counts."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.embedding.embedder import Embedder
from merganser.errors import RequestRejectedError
from merganser.models.ref import ModelRef, ModelUse
from merganser.progress import Progress, Remark, listening
from tests.doubles.model_server import EMBEDDER, vector_of

if TYPE_CHECKING:
    from merganser.models.client import ModelRunner
    from tests.doubles.model_server import Double

CONFIGURE = "/engines/_configure"
MODEL = ModelRef(name="e", provider="dmr", model=EMBEDDER)
USE = ModelUse(model=MODEL, role="embedding", used_by="a test")
TEXTS = [f"text number {n}" for n in range(40)]


async def keep(client: ModelRunner, double: Double) -> Embedder:
    double.add_model(EMBEDDER)
    double.heeds_configuration = True
    served = await client.model(EMBEDDER)
    assert served is not None
    client.keep_configured(USE, served)
    return Embedder(client, MODEL, served, dimensions=None, batch_size=4, concurrency=3)


def expected(embedder: Embedder) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.stack([vector_of(embedder.prompts.document + text, 16) for text in TEXTS])


@pytest.mark.parametrize("seen", [True, False])
async def test_restarts_in_mid_run_leave_no_vector_of_an_unconfigured_engine(
    client: ModelRunner, double: Double, *, seen: bool
):
    embedder = await keep(client, double)
    (double.restarts_at if seen else double.restarts_after).update({2, 5, 9})

    vectors = await embedder.embed_documents(TEXTS)

    np.testing.assert_allclose(vectors, expected(embedder), atol=1e-6)
    assert double.inferences > 9


async def test_a_restart_between_two_calls_is_noticed_without_any_error(
    client: ModelRunner, double: Double
):
    embedder = await keep(client, double)
    heard: list[Progress | Remark] = []
    await embedder.embed_query("first")

    double.configs.clear()
    asyncio.get_running_loop().call_soon(double.restart)
    await asyncio.sleep(0.1)
    with listening(heard.append):
        vectors = await embedder.embed_documents(TEXTS)

    np.testing.assert_allclose(vectors, expected(embedder), atol=1e-6)
    assert any(isinstance(one, Remark) and "had lost the config" in one.text for one in heard)


async def test_connections_that_stay_open_cost_no_further_question(
    client: ModelRunner, double: Double
):
    embedder = await keep(client, double)
    await embedder.embed_query("first")
    asked = len(double.asked(CONFIGURE))

    for _ in range(5):
        await embedder.embed_query("again")

    assert len(double.asked(CONFIGURE)) == asked


async def test_a_configuration_that_cannot_be_set_fails_the_request_and_says_why(
    client: ModelRunner, double: Double
):
    embedder = await keep(client, double)
    double.fail(CONFIGURE, 500, "no such engine\n", times=9)

    with pytest.raises(RequestRejectedError, match="no such engine"):
        await embedder.embed_query("first")

    assert double.inferences == 0
