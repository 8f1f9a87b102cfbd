"""Which segments are rewritten together with a run's new chunks.

Every search looks at every segment, and the chunks of edited and removed files stay in theirs
until it is rewritten; rewriting costs bytes and CPU. The policy bounds all three: at most
``MAX_SEGMENTS`` segments, at most ``MAX_DEAD_SHARE`` dead chunks in each, and in an ordinary run
at most ``BUDGET_SHARE`` of the index rewritten, so that a small edit of a large index stays small.
What dies also has to go: at once from a small segment, after days from a large one.
docs/adr/0001-segments.md and 0012 have the reasoning and the figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.store.catalogue import FileRow, SegmentRow

FEW_SEGMENTS = 8
"""Up to so many segments nothing is merged for its own sake."""

MAX_SEGMENTS = 16
"""With more segments than this, some are merged whatever it costs."""

MAX_DEAD_SHARE = 0.3
"""A segment with more dead chunks is rewritten."""

SMALL_SEGMENT_ROWS = 4_096
"""A segment of at most so many chunks is rewritten by the run in which the first of them dies: then
what was deleted is gone with the last snapshot that holds it. Takes a twentieth of a second."""

WAIT_SECONDS_PER_ROW = 86_400 / 100_000
"""How long the dead chunks of a larger segment may stay: a day for each 100,000 chunks, so that an
index that is edited every hour copies at most about that many a day."""

MOST_WAIT_SECONDS = 7 * 86_400
"""The longest that dead chunks may stay, whatever the segment's size."""

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
        dead_since_ns: When the first of the others left the served snapshot, in nanoseconds since
            the epoch; 0 while there is none.
    """

    segment: int
    row_count: int
    live_rows: int
    dead_since_ns: int = 0

    def is_due(self, now_ns: int) -> bool:
        """Return whether its dead chunks are to go now."""
        dead = self.row_count - self.live_rows
        if self.row_count <= SMALL_SEGMENT_ROWS or dead > MAX_DEAD_SHARE * self.row_count:
            return dead > 0
        wait = min(self.row_count * WAIT_SECONDS_PER_ROW, MOST_WAIT_SECONDS)
        return dead > 0 and now_ns - self.dead_since_ns >= wait * 1e9


def choose_merges(
    segments: Sequence[SegmentState], *, new_rows: int, now_ns: int
) -> frozenset[int]:
    """Choose the segments whose live chunks move to the run's new segment.

    Args:
        segments: Those that the next snapshot would use.
        new_rows: Chunks of changed files, which make a new segment anyway.
        now_ns: The present, in nanoseconds since the epoch.

    Returns:
        Numbers of segments, possibly none.
    """
    due = frozenset(s.segment for s in segments if s.is_due(now_ns))
    chosen = {*due}
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
    if new_rows == 0 and len(chosen) == 1 and not due:
        return frozenset()  # moving one segment alone gains nothing
    return frozenset(chosen)


def mark_dead(row: SegmentRow, live_rows: int, now_ns: int) -> SegmentRow:
    """Note when the first chunks of a segment died, unless it is noted already."""
    if live_rows == row.row_count or row.dead_since_ns:
        return row
    return replace(row, dead_since_ns=now_ns)


def count_live(files: Sequence[FileRow]) -> dict[int, int]:
    """Return the live chunks of each segment by the files of a snapshot, in order of segments."""
    live: dict[int, int] = {}
    for file in files:
        if file.row_count:
            live[file.segment] = live.get(file.segment, 0) + file.row_count
    return dict(sorted(live.items()))
