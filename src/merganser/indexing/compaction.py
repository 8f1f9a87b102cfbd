"""Which segments are rewritten together with a run's new chunks.

Every search looks at every segment, and the chunks of edited and removed files stay in theirs
until it is rewritten; rewriting costs bytes and CPU. The policy bounds all three: at most
``MAX_SEGMENTS`` segments, at most ``MAX_DEAD_SHARE`` dead chunks in each, and in an ordinary run
at most ``BUDGET_SHARE`` of the index rewritten, so that a small edit of a large index stays small.
docs/adr/0001-segments.md has the reasoning and the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

FEW_SEGMENTS = 8
"""Up to so many segments nothing is merged for its own sake."""

MAX_SEGMENTS = 16
"""With more segments than this, some are merged whatever it costs."""

MAX_DEAD_SHARE = 0.3
"""A segment with more dead chunks is rewritten."""

BUDGET_SHARE = 0.03
"""Share of the live chunks that a run rewrites when it is not forced to do more."""

BUDGET_ROWS = 10_000
"""The budget of a small index: about a quarter of a second."""


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment as the next snapshot would use it.

    Attributes:
        segment: Number of the segment.
        row_count: Chunks in it.
        live_rows: Chunks of the next snapshot in it, at least 1.
    """

    segment: int
    row_count: int
    live_rows: int


def choose_merges(segments: Sequence[SegmentState], *, new_rows: int) -> frozenset[int]:
    """Choose the segments whose live chunks move to the run's new segment.

    Args:
        segments: Those that the next snapshot would use.
        new_rows: Chunks of changed files, which make a new segment anyway.

    Returns:
        Numbers of segments, possibly none.
    """
    chosen = {s.segment for s in segments if s.live_rows < (1 - MAX_DEAD_SHARE) * s.row_count}
    budget = max(BUDGET_SHARE * (new_rows + sum(s.live_rows for s in segments)), BUDGET_ROWS)
    candidates = sorted(
        (s for s in segments if s.segment not in chosen), key=lambda s: (s.live_rows, s.segment)
    )
    spent = 0
    remaining = len(candidates) + 1  # the new segment counts
    if remaining > FEW_SEGMENTS:
        for state in candidates:
            is_forced = remaining > MAX_SEGMENTS // 2 and len(candidates) + 1 > MAX_SEGMENTS
            if spent + state.live_rows > budget and not is_forced:
                break
            chosen.add(state.segment)
            spent += state.live_rows
            remaining -= 1
    if new_rows == 0 and len(chosen) == 1 and not _is_wasteful(segments, chosen):
        return frozenset()  # moving one segment alone gains nothing
    return frozenset(chosen)


def _is_wasteful(segments: Sequence[SegmentState], chosen: set[int]) -> bool:
    return any(
        s.live_rows < (1 - MAX_DEAD_SHARE) * s.row_count for s in segments if s.segment in chosen
    )
