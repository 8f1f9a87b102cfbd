from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

from merganser.embedding.embedder import Embedder
from merganser.embedding.service import EmbedService
from merganser.errors import ProtocolError
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelRef
from merganser.models.wire import ServedModel
from merganser.progress import Progress, Remark, listening
from merganser.progress import report as report_progress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

    from tests.doubles.model_server import Double

MODEL = "ai/all-minilm"


@pytest.fixture
def service(double: Double) -> Iterator[EmbedService]:
    double.add_model(MODEL)

    @asynccontextmanager
    async def open_embedder() -> AsyncGenerator[Embedder]:
        async with ModelRunner(double.url, env={}) as runner:
            model = ModelRef(name=MODEL, provider="dmr", model=MODEL)
            served = ServedModel(MODEL, MODEL, "sha256:1")
            yield Embedder(runner, model, served, dimensions=None)

    started = EmbedService(open_embedder)
    yield started
    started.close()


def test_threads_share_it_and_get_their_own_vectors(service: EmbedService):
    texts = [[f"{name} {n}" for n in range(50)] for name in "abc"]

    def embed(own: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return asyncio.run(service.embed_documents(own))

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(embed, texts))

    for own, vectors in zip(texts, together, strict=True):
        np.testing.assert_allclose(vectors, embed(own), atol=1e-6)


def test_progress_reaches_the_listener_of_the_thread_that_asked(service: EmbedService):
    told: list[Progress | Remark] = []

    def tell(positions: Sequence[int], _vectors: object) -> None:
        report_progress("embed", len(positions), unit="texts")

    with listening(told.append):
        asyncio.run(service.embed_documents(["one", "two", "three"], on_vectors=tell))

    assert sum(one.done for one in told if isinstance(one, Progress)) == 3


def test_closing_gives_up_what_is_under_way_at_once(service: EmbedService, double: Double):
    double.delay = 30

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: asyncio.run(service.embed_documents(["text"])))
        while not double.in_flight:
            threading.Event().wait(0.01)
        service.close()

        with pytest.raises((CancelledError, asyncio.CancelledError)):
            waiting.result(timeout=10)


def test_what_cannot_be_opened_is_raised_as_it_is():
    @asynccontextmanager
    async def open_embedder() -> AsyncGenerator[Embedder]:
        raise ProtocolError("no")
        yield

    with pytest.raises(ProtocolError, match="no"):
        EmbedService(open_embedder)
