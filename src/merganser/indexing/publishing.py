"""Publish a built snapshot: move its files in, switch in one step, collect what is old."""

from __future__ import annotations

import logging
import time
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from merganser.errors import StoreError
from merganser.indexing.run_report import IndexReport
from merganser.indexing.scan_cache import drop_unfinished, save_scan_cache
from merganser.indexing.siblings import leave_note
from merganser.store import arrow
from merganser.store.ann import (
    MIN_RECALL,
    approximate_path,
    build_approximate,
    find_graph_problem,
    is_available,
)
from merganser.store.catalogue import SkippedRow, read_segment_rows
from merganser.store.database import attach, borrow
from merganser.store.folder import Current, IndexFolder, move_file, sync_folder
from merganser.store.history import FailureRow, RunRow, SkipRow, record_run
from merganser.store.journals import drop_journals, journal_folder
from merganser.store.shared_journals import tidy_shared
from merganser.store.snapshots import KEEP_SNAPSHOTS, collect, collect_builds, keep_latest, readable
from merganser.store.writer_lock import WriterLock
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from merganser.indexing.build import BuiltSnapshot
    from merganser.indexing.changes import Changes
    from merganser.indexing.workspace import Workspace
    from merganser.store.ann import ApproximateInfo
    from merganser.store.catalogue import SegmentRow

_log = logging.getLogger(__name__)


GRAPH_ROWS = 500_000
"""Chunks of a segment from which on a graph is built: an exact search takes 50 ms of CPU in memory
and 0.4 s by SQL there, and what is saved pays the building back after about 6,000 searches."""


def publish(
    workspace: Workspace, built: BuiltSnapshot, *, keep_snapshots: int = KEEP_SNAPSHOTS
) -> IndexReport:
    """Serve a built snapshot and end the run.

    Readers that have an older snapshot open keep it. Before the switch a crash leaves the old
    snapshot served and orphans that the next run collects; after it, the new one.

    Args:
        workspace: The run.
        built: What ``build_snapshot`` gave.
        keep_snapshots: How many snapshots to keep, at least 1, the served one included.

    Raises:
        StoreError: A file cannot be moved or written; the old snapshot is served.
    """
    index = workspace.index
    with span("publish", {"merganser.index": workspace.definition.name}) as publishing:
        try:
            report = _switch_to(workspace, built, max(1, keep_snapshots))
            save_scan_cache(index.scan_cache, built.scan_cache)
        except OSError as error:
            raise StoreError(f"cannot publish in {str(index.path)!r}: {error}") from error
        report = replace(report, seconds=time.time() - workspace.changes.stat_ns / 1e9)
        _record(index, report, workspace.started)
        workspace.close()
        publishing.set_attributes({"merganser.snapshot": report.served or 0})
    return report


def _switch_to(workspace: Workspace, built: BuiltSnapshot, keep_snapshots: int) -> IndexReport:
    """Serve the new snapshot when there is one, and clean up."""
    index, report = workspace.index, built.report
    current = index.read_current()
    if report.generation is None or built.catalogue is None or built.mark is None:
        if current is not None:
            current = keep_latest(index, current, keep_snapshots)
        return replace(report, served=current.generation if current else None)
    written = _move_in(index, built.catalogue, built.segment)
    kept = (report.generation, *(current.kept if current else ()))[:keep_snapshots]
    current = Current(
        generation=report.generation,
        kept=readable(index, kept, damaged=workspace.changes.damaged),
        next_generation=report.generation + 1,
        next_segment=built.next_segment,
        marks={**(current.marks if current else {}), report.generation: built.mark},
    )
    index.write_current(current)
    _clean_up(index, current, own=workspace.run_id)
    if workspace.model is not None:
        leave_note(workspace.definition, workspace.model.fingerprint, built.provenance)
    if workspace.definition.shards is not None:
        try:
            store = workspace.embeddings() if workspace.model else None
            tidy_shared(workspace.shared, store, run_id=workspace.run_id)
        except StoreError as error:
            _log.warning("could not clean up: %s", error)
    notes = build_graphs(index, current.generation)
    notes = (*report.notes, *notes)
    return replace(report, served=current.generation, bytes_written=written, notes=notes)


def _move_in(index: IndexFolder, catalogue: Path, segment: Path | None) -> int:
    """Move the files of a snapshot to the index folder, and return their bytes."""
    written = 0
    for path in (segment, catalogue):
        if path is not None:
            written += path.stat().st_size
            move_file(path, index.path / path.name)
    sync_folder(index.path)
    return written


def finish_unchanged(changes: Changes) -> IndexReport:
    """End a run that found nothing to do; nothing is written but a row of history.

    How many snapshots are kept is ``drop_old_snapshots``'s business.
    """
    began = datetime.fromtimestamp(changes.stat_ns / 1e9, UTC)
    index = IndexFolder(changes.definition.folder)
    with borrow("g", index.path) as rows:
        attach(rows, index.catalogue(changes.base_generation or 0), "g")
        files, chunks, segments = rows.execute(
            "SELECT (SELECT count(*) FROM g.files), (SELECT coalesce(sum(row_count), 0) FROM "
            "g.files), (SELECT count(*) FROM g.segments)"
        ).fetchall()[0]
    skipped = tuple(SkippedRow(s.path, s.reason, s.detail) for s in changes.skipped)
    report = IndexReport(
        name=changes.definition.name,
        run_id=f"{began:%Y%m%dT%H%M%S}-unchanged",
        status="unchanged",
        generation=None,
        served=changes.base_generation,
        files=files,
        unchanged=changes.unchanged,
        outside=changes.outside,
        skipped=skipped,
        new_skips=tuple(sorted(changes.find_new(skipped))),
        chunks=int(chunks),
        segments=segments,
        embedding=bool(changes.fingerprint),
        model=_model_name(changes),
        notes=changes.barren,
        seconds=time.time() - changes.stat_ns / 1e9,
    )
    _clean_up_after_dead_runs(index)
    _record(index, report, began)
    return report


def drop_old_snapshots(folder: Path, keep_snapshots: int) -> None:
    """Apply a lowered ``keep_snapshots`` without a publication, unless another run is writing.

    Args:
        folder: The index folder.
        keep_snapshots: As for ``publish``.
    """
    index = IndexFolder(folder)
    try:
        current = index.read_current()
        if current is None or len(current.kept) <= keep_snapshots:
            return
        lock = WriterLock(index)
        try:
            current = index.read_current()
            if current is not None:
                keep_latest(index, current, keep_snapshots)
        finally:
            lock.release()
    except (OSError, StoreError) as error:
        _log.warning("could not drop old snapshots of %s: %s", folder, error)


def _clean_up(index: IndexFolder, current: Current, *, own: str | None) -> None:
    """Remove what is not needed any more; the next run does what fails here."""
    drop_unfinished(index.scan_cache)
    try:
        served = read_segment_rows(index.catalogue(current.generation))
        for folder in index.embeddings.iterdir() if index.embeddings.is_dir() else ():
            is_served = any(folder == journal_folder(index, row.embedding) for row in served)
            foreign = is_served and any(
                own is None or not path.name.startswith(own) for path in folder.glob("*.npz")
            )
            hashes = _hashes(index, served) if foreign else None
            drop_journals(folder, own=own, served=hashes)
        collect(index, current)
    except (OSError, StoreError, duckdb.Error) as error:
        _log.warning("could not clean up %s: %s", index.path, error)


def _clean_up_after_dead_runs(index: IndexFolder) -> None:
    """Remove what a run left that died after the switch, unless another one is writing now."""
    drop_unfinished(index.scan_cache)
    remains = (index.build, index.embeddings)
    if not any(folder.is_dir() and any(folder.iterdir()) for folder in remains):
        return
    try:
        lock = WriterLock(index)
    except StoreError:
        return
    try:
        current = index.read_current()
        if current is not None:
            collect_builds(index)
            _clean_up(index, current, own=None)
    finally:
        lock.release()


def _hashes(index: IndexFolder, segments: Iterable[SegmentRow]) -> NDArray[np.uint64]:
    parts = [np.zeros((0, 2), dtype=np.uint64)]
    for segment in segments:
        with borrow("s", index.path) as rows:
            attach(rows, index.path / segment.file, "s")
            found = arrow.fetch_columns(rows, "SELECT hash_high, hash_low FROM s.chunks")
            parts.append(np.stack([found["hash_high"], found["hash_low"]], axis=1))
    return np.concatenate(parts)


def _model_name(changes: Changes) -> str:
    embedding = changes.definition.embedding
    return embedding.model.name if embedding and changes.fingerprint else ""


def _record(index: IndexFolder, report: IndexReport, started: datetime) -> None:
    """Write the history; the snapshot is served whether or not this works."""
    values = {f.name: getattr(report, f.name) for f in fields(RunRow) if hasattr(report, f.name)}
    counted: dict[str, Any] = {"failed": len(report.failed), "skipped": len(report.skipped)}
    run = RunRow(**{**values, **counted}, started=started, finished=datetime.now(UTC))
    try:
        failures = [FailureRow(run.run_id, f.path, f.reason, f.detail) for f in report.failed]
        record_run(index, run, failures, _noted_skips(report))
    except StoreError as error:
        _log.warning("could not write the history of %s: %s", index.path, error)


def _noted_skips(report: IndexReport) -> list[SkipRow]:
    """Return what the next run need not tell as new, though no snapshot lists it."""
    if report.generation is not None or report.served is None:
        return []
    new = {*report.new_skips}
    return [
        SkipRow(report.run_id, report.served, one.path, one.reason)
        for one in report.skipped
        if one.path in new
    ]


def build_graphs(index: IndexFolder, generation: int) -> tuple[str, ...]:
    """Build the approximate indexes that a published snapshot's large segments lack.

    It is done after the switch: the new snapshot is served meanwhile, exactly, and a run that dies
    here loses nothing but the graph, which the next run builds. A failure leaves searches exact,
    and so does a missing library. docs/adr/0003 has the threshold's figures. Call it with the
    writer's lock.

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
            is_large = segment.row_count >= GRAPH_ROWS and segment.dimensions
            is_there = not find_graph_problem(
                target, segment.row_count, segment.dimensions, segment.identity, read_data=False
            )
            if not is_large or is_there:
                continue
            info = build_approximate(path, target)
            if info is not None:
                told.append(_describe(info))
    except (StoreError, FileNotFoundError, duckdb.Error) as error:
        told.append(f"could not build an approximate index: {error}")
    return tuple(told)


def _describe(info: ApproximateInfo) -> str:
    reached = f"recall@10 {info.recall:.3f} for {info.rows:,} chunks"
    if info.is_used:
        return f"built an approximate index: {reached}"
    return f"an approximate index reached {reached}, less than {MIN_RECALL}: searches stay exact"
