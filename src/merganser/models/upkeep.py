"""Keep a model's configuration standing at a server that forgets it.

Configurations are in the server's memory only. A server that restarts answers all the same, with
an engine of its own settings: vectors of another pooling, a context that is too short. One TCP
connection ends at one process of the server, so what stood when a connection was opened stands for
all that goes over it. Hence the configuration is asked for, and set again where it is gone, after
every failure, and before the first request that goes over a new connection.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from merganser.models.configure import mode_of, set_up
from merganser.models.ref import canonical
from merganser.models.transport import OPENED
from merganser.progress import remark

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from merganser.models.connection import Connection
    from merganser.models.ref import ModelUse
    from merganser.models.wire import ServedModel

    Trace = Callable[[str, Any], Awaitable[None]]

_log = logging.getLogger(__name__)

_SENDING = "send_request_headers.started"
_MOST_ROUNDS = 3  # a server older than v1.0.10 never says what stands


class _Timer(Protocol):
    def reschedule(self, when: float | None) -> None: ...


class Upkeep:
    """The configuration of one model in one mode.

    Args:
        connection: To a server that manages models.
        use: The model and what it is for; no draft.
        served: What the server has under that name; it is local.

    Attributes:
        use: The model as it is configured: without flags that the server refused.
    """

    def __init__(self, connection: Connection, use: ModelUse, served: ServedModel) -> None:
        self._connection = connection
        self._served = served
        self.use = use
        self._lock = asyncio.Lock()
        self._seen_standing = float("-inf")  # when it was last asked for, and stood or was set
        self._doubts: int | None = None  # those of the connection at that moment

    async def ensure(self) -> None:
        """Ask for the configuration and set it again, unless nothing has happened since it stood.

        Raises:
            ModelRunnerError: The server cannot be asked, the model stays busy, or it refuses.
        """
        if self._doubts != self._connection.doubts:
            await self._ensure_since(monotonic())

    def doubt(self) -> None:
        """Have the configuration asked for before the next request: one has failed."""
        self._connection.doubts += 1

    def watch(self, timer: _Timer | None = None, seconds: float | None = None) -> Trace:
        """Return a callback for the ``trace`` of httpx, for one request.

        Args:
            timer: Limits the request; it stands still while the configuration is set.
            seconds: What the timer is set to after that.
        """
        opened: float | None = None

        async def trace(event: str, _info: Any) -> None:
            nonlocal opened
            if event.endswith(OPENED):
                opened = monotonic()
            elif opened is not None and event.endswith(_SENDING):
                since, opened = opened, None
                if timer is not None:
                    timer.reschedule(None)
                await self._ensure_since(since)
                if timer is not None and seconds is not None:
                    timer.reschedule(asyncio.get_running_loop().time() + seconds)

        return trace

    async def _ensure_since(self, moment: float) -> None:
        """Ask for the configuration unless it was asked for after a moment."""
        async with self._lock:
            if self._seen_standing > moment and self._doubts == self._connection.doubts:
                return
            # What was set is asked for once more: the server may have died while it loaded.
            for _ in range(_MOST_ROUNDS):
                began, doubts = monotonic(), self._connection.doubts
                done = await set_up(
                    self._connection,
                    self.use,
                    self._served,
                    always_load=False,
                    on_set=self._tell_of_loss if self._doubts is not None else lambda: None,
                )
                self.use = done.use
                for text in done.left_out:
                    _tell(text)
                self._seen_standing, self._doubts = began, doubts
                if not done.is_new:
                    return

    def _tell_of_loss(self) -> None:
        where, model = self._connection.address.shown, canonical(self.use.model.model)
        _tell(
            f"{where} had lost the configuration of {model!r} for {mode_of(self.use)}; "
            "it is set again"
        )


def _tell(text: str) -> None:
    _log.warning(text)
    remark(text)
