"""Build the approximate indexes that a published snapshot's large segments lack.

It is done after the switch, with the writer's lock: the new snapshot is served meanwhile, exactly,
and a run that dies here loses nothing but the graph, which the next run builds. A segment is built
for once; docs/adr/0003 has the threshold's figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.errors import StoreError
from merganser.store.ann import (
    MIN_RECALL,
    ApproximateInfo,
    approximate_path,
    build_approximate,
    is_available,
    read_approximate,
)
from merganser.store.catalogue import read_segment_rows

if TYPE_CHECKING:
    from merganser.store.folder import IndexFolder

MIN_ROWS = 500_000
"""Chunks of a segment from which on a graph is built: an exact search takes 50 ms of CPU in memory
and 0.4 s by SQL there, and what is saved pays the building back after about 6,000 searches."""


def build_missing(index: IndexFolder, generation: int) -> tuple[str, ...]:
    """Build what a snapshot's large segments lack, where the library is installed.

    A failure leaves searches exact. Call it with the writer's lock.

    Args:
        index: The index.
        generation: The served snapshot.

    Returns:
        A line for the report on each graph that was built or could not be.
    """
    if not is_available():
        return ()
    told: list[str] = []
    try:
        for segment in read_segment_rows(index.catalogue(generation)):
            path = index.path / segment.file
            target = approximate_path(path)
            if segment.row_count < MIN_ROWS or not segment.dimensions:
                continue
            if read_approximate(target) is not None:
                continue
            info = build_approximate(path, target)
            if info is not None:
                told.append(_describe(info))
    except (StoreError, FileNotFoundError) as error:
        told.append(f"could not build an approximate index: {error}")
    return tuple(told)


def _describe(info: ApproximateInfo) -> str:
    reached = f"recall@10 {info.recall:.3f} for {info.rows:,} chunks"
    if info.is_used:
        return f"built an approximate index: {reached}"
    return f"an approximate index reached {reached}, less than {MIN_RECALL}: searches stay exact"
