"""Publish a built snapshot: move its files in, switch in one step, collect what is old."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from merganser.errors import StoreError
from merganser.indexing.build_ann import build_missing
from merganser.indexing.run_report import FailedFile, IndexReport, Status
from merganser.indexing.scan_cache import ScannedFile, load_scan_cache, save_scan_cache
from merganser.remote.sharing import tidy_shared
from merganser.store import arrow
from merganser.store.catalogue import SkippedRow, read_segment_rows
from merganser.store.database import attach, borrow
from merganser.store.embedding_store import drop_journals, journal_folder
from merganser.store.folder import Current, IndexFolder, move_file, sync_folder
from merganser.store.history import FailureRow, RunRow, record_run
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
    from merganser.store.catalogue import SegmentRow

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """What readers get now.

    Attributes:
        generation: The served snapshot, or None when nothing has ever been published.
        report: What the run did.
    """

    generation: int | None
    report: IndexReport


def publish(
    workspace: Workspace, built: BuiltSnapshot, *, keep_snapshots: int = KEEP_SNAPSHOTS
) -> Published:
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
    name = workspace.plan.changes.definition.name
    with span("publish", {"merganser.index": name}) as publishing:
        published = _publish(workspace, built, keep_snapshots)
        publishing.set_attributes({"merganser.snapshot": published.generation or 0})
    return published


def _publish(workspace: Workspace, built: BuiltSnapshot, keep_snapshots: int) -> Published:
    index = workspace.index
    notes: tuple[str, ...] = ()
    try:
        current = index.read_current()
        written = 0
        if built.generation is not None and built.catalogue is not None:
            written = _move_in(workspace, built, built.catalogue)
            current = _switch(index, current, built, keep_snapshots)
            _clean_up(index, current, own=workspace.run_id)
            _clean_up_shared(workspace)
            notes = build_missing(index, current.generation)
        elif current is not None:
            current = keep_latest(index, current, keep_snapshots)
        _remember(workspace, built)
    except OSError as error:
        raise StoreError(f"cannot publish in {str(index.path)!r}: {error}") from error
    report = _report(workspace, built, served=current.generation if current else None,
                     bytes_written=written, notes=notes)  # fmt: skip
    _record(index, report, workspace.plan.started)
    workspace.close()
    return Published(report.served, report)


def finish_unchanged(changes: Changes) -> IndexReport:
    """End a run that found nothing to do; nothing is written but a row of history.

    How many snapshots are kept is ``drop_old_snapshots``'s business.
    """
    began = datetime.fromtimestamp(changes.stat_ns / 1e9, UTC)
    index = IndexFolder(changes.definition.folder)
    with borrow("g") as rows:
        attach(rows, index.catalogue(changes.base_generation or 0), "g")
        files, chunks, segments = rows.execute(
            "SELECT (SELECT count(*) FROM g.files), (SELECT coalesce(sum(row_count), 0) FROM "
            "g.files), (SELECT count(*) FROM g.segments)"
        ).fetchall()[0]
    report = IndexReport(
        name=changes.definition.name,
        run_id=f"{began:%Y%m%dT%H%M%S}-unchanged",
        status="unchanged",
        generation=None,
        served=changes.base_generation,
        files=files,
        unchanged=changes.unchanged,
        outside=changes.outside,
        skipped=tuple(SkippedRow(s.path, s.reason, s.detail) for s in changes.skipped),
        chunks=int(chunks),
        segments=segments,
        embedding=bool(changes.fingerprint),
        model=_model_name(changes),
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


def _move_in(workspace: Workspace, built: BuiltSnapshot, catalogue: Path) -> int:
    index = workspace.index
    written = catalogue.stat().st_size
    if built.segment is not None:
        written += built.segment.stat().st_size
        move_file(built.segment, index.path / built.segment.name)
    move_file(catalogue, index.path / catalogue.name)
    sync_folder(index.path)
    return written


def _switch(
    index: IndexFolder, current: Current | None, built: BuiltSnapshot, keep_snapshots: int
) -> Current:
    generation = built.generation or 0
    kept = (generation, *(current.kept if current else ()))[: max(1, keep_snapshots)]
    switched = Current(
        generation=generation,
        kept=readable(index, kept),
        next_generation=generation + 1,
        next_segment=built.next_segment,
    )
    index.write_current(switched)
    return switched


def _clean_up(index: IndexFolder, current: Current, *, own: str | None) -> None:
    """Remove what is not needed any more; the next run does what fails here."""
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
    except (OSError, StoreError) as error:
        _log.warning("could not clean up %s: %s", index.path, error)


def _clean_up_shared(workspace: Workspace) -> None:
    try:
        tidy_shared(workspace)
    except StoreError as error:
        _log.warning("could not clean up: %s", error)


def _clean_up_after_dead_runs(index: IndexFolder) -> None:
    """Remove what a run left that died after the switch, unless another one is writing now."""
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
        with borrow("s") as rows:
            attach(rows, index.path / segment.file, "s")
            found = arrow.fetch_columns(rows, "SELECT hash_high, hash_low FROM s.chunks")
            parts.append(np.stack([found["hash_high"], found["hash_low"]], axis=1))
    return np.concatenate(parts)


def _remember(workspace: Workspace, built: BuiltSnapshot) -> None:
    """Keep what surveys learnt of files that the snapshot does not know."""
    path = workspace.index.scan_cache
    found: dict[str, ScannedFile] = {} if workspace.plan.changes.full else load_scan_cache(path)
    if built.generation is not None:  # the snapshot has the status of its own files
        found = {name: entry for name, entry in found.items() if entry.reason}
    read = {outcome.path for outcome in built.outcomes("read")}
    found = {name: entry for name, entry in found.items() if name not in read}
    found |= {entry.path: entry for entry in built.scan_cache}
    save_scan_cache(path, found.values())


def _report(
    workspace: Workspace,
    built: BuiltSnapshot,
    *,
    served: int | None,
    bytes_written: int,
    notes: tuple[str, ...],
) -> IndexReport:
    changes = workspace.plan.changes
    failed = built.outcomes("failed")
    read = {outcome.path: outcome for outcome in built.outcomes("read")}
    status: Status = "published" if built.generation is not None else "unchanged"
    return IndexReport(
        name=changes.definition.name,
        run_id=workspace.run_id,
        status="degraded" if failed else status,
        generation=built.generation,
        served=served,
        reasons=changes.reasons,
        files=built.files,
        added=sum(document.path in read for document in changes.added),
        changed=sum(document.path in read for document in changes.changed),
        moved=sum(move.document.path in read for move in changes.moved),
        removed=len(changes.removed)
        + sum(
            outcome.status == "skipped"
            for outcome in built.outcomes("skipped")
            if outcome.path in {document.path for document in changes.changed}
        ),
        unchanged=changes.unchanged,
        outside=changes.outside,
        failed=tuple(FailedFile(o.path, o.reason, o.detail) for o in failed),
        skipped=built.skipped,
        chunks=built.chunks,
        chunks_written=sum(outcome.chunks for outcome in read.values()),
        texts_embedded=sum(result.texts_embedded for result in built.results),
        texts_reused=sum(result.texts_reused for result in built.results),
        bytes=sum(outcome.size_bytes for outcome in read.values()),
        bytes_written=bytes_written,
        segments=built.segments,
        merged=built.merged,
        embedding=workspace.model is not None,
        model=workspace.model.name if workspace.model else "",
        notes=notes,
        seconds=time.time() - changes.stat_ns / 1e9,
    )


def _model_name(changes: Changes) -> str:
    embedding = changes.definition.embedding
    return embedding.model.name if embedding and changes.fingerprint else ""


def _record(index: IndexFolder, report: IndexReport, started: datetime) -> None:
    """Write the history; the snapshot is served whether or not this works."""
    run = RunRow(
        run_id=report.run_id,
        started=started,
        finished=datetime.now(UTC),
        status=report.status,
        generation=report.generation,
        files=report.files,
        added=report.added,
        changed=report.changed,
        moved=report.moved,
        removed=report.removed,
        failed=len(report.failed),
        skipped=len(report.skipped),
        chunks=report.chunks,
        texts_embedded=report.texts_embedded,
        texts_reused=report.texts_reused,
        bytes=report.bytes,
    )
    try:
        failures = [FailureRow(run.run_id, f.path, f.reason, f.detail) for f in report.failed]
        record_run(index, run, failures)
    except StoreError as error:
        _log.warning("could not write the history of %s: %s", index.path, error)
