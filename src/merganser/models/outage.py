"""Wait for a model server that is away: aloud, with growing pauses, and not for ever.

A server that restarts, sleeps or is updated answers nothing, or 429, 502, 503 and 504, or breaks
off. That is no fault of what was asked, so it is asked again, until the server is back or the time
is over::

    with waiting_for_server(600.0):      # around a run; outside of it nothing is waited for
        answer = await outlast(ask)      # ``ask`` may be called again; other errors go through

``with_retries`` does so by itself after its short retries, so every call of a client with a policy
of more than one attempt waits. An ``outlast`` around such calls waits no second time: what the wait
ends with is a ``ServerAwayError``, which is of the server and ends the run, not the one question or
file that met it.

Many requests are under way when a server goes. One of them asks again at a time, one says what is
waited for, and all go on when any is answered. Leaving the block ends every wait at once, in
whichever thread it is; so does cancelling the task that waits.
"""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import TYPE_CHECKING, TypeGuard, TypeVar

from merganser.errors import ModelRunnerError, ServerAwayError, TransientError
from merganser.humanize import show_age
from merganser.progress import remark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

T = TypeVar("T")

DEFAULT_WAIT_SECONDS = 600.0
"""A desktop that restarts or updates its Docker is back within minutes."""

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 15.0
_TELL_SECONDS = 60.0
# Waits are looked at from several event loops, which no event of asyncio reaches.
_LOOK_SECONDS = 0.1
# A request that fails again and again while others are answered may be what the engine dies of.
_TRIES_AT_ONCE = 2
_SERVER = re.compile(r"unix://.*?\.sock|[a-z]+://[^/]+")


@dataclass(slots=True, eq=False)
class _Outage:
    """One server that is away.

    Attributes:
        began: When it was noticed, of ``time.monotonic``.
        next_try: When one of those who wait asks again.
        pause_seconds: Before the try after that.
        told: When it was last said that this is waited for.
    """

    began: float
    next_try: float
    pause_seconds: float
    told: float


class _Patience:
    """How long one run waits, and for what it waits now; of all its threads."""

    def __init__(self, seconds: float, tell: Callable[[str], None]) -> None:
        self.seconds = seconds
        self._tell = tell
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}
        self.is_over = False

    async def wait(self, error: ModelRunnerError, since: float, tries: int) -> None:
        """Return when the request that failed may be sent again.

        Args:
            error: What it failed with.
            since: When it failed first, of ``time.monotonic``.
            tries: How often it has failed.

        Raises:
            ServerAwayError: The time is over, or the run.
        """
        server = server_of(error)
        outage = self._notice(server, error)
        growing = _FIRST_PAUSE_SECONDS * 2.0 ** (tries - _TRIES_AT_ONCE)
        own = 0.0 if tries <= _TRIES_AT_ONCE else min(growing, _LONGEST_PAUSE_SECONDS)
        earliest = monotonic() + own
        # A request that the server dies of begins a new outage each time others are answered.
        began = min(outage.began, since)
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = monotonic()
            if self.is_over or now >= began + self.seconds:
                seconds = now - began
                raise ServerAwayError(
                    f"{server} could not serve for {show_age(seconds)}: {error}\n"
                    "What is finished is kept: the same command goes on from there. "
                    "--wait-for-server 1h, or wait_for_server of the flow, waits longer.",
                    status=error.status,
                    url=error.url,
                    seconds=seconds,
                )
            if now >= earliest and self._may_try(server, outage, now):
                return
            self._tell_again(server, outage, now)

    def answered(self, server: str) -> None:
        """Take note that a server that was away answers."""
        with self._lock:
            outage = self._outages.pop(server, None)
        if outage is not None:
            self._tell(f"{server} is back after {show_age(monotonic() - outage.began)}; going on")

    def _notice(self, server: str, error: ModelRunnerError) -> _Outage:
        now = monotonic()
        with self._lock:
            outage = self._outages.get(server)
            is_new = outage is None
            if outage is None:
                outage = _Outage(now, now + _FIRST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS, now)
                self._outages[server] = outage
            asked = getattr(error, "retry_after_seconds", None)
            if asked is not None:
                outage.next_try = max(outage.next_try, now + min(asked, self.seconds))
        if is_new:
            since = datetime.now().astimezone()
            until = since + timedelta(seconds=self.seconds)
            self._tell(
                f"{server} cannot serve since {since:%H:%M:%S}; waiting for it until "
                f"{until:%H:%M:%S} (Ctrl-C ends it, what is finished is kept): {error}"
            )
        return outage

    def _may_try(self, server: str, outage: _Outage, now: float) -> bool:
        """Return whether it is the caller who asks now; everyone may once the server answers."""
        with self._lock:
            if self._outages.get(server) is not outage:
                return True
            if now < outage.next_try:
                return False
            outage.pause_seconds = min(2 * outage.pause_seconds, _LONGEST_PAUSE_SECONDS)
            outage.next_try = now + outage.pause_seconds
            return True

    def _tell_again(self, server: str, outage: _Outage, now: float) -> None:
        with self._lock:
            if now - outage.told < _TELL_SECONDS:
                return
            outage.told = now
        until = datetime.now().astimezone() + timedelta(seconds=outage.began + self.seconds - now)
        away = show_age(now - outage.began)
        self._tell(f"still waiting for {server}, away for {away}, until {until:%H:%M:%S}")


_patience: ContextVar[_Patience | None] = ContextVar("_patience", default=None)


@contextmanager
def waiting_for_server(
    seconds: float = DEFAULT_WAIT_SECONDS, *, tell: Callable[[str], None] = remark
) -> Generator[None]:
    """Have the calls to model servers of the block, and of the threads it starts, wait for them.

    Args:
        seconds: How long at most; 0 for not at all.
        tell: Told a sentence when a wait begins, every minute of it, and when it is over.
    """
    patience = _Patience(seconds, tell)
    token = _patience.set(patience if seconds > 0 else None)
    try:
        yield
    finally:
        patience.is_over = True
        _patience.reset(token)


def wait_seconds() -> float:
    """Return how long a server that is away is waited for here; 0 for not at all."""
    patience = _patience.get()
    return patience.seconds if patience is not None else 0.0


async def outlast(operation: Callable[[], Awaitable[T]]) -> T:
    """Run an operation, and again after each outage of the server that it needs.

    Args:
        operation: Called once a try; what it has done when it fails may be done again.

    Raises:
        ServerAwayError: The server stayed away for as long as ``waiting_for_server`` says.
        TransientError: The same failure, where nothing is waited for.
    """
    patience = _patience.get()
    if patience is None:
        return await operation()
    since, tries, server = 0.0, 0, ""
    while True:
        try:
            answer = await operation()
        except Exception as error:
            if not is_away(error):
                if server:
                    patience.answered(server)
                raise
            tries += 1
            since, server = since or monotonic(), server_of(error)
            await patience.wait(error, since, tries)
        else:
            if server:
                patience.answered(server)
            return answer


def is_away(error: BaseException) -> TypeGuard[ModelRunnerError]:
    """Return whether an error says that a server cannot serve now, and not what it answers."""
    return isinstance(error, ModelRunnerError) and isinstance(error, TransientError)


def server_of(error: ModelRunnerError) -> str:
    """Return the address of the server that an error is of, without the path that was asked."""
    found = _SERVER.match(error.url)
    return found[0] if found else error.url or "the model server"
