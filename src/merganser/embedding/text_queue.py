"""The texts that wait for a model: batches of like length, across the calls that brought them.

Calls are served in their order, so that the first shard of a run is done, and stored, while the
next ones are embedded; the last batch of a call is filled up from the next. Within a call a batch
is a run of the texts sorted by length, from a random place: padding stays small, and no stretch of
time has only long or only short texts, which would look like a slower or a faster server.
"""

from __future__ import annotations

import asyncio
import random
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from numpy.typing import NDArray

    from merganser.embedding.pace import Pace

    OnVectors = Callable[[Sequence[int], NDArray[np.float32]], None]


@dataclass(slots=True, eq=False)
class _Call:
    """The texts of one caller and their vectors as they come."""

    texts: Sequence[str]
    on_vectors: OnVectors | None
    done: asyncio.Future[None]
    waiting: list[int]  # by length
    context: Context = field(default_factory=copy_context)
    rows: dict[int, NDArray[np.float32]] = field(default_factory=dict[int, "NDArray[np.float32]"])

    def receive(self, positions: Sequence[int], vectors: NDArray[np.float32]) -> None:
        self.rows.update(zip(positions, vectors, strict=True))
        if self.done.done():
            return
        if self.on_vectors is not None:
            self.on_vectors(positions, vectors)
        if len(self.rows) == len(self.texts):
            self.done.set_result(None)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


_Batch = list[tuple[_Call, int]]


class EmbedQueue:
    """Sends waiting texts as the pace wants it.

    Args:
        pace: How large and how many requests are.
        embed: Embeds the texts of one request; rows in their order.
        goes_alone: Tells of a text whether it must not share a request.
    """

    def __init__(
        self,
        pace: Pace,
        embed: Callable[[list[str]], Awaitable[NDArray[np.float32]]],
        goes_alone: Callable[[str], bool],
    ) -> None:
        self._pace = pace
        self._embed = embed
        self._goes_alone = goes_alone
        self._calls: list[_Call] = []
        self._waiting_characters = 0
        self._running: dict[asyncio.Task[None], _Batch] = {}
        self._random = random.Random(0)  # noqa: S311 - spreads lengths, guards nothing

    @property
    def has_plenty(self) -> bool:
        """Whether enough waits for the pace to be what limits."""
        texts = sum(len(call.waiting) for call in self._calls)
        return (
            self._share >= self._pace.characters
            or texts >= self._pace.most_texts * self._pace.setting.requests
        )

    @property
    def _share(self) -> int:
        """Characters of a request with which all end together, if nothing more comes.

        What is in flight is half done on average.
        """
        sent = sum(len(call.texts[i]) for batch in self._running.values() for call, i in batch)
        return (self._waiting_characters + sent // 2) // self._pace.setting.requests

    async def embed(
        self, texts: Sequence[str], on_vectors: OnVectors | None
    ) -> NDArray[np.float32]:
        """Embed texts, at least one; the first error ends the call.

        Args:
            texts: What to embed.
            on_vectors: Given the vectors of each request as it is answered, with their positions
                among the texts.

        Returns:
            (len(texts), dim) float32, in the order of the texts.
        """
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        call = _Call(texts, on_vectors, asyncio.get_running_loop().create_future(), order)
        self._calls.append(call)
        self._waiting_characters += sum(map(len, texts))
        self._fill()
        try:
            await call.done
        finally:
            self._give_up(call)
        return np.stack([call.rows[i] for i in range(len(texts))])

    def _give_up(self, call: _Call) -> None:
        """Drop what still waits of a call, and requests whose callers have all gone."""
        if call in self._calls:
            self._calls.remove(call)
            self._waiting_characters -= sum(len(call.texts[i]) for i in call.waiting)
            call.waiting.clear()
        for task, batch in self._running.items():
            if all(owner.done.done() for owner, _ in batch):
                task.cancel()

    def _fill(self) -> None:
        while self._calls and len(self._running) < self._pace.setting.requests:
            batch = self._take_batch()
            # What happens in a request belongs to the call whose texts are its first.
            context = batch[0][0].context.copy()
            task = asyncio.get_running_loop().create_task(self._run(batch), context=context)
            self._running[task] = batch
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._fill()

    async def _run(self, batch: _Batch) -> None:
        try:
            vectors = await self._embed([call.texts[i] for call, i in batch])
        except asyncio.CancelledError:
            for call, _ in batch:
                call.done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - handed to those who wait for it
            for call, _ in batch:
                call.fail(error)
            return
        for call in dict.fromkeys(call for call, _ in batch):
            rows = [row for row, (owner, _) in enumerate(batch) if owner is call]
            call.receive([batch[row][1] for row in rows], vectors[rows])

    def _take_batch(self) -> _Batch:
        # Near the end each request takes its share of what is left, so that all end together;
        # what is answered at once anyway is not worth more than one request.
        least = max(self._pace.quick_characters, self._pace.characters // 8)
        room = min(self._pace.characters, max(self._share, least))
        batch: _Batch = []
        while self._calls and room > 0 and len(batch) < self._pace.most_texts:
            call = self._calls[0]
            room = self._take(call, batch, room)
            if not call.waiting:
                self._calls.remove(call)
        return batch

    def _take(self, call: _Call, batch: _Batch, room: int) -> int:
        """Move texts of a call into a batch; return the characters left, 0 when it is full."""
        waiting = call.waiting
        low = high = self._random.randrange(len(waiting))  # waiting[low:high] is taken
        while len(batch) + high - low < self._pace.most_texts and high - low < len(waiting):
            is_up = high < len(waiting)
            text = call.texts[waiting[high if is_up else low - 1]]
            length = len(text)
            goes_alone = self._goes_alone(text)
            if (batch or high > low) and (length > room or goes_alone):
                room = 0
                break
            low, high = (low, high + 1) if is_up else (low - 1, high)
            room = 0 if goes_alone else room - length
        taken, waiting[low:high] = waiting[low:high], []
        self._waiting_characters -= sum(len(call.texts[i]) for i in taken)
        batch += ((call, i) for i in taken)
        return room
