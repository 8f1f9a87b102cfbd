"""Build the next snapshot beside the served one: a segment with what is new, and a catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from merganser.documents.reading import READING_VERSION
from merganser.documents.scanning import Skipped
from merganser.documents.secrets import secrets_fingerprint
from merganser.errors import PlanError, StoreError
from merganser.indexing.compaction import SegmentState, choose_merges, count_live, mark_dead
from merganser.indexing.provenance import REPOSITORIES_KEY, find_provenance
from merganser.indexing.run_report import FailedFile, IndexReport, contents_of
from merganser.indexing.scan_cache import ScannedFile, load_scan_cache
from merganser.indexing.shard_plan import (
    FileOutcome,
    ShardResult,
    chunks_path,
    load_result,
    not_finished,
    read_chunks,
)
from merganser.indexing.sources import describe_empty
from merganser.indexing.workspace import require_space
from merganser.store.catalogue import (
    Catalogue,
    FileRow,
    SegmentRow,
    SkippedRow,
    merge_redactions,
    write_catalogue,
)
from merganser.store.identity import FileMark, compute_checksum, damaged
from merganser.store.reader import Snapshot
from merganser.store.segment_check import find_problems
from merganser.store.segments import NO_CHUNKS, ChunkRows, SegmentWriter
from merganser.store.snapshots import next_numbers, read_kept
from merganser.store.tokens import TOKENISER_VERSION
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from merganser.indexing.run_report import Status
    from merganser.indexing.workspace import Workspace
    from merganser.store.segments import Placed

MAX_FAILED_SHARE = 0.2
"""Of all files; a run in which more fail publishes nothing."""

_BATCH_ROWS = 16_384
# Vocabulary and tables are prepared once a batch, texts and vectors of a batch are in memory.


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSnapshot:
    """A snapshot that is finished and not served yet, or a run that changes nothing.

    Attributes:
        folder: The index folder, with the older segments.
        catalogue: Its file in the run's working folder, or None when the run changes nothing.
        mark: What the catalogue is known by, or None without one.
        segment: File of its new segment there, or None.
        next_segment: Number of the next run's segment.
        provenance: What it knows of its repositories.
        scan_cache: What the next scan need not find out again.
        report: What the run did, but for what publishing adds.
    """

    folder: Path
    catalogue: Path | None = None
    mark: FileMark | None = None
    segment: Path | None = None
    next_segment: int = 0
    provenance: str = ""
    scan_cache: tuple[ScannedFile, ...]
    report: IndexReport

    def open(self) -> Snapshot:
        """Open it before it is published, for a gate; close it before publishing.

        Raises:
            StoreError: The run changes nothing, so there is no snapshot.
        """
        if self.catalogue is None:
            raise StoreError("the run changes nothing: the served snapshot is the one to look at")
        return Snapshot(self.catalogue, (self.catalogue.parent, self.folder))


def build_snapshot(workspace: Workspace) -> BuiltSnapshot:
    """Write the next snapshot into the run's working folder.

    A shard without a result counts as failed.

    Raises:
        PlanError: The index would be empty.
        StoreError: More than ``MAX_FAILED_SHARE`` of the files failed, the disk is full, or the
            index is damaged.
    """
    name = workspace.changes.definition.name
    try:
        with span("build", {"merganser.index": name}) as building:
            built = _Build(workspace).run()
            building.set_attributes(
                {"merganser.files": built.report.files, "merganser.chunks": built.report.chunks}
            )
            return built
    except (OSError, duckdb.Error) as error:
        raise StoreError(
            f"cannot build a snapshot in {str(workspace.folder)!r}: {error}; the served snapshot "
            "is as it was"
        ) from error


class _Build:
    """The state of one build."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.changes = workspace.changes
        self.model = workspace.model
        self.results = tuple(
            load_result(workspace, shard.number) or not_finished(shard)
            for shard in workspace.shards
        )
        self.outcomes = {f.path: f for result in self.results for f in result.files}
        self.documents = {d.path: d for shard in workspace.shards for d in shard.documents}
        self.base = self._read_base()

    def run(self) -> BuiltSnapshot:
        self._check_failures()
        read = self._outcomes("read")
        kept = self._kept_files()
        if not (read or self._lost(kept)):
            return self._nothing_changed()
        if not sum(o.chunks for o in read) and not sum(file.row_count for file in kept):
            raise PlanError(describe_empty(self.changes.definition, self._skipped_documents()))
        current = self.workspace.index.read_current()
        generation, segment = (
            (current.next_generation, current.next_segment)
            if current
            else next_numbers(self.workspace.index)
        )
        files, segments, merged = self._write_segments(kept, read, segment)
        redactions = merge_redactions(self.base, files, {o.path: o.redactions for o in read})
        catalogue_path = self.workspace.path / self.workspace.index.catalogue(generation).name
        catalogue = Catalogue(
            meta=self._meta(generation, files),
            files=tuple(sorted(files, key=lambda file: file.path)),
            segments=tuple(segments),
            skipped=self._skipped_rows(),
            redactions=redactions,
            drift_sample=self.model.drift_sample if self.model else None,
        )
        write_catalogue(catalogue_path, catalogue)
        is_new = any(row.segment == segment for row in segments)
        report = self._report(generation, files, len(segments), merged)
        return BuiltSnapshot(
            folder=self.workspace.folder,
            catalogue=catalogue_path,
            mark=FileMark.of(catalogue_path, self.workspace.run_id),
            segment=self._segment_path(segment) if is_new else None,
            next_segment=segment + is_new,
            provenance=catalogue.meta[REPOSITORIES_KEY],
            scan_cache=self._scan_cache(generation),
            report=replace(report, contents=contents_of(files, redactions)),
        )

    def _outcomes(self, status: str) -> list[FileOutcome]:
        return [outcome for outcome in self.outcomes.values() if outcome.status == status]

    def _read_base(self) -> Catalogue | None:
        if self.changes.base_generation is None or self.changes.full:
            return None
        return read_kept(self.workspace.index, self.changes.base_generation)

    def _check_failures(self) -> None:
        failed = self._outcomes("failed")
        if len(failed) > MAX_FAILED_SHARE * max(self.changes.scanned, 1):
            named = "; ".join(f"{o.path}: {o.reason}: {o.detail}" for o in failed[:5])
            raise StoreError(
                f"{len(failed)} of {self.changes.scanned} files failed, more than "
                f"{MAX_FAILED_SHARE:.0%}, so nothing was published: {named}"
                + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
            )

    def _kept_files(self) -> list[FileRow]:
        """Return the rows of the base that go on, with what is new about their status."""
        if self.base is None or (self.changes.reasons and not self._can_keep_failed()):
            return []
        removed = {*self.changes.removed, *(move.origin for move in self.changes.moved)}
        touched = {entry.path: entry for entry in self.changes.touched}
        kept: list[FileRow] = []
        for row in self.base.files:
            outcome = self.outcomes.get(row.path)
            if row.path in removed or (outcome and outcome.status != "failed"):
                continue
            if row.segment in self.changes.damaged and row.row_count:
                continue  # what a repair could not read again is gone, and reported as failed
            if entry := touched.get(row.path):
                row = replace(  # noqa: PLW2901 - the same file, seen again
                    row,
                    size_bytes=entry.size_bytes,
                    mtime_ns=entry.mtime_ns,
                    inode=entry.inode,
                    stat_ns=entry.stat_ns,
                    ctime_ns=entry.ctime_ns,
                )
            if outcome and self.changes.reasons:
                # Its chunks are of the old rules: without a hash the next run reads it again.
                row = replace(row, content_hash="", stat_ns=0)  # noqa: PLW2901 - as above
            kept.append(row)
        return kept

    def _can_keep_failed(self) -> bool:
        """Return whether old chunks may stand beside new ones: not those of another model."""
        return self.base is not None and self.base.meta.get("embedding") == self.changes.fingerprint

    def _lost(self, kept: Sequence[FileRow]) -> bool:
        """Return whether files go away, or are done anew as a whole."""
        count = len(self.base.files) if self.base else 0
        return len(kept) < count or self.changes.base_generation is None or self.changes.full

    def _nothing_changed(self) -> BuiltSnapshot:
        files = self.base.files if self.base else ()
        segments = len(self.base.segments) if self.base else 0
        return BuiltSnapshot(
            folder=self.workspace.folder,
            scan_cache=self._scan_cache(None),
            report=self._report(None, files, segments, 0),
        )

    def _write_segments(
        self, kept: Sequence[FileRow], read: Sequence[FileOutcome], number: int
    ) -> tuple[list[FileRow], list[SegmentRow], int]:
        """Write the new segment; give the snapshot's files and segments and how many merged."""
        old = {row.segment: row for row in self.base.segments} if self.base else {}
        live = count_live(kept)
        now_ns = self.changes.stat_ns
        old = {n: mark_dead(row, live.get(n, 0), now_ns) for n, row in old.items()}
        states = [
            SegmentState(n, old[n].row_count, rows, old[n].dead_since_ns)
            for n, rows in live.items()
        ]
        new_rows = sum(outcome.chunks for outcome in read)
        merged = choose_merges(states, new_rows=new_rows, now_ns=now_ns)
        require_space(self.workspace.index, sum(old[segment].size_bytes for segment in merged))
        files = [file for file in kept if file.segment not in merged]
        segments = [
            replace(old[segment], live_rows=rows)
            for segment, rows in live.items()
            if segment not in merged
        ]
        if not (new_rows or merged):
            return [*files, *(self._file_row(o, None, 0) for o in read)], segments, 0
        dimensions = self.model.dimensions if self.model else None
        writer = SegmentWriter(
            self._segment_path(number),
            self.workspace.folder,
            dimensions=dimensions,
            embedding=self.changes.fingerprint,
        )
        try:
            files += self._add_new(writer, number)
            for segment in sorted(merged):
                path = self.workspace.folder / old[segment].file
                moved = [f for f in kept if f.segment == segment]
                files += _copy(writer, old[segment], path, moved, number)
            writer.finish()
        except BaseException:
            writer.abandon()
            raise
        segments.append(
            SegmentRow(
                segment=number,
                file=self._segment_path(number).name,
                row_count=writer.row_count,
                live_rows=writer.row_count,
                size_bytes=self._segment_path(number).stat().st_size,
                embedding=self.changes.fingerprint,
                dimensions=dimensions or 0,
                identity=writer.identity.id,
                checksum=compute_checksum(self._segment_path(number)),
            )
        )
        return files, segments, len(merged)

    def _add_new(self, writer: SegmentWriter, number: int) -> Iterator[FileRow]:
        for batch in self._batches():
            outcomes = [o for result in batch for o in result.files if o.status == "read"]
            if not outcomes:
                continue
            rows = self._load_chunks(batch, outcomes)
            vectors = self.workspace.embeddings().fetch(rows.hashes) if self.model else None
            places = writer.add([outcome.path for outcome in outcomes], rows, vectors)
            for outcome, place in zip(outcomes, places, strict=True):
                yield self._file_row(outcome, place, number)

    def _batches(self) -> Iterator[list[ShardResult]]:
        batch: list[ShardResult] = []
        for result in self.results:
            batch.append(result)
            if sum(r.chunks for r in batch) >= _BATCH_ROWS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _load_chunks(
        self, batch: Sequence[ShardResult], outcomes: Sequence[FileOutcome]
    ) -> ChunkRows:
        """Read the chunk files of some shards, numbering their good files from 0."""
        number_of = {outcome.path: i for i, outcome in enumerate(outcomes)}
        parts = [NO_CHUNKS]
        for result in batch:
            if result.chunks:
                rows = read_chunks(chunks_path(self.workspace, result.number))
                numbers = np.array([number_of.get(o.path, -1) for o in result.files], np.int32)
                parts.append(replace(rows, file=numbers[rows.file]))
        return ChunkRows.join(parts)

    def _segment_path(self, number: int) -> Path:
        return self.workspace.path / self.workspace.index.segment(number).name

    def _file_row(self, outcome: FileOutcome, place: Placed | None, segment: int) -> FileRow:
        document = self.documents[outcome.path]
        return FileRow(
            path=outcome.path,
            language=outcome.language,
            size_bytes=document.size_bytes,
            mtime_ns=document.mtime_ns,
            inode=document.inode,
            stat_ns=self.changes.stat_ns,
            content_hash=outcome.content_hash,
            segment=segment,
            file_id=place.file_id if place else 0,
            first_row=place.first_row if place else 0,
            row_count=place.row_count if place else 0,
            term_count=place.term_count if place else 0,
            ctime_ns=document.ctime_ns,
            kind=outcome.kind,
            encoding=outcome.encoding,
            note=outcome.note,
        )

    def _meta(self, generation: int, files: Sequence[FileRow]) -> dict[str, str]:
        definition = self.changes.definition
        return {
            "generation": str(generation),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": self.workspace.run_id,
            "name": definition.name,
            "scope": self.changes.scope.to_text(),
            "chunking": definition.chunking.fingerprint(),
            "reading": str(READING_VERSION),
            "secrets": secrets_fingerprint(definition.secrets),
            "tokeniser": str(TOKENISER_VERSION),
            "embedding": self.changes.fingerprint,
            "model_name": self.model.name if self.model else "",
            "model_id": self.model.served_id if self.model else "",
            "dimensions": str(self.model.dimensions if self.model else 0),
            "duckdb": duckdb.__version__,
            REPOSITORIES_KEY: find_provenance(definition, files, self.base),
        }

    def _skipped_documents(self) -> tuple[Skipped, ...]:
        found = (Skipped(o.path, o.reason, o.detail) for o in self._outcomes("skipped"))
        return (*self.changes.skipped, *found)

    def _skipped_rows(self) -> tuple[SkippedRow, ...]:
        rows = {s.path: SkippedRow(s.path, s.reason, s.detail) for s in self._skipped_documents()}
        return tuple(rows[path] for path in sorted(rows))

    def _scan_cache(self, generation: int | None) -> tuple[ScannedFile, ...]:
        """Return the files whose status is known and not in the served snapshot."""
        index, changes = self.workspace.index, self.changes
        known = {} if changes.full else load_scan_cache(index.scan_cache)
        if generation is not None:  # the snapshot has the status of its own files
            known = {path: entry for path, entry in known.items() if entry.reason}
        for outcome in self._outcomes("read"):
            known.pop(outcome.path, None)
        if generation is None:
            known |= {entry.path: entry for entry in changes.touched}
        for outcome in self._outcomes("skipped"):  # opened for nothing, once
            known[outcome.path] = ScannedFile.of(
                self.documents[outcome.path],
                changes.stat_ns,
                reason=outcome.reason,
                detail=outcome.detail,
            )
        return tuple(known.values())

    def _report(
        self, generation: int | None, files: Sequence[FileRow], segments: int, merged: int
    ) -> IndexReport:
        changes, read, failed = self.changes, self._outcomes("read"), self._outcomes("failed")
        paths = {outcome.path for outcome in read}
        changed = {document.path for document in changes.changed}
        status: Status = "published" if generation is not None else "unchanged"
        skipped = self._skipped_rows()
        return IndexReport(
            name=changes.definition.name,
            run_id=self.workspace.run_id,
            status="degraded" if failed else status,
            generation=generation,
            reasons=changes.reasons,
            files=len(files),
            added=sum(document.path in paths for document in changes.added),
            changed=len(changed & paths),
            moved=sum(move.document.path in paths for move in changes.moved),
            removed=len(changes.removed)
            + sum(outcome.path in changed for outcome in self._outcomes("skipped")),
            unchanged=changes.unchanged,
            outside=changes.outside,
            failed=tuple(FailedFile(o.path, o.reason, o.detail) for o in failed),
            skipped=skipped,
            new_skips=tuple(sorted(changes.find_new(skipped))),
            chunks=sum(file.row_count for file in files),
            chunks_written=sum(outcome.chunks for outcome in read),
            texts_embedded=sum(result.texts_embedded for result in self.results),
            texts_reused=sum(result.texts_reused for result in self.results),
            bytes=sum(outcome.size_bytes for outcome in read),
            segments=segments,
            merged=merged,
            embedding=self.model is not None,
            model=self.model.name if self.model else "",
            notes=changes.barren,
        )


def _copy(
    writer: SegmentWriter, row: SegmentRow, path: Path, files: Sequence[FileRow], number: int
) -> list[FileRow]:
    ordered = sorted(files, key=lambda file: file.first_row)
    try:
        places = writer.copy(path, ordered)
    except duckdb.Error as error:
        if problems := find_problems(path, row, read_data=True):
            raise damaged(path, problems[0]) from error
        raise
    return [
        replace(file, segment=number, file_id=place.file_id, first_row=place.first_row)
        for file, place in zip(ordered, places, strict=True)
    ]
