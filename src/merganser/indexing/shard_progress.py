"""How far the shards of a run are, in texts; told to whoever shows it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from merganser.progress import report

if TYPE_CHECKING:
    from collections.abc import Mapping


class ShardProgress:
    """Counts the texts of a run; how many there are is estimated until a shard is cut.

    Args:
        name: Of the index.
        embeds: Whether the texts get vectors; otherwise they are only cut.
        expected: About how many texts each shard will have, by its number.
    """

    def __init__(self, name: str, expected: Mapping[int, int], *, embeds: bool) -> None:
        self._activity = f"{'embed' if embeds else 'split'} {name}"
        self._expected = dict(expected)
        self._embedded = dict.fromkeys(expected, 0)
        self._lock = threading.Lock()

    def was_cut(self, number: int, texts: int) -> None:
        """Take note of how many texts a shard has that no shard before had."""
        with self._lock:
            self._expected[number] = texts
            self._embedded[number] = 0  # a retried shard begins again

    def embedded(self, number: int, texts: int) -> None:
        """Take note that texts have got their vectors, and tell."""
        with self._lock:
            self._embedded[number] += texts
            done, total = sum(self._embedded.values()), sum(self._expected.values())
        report(self._activity, done, max(done, total), unit="texts")

    def finished(self, number: int) -> None:
        """Take note that a shard is done, whatever it had to embed, and tell."""
        with self._lock:
            missing = self._expected[number] - self._embedded[number]
        self.embedded(number, missing)
