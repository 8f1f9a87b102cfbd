"""What an index folder knows: what is served, its sources, its runs and its evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from merganser.report.treemap import Source
from merganser.store import (
    EvaluationRow,
    FailureRow,
    IndexFolder,
    RunRow,
    SkippedRow,
    SnapshotInfo,
    list_evaluations,
    list_failures,
    list_runs,
    list_snapshots,
)
from merganser.store.snapshots import read_kept

if TYPE_CHECKING:
    from pathlib import Path

RUNS = 20
"""Runs in a report; a month of nightly ones fits a screen no more."""

_EVALUATIONS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """One index.

    Attributes:
        name: As in the config, or the folder's.
        folder: Where it lies.
        snapshots: The kept ones, newest first.
        sources: Of the served snapshot, by path.
        skipped: Files that were found and are not in it, by path.
        runs: The latest, newest first.
        failures: Files that these runs could not index.
        trends: Evaluations that can be compared, oldest first; the latest evaluated come first.
    """

    name: str
    folder: Path
    snapshots: tuple[SnapshotInfo, ...] = ()
    sources: tuple[Source, ...] = ()
    skipped: tuple[SkippedRow, ...] = ()
    runs: tuple[RunRow, ...] = ()
    failures: tuple[FailureRow, ...] = ()
    trends: tuple[tuple[EvaluationRow, ...], ...] = ()

    @property
    def served(self) -> SnapshotInfo | None:
        """The served snapshot, or None when nothing has been published."""
        return next((one for one in self.snapshots if one.served), None)


def read_facts(name: str, folder: Path) -> IndexFacts:
    """Read an index folder; one that is not there yet has no facts.

    Raises:
        StoreFormatError: A foreign or too new file stands there.
        StoreBusyError: Other processes kept the history busy for seconds.
        StoreError: The index is damaged.
    """
    index = IndexFolder(folder)
    snapshots = list_snapshots(folder)
    runs = list_runs(index, limit=RUNS)
    served = next((one for one in snapshots if one.served), None)
    catalogue = read_kept(index, served.generation) if served else None
    files = catalogue.files if catalogue else ()
    return IndexFacts(
        name=name,
        folder=folder,
        snapshots=snapshots,
        sources=tuple(Source(f.path, f.size_bytes, f.mtime_ns, f.row_count) for f in files),
        skipped=catalogue.skipped if catalogue else (),
        runs=runs,
        failures=list_failures(index, runs),
        trends=_comparable(list_evaluations(index, limit=_EVALUATIONS)),
    )


def _comparable(rows: tuple[EvaluationRow, ...]) -> tuple[tuple[EvaluationRow, ...], ...]:
    """Group evaluations of the same rag by the same queries."""

    def key(row: EvaluationRow) -> tuple[str, str]:
        return row.rag, row.queries_fingerprint

    by_time = sorted((row for row in rows if row.metrics), key=lambda row: row.started)
    groups = [tuple(group) for _, group in groupby(sorted(by_time, key=key), key)]
    return tuple(sorted(groups, key=lambda group: group[-1].started, reverse=True))
