"""Short retries inside one call, for what vanishes by itself within seconds.

What lasts longer is an outage, see ``outage``: so is a server that asks for more patience than
``longest_seconds``, or an attempt that took long before it failed.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from merganser.errors import TransientError
from merganser.models.outage import outlast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

# An attempt that was slow to fail (a timeout while loading) would triple a wait of minutes.
_SLOW_ATTEMPT_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long one call retries by itself.

    Attributes:
        attempts: All attempts together, at least 1; 1 never retries.
        first_seconds: The pause after the first failure; it doubles each time.
        longest_seconds: The longest pause taken here, whoever asks for it.
    """

    attempts: int = 3
    first_seconds: float = 0.25
    longest_seconds: float = 5.0

    def pause_seconds(self, attempt: int, error: TransientError) -> float | None:
        """Return the seconds to pause after attempt 1, 2 and so on failed, or None to give up."""
        if attempt >= self.attempts:
            return None
        if error.retry_after_seconds is not None:
            asked = error.retry_after_seconds
            return asked if asked <= self.longest_seconds else None
        pause = min(self.longest_seconds, self.first_seconds * 2 ** (attempt - 1))
        # Jitter keeps parallel shards from coming back in the same instant.
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


NO_RETRY = RetryPolicy(attempts=1)


async def with_retries(
    operation: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    *,
    on_transient: Callable[[TransientError], None] | None = None,
) -> T:
    """Run an idempotent operation until it succeeds or the policy gives up.

    A policy of more than one attempt goes on to wait for the server, where the run does that.

    Args:
        operation: Called once per attempt.
        policy: How often.
        on_transient: Told of each transient failure, also of the last.

    Raises:
        ServerAwayError: The server was waited for and did not come back.
        TransientError: The last failure, unchanged; any other error at once.
    """
    if policy.attempts <= 1:
        return await _attempt(operation, policy, on_transient)
    return await outlast(lambda: _attempt(operation, policy, on_transient))


async def _attempt(
    operation: Callable[[], Awaitable[T]],
    policy: RetryPolicy,
    on_transient: Callable[[TransientError], None] | None,
) -> T:
    attempt = 0
    while True:
        attempt += 1
        started = monotonic()
        try:
            return await operation()
        except TransientError as error:
            if on_transient is not None:
                on_transient(error)
            slow = monotonic() - started > _SLOW_ATTEMPT_SECONDS
            pause = None if slow else policy.pause_seconds(attempt, error)
            if pause is None:
                raise
            await asyncio.sleep(pause)
