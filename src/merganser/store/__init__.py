"""The index on disk: immutable snapshots in DuckDB files, shared segments, one writer.

``layout`` has the folder and the switch, ``segments`` and ``catalogue`` write the files of a
snapshot, ``reader`` reads them, ``embeddings`` keeps vectors by content, ``snapshots`` lists,
rolls back and collects, ``history`` has one row a run, ``evaluations`` what retrieval reached,
``tokens`` says what a word is, ``shared`` and ``shared_journals`` are for what several machines
reach. What goes into a snapshot is decided in ``merganser.indexing``, what is found in it by
``merganser.retrieval``.
"""

from merganser.store.catalogue import DriftSample, FileRow, SegmentRow, SkippedRow
from merganser.store.evaluations import (
    EvaluationKind,
    EvaluationRow,
    MetricRow,
    QueryRow,
    list_evaluations,
    record_evaluation,
)
from merganser.store.folder import IndexFolder
from merganser.store.history import FailureRow, RunRow, list_failures, list_runs, record_run
from merganser.store.reader import (
    Filter,
    Postings,
    Similarity,
    Snapshot,
    StoredChunk,
    open_snapshot,
)
from merganser.store.snapshots import KEEP_SNAPSHOTS, SnapshotInfo, list_snapshots, rollback

__all__ = [
    "KEEP_SNAPSHOTS",
    "DriftSample",
    "EvaluationKind",
    "EvaluationRow",
    "FailureRow",
    "FileRow",
    "Filter",
    "IndexFolder",
    "MetricRow",
    "Postings",
    "QueryRow",
    "RunRow",
    "SegmentRow",
    "Similarity",
    "SkippedRow",
    "Snapshot",
    "SnapshotInfo",
    "StoredChunk",
    "list_evaluations",
    "list_failures",
    "list_runs",
    "list_snapshots",
    "open_snapshot",
    "record_evaluation",
    "record_run",
    "rollback",
]
