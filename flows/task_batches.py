"""How many shards one task takes.

A shard is what is committed and resumed: some 500 chunks, whatever embeds them. A task is what is
seen in the UI and retried, and costs some 10 ms of CPU. With a small encoder on a CPU a shard is 5
to 10 s of work and a task of its own; with a fast server it is a fraction of a second, and a task
takes several. How many is learnt from the tasks that are done.
"""

from __future__ import annotations

from merganser.tasks.indexing import TaskBatch

DEFAULT_WORKERS = 4
"""Shards at a time: their texts are embedded in order, so the later ones are there to be taken when
the first is stored, and a server with many slots always has enough."""

_SECONDS = (1.0, 5.0)  # a task should take no less and no more
_GROWTH = 4  # no task is more times as large as the one that it was learnt from


class TaskBatches:
    """Hand out the shards of a run in order, each once.

    Args:
        shards: How many there are.
        workers: How many tasks run at a time, at least 1.
    """

    def __init__(self, shards: int, workers: int) -> None:
        self._next = 0
        self._shards = shards
        self._workers = workers
        self._least = self._most = 1

    def next(self) -> TaskBatch | None:
        """Return the next batch, or None when all shards are handed out."""
        left = self._shards - self._next
        if not left:
            return None
        # Smaller towards the end, so that all workers come to it at the same time.
        size = max(self._least, min(self._most, left // self._workers))
        first, self._next = self._next, self._next + min(size, left)
        return TaskBatch(first, self._next - 1)

    def learn(self, batch: TaskBatch, seconds: float) -> None:
        """Learn from a task that is done; what follows fits the time that it took.

        Args:
            batch: What it did.
            seconds: Wall time.
        """
        shards = len(batch.numbers)
        least, most = (int(shards * bound / max(seconds, 1e-3)) for bound in _SECONDS)
        self._most = max(1, min(most, shards * _GROWTH))
        self._least = max(1, min(least, self._most))
