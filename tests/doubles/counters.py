"""What the runner has done, for tests and benchmarks that must not trust the client's own count."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


@dataclass(frozen=True, slots=True)
class CounterValues:
    """Totals since the start or the last reset.

    Attributes:
        requests: All requests, refused ones too.
        requests_by_route: The same by route label, for example ``embeddings`` or ``models``.
        texts_embedded: Inputs whose vectors were computed.
        distinct_texts: How many of these were different texts.
        prompt_characters: Characters in them.
        in_flight: Requests being answered now.
        max_in_flight: Most at one time.
        in_flight_seconds: Integral of requests in flight over time: divided by the wall time, the
            mean concurrency a client kept up.
        elapsed_seconds: Since the start or the last reset.
    """

    requests: int
    requests_by_route: dict[str, int]
    texts_embedded: int
    distinct_texts: int
    prompt_characters: int
    in_flight: int
    max_in_flight: int
    in_flight_seconds: float
    elapsed_seconds: float


class Counters:
    """Counts requests and embedded texts; safe to read from other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_flight = 0
        self._clear()

    @property
    def requests(self) -> int:
        """All requests so far."""
        return self.values().requests

    @property
    def texts_embedded(self) -> int:
        """Inputs whose vectors were computed so far."""
        return self.values().texts_embedded

    @property
    def distinct_texts(self) -> int:
        """Different texts among these."""
        return self.values().distinct_texts

    def route(self, label: str) -> int:
        """Return the requests of one route."""
        return self.values().requests_by_route.get(label, 0)

    def values(self) -> CounterValues:
        """Return all totals at one moment."""
        with self._lock:
            self._advance()
            return CounterValues(
                requests=sum(self._routes.values()),
                requests_by_route=dict(self._routes),
                texts_embedded=self._texts,
                distinct_texts=len(self._distinct),
                prompt_characters=self._characters,
                in_flight=self._in_flight,
                max_in_flight=self._max_in_flight,
                in_flight_seconds=self._integral,
                elapsed_seconds=time.monotonic() - self._started,
            )

    def to_json(self) -> dict[str, Any]:
        """Return all totals as JSON values."""
        return asdict(self.values())

    def reset(self) -> None:
        """Begin again at zero; requests in flight stay in flight."""
        with self._lock:
            self._clear()

    @contextmanager
    def request(self, label: str) -> Generator[None]:
        """Count one request for as long as it takes."""
        with self._lock:
            self._advance()
            self._routes[label] += 1
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._advance()
                self._in_flight -= 1

    def embedded(self, texts: Sequence[str]) -> None:
        """Count texts whose vectors were computed."""
        digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        with self._lock:
            self._texts += len(texts)
            self._characters += sum(map(len, texts))
            self._distinct.update(digests)

    def _advance(self) -> None:
        now = time.monotonic()
        self._integral += self._in_flight * (now - self._moment)
        self._moment = now

    def _clear(self) -> None:
        self._started = self._moment = time.monotonic()
        self._routes = Counter[str]()
        self._texts = 0
        self._characters = 0
        self._distinct = set[bytes]()
        self._max_in_flight = self._in_flight
        self._integral = 0.0
