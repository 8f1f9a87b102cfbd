"""An embedded runner that a test can break: middleware around it, collaborators inside it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from merganser.runner.embedded_runner import EmbeddedRunner
from merganser.runner.engines import (
    Engine,
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    encode_json,
)
from merganser.runner.loading import load_engine
from merganser.runner.model_store import ModelStore
from merganser.runner.weights import WeightStore, default_cache_dir
from tests.doubles.counters import Counters
from tests.doubles.faults import Faults
from tests.doubles.middleware import FaultInjection

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.runner.known_models import CatalogueModel
    from merganser.runner.loading import EngineOrder
    from merganser.runner.weights import Progress, Weights

_STEP_SECONDS = 0.05


class FaultyRunner(EmbeddedRunner):
    """The embedded runner for tests.

    Args:
        port: 0 takes any free one.
        **options: The fields of ``RunnerOptions``.

    Attributes:
        faults: Faults and scripted answers to come.
        counters: What was asked and embedded.
        store: Its models, for a test that brings one.
    """

    def __init__(self, *, port: int = 0, **options: Any) -> None:
        self.faults = Faults()
        self.counters = Counters()
        self.store = options.setdefault("store", ModelStore())
        inject = partial(FaultInjection, faults=self.faults, counters=self.counters)
        cache_dir = options.get("cache_dir") or default_cache_dir()
        options["middleware"] = (*options.get("middleware", ()), inject)
        options["weights"] = _SlowWeights(cache_dir, self.faults, offline=options.get("offline"))
        options["load_engine"] = _FaultyLoader(self.faults, self.counters)
        super().__init__(port=port, **options)


class _SlowWeights(WeightStore):
    """Weights that can take their time, as a large download does."""

    def __init__(self, cache_dir: Path, faults: Faults, *, offline: bool | None) -> None:
        super().__init__(cache_dir, offline=offline)
        self._faults = faults

    def obtain(
        self, model: CatalogueModel, *, on_progress: Progress, token: str | None = None
    ) -> Weights:
        if fault := self._faults.take("pull-slow", route="pull", model=model.reference):
            file = model.files[0]
            end = time.monotonic() + fault.seconds
            while time.monotonic() < end:
                on_progress(file, file.size_bytes // 3)  # raises when the requester has gone
                time.sleep(_STEP_SECONDS)
        return super().obtain(model, on_progress=on_progress, token=token)


class _FaultyLoader:
    """Loads real engines, late or not at all where a fault says so."""

    def __init__(self, faults: Faults, counters: Counters) -> None:
        self._faults = faults
        self._counters = counters

    async def __call__(self, order: EngineOrder) -> Engine:
        if fault := self._faults.take("load-slow", model=order.name):
            await asyncio.sleep(fault.seconds)
        if fault := self._faults.take("load-fail", model=order.name):
            message = fault.message or "llama.cpp failed: failed to load model"
            raise EngineLoadError(f"llama.cpp terminated unexpectedly: {message}")
        return _FaultyEngine(await load_engine(order), self._faults, self._counters)


class _FaultyEngine:
    """Counts the texts that are embedded and can spoil their vectors."""

    def __init__(self, engine: Engine, faults: Faults, counters: Counters) -> None:
        self._engine = engine
        self._faults = faults
        self._counters = counters

    async def answer(self, request: EngineRequest) -> EngineResponse:
        if request.operation != "embeddings":
            return await self._engine.answer(request)
        try:
            answer = await self._engine.answer(request)
        except asyncio.CancelledError:
            self._count(request)  # they are being computed, whether anybody waits or not
            raise
        if answer.status != HTTPStatus.OK:
            return answer
        self._count(request)
        return self._spoil(request, answer)

    async def close(self) -> None:
        await self._engine.close()

    def _count(self, request: EngineRequest) -> None:
        given = request.document.get("input", request.document.get("content", ""))
        items = cast("list[object]", given) if isinstance(given, list) else [given]
        self._counters.embedded([str(item) for item in items])

    def _spoil(self, request: EngineRequest, answer: EngineResponse) -> EngineResponse:
        model = str(request.document["model"])
        fault = self._faults.take("wrong-dimension", "nan", route="embeddings", model=model)
        if fault is None or not isinstance(answer.body, bytes):
            return answer
        document = json.loads(answer.body)
        if fault.kind == "nan":
            first = document["data"][0]
            first["embedding"] = _poison(first["embedding"])
        else:
            for entry in document["data"]:
                entry["embedding"] = _resize(entry["embedding"], fault.dimensions)
        return EngineResponse(encode_json(document))


def _resize(vector: list[float] | str, dimensions: int) -> list[float] | str:
    values = (_decode(vector) * dimensions)[:dimensions]
    return _encode(values) if isinstance(vector, str) else values


def _poison(vector: list[float] | str) -> list[Any] | str:
    """Make the first number NaN; JSON has none, so floats become null as llama.cpp writes it."""
    if isinstance(vector, str):
        return _encode([float("nan"), *_decode(vector)[1:]])
    return [None, *vector[1:]]


def _decode(vector: list[float] | str) -> list[float]:
    if isinstance(vector, list):
        return vector
    raw = base64.b64decode(vector)
    return list(struct.unpack(f"<{len(raw) // 4}f", raw))


def _encode(values: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode("ascii")
