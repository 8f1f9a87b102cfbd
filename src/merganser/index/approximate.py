"""Build the approximate indexes that a published snapshot's large segments lack.

It is done after the switch, with the writer's lock: the new snapshot is served meanwhile, exactly,
and a run that dies here loses nothing but the graph, which the next run builds. A segment is built
for once; docs/adr/0003 has the threshold's figures.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from merganser.errors import StoreError
from merganser.store.approximate import (
    approximate_path,
    build_approximate,
    is_available,
    read_approximate,
)
from merganser.store.catalogue import read_segment_rows

if TYPE_CHECKING:
    from merganser.store.layout import IndexFolder

MIN_ROWS = 500_000
"""Chunks of a segment from which on a graph is built: an exact search takes 50 ms of CPU in memory
and 0.4 s by SQL there, and what is saved pays the building back after about 6,000 searches."""

_log = logging.getLogger(__name__)


def build_missing(index: IndexFolder, generation: int) -> int:
    """Build what a snapshot's large segments lack, where the library is installed.

    A failure is logged and leaves searches exact. Call it with the writer's lock.

    Args:
        index: The index.
        generation: The served snapshot.

    Returns:
        How many graphs were built.
    """
    if not is_available():
        return 0
    built = 0
    try:
        for segment in read_segment_rows(index.catalogue(generation)):
            path = index.path / segment.file
            target = approximate_path(path)
            if segment.row_count < MIN_ROWS or not segment.dimensions:
                continue
            if read_approximate(target) is not None:
                continue
            info = build_approximate(path, target)
            if info is None:
                _log.warning("%s: too little recall, searches of it stay exact", target.name)
            built += info is not None
    except (StoreError, FileNotFoundError) as error:
        _log.warning("could not build an approximate index: %s", error)
    return built
