"""Find out what a run has to do, reading as few files as possible and writing nothing.

A file whose size, times and inode are those of the served snapshot is unchanged and not opened.
Otherwise its content is hashed, and a file with the old content is unchanged too. As in git's
index, a file that was modified at about the moment it was last looked at may have changed since
without a new time, so it is hashed as well. The change time (ctime) is the one that no program sets
back; snapshots before it was kept are believed by the modification time once more.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from merganser.documents.reading import READING_VERSION
from merganser.documents.scanning import Skipped
from merganser.documents.secrets import secrets_fingerprint
from merganser.errors import PlanError, StoreError
from merganser.indexing.drift import is_served_by
from merganser.indexing.scan_cache import ScannedFile, load_scan_cache, save_scan_cache
from merganser.indexing.scope import Scope
from merganser.indexing.sources import check_missing, describe_barren, describe_empty, scan_index
from merganser.store.database import SCHEMA_VERSION
from merganser.store.folder import IndexFolder
from merganser.store.history import list_noted_skips
from merganser.store.snapshots import check_segments, read_kept
from merganser.store.tokens import TOKENISER_VERSION
from merganser.store.verification import damaged_segments
from merganser.telemetry import span

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.config.index_definition import IndexDefinition
    from merganser.documents.scanning import Document, Scan
    from merganser.documents.skipping import SkippedFile
    from merganser.store.catalogue import Catalogue, FileRow

_SECOND_NS = 1_000_000_000
_COARSE_NS = 2 * _SECOND_NS  # FAT stores even seconds, HFS+ and old NFS whole ones
_FINE_NS = 20_000_000  # Linux stamps files with the kernel's tick, 1 to 10 ms


@dataclass(frozen=True, slots=True)
class Moved:
    """A file whose content stood under another path before.

    Attributes:
        document: The file now.
        origin: Path of the content in the served snapshot.
    """

    document: Document
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs between the files and the served snapshot.

    Attributes:
        definition: The index.
        fingerprint: Fingerprint of the embedding model, "" without one.
        full: Whether all was to be done anew.
        scope: What the next snapshot will hold.
        stat_ns: When the scan began, in nanoseconds since the epoch.
        base_generation: The served snapshot, or None.
        reasons: Why unchanged files have to be done again too, for example "the chunking changed".
        added: New files, by path.
        changed: Files with other content (all known ones, when there are reasons), by path.
        moved: Files that were renamed, by path.
        removed: Paths in the snapshot that are gone, moved ones not included.
        unchanged: Number of files that stay as they are.
        touched: Unchanged files with a new status.
        outside: Number of files of the snapshot that this run does not look at and keeps.
        skipped: Files not indexed, with the reasons known so far.
        barren: What is said of entries of ``docs`` that give nothing.
        known_skips: Path and reason of what was not indexed by the last run either; None when
            there was none, or all is done anew.
        scanned: Number of files that are to be in the index, as far as the scan can tell.
        damaged: Numbers of the segments that a repair found damaged: their files are changed ones.
        repair: Whether the run repairs, so that whatever vectors are there are looked for.
    """

    definition: IndexDefinition
    fingerprint: str
    full: bool
    scope: Scope
    stat_ns: int
    base_generation: int | None
    reasons: tuple[str, ...]
    added: tuple[Document, ...]
    changed: tuple[Document, ...]
    moved: tuple[Moved, ...]
    removed: tuple[str, ...]
    unchanged: int
    touched: tuple[ScannedFile, ...]
    outside: int
    skipped: tuple[Skipped, ...]
    barren: tuple[str, ...]
    known_skips: frozenset[tuple[str, str]] | None
    scanned: int
    damaged: frozenset[int] = frozenset()
    repair: bool = False

    @property
    def pending(self) -> tuple[Document, ...]:
        """The files that have to be read, by path."""
        moved = (move.document for move in self.moved)
        return tuple(sorted((*self.added, *self.changed, *moved), key=lambda d: d.path))

    @property
    def has_work(self) -> bool:
        """Whether there is anything to do at all."""
        return bool(self.added or self.changed or self.moved or self.removed or self.reasons)

    def find_new(self, skipped: Iterable[SkippedFile]) -> frozenset[str]:
        """Return the paths of those files that the last run did not leave out, or not for that."""
        known = self.known_skips
        if known is None:
            return frozenset()
        return frozenset(one.path for one in skipped if (one.path, one.reason) not in known)


def find_changes(
    definition: IndexDefinition, *, fingerprint: str, full: bool = False, repair: bool = False
) -> Changes:
    """Compare the files with the served snapshot.

    Args:
        definition: The index.
        fingerprint: Fingerprint of the embedding model, "" for an index without embeddings.
        full: Do everything anew, and hold exactly this definition's files; vectors of equal texts
            are still reused.
        repair: Read all of the segments, and do the files anew whose segments are damaged.

    Raises:
        SpecErrors: An entry of ``docs`` names nothing; with its position.
        PlanError: There is no file to index.
        StoreFormatError: Something else stands where the index should be.
        DamagedIndexError: A file of the served snapshot is missing, cut off or another one.
    """
    with span("scan", {"merganser.index": definition.name}) as scanning:
        found = _find_changes(definition, fingerprint=fingerprint, full=full, repair=repair)
        scanning.set_attributes(
            {
                "merganser.files": found.scanned,
                "merganser.files.added": len(found.added),
                "merganser.files.changed": len(found.changed),
                "merganser.files.moved": len(found.moved),
                "merganser.files.removed": len(found.removed),
                "merganser.files.skipped": len(found.skipped),
            }
        )
    return found


def _find_changes(
    definition: IndexDefinition, *, fingerprint: str, full: bool, repair: bool
) -> Changes:
    folder = IndexFolder(definition.folder)
    current = folder.read_current()
    stat_ns = time.time_ns()
    scan = scan_index(definition)
    _check_scan(definition, scan)
    base = None
    if current is not None and not full:
        mark = current.marks.get(current.generation)
        base = read_kept(folder, current.generation, mark)
    lost = frozenset[int]()
    if repair:
        lost = damaged_segments(folder, current)
    elif base is not None:
        check_segments(folder, base.segments)
    reasons = ("a full run was asked for",) if full and current else ()
    if base is not None:
        reasons = _reasons(base, definition, fingerprint)
    seen = {} if full else load_scan_cache(folder.scan_cache)
    rows = {file.path: file for file in base.files} if base else {}
    found = _Comparison(rows, seen, stat_ns, lost)
    found.compare(scan.documents, redo=bool(reasons))
    scope, gone, outside = _divide_missing(definition, base, found.missing)
    if outside and reasons:
        raise PlanError(
            f"{' and '.join(reasons)}, so everything must be done again, but {outside} files of "
            f"the index are outside of this run's docs ({', '.join(definition.entries)}): run with "
            "all docs, or with --full to drop them"
        )
    if stranded := outside and sum(
        rows[path].segment in lost for path in {*found.missing} - {*gone}
    ):
        raise PlanError(
            f"{stranded} files in damaged segments are outside of this run's docs "
            f"({', '.join(definition.entries)}): repair with all docs, or run `merganser index "
            "FILE --full` to drop them"
        )
    moved = _find_moves(found.added, gone, found.base)
    origins = {move.origin for move in moved}
    targets = {move.document.path for move in moved}
    skipped = (*scan.skipped, *found.skipped)
    if found.learnt:
        save_scan_cache(folder.scan_cache, (seen | found.learnt).values())
    return Changes(
        definition=definition,
        fingerprint=fingerprint,
        full=full,
        scope=scope,
        stat_ns=stat_ns,
        base_generation=current.generation if current else None,
        reasons=reasons,
        added=tuple(d for d in found.added if d.path not in targets),
        changed=tuple(found.changed),
        moved=moved,
        removed=tuple(path for path in gone if path not in origins),
        unchanged=found.unchanged,
        touched=tuple(found.touched),
        outside=outside,
        skipped=skipped,
        barren=tuple(describe_barren(definition, scan)),
        known_skips=_known_skips(folder, base, skipped),
        scanned=len(scan.documents),
        damaged=lost,
        repair=repair,
    )


def _known_skips(
    folder: IndexFolder, base: Catalogue | None, skipped: Sequence[Skipped]
) -> frozenset[tuple[str, str]] | None:
    """Return what the last run left out already: a run that publishes nothing writes it down."""
    if base is None:
        return None
    known = frozenset((one.path, one.reason) for one in base.skipped)
    if any((one.path, one.reason) not in known for one in skipped):
        with suppress(StoreError):  # a history that cannot be read ends no run
            known |= list_noted_skips(folder, int(base.meta["generation"]))
    return known


_BY_CONTENT = frozenset({"generated", "kind", "minified"})


def _is_unwanted(document: Document, row: FileRow) -> bool:
    """Return whether a file is there because of a key that no longer takes it."""
    return row.kind == "generated" and "generated" not in document.wanted


class _Comparison:
    """Sort files by what happened to them."""

    def __init__(
        self,
        base: Mapping[str, FileRow],
        scan_cache: Mapping[str, ScannedFile],
        stat_ns: int,
        lost: frozenset[int],
    ) -> None:
        self.base = base
        self.added: list[Document] = []
        self.changed: list[Document] = []
        self.touched: list[ScannedFile] = []
        self.learnt: dict[str, ScannedFile] = {}
        self.skipped: list[Skipped] = []
        self.unchanged = 0
        self.missing: list[str] = []
        self._seen = scan_cache
        self._stat_ns = stat_ns
        self._lost = lost

    def compare(self, documents: Sequence[Document], *, redo: bool) -> None:
        present = {document.path for document in documents}
        self.missing = [path for path in self.base if path not in present]
        for document in documents:
            row = self.base.get(document.path)
            known = self._seen.get(document.path)
            seen = known if known is not None and is_same_file(document, known) else None
            if row is None:
                # What the old rules skipped may be worth reading under the new ones.
                self._take_unknown(document, None if redo else seen)
            elif (
                redo or (row.segment in self._lost and row.row_count) or _is_unwanted(document, row)
            ):
                self.changed.append(document)
            else:
                is_doubted = known is not None and seen is None
                self._take_known(document, row, seen, is_doubted=is_doubted)

    def _take_unknown(self, document: Document, seen: ScannedFile | None) -> None:
        # ``include`` or ``kinds`` may take what a run before left out.
        is_wanted = "generated" in document.wanted
        if seen is not None and seen.reason and not (is_wanted and seen.reason in _BY_CONTENT):
            self.skipped.append(Skipped(document.path, seen.reason, seen.detail))
        else:
            self.added.append(document)

    def _take_known(
        self, document: Document, row: FileRow, seen: ScannedFile | None, *, is_doubted: bool
    ) -> None:
        if seen is not None:
            content_hash = seen.content_hash
        elif is_same_file(document, row) and (row.ctime_ns or not is_doubted):
            if row.ctime_ns or not document.ctime_ns:
                self.unchanged += 1
                return
            content_hash = row.content_hash  # the change time is learnt without reading
        else:
            content_hash = hash_file(document.absolute)
        if content_hash != row.content_hash:
            self.changed.append(document)
            return
        self.unchanged += 1
        if seen is None:
            seen = ScannedFile.of(document, self._stat_ns, content_hash=content_hash)
            self.learnt[document.path] = seen
        self.touched.append(seen)


def is_same_file(document: Document, seen: FileRow | ScannedFile) -> bool:
    """Return whether a file's status proves that its content is what was seen."""
    if (document.size_bytes, document.mtime_ns, document.inode) != (
        seen.size_bytes,
        seen.mtime_ns,
        seen.inode,
    ):
        return False
    if seen.ctime_ns and document.ctime_ns != seen.ctime_ns:
        return False
    # A file may say that it was modified in the year 2300; when it was written, the system knows.
    written_ns = document.ctime_ns if seen.ctime_ns else document.mtime_ns
    granularity = _COARSE_NS if written_ns % _SECOND_NS == 0 else _FINE_NS
    return written_ns < seen.stat_ns - granularity


def hash_file(path: str) -> str:
    """Return the content hash of a file in hex; "" when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError:
        return ""  # a change: reading it will say what is wrong


def _reasons(base: Catalogue, definition: IndexDefinition, fingerprint: str) -> tuple[str, ...]:
    expected = {
        "chunking": (definition.chunking.fingerprint(), "the chunking changed"),
        "embedding": (fingerprint, _why_other_model(base, fingerprint)),
        "reading": (str(READING_VERSION), "the way of reading files changed"),
        "secrets": (secrets_fingerprint(definition.secrets), "what is done about secrets changed"),
        "tokeniser": (str(TOKENISER_VERSION), "the tokeniser changed"),
        "schema_version": (str(SCHEMA_VERSION), "the format of the index changed"),
    }
    # What stands in no snapshot of an older version.
    meta = {"reading": "1", "secrets": secrets_fingerprint("keep"), **base.meta}
    return tuple(why for key, (value, why) in expected.items() if meta.get(key) != value)


def _why_other_model(base: Catalogue, fingerprint: str) -> str:
    if is_served_by(base.meta.get("embedding", ""), fingerprint.partition("+")[0]):
        return "the embedding model changed behind its unchanged name"
    return "the embedding model changed"


def _divide_missing(
    definition: IndexDefinition, base: Catalogue | None, missing: Sequence[str]
) -> tuple[Scope, list[str], int]:
    """Return the next scope, the paths that are gone, and how many were not looked at."""
    scope = Scope.of(definition.entries, respect_vcs=definition.respect_vcs)
    if base is None:
        return scope, [], 0
    recorded = Scope.from_text(base.meta["scope"])
    if recorded.docs == scope.docs:
        return scope, list(missing), 0
    gone = [path for path in missing if scope.covers(path, definition.base)]
    outside = len(missing) - len(gone)
    return (scope.union(recorded) if outside else scope), gone, outside


def _find_moves(
    added: Sequence[Document], gone: Sequence[str], base: Mapping[str, FileRow]
) -> tuple[Moved, ...]:
    """Pair new files with vanished ones of the same content."""
    origins: dict[tuple[int, str], list[str]] = {}
    for path in gone:
        origins.setdefault((base[path].size_bytes, base[path].content_hash), []).append(path)
    sizes = {size for size, _ in origins}
    moves: list[Moved] = []
    for document in added:
        if document.size_bytes in sizes:
            paths = origins.get((document.size_bytes, hash_file(document.absolute)))
            if paths:
                moves.append(Moved(document, paths.pop(0)))
    return tuple(moves)


def _check_scan(definition: IndexDefinition, scan: Scan) -> None:
    check_missing(definition, scan)
    if not scan.documents:
        raise PlanError(describe_empty(definition, scan.skipped))
