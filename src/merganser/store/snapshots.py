"""The kept snapshots of an index: list them, serve another one, collect what none needs."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from merganser.errors import NoSnapshotError, StoreError
from merganser.store.ann import approximate_path, read_approximate
from merganser.store.catalogue import read_catalogue, read_segment_rows
from merganser.store.database import attach, borrow
from merganser.store.folder import Current, IndexFolder
from merganser.store.identity import (
    check_identity,
    check_size,
    damaged,
    read_identities,
    wal_of,
)
from merganser.store.writer_lock import WriterLock

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from pathlib import Path

    from merganser.store.catalogue import Catalogue, SegmentRow
    from merganser.store.identity import FileMark

KEEP_SNAPSHOTS = 3
"""How many snapshots are kept, the served one included, when the config does not say."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One kept snapshot.

    Attributes:
        generation: Number of the snapshot.
        served: Whether readers get it.
        created: ISO time, UTC.
        files: Live files.
        chunks: Live chunks.
        model_name: Name of the embedding model, or "".
        segments: Number of segments it is made of.
        size_bytes: Size of its segments, which it may share with other snapshots.
        approximate: Share of the chunks in segments with an approximate index.
        recall: Least recall@10 of these when they were built, or None without any.
        rejected_recall: Least recall@10 of approximate indexes that were built and are not used
            because it is too low, or None without any.
    """

    generation: int
    served: bool
    created: str
    files: int
    chunks: int
    model_name: str
    segments: int
    size_bytes: int
    approximate: float = 0.0
    recall: float | None = None
    rejected_recall: float | None = None

    @property
    def created_at(self) -> datetime:
        """``created`` with its time zone."""
        created = datetime.fromisoformat(self.created)
        return created if created.tzinfo else created.replace(tzinfo=UTC)


def list_snapshots(folder: Path) -> tuple[SnapshotInfo, ...]:
    """Return the kept snapshots, newest first; none when nothing has been published.

    Raises:
        StoreFormatError: A foreign or too new file stands there.
        StoreError: The index is damaged.
    """
    index = IndexFolder(folder)
    current = index.read_current()
    if current is None:
        return ()
    infos: list[SnapshotInfo] = []
    for generation in sorted(current.kept, reverse=True):
        catalogue = read_kept(index, generation, current.marks.get(generation))
        graphs = [
            (segment.live_rows, info)
            for segment in catalogue.segments
            if (info := read_approximate(approximate_path(index.path / segment.file))) is not None
        ]
        chunks = sum(file.row_count for file in catalogue.files)
        infos.append(
            SnapshotInfo(
                generation=generation,
                served=generation == current.generation,
                created=catalogue.meta["created"],
                files=len(catalogue.files),
                chunks=chunks,
                model_name=catalogue.meta.get("model_name", ""),
                segments=len(catalogue.segments),
                size_bytes=sum(segment.size_bytes for segment in catalogue.segments),
                approximate=sum(rows for rows, info in graphs if info.is_used) / max(chunks, 1),
                recall=min((i.recall for _, i in graphs if i.is_used), default=None),
                rejected_recall=min((i.recall for _, i in graphs if not i.is_used), default=None),
            )
        )
    return tuple(infos)


def read_kept(index: IndexFolder, generation: int, mark: FileMark | None = None) -> Catalogue:
    """Read the catalogue of a kept snapshot.

    Args:
        index: The index.
        generation: Number of the snapshot.
        mark: What ``CURRENT`` knows it by, or None where it does not say.

    Raises:
        DamagedIndexError: It is missing, damaged, or of another run than the mark's.
        StoreError: It cannot be read.
    """
    path = index.catalogue(generation)
    try:
        if mark is not None:
            check_size(path, mark.size_bytes)
        catalogue = read_catalogue(path)
        if mark is not None:
            mark.check(path, catalogue.meta)
    except FileNotFoundError as error:
        raise damaged(path, "is missing from the index") from error
    return catalogue


def check_segments(index: IndexFolder, segments: Iterable[SegmentRow]) -> None:
    """Compare the segments of a snapshot with what its catalogue says of them.

    Does not read them; takes 2 ms a segment.

    Raises:
        DamagedIndexError: One is missing, of another size, damaged at its head, or another segment.
    """
    for row in segments:
        path = index.path / row.file
        try:
            check_size(path, row.size_bytes)
            with borrow("s", index.path) as connection:
                attach(connection, path, "s")
                check_identity(path, row.identity, read_identities(connection).get("s"))
        except FileNotFoundError as error:
            raise damaged(path, "is missing from the index") from error


def rollback(folder: Path, generation: int | None = None) -> int:
    """Serve a kept snapshot again; also repairs a damaged ``CURRENT``.

    The next run indexes on top of it. The snapshot that was served stays kept.

    Args:
        folder: The index folder.
        generation: Which one, or None for the one that was served before.

    Returns:
        The generation that is served now.

    Raises:
        NoSnapshotError: It is not kept, or there is no earlier one.
        StoreBusyError: A run is writing.
        StoreError: The snapshot is damaged.
    """
    index = IndexFolder(folder)
    if not folder.is_dir():
        raise NoSnapshotError(f"nothing has been indexed in {str(folder)!r} yet")
    lock = WriterLock(index)
    try:
        current = _read_or_repair(index, generation)
        target = _choose(current, generation)
        catalogue = read_kept(index, target, current.marks.get(target))
        check_segments(index, catalogue.segments)
        kept = (target, *(number for number in current.kept if number != target))
        index.write_current(replace(current, generation=target, kept=kept))
    finally:
        lock.release()
    return target


def _choose(current: Current, generation: int | None) -> int:
    there = ", ".join(map(str, sorted(current.kept)))
    if generation is None:
        if len(current.kept) < 2:
            raise NoSnapshotError(f"there is no earlier snapshot to go back to; kept: {there}")
        return current.kept[1]
    if generation not in current.kept:
        raise NoSnapshotError(f"snapshot {generation} is not kept; there are: {there}")
    return generation


def _read_or_repair(index: IndexFolder, generation: int | None) -> Current:
    try:
        current = index.read_current()
    except StoreError:
        on_disk = index.catalogues_on_disk()
        if generation is None or generation not in on_disk:
            raise
        others = [number for number in reversed(on_disk) if number != generation]
        return Current(generation, (generation, *others), *next_numbers(index))
    if current is None:
        raise NoSnapshotError(f"nothing has been indexed in {str(index.path)!r} yet")
    return current


def next_numbers(index: IndexFolder) -> tuple[int, int]:
    """Return the next generation and segment number, counting from the files that are there."""
    generations, segments = index.catalogues_on_disk(), index.segments_on_disk()
    return max(generations, default=0) + 1, max(segments, default=0) + 1


def keep_latest(index: IndexFolder, current: Current, keep_snapshots: int) -> Current:
    """Drop the snapshots beyond a number; call it with the writer's lock.

    Returns:
        What is kept now, the served snapshot in any case.
    """
    kept = current.kept[: max(1, keep_snapshots)]
    if kept != current.kept:
        current = replace(current, kept=kept)
        index.write_current(current)
        collect(index, current)
    return current


def collect(index: IndexFolder, current: Current | None) -> None:
    """Remove what no kept snapshot needs: old and orphaned files, remains of dead runs.

    Call it with the writer's lock. Readers that have a removed file open keep it.

    Args:
        index: The index.
        current: What is kept, or None when nothing has been published.
    """
    kept = current.kept if current else ()
    for number in index.catalogues_on_disk():
        if number not in kept:
            _remove(index.catalogue(number))
    try:
        needed = {
            segment.segment
            for generation in kept
            for segment in read_segment_rows(index.catalogue(generation))
        }
    except (StoreError, FileNotFoundError):
        return  # what a damaged snapshot needs is not known; the next publication drops it
    for number in index.segments_on_disk():
        if number not in needed:
            _remove(index.segment(number))
    for number in index.graphs_on_disk():
        graph = approximate_path(index.segment(number))
        graph.with_name(graph.name + ".tmp").unlink(missing_ok=True)
        if number not in needed:
            graph.unlink(missing_ok=True)


def readable(
    index: IndexFolder, generations: Iterable[int], *, damaged: Collection[int] = ()
) -> tuple[int, ...]:
    """Leave out the snapshots whose catalogue is missing or damaged, or a segment of theirs is.

    Args:
        index: The index.
        generations: Numbers of snapshots.
        damaged: Numbers of damaged segments.
    """
    good: list[int] = []
    for generation in generations:
        with contextlib.suppress(StoreError, FileNotFoundError):
            rows = read_segment_rows(index.catalogue(generation))
            if not any(row.segment in damaged for row in rows):
                good.append(generation)
    return tuple(good)


def collect_builds(index: IndexFolder, *, but: Sequence[str] = ()) -> None:
    """Remove the working folders of runs that are over; call it with the writer's lock."""
    if index.build.is_dir():
        for folder in index.build.iterdir():
            if folder.name not in but:
                shutil.rmtree(folder, ignore_errors=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    wal_of(path).unlink(missing_ok=True)
