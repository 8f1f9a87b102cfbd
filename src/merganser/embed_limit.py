"""How many requests may be in flight at a model server.

On a CPU more than one or two change throughput by less than a tenth, and some engines drop
connections at four; on a GPU more are better. So the limit starts low and is found by additive
increase and multiplicative decrease, as TCP finds a window: a round without trouble adds one, a
refused or lost request halves.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_FIRST_LIMIT = 2


class InFlightLimiter:
    """Let as many requests through at once as the server has shown that it takes.

    Args:
        most: Never more than this, at least 1.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = min(_FIRST_LIMIT, most)
        self._in_flight = 0
        self._successes = 0
        self._changed = asyncio.Condition()

    @property
    def limit(self) -> int:
        """The present limit."""
        return self._limit

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None, None]:
        """Hold one of the places; leaving without an error counts as a success."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._in_flight < self._limit)
            self._in_flight += 1
        try:
            yield
            self._succeeded()
        finally:
            async with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def overloaded(self) -> None:
        """Take note that the server refused or lost a request."""
        self._limit = max(1, self._limit // 2)
        self._successes = 0

    def _succeeded(self) -> None:
        self._successes += 1
        if self._successes >= self._limit and self._limit < self._most:
            self._limit += 1
            self._successes = 0
