"""Look at every file of an index: what is whole, what is damaged, and what a repair would do.

A quick look compares names, sizes, identities and counts; reading the data takes in every byte.
Nothing is written, and nothing that is wrong raises, but for a folder that is no index or that a
newer merganser wrote.
"""

from __future__ import annotations

import json
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import duckdb
import numpy as np

from merganser.errors import DamagedIndexError, StoreBusyError, StoreError, StoreFormatError
from merganser.store import arrow
from merganser.store.ann import approximate_path, find_graph_problem
from merganser.store.catalogue import SegmentRow
from merganser.store.database import attach, connect
from merganser.store.folder import Current, IndexFolder
from merganser.store.history import list_runs
from merganser.store.identity import compute_checksum, wal_of
from merganser.store.journals import DRIFT_FILE, PARTIAL, read_drift_sample, read_journal
from merganser.store.segment_check import find_problems, read_identity
from merganser.store.snapshots import read_kept

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from merganser.store.catalogue import Catalogue

Kind = Literal["CURRENT", "catalogue", "segment", "graph", "journal", "history", "cache", "log"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A damaged file.

    Attributes:
        file: Its name in the index folder.
        problem: What is wrong, to be read after the name.
        repair: What ``merganser repair`` does about it.
        kind: What the file is.
        number: Of a snapshot or a segment; 0 for other files.
    """

    file: str
    problem: str
    repair: str
    kind: Kind
    number: int = 0


@dataclass(slots=True)
class Verification:
    """What was found in one index folder.

    Attributes:
        read_data: Whether every byte was read.
        faults: Damaged files, in the order in which they are repaired.
        notes: What is worth knowing and no damage.
        snapshots: The kept snapshots that are whole, newest served first.
        files: How many files were looked at.
    """

    read_data: bool
    faults: list[Fault] = field(default_factory=list[Fault])
    notes: list[str] = field(default_factory=list[str])
    snapshots: list[int] = field(default_factory=list[int])
    files: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether nothing is damaged."""
        return not self.faults

    def of(self, kind: Kind) -> list[Fault]:
        """Return the faults of a kind of file."""
        return [fault for fault in self.faults if fault.kind == kind]


def verify_index(folder: Path, *, read_data: bool) -> Verification:
    """Look at an index; may be called while a run writes it.

    Args:
        folder: The index folder.
        read_data: Read every byte: checksums, texts with their hashes, vectors, postings.

    Raises:
        StoreFormatError: The folder is no index, or of a newer merganser.
    """
    while True:
        before = _read_current_text(folder)
        found = _Look(IndexFolder(folder), read_data=read_data).run()
        # A run that published meanwhile may have removed what it was about to look at.
        if found.is_whole or _read_current_text(folder) == before:
            return found


def damaged_segments(index: IndexFolder, current: Current | None) -> frozenset[int]:
    """Read all segments, and return the numbers of those that are damaged.

    Args:
        index: The index.
        current: What is kept, or None: then all that lie there are looked at.
    """
    found: dict[int, SegmentRow] = {}
    for generation in current.kept if current else ():
        with suppress(StoreError):
            for row in read_kept(index, generation).segments:
                found[row.segment] = row
    for number in {*index.segments_on_disk()} - found.keys():
        found[number] = _row_of(index.segment(number), number)
    return frozenset(
        number
        for number, row in found.items()
        if find_problems(index.path / row.file, row, read_data=True)
    )


def _row_of(path: Path, number: int) -> SegmentRow:
    """Describe a segment that no catalogue names by what it says itself."""
    identity = read_identity(path)
    rows = -1
    with suppress(StoreError, FileNotFoundError, duckdb.Error), closing(connect(path.parent)) as c:
        attach(c, path, "s")
        rows = int(c.execute("SELECT count(*) FROM s.chunks").fetchall()[0][0])
    return SegmentRow(
        segment=number,
        file=path.name,
        row_count=rows,
        live_rows=0,
        size_bytes=path.stat().st_size,
        embedding=identity.embedding if identity else "",
        dimensions=identity.dimensions if identity else 0,
    )


def _read_current_text(folder: Path) -> bytes:
    with suppress(OSError):
        return (folder / "CURRENT").read_bytes()
    return b""


class _Look:
    """One look at an index."""

    def __init__(self, index: IndexFolder, *, read_data: bool) -> None:
        self.index = index
        self.found = Verification(read_data)
        self._segments: dict[int, list[str]] = {}
        self._nameless: set[int] = set()

    def run(self) -> Verification:
        current = self._read_current()
        if current is not None:
            rows = self._look_at_snapshots(current)
            self._look_at_graphs(rows)
            self._look_at_orphans(current, rows)
        elif not self.found.faults:
            self.found.notes.append("nothing has been indexed yet")
        self._look_at_journals()
        self._look_at_others()
        return self.found

    def _add(self, path: Path, kind: Kind, problem: str, repair: str, number: int = 0) -> None:
        name = path.relative_to(self.index.path).as_posix()
        self.found.faults.append(Fault(name, problem, repair, kind, number))

    def _read_current(self) -> Current | None:
        """Return what is kept; of a damaged CURRENT, what lies on disk."""
        try:
            current = self.index.read_current()
        except DamagedIndexError as error:
            what = "the newest snapshot that is whole is served again"
            self._add(self.index.path / "CURRENT", "CURRENT", error.problem, what)
            there = self.index.catalogues_on_disk()[::-1]
            current = Current(there[0], there, there[0] + 1, 0) if there else None
        self.found.files += current is not None
        return current

    def _look_at_snapshots(self, current: Current) -> Mapping[int, SegmentRow]:
        rows: dict[int, SegmentRow] = {}
        for generation in current.kept:
            path, is_served = self.index.catalogue(generation), generation == current.generation
            self.found.files += 1
            catalogue, problem = self._read_catalogue(current, generation)
            if catalogue is None:
                what = (
                    "an older snapshot is served and brought up to date"
                    if is_served
                    else "it is dropped"
                )
                self._add(path, "catalogue", problem, what, generation)
                continue
            broken = [
                self._look_at_segment(row, catalogue, is_served=is_served)
                for row in catalogue.segments
            ]
            rows |= {row.segment: row for row in catalogue.segments}
            self._nameless |= {row.segment for row in catalogue.segments if not row.identity}
            if not any(broken):
                self.found.snapshots.append(generation)
        if self._nameless:
            self.found.notes.append(
                f"{len(self._nameless)} segments of an older merganser have no identity; they get "
                "one as they are rewritten, all of them with `merganser index FILE --full`"
            )
        return rows

    def _read_catalogue(self, current: Current, generation: int) -> tuple[Catalogue | None, str]:
        path, mark = self.index.catalogue(generation), current.marks.get(generation)
        try:
            catalogue = read_kept(self.index, generation, mark)
            if self.found.read_data and mark and compute_checksum(path) != mark.checksum:
                return None, "is altered: its checksum is another one"
            if catalogue.meta.get("generation") != str(generation):
                return None, f"is snapshot {catalogue.meta.get('generation')}"
        except DamagedIndexError as error:
            return None, error.problem
        except StoreFormatError:
            raise
        except (StoreError, OSError) as error:
            return None, f"cannot be read: {error}"
        problem = _compare_catalogue(catalogue)
        return (None, problem) if problem else (catalogue, "")

    def _look_at_segment(self, row: SegmentRow, catalogue: Catalogue, *, is_served: bool) -> bool:
        """Look at a segment once, and return whether it is damaged."""
        path = self.index.path / row.file
        known = self._segments.get(row.segment)
        if known is None:
            self.found.files += 1
            known = find_problems(path, row, read_data=self.found.read_data, files=catalogue.files)
            self._segments[row.segment] = known
            if known:
                count = sum(f.segment == row.segment for f in catalogue.files)
                what = (
                    f"its {count} files are read again, and texts without a vector embedded"
                    if is_served
                    else "the older snapshots that need it are dropped"
                )
                self._add(path, "segment", known[0], what, row.segment)
        return bool(known)

    def _look_at_graphs(self, rows: Mapping[int, SegmentRow]) -> None:
        what = "it is removed, and built anew with the next run that publishes"
        for number in self.index.graphs_on_disk():
            path = approximate_path(self.index.segment(number))
            if not path.exists() or number not in rows:
                continue
            self.found.files += 1
            row = rows[number]
            problem = find_graph_problem(
                path, row.row_count, row.dimensions, row.identity, read_data=self.found.read_data
            )
            if problem:
                self._add(path, "graph", problem, what, number)

    def _look_at_orphans(self, current: Current, rows: Mapping[int, SegmentRow]) -> None:
        orphans = [n for n in self.index.segments_on_disk() if n not in rows]
        orphans += [n for n in self.index.catalogues_on_disk() if n not in current.kept]
        if orphans and not self.found.faults:
            self.found.notes.append(
                f"{len(orphans)} files are of no kept snapshot; the next run removes them"
            )

    def _look_at_journals(self) -> None:
        root = self.index.embeddings
        if not root.is_dir():
            return
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            sample = read_drift_sample(folder / DRIFT_FILE)
            journals = sorted(folder.glob("*.npz"))
            if journals and sample is None:
                what = "the journals are removed: whose vectors they hold is not known"
                self._add(folder / DRIFT_FILE, "journal", "is missing or damaged", what)
                continue
            if partial := len([*folder.glob(f"*{PARTIAL}")]):
                self.found.notes.append(
                    f"{partial} journals of a run that is under way or died; the next run takes in "
                    "what is whole in them"
                )
            for path in journals:
                self.found.files += 1
                journal = read_journal(path)
                problem = ""
                if journal is None:
                    problem = "is damaged or cut off"
                elif sample is not None and not journal.is_of(sample[0]):
                    problem = "is of another model than its folder"
                elif not (np.isfinite(journal.vectors).all() and journal.vectors.any(axis=1).all()):
                    problem = "has vectors that are zero or no numbers"
                if problem:
                    self._add(
                        path, "journal", problem, "it is removed, its texts are embedded again"
                    )

    def _look_at_others(self) -> None:
        index = self.index
        if index.history.exists():
            self.found.files += 1
            try:
                _read_history(index, read_data=self.found.read_data)
            except StoreBusyError as error:
                self.found.notes.append(str(error))
            except (StoreError, duckdb.Error) as error:
                what = "it is moved to damaged/, and a new one begun: past runs are lost"
                self._add(index.history, "history", f"cannot be read: {error}", what)
        if index.scan_cache.exists():
            self.found.files += 1
            try:
                data = json.loads(index.scan_cache.read_bytes())
                is_cache = isinstance(data, dict) and "rules" in data
            except (OSError, ValueError):
                is_cache = False
            if not is_cache:
                self._add(
                    index.scan_cache, "cache", "is damaged", "it is removed: it only saves time"
                )
        for path in sorted(index.path.glob("[gs]*.duckdb")) if index.path.is_dir() else ():
            if wal_of(path).exists() and not any(f.file == path.name for f in self.found.faults):
                self._add(wal_of(path), "log", "was left by another program", "it is removed")


def _compare_catalogue(catalogue: Catalogue) -> str:
    """Return what is wrong between the tables of a catalogue."""
    live: dict[int, int] = {}
    for file in catalogue.files:
        if file.row_count:
            live[file.segment] = live.get(file.segment, 0) + file.row_count
    named = {row.segment: row.live_rows for row in catalogue.segments}
    return "" if live == named else "names files in segments that it does not count"


def _read_history(index: IndexFolder, *, read_data: bool) -> None:
    list_runs(index)
    if not read_data:
        return
    with closing(connect(index.path)) as connection:
        attach(connection, index.history, "h")
        for (table,) in connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE database_name = 'h'"
        ).fetchall():
            quoted = '"' + table.replace('"', '""') + '"'
            arrow.fetch_batches(connection, f"SELECT * FROM h.main.{quoted}")  # noqa: S608 - quoted
