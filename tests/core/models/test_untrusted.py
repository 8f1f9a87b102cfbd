"""What a server must not get away with: degenerate vectors, endless answers, foreign redirects."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from starlette.responses import Response, StreamingResponse

from merganser.embedding.embedder import Embedder
from merganser.errors import ProtocolError, RequestRejectedError, RunnerUnavailableError
from merganser.models.client import ModelRunner
from merganser.models.inference import parse_embeddings
from merganser.models.ref import ModelRef
from merganser.models.retry import NO_RETRY
from merganser.models.wire import ServedModel, Timeouts
from tests.doubles.model_server import EMBEDDER, Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.doubles.model_server import Double

EMBEDDINGS = "/engines/v1/embeddings"
MODEL = ModelRef(name="e", provider="dmr", model=EMBEDDER)


def embedder_of(client: ModelRunner) -> Embedder:
    served = ServedModel(EMBEDDER, EMBEDDER, "sha256:" + "1" * 64)
    return Embedder(client, MODEL, served, dimensions=None)


def answer_of(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        ([0.0, 0.0], "without length"),
        ([1e-30, 0.0], "without length"),
        ([1e38, 3e38], "length overflows"),
        ([1e39, 0.0], "overflows 32 bits"),
        ([[1.0, 0.0], [0.0, 1.0]], "one a token"),
        ([[1.0, 0.0]], "one a token"),
    ],
)
async def test_a_degenerate_vector_is_refused_by_name(
    client: ModelRunner, double: Double, vector: list[Any], said: str
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 200, answer_of(vector), times=2)

    with pytest.raises(ProtocolError, match=said):
        await embedder_of(client).embed_query("a")


def test_numbers_written_as_text_are_numbers():
    batch = parse_embeddings(answer_of(["0.5", "1"]), expected=1)

    np.testing.assert_allclose(batch.vectors, [[0.5, 1.0]])


async def test_an_error_in_an_answer_of_200_is_tried_again(client: ModelRunner, double: Double):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 200, {"error": {"message": "upstream overloaded"}})

    batch = await client.embed(EMBEDDER, ["a"])

    assert batch.vectors.shape == (1, 16)


async def test_an_error_in_an_answer_of_200_is_shown_when_it_stays(
    client: ModelRunner, double: Double
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 200, {"error": {"message": "upstream overloaded"}}, times=9)

    with pytest.raises(RunnerUnavailableError, match=r"upstream overloaded \(an error in"):
        await client.embed(EMBEDDER, ["a"])


async def test_a_refusal_in_an_answer_of_200_is_not_tried_again(
    client: ModelRunner, double: Double
):
    double.add_model(EMBEDDER)
    refusal = {"error": {"message": "no such option", "type": "invalid_request_error"}}
    double.fail(EMBEDDINGS, 200, refusal)

    with pytest.raises(RequestRejectedError, match="no such option"):
        await client.embed(EMBEDDER, ["a"])


@pytest.mark.parametrize("target", ["/engines/llama.cpp/../v1/embeddings", EMBEDDINGS])
async def test_a_redirect_on_the_same_host_is_followed_with_the_body(
    client: ModelRunner, double: Double, target: str
):
    double.add_model(EMBEDDER)
    double.fail(EMBEDDINGS, 307, "", headers={"Location": target})

    batch = await client.embed(EMBEDDER, ["a"])

    assert batch.vectors.shape == (1, 16)
    assert [one.body["input"] for one in double.asked(EMBEDDINGS)] == [["a"], ["a"]]


@pytest.mark.parametrize("target", ["http://127.0.0.2/x", "//example.com/x", "https://127.0.0.1/x"])
async def test_a_redirect_to_another_host_is_not_followed(
    client: ModelRunner, double: Double, target: str
):
    double.fail(EMBEDDINGS, 308, "", headers={"Location": target})

    with pytest.raises(ProtocolError, match="set base_url"):
        await client.embed(EMBEDDER, ["a"])


async def test_redirects_in_a_circle_end(client: ModelRunner, double: Double):
    double.fail(EMBEDDINGS, 307, "", headers={"Location": EMBEDDINGS}, times=20)

    with pytest.raises(ProtocolError, match="more than 5 redirects"):
        await client.embed(EMBEDDER, ["a"])


async def test_an_answer_that_unpacks_to_too_much_is_not_read(client: ModelRunner, double: Double):
    packed = gzip.compress(b" " * (80 << 20))
    response = Response(packed, headers={"Content-Encoding": "gzip"})
    double.faults.append(Fault(EMBEDDINGS, response))

    with pytest.raises(ProtocolError, match="larger than"):
        await client.embed(EMBEDDER, ["a"])


async def test_what_is_packed_twice_is_not_unpacked(client: ModelRunner, double: Double):
    response = Response(b"x", headers={"Content-Encoding": "gzip, gzip"})
    double.faults.append(Fault(EMBEDDINGS, response))

    with pytest.raises(ProtocolError, match="compressed as"):
        await client.embed(EMBEDDER, ["a"])


async def test_an_answer_that_drips_is_given_up(double: Double):
    import asyncio

    async def drip() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.1)

    double.faults.append(Fault(EMBEDDINGS, StreamingResponse(drip())))
    patience = Timeouts(load=0.5, body=0.3)

    async with ModelRunner(double.url, timeouts=patience, retry=NO_RETRY, env={}) as client:
        with pytest.raises(RunnerUnavailableError, match="did not end its answer within"):
            await client.embed(EMBEDDER, ["a"])
