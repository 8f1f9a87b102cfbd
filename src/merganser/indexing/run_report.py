"""What a run did, for the terminal, the artifact and ``--json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from merganser.documents.skipping import group_skipped
from merganser.planning.contents import Contents, ReadFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from merganser.store.catalogue import FileRow, RedactionRow, SkippedRow

Status = Literal["published", "unchanged", "degraded"]


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be indexed; its old version stays, when there is one."""

    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexReport:
    """What one run of an index did.

    Attributes:
        name: Name of the index.
        run_id: Name of the run.
        status: ``published``, ``unchanged``, or ``degraded`` when files failed.
        generation: The snapshot that was published, or None.
        served: The snapshot that is served now, or None.
        reasons: Why unchanged files were done again.
        files: Live files.
        added: New files.
        changed: Files with other content.
        moved: Files that were renamed.
        removed: Files that are gone.
        unchanged: Files that stayed as they are.
        outside: Files of the index that this run did not look at and kept.
        failed: Files that could not be indexed.
        skipped: Files that were found and are not indexed, with the reasons.
        new_skips: Paths of those that the last run did not leave out, sorted.
        contents: What the live files are made of; nothing of a run that published nothing.
        chunks: Live chunks.
        chunks_written: Chunks of the files that were read.
        texts_embedded: Texts sent to the model.
        texts_reused: Texts whose vectors were there.
        bytes: Size of the files that were read.
        bytes_written: Size of the new segment and catalogue.
        segments: Number of segments of the snapshot.
        merged: Older segments that were rewritten.
        embedding: Whether chunks have vectors; without, only words can be searched.
        model: Name of the embedding model, or "".
        notes: Entries of ``docs`` that give nothing, what became of approximate indexes that were
            to be built, and flags of the model that its server refused.
        seconds: Wall time from the scan on.
    """

    name: str
    run_id: str
    status: Status
    generation: int | None = None
    served: int | None = None
    reasons: tuple[str, ...] = ()
    files: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    outside: int = 0
    failed: tuple[FailedFile, ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    new_skips: tuple[str, ...] = ()
    contents: Contents = field(default_factory=Contents)
    chunks: int = 0
    chunks_written: int = 0
    texts_embedded: int = 0
    texts_reused: int = 0
    bytes: int = 0
    bytes_written: int = 0
    segments: int = 0
    merged: int = 0
    embedding: bool = False
    model: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``--json`` and artifacts."""
        reasons = {
            group.reason: {
                "count": len(group.files),
                "new": group.new,
                "meaning": group.said.meaning,
                "remedy": group.said.remedy,
            }
            for group in group_skipped(self.skipped, {*self.new_skips})
        }
        return {**asdict(self), "skipped_reasons": reasons}


def contents_of(files: Iterable[FileRow], redactions: Iterable[RedactionRow]) -> Contents:
    """Count what the files of a snapshot are made of."""
    return Contents.of(
        (ReadFile(f.path, f.kind, f.language, f.encoding, f.note) for f in files),
        ((one.path, one.line, one.kind) for one in redactions),
    )
