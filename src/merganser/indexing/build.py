"""Build the next snapshot beside the served one: a segment with what is new, and a catalogue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from merganser.documents.scanning import Skipped
from merganser.errors import PlanError, StoreError
from merganser.indexing.changes import describe_empty
from merganser.indexing.chunk_files import CHUNK_NUMBERS, join_chunks, read_chunks
from merganser.indexing.compaction import SegmentState, choose_merges
from merganser.indexing.scan_cache import ScannedFile
from merganser.indexing.shards import FileOutcome, ShardResult, chunks_path, fail_shard, load_result
from merganser.indexing.workspace import require_space
from merganser.store.catalogue import Catalogue, FileRow, SegmentRow, SkippedRow, write_catalogue
from merganser.store.reader import Snapshot
from merganser.store.segments import ChunkRows, SegmentWriter
from merganser.store.snapshots import next_numbers, read_kept
from merganser.store.tokens import TOKENISER_VERSION
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from merganser.documents.scanning import Document
    from merganser.indexing.workspace import Workspace
    from merganser.store.segments import Placed

MAX_FAILED_SHARE = 0.2
"""Of all files; a run in which more fail publishes nothing."""

_BATCH_ROWS = 16_384
# Vocabulary and tables are prepared once a batch, texts and vectors of a batch are in memory.


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltSnapshot:
    """A snapshot that is finished and not served yet.

    Attributes:
        generation: Its number, or None when the run changes nothing and there is none.
        catalogue: Its file in the run's working folder, or None.
        segment: File of its new segment there, or None.
        next_segment: Number of the next run's segment.
        results: What became of the shards.
        files: Live files.
        chunks: Live chunks.
        segments: Number of segments.
        merged: Number of older segments that were rewritten.
        skipped: All files that were found and are not indexed.
        scan_cache: What is remembered of files that made no change.
    """

    generation: int | None
    catalogue: Path | None
    segment: Path | None
    next_segment: int
    results: tuple[ShardResult, ...]
    files: int
    chunks: int
    segments: int
    merged: int
    skipped: tuple[SkippedRow, ...]
    scan_cache: tuple[ScannedFile, ...]

    def outcomes(self, status: str) -> tuple[FileOutcome, ...]:
        """Give the files that were read, skipped or failed."""
        return tuple(f for result in self.results for f in result.files if f.status == status)


def build_snapshot(workspace: Workspace) -> BuiltSnapshot:
    """Write the next snapshot into the run's working folder.

    A shard without a result counts as failed.

    Raises:
        PlanError: The index would be empty.
        StoreError: More than ``MAX_FAILED_SHARE`` of the files failed, the disk is full, or the
            index is damaged.
    """
    name = workspace.plan.changes.definition.name
    try:
        with span("build", {"merganser.index": name}) as building:
            built = _Build(workspace).run()
            building.set_attributes(
                {"merganser.files": built.files, "merganser.chunks": built.chunks}
            )
            return built
    except (OSError, duckdb.Error) as error:
        raise StoreError(
            f"cannot build a snapshot in {str(workspace.folder)!r}: {error}; the served snapshot "
            "is as it was"
        ) from error


def open_built(workspace: Workspace, built: BuiltSnapshot) -> Snapshot:
    """Open a snapshot before it is published, for a gate; close it before publishing.

    Raises:
        StoreError: The run changes nothing, so there is none.
    """
    if built.catalogue is None:
        raise StoreError("the run changes nothing: the served snapshot is the one to look at")
    return Snapshot(built.catalogue, (workspace.path, workspace.folder))


class _Build:
    """The state of one build."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.changes = workspace.plan.changes
        self.model = workspace.plan.model
        self.results = tuple(
            load_result(workspace, shard.number)
            or fail_shard(workspace, shard, "the shard did not finish")
            for shard in workspace.shards
        )
        self.outcomes = {f.path: f for result in self.results for f in result.files}
        self.documents = {d.path: d for shard in workspace.shards for d in shard.documents}
        self.base = self._read_base()

    def run(self) -> BuiltSnapshot:
        self._check_failures()
        read = [o for o in self.outcomes.values() if o.status == "read"]
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
        catalogue_path = self.workspace.path / self.workspace.index.catalogue(generation).name
        skipped = self._skipped_rows()
        catalogue = Catalogue(
            meta=self._meta(generation),
            files=tuple(sorted(files, key=lambda file: file.path)),
            segments=tuple(segments),
            skipped=skipped,
            drift_sample=self.model.drift_sample if self.model else None,
        )
        write_catalogue(catalogue_path, catalogue)
        is_new = any(row.segment == segment for row in segments)
        return BuiltSnapshot(
            generation=generation,
            catalogue=catalogue_path,
            segment=self._segment_path(segment) if is_new else None,
            next_segment=segment + is_new,
            results=self.results,
            files=len(files),
            chunks=sum(file.row_count for file in files),
            segments=len(segments),
            merged=merged,
            skipped=skipped,
            scan_cache=self._unread(),
        )

    def _read_base(self) -> Catalogue | None:
        if self.changes.base_generation is None or self.changes.full:
            return None
        return read_kept(self.workspace.index, self.changes.base_generation)

    def _check_failures(self) -> None:
        failed = [o for o in self.outcomes.values() if o.status == "failed"]
        if len(failed) > MAX_FAILED_SHARE * max(self.changes.scanned, 1):
            named = "; ".join(f"{o.path}: {o.reason}: {o.detail}" for o in failed[:5])
            raise StoreError(
                f"{len(failed)} of {self.changes.scanned} files failed, more than "
                f"{MAX_FAILED_SHARE:.0%}, so nothing was published: {named}"
                + (f" and {len(failed) - 5} more" if len(failed) > 5 else "")
            )

    def _kept_files(self) -> list[FileRow]:
        """Give the rows of the base that go on, with what is new about their status."""
        if self.base is None or (self.changes.reasons and not self._can_keep_failed()):
            return []
        removed = {*self.changes.removed, *(move.origin for move in self.changes.moved)}
        touched = {entry.path: entry for entry in self.changes.touched}
        kept: list[FileRow] = []
        for row in self.base.files:
            outcome = self.outcomes.get(row.path)
            if row.path in removed or (outcome and outcome.status != "failed"):
                continue
            if entry := touched.get(row.path):
                row = replace(  # noqa: PLW2901 - the same file, seen again
                    row,
                    size_bytes=entry.size_bytes,
                    mtime_ns=entry.mtime_ns,
                    inode=entry.inode,
                    stat_ns=entry.stat_ns,
                )
            kept.append(row)
        return kept

    def _can_keep_failed(self) -> bool:
        """Tell whether old chunks may stand beside new ones: not those of another model."""
        return self.base is not None and self.base.meta.get("embedding") == self.changes.fingerprint

    def _lost(self, kept: Sequence[FileRow]) -> bool:
        """Tell whether files go away, or are done anew as a whole."""
        count = len(self.base.files) if self.base else 0
        return len(kept) < count or self.changes.base_generation is None or self.changes.full

    def _nothing_changed(self) -> BuiltSnapshot:
        files = self.base.files if self.base else ()
        return BuiltSnapshot(
            generation=None,
            catalogue=None,
            segment=None,
            next_segment=0,
            results=self.results,
            files=len(files),
            chunks=sum(file.row_count for file in files),
            segments=len(self.base.segments) if self.base else 0,
            merged=0,
            skipped=self._skipped_rows(),
            scan_cache=(*self.changes.touched, *self._unread()),
        )

    def _write_segments(
        self, kept: Sequence[FileRow], read: Sequence[FileOutcome], number: int
    ) -> tuple[list[FileRow], list[SegmentRow], int]:
        """Write the new segment; give the snapshot's files and segments and how many merged."""
        old = {row.segment: row for row in self.base.segments} if self.base else {}
        live = _count_live(kept)
        states = [
            SegmentState(segment, old[segment].row_count, rows) for segment, rows in live.items()
        ]
        new_rows = sum(outcome.chunks for outcome in read)
        merged = choose_merges(states, new_rows=new_rows)
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
        writer = SegmentWriter(self._segment_path(number), dimensions=dimensions)
        try:
            files += self._add_new(writer, number)
            for segment in sorted(merged):
                path = self.workspace.folder / old[segment].file
                files += _copy(writer, path, [f for f in kept if f.segment == segment], number)
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
        parts = [self._load_shard(result, number_of) for result in batch if result.chunks]
        return join_chunks(parts) if parts else _no_rows()

    def _load_shard(self, result: ShardResult, number_of: dict[str, int]) -> ChunkRows:
        rows = read_chunks(chunks_path(self.workspace, result.number))
        numbers = np.array([number_of.get(o.path, -1) for o in result.files], dtype=np.int32)
        return replace(rows, file=numbers[rows.file])

    def _segment_path(self, number: int) -> Path:
        return self.workspace.path / self.workspace.index.segment(number).name

    def _file_row(self, outcome: FileOutcome, place: Placed | None, segment: int) -> FileRow:
        document = self.documents[outcome.path]
        return FileRow(
            path=outcome.path,
            language=document.language or "",
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
        )

    def _meta(self, generation: int) -> dict[str, str]:
        definition = self.changes.definition
        return {
            "generation": str(generation),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "run_id": self.workspace.run_id,
            "name": definition.name,
            "scope": self.changes.scope.to_text(),
            "chunking": definition.chunking.fingerprint(),
            "tokeniser": str(TOKENISER_VERSION),
            "embedding": self.changes.fingerprint,
            "model_name": self.model.name if self.model else "",
            "model_id": self.model.served_id if self.model else "",
            "dimensions": str(self.model.dimensions if self.model else 0),
            "duckdb": duckdb.__version__,
        }

    def _skipped_documents(self) -> tuple[Skipped, ...]:
        found = (
            Skipped(o.path, o.reason, o.detail)
            for o in self.outcomes.values()
            if o.status == "skipped"
        )
        return (*self.changes.skipped, *found)

    def _skipped_rows(self) -> tuple[SkippedRow, ...]:
        rows = {
            skip.path: SkippedRow(skip.path, skip.reason, skip.detail)
            for skip in self._skipped_documents()
        }
        return tuple(rows[path] for path in sorted(rows))

    def _unread(self) -> tuple[ScannedFile, ...]:
        """Give the files that were opened for nothing, so that the next run does not."""
        known = [
            self._scanned(self.documents[o.path], o)
            for o in self.outcomes.values()
            if o.status == "skipped"
        ]
        return tuple(known)

    def _scanned(self, document: Document, outcome: FileOutcome) -> ScannedFile:
        return ScannedFile(
            document.path,
            document.size_bytes,
            document.mtime_ns,
            document.inode,
            self.changes.stat_ns,
            reason=outcome.reason,
            detail=outcome.detail,
        )


def _count_live(files: Sequence[FileRow]) -> dict[int, int]:
    live: dict[int, int] = {}
    for file in files:
        if file.row_count:
            live[file.segment] = live.get(file.segment, 0) + file.row_count
    return dict(sorted(live.items()))


def _copy(
    writer: SegmentWriter, path: Path, files: Sequence[FileRow], number: int
) -> list[FileRow]:
    ordered = sorted(files, key=lambda file: file.first_row)
    return [
        replace(file, segment=number, file_id=place.file_id, first_row=place.first_row)
        for file, place in zip(ordered, writer.copy(path, ordered), strict=True)
    ]


def _no_rows() -> ChunkRows:
    none = np.zeros(0, dtype=np.int32)
    return ChunkRows(
        file=none,
        numbers=dict.fromkeys(CHUNK_NUMBERS, none),
        symbols=(),
        kinds=(),
        hashes=np.zeros((0, 2), dtype=np.uint64),
        texts=(),
    )
