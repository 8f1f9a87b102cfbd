"""Everything one runner knows, as its routes share it."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from merganser.runner.model_store import ModelStore
    from merganser.runner.pulls import Puller
    from merganser.runner.scheduler import Scheduler

RECORDS_PER_MODEL = 10
"""Requests remembered a model, as upstream remembers them."""


@dataclass(slots=True)
class RequestLog:
    """The last requests of each model with their answers (``GET /engines/requests``)."""

    _records: dict[str, deque[dict[str, Any]]] = field(
        default_factory=dict[str, deque[dict[str, Any]]]
    )
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _listeners: set[asyncio.Queue[dict[str, Any]]] = field(
        default_factory=set[asyncio.Queue[dict[str, Any]]]
    )

    def add(self, model: str, record: Mapping[str, Any]) -> None:
        """Remember one request and tell those who follow."""
        entry = {"id": f"{model}_{next(self._numbers)}", "model": model, **record}
        self._records.setdefault(model, deque(maxlen=RECORDS_PER_MODEL)).append(entry)
        for listener in self._listeners:
            listener.put_nowait(entry)

    def listing(self, model: str = "") -> list[dict[str, Any]]:
        """Give the records by model, of one model or all."""
        return [
            {"count": len(records), "model": name, "config": {}, "records": list(records)}
            for name, records in self._records.items()
            if model in {"", name}
        ]

    def follow(self) -> asyncio.Queue[dict[str, Any]]:
        """Give a queue of the requests to come; hand it back to ``unfollow``."""
        listener = asyncio.Queue[dict[str, Any]]()
        self._listeners.add(listener)
        return listener

    def unfollow(self, listener: asyncio.Queue[dict[str, Any]]) -> None:
        """Stop following."""
        self._listeners.discard(listener)


@dataclass(frozen=True, slots=True)
class RunnerState:
    """The parts of one runner.

    Attributes:
        version: What ``/version`` says.
        store: Models that are here.
        puller: Makes more of them available.
        scheduler: Loaded engines.
        requests: The last requests.
        scratch: A folder for models that are loaded from a tar stream.
        log: The last lines of the log.
    """

    version: str
    store: ModelStore
    puller: Puller
    scheduler: Scheduler
    requests: RequestLog
    scratch: Path
    log: deque[str]
