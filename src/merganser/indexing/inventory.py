"""What becomes of every file: what the served snapshot holds of it, and what a run would do.

Nothing is written, and no model is asked. A file is opened only when its status leaves open whether
it changed, or when it is asked for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from merganser.documents.file_types import INDEX_FOLDER, language_of
from merganser.documents.ignore import VCS_FOLDERS
from merganser.documents.kinds import LEFT_OUT, kind_of
from merganser.documents.scanning import Skipped
from merganser.indexing.changes import hash_file, is_same_file
from merganser.indexing.scan_cache import load_scan_cache
from merganser.indexing.shards import read_file
from merganser.indexing.sources import describe_barren, scan_index
from merganser.store.folder import IndexFolder
from merganser.store.history import list_failures, list_runs
from merganser.store.snapshots import read_kept

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from merganser.chunking import Chunk
    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Document, Scan
    from merganser.indexing.scan_cache import ScannedFile
    from merganser.store.catalogue import Catalogue, FileRow
    from merganser.store.history import FailureRow

Outcome = Literal["indexed", "pending", "skipped", "failed", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What is known of one file; its fields are the keys of ``merganser files --json``.

    Attributes:
        index: Name of the index.
        path: As users see it; a folder left out as a whole ends in ``/``.
        outcome: ``indexed``: the served snapshot holds it. ``pending``: the next run reads it.
            ``skipped``: it is left out. ``failed``: the last run could not index it; an old version
            may be served. ``unknown``: no entry of ``docs`` names it.
        change: What holds since the snapshot: ``changed``, ``new``, ``gone``, or "".
        kind: As in ``Document.kind``; "" when not known.
        language: "" when not known.
        encoding: "" when not known, or for a format without one.
        size_bytes: Its length; None for what was not looked at.
        chunks: How many of it are served, or would be made; None when nobody has read it.
        reason: Why it is skipped, failed or unknown, a short word.
        detail: What was seen.
        note: A remark on how it was read.
        redactions: Lines with the kinds of secrets that are replaced there.
    """

    index: str
    path: str
    outcome: Outcome
    change: str = ""
    kind: str = ""
    language: str = ""
    encoding: str = ""
    size_bytes: int | None = None
    chunks: int | None = None
    reason: str = ""
    detail: str = ""
    note: str = ""
    redactions: tuple[tuple[int, str], ...] = ()


class Inventory:
    """The files of an index, in ``docs`` and in the served snapshot.

    Args:
        definition: The index.

    Attributes:
        served: Number of the served snapshot, or None.
        notes: Entries of ``docs`` that give nothing.

    Raises:
        SpecErrors: Two sources share a name.
        StoreError: The index is damaged.
    """

    def __init__(self, definition: IndexDefinition) -> None:
        self.definition = definition
        self.folder = IndexFolder(definition.folder)
        current = self.folder.read_current()
        self.served = current.generation if current else None
        self._scan = scan_index(definition)
        self.notes = tuple(_describe_entries(definition, self._scan))
        self._documents = {document.path: document for document in self._scan.documents}
        self._skipped = {skip.path: skip for skip in self._scan.skipped}
        self._catalogue: Catalogue | None = None
        self._cache: Mapping[str, ScannedFile] = {}
        self._failed: Mapping[str, FailureRow] = {}
        if current is not None:
            mark = current.marks.get(current.generation)
            self._catalogue = read_kept(self.folder, current.generation, mark)
            self._cache = load_scan_cache(self.folder.scan_cache)
            failures = list_failures(self.folder, list_runs(self.folder, limit=1))
            self._failed = {failure.path: failure for failure in failures}
        self._rows = {row.path: row for row in self._catalogue.files} if self._catalogue else {}

    def files(self) -> Iterator[FileFacts]:
        """Yield every file by path."""
        redacted: dict[str, list[tuple[int, str]]] = {}
        for row in self._catalogue.redactions if self._catalogue else ():
            redacted.setdefault(row.path, []).append((row.line, row.kind))
        for path in sorted({*self._documents, *self._skipped, *self._rows}):
            row = self._rows.get(path)
            if (document := self._documents.get(path)) is None:
                yield self._absent(path, row)
            elif row is not None:
                yield self._known(document, row, tuple(redacted.get(path, ())))
            else:
                yield self._pending(document)

    def document(self, path: str) -> Document | None:
        """Return a file that a run reads, or None."""
        return self._documents.get(path)

    def row(self, path: str) -> FileRow | None:
        """Return what the served snapshot holds of a file, or None."""
        return self._rows.get(path)

    @property
    def is_chunked_alike(self) -> bool:
        """Whether the served snapshot was chunked as the config says now."""
        known = self._catalogue.meta.get("chunking") if self._catalogue else None
        return known == self.definition.chunking.fingerprint()

    def read(self, document: Document) -> tuple[FileFacts, list[Chunk]]:
        """Read and chunk a file as a run would."""
        outcome, chunks = read_file(document, self.definition)
        facts = FileFacts(
            index=self.definition.name,
            path=document.path,
            outcome="pending" if outcome.status == "read" else _OUTCOMES[outcome.status],
            change="new" if self.served is not None and outcome.status == "read" else "",
            kind=outcome.kind or _kind_of(document.path, outcome.reason),
            language=outcome.language or document.language or "",
            encoding=outcome.encoding,
            size_bytes=document.size_bytes,
            chunks=outcome.chunks if outcome.status == "read" else None,
            reason=outcome.reason,
            detail=outcome.detail,
            note=outcome.note,
            redactions=tuple((line, kind) for line, kind in outcome.redactions),
        )
        return facts, chunks

    def _known(
        self, document: Document, row: FileRow, redactions: tuple[tuple[int, str], ...]
    ) -> FileFacts:
        """Tell of a file that the snapshot holds."""
        seen = self._cache.get(document.path)
        same = is_same_file(document, row) or (
            seen is not None
            and seen.content_hash == row.content_hash
            and is_same_file(document, seen)
        )
        same = same or hash_file(document.absolute) == row.content_hash
        failure = self._failed.get(document.path)
        return FileFacts(
            index=self.definition.name,
            path=document.path,
            outcome="failed" if failure else "indexed",
            change="" if same else "changed",
            kind=row.kind or document.kind,
            language=row.language,
            encoding=row.encoding,
            size_bytes=document.size_bytes,
            chunks=row.row_count,
            reason=failure.reason if failure else "",
            detail=failure.detail if failure else "",
            note=row.note,
            redactions=redactions,
        )

    def fill(self, facts: FileFacts) -> FileFacts:
        """Read and chunk a file that no snapshot tells about; return others as they are."""
        document = self._documents.get(facts.path)
        if document is None or facts.outcome != "pending":
            return facts
        return self.read(document)[0]

    def _pending(self, document: Document) -> FileFacts:
        """Tell of a file that the snapshot does not hold."""
        if (failure := self._failed.get(document.path)) is not None:
            return self._left(document, "failed", failure.reason, failure.detail)
        seen = self._cache.get(document.path)
        if seen is not None and seen.reason:
            if is_same_file(document, seen):
                return self._left(document, "skipped", seen.reason, seen.detail)
            return self.read(document)[0]  # its content decides, as in a run
        return self._left(document, "pending", "", "")

    def _left(self, document: Document, outcome: Outcome, reason: str, detail: str) -> FileFacts:
        is_new = outcome == "pending" and self.served is not None
        return FileFacts(
            index=self.definition.name,
            path=document.path,
            outcome=outcome,
            change="new" if is_new else "",
            kind=_kind_of(document.path, reason),
            language=document.language or "",
            size_bytes=document.size_bytes,
            reason=reason,
            detail=detail,
        )

    def _absent(self, path: str, row: FileRow | None) -> FileFacts:
        """Tell of a file that is no document now: left out, gone, or outside of ``docs``."""
        skip = self._skipped.get(path)
        if skip is None:
            is_there = os.path.lexists(self.definition.locate(path))
            skip = Skipped(path, "", "no entry of `docs` names it any more") if is_there else None
        return FileFacts(
            index=self.definition.name,
            path=path,
            outcome="indexed" if skip is None or not skip.reason else "skipped",
            change="gone" if skip is None else "changed" if row is not None else "",
            kind=row.kind if row else _kind_of(path, skip.reason if skip else ""),
            language=row.language if row else language_of(path.rpartition("/")[2]) or "",
            encoding=row.encoding if row else "",
            size_bytes=row.size_bytes if row else None,
            chunks=row.row_count if row else None,
            reason=skip.reason if skip else "",
            detail=skip.detail if skip else "",
        )

    def explain(self, path: str) -> FileFacts:
        """Say why a path that is not among the files is none of them."""
        for skip in self._skipped.values():
            if skip.path.endswith("/") and (path + "/").startswith(skip.path.removeprefix("./")):
                return self._unknown(path, "skipped", skip.reason, _with_all_of(skip))
        entries = ", ".join(self.definition.entries)
        if never := next((part for part in path.split("/") if part in _NEVER_ENTERED), ""):
            told = f"folders called {never} are never entered"
            return self._unknown(path, "unknown", "not in docs", told)
        if Path(self.definition.locate(path)).is_dir():
            return self._unknown(path, "unknown", "a folder", "name a file in it")
        if os.path.lexists(self.definition.locate(path)):
            told = f"it is there, and no entry of `docs` ({entries}) takes it in"
            return self._unknown(path, "unknown", "not in docs", told)
        told = f"there is no {self.definition.locate(path)}, and no snapshot holds it"
        return self._unknown(path, "unknown", "no such file", told)

    def _unknown(self, path: str, outcome: Outcome, reason: str, detail: str) -> FileFacts:
        index = self.definition.name
        return FileFacts(index=index, path=path, outcome=outcome, reason=reason, detail=detail)

    def name(self, given: str) -> str:
        """Return a path as users see it, from one that is relative to the working folder too."""
        shown = os.path.normpath(given)
        absolute = Path(os.path.abspath(given))  # noqa: PTH100 - links stay as the user wrote them
        if os.path.lexists(self.definition.locate(shown)) or not os.path.lexists(absolute):
            return shown
        for repository in self.definition.repositories:
            if absolute.is_relative_to(repository.root):
                return f"{repository.label}/{absolute.relative_to(repository.root).as_posix()}"
        return Path(os.path.relpath(absolute, self.definition.base)).as_posix()


_NEVER_ENTERED = {INDEX_FOLDER, *VCS_FOLDERS}
_OUTCOMES: dict[str, Outcome] = {"skipped": "skipped", "failed": "failed"}


def _kind_of(path: str, reason: str) -> str:
    """Return the kind of a file that no snapshot holds; "" for a folder that was not entered."""
    if reason in LEFT_OUT:
        return reason
    return "" if path.endswith("/") else kind_of(path)


def _with_all_of(skip: Skipped) -> str:
    return f"{skip.detail}; with all of {skip.path}" if skip.detail else f"with all of {skip.path}"


def _describe_entries(definition: IndexDefinition, scan: Scan) -> Iterator[str]:
    for entry in scan.missing:
        yield f"docs: {entry!r} names no file or folder: {scan.seen.get(entry, 'it is not there')}"
    yield from describe_barren(definition, scan)
