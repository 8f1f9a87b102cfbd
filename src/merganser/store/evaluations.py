"""Evaluations in the history: figures, thresholds and per-query values, one transaction each.

They lie beside the runs of the rag's first index and can be read with plain SQL; see
``docs/index-folder.md``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, astuple, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from merganser.store import arrow
from merganser.store.database import attach_new
from merganser.store.history import attach_history, open_history, with_zone, without_zone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    import duckdb

    from merganser.store.folder import IndexFolder

_TABLES = (
    """CREATE TABLE IF NOT EXISTS h.evaluations (
    evaluation_id VARCHAR, kind VARCHAR, flow VARCHAR, rag VARCHAR, started TIMESTAMP,
    finished TIMESTAMP, snapshots VARCHAR, queries_file VARCHAR, queries_fingerprint VARCHAR,
    queries INTEGER, failed INTEGER, stale INTEGER, passed BOOLEAN, baseline VARCHAR)""",
    """CREATE TABLE IF NOT EXISTS h.evaluation_metrics (
    evaluation_id VARCHAR, metric VARCHAR, value DOUBLE, low DOUBLE, high DOUBLE,
    baseline DOUBLE, min DOUBLE, max_drop DOUBLE, problem VARCHAR)""",
    """CREATE TABLE IF NOT EXISTS h.evaluation_queries (
    evaluation_id VARCHAR, ord INTEGER, query_id VARCHAR, query VARCHAR, labels INTEGER,
    missed INTEGER, stale INTEGER, first_rank INTEGER, error VARCHAR, seconds DOUBLE)""",
    """CREATE TABLE IF NOT EXISTS h.evaluation_values (
    evaluation_id VARCHAR, query_id VARCHAR, metric VARCHAR, value DOUBLE)""",
)

_QUERY_TEXTS = ("query_id", "query", "error")
_QUERY_COUNTS = ("labels", "missed", "stale", "first_rank")

EvaluationKind = Literal["gate", "evaluate"]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of an evaluation with what was required of it; None where nothing was."""

    metric: str
    value: float
    low: float
    high: float
    baseline: float | None = None
    min: float | None = None
    max_drop: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRow:
    """One query of an evaluation.

    Attributes:
        query_id: Name of the query in the set.
        query: Text of the query.
        labels: Passages that were expected.
        missed: Labels that no hit matches.
        stale: Labels that no hit can match any more.
        first_rank: Rank of the first relevant hit from 1, 0 when there is none.
        error: Why it failed, or "".
        seconds: Wall time.
        values: By the metric's name.
    """

    query_id: str
    query: str
    labels: int
    missed: int
    stale: int
    first_rank: int
    error: str
    seconds: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationRow:
    """One evaluation of a rag.

    Attributes:
        evaluation_id: Name of the evaluation.
        kind: ``gate`` for one of a snapshot that was not published yet, else ``evaluate``.
        flow: The flow that made it.
        rag: What was evaluated.
        started: With time zone; stored in UTC.
        finished: As ``started``.
        snapshots: What was searched: ``index=generation@run`` of each index.
        queries_file: The query set.
        queries_fingerprint: Fingerprint of the queries with what they expect.
        queries: Number of queries.
        failed: Queries that could not be searched.
        stale: Labels that cannot be found.
        passed: Whether all thresholds hold.
        baseline: What it was compared with, or "".
        metrics: The figures.
        results: One a query; left out by ``list_evaluations``.
    """

    evaluation_id: str
    kind: EvaluationKind
    flow: str
    rag: str
    started: datetime
    finished: datetime
    snapshots: str
    queries_file: str
    queries_fingerprint: str
    queries: int
    failed: int
    stale: int
    passed: bool
    baseline: str
    _: KW_ONLY
    metrics: tuple[MetricRow, ...] = ()
    results: tuple[QueryRow, ...] = field(default=(), repr=False)

    @property
    def values(self) -> dict[str, float]:
        """The figures by the metric's name."""
        return {row.metric: row.value for row in self.metrics}


_COLUMNS = tuple(f.name for f in fields(EvaluationRow) if f.name not in {"metrics", "results"})


def record_evaluation(index: IndexFolder, row: EvaluationRow) -> None:
    """Append one evaluation with its metrics and queries, all or nothing.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be written.
    """

    def write(connection: duckdb.DuckDBPyConnection) -> None:
        attach_new(connection, index.history, "h")
        connection.execute("BEGIN").fetchall()
        for table in _TABLES:
            connection.execute(table).fetchall()
        values = [without_zone(getattr(row, name)) for name in _COLUMNS]
        _insert(connection, "h.evaluations", values)
        for metric in row.metrics:
            _insert(connection, "h.evaluation_metrics", [row.evaluation_id, *astuple(metric)])
        _insert_queries(connection, row)
        connection.execute("COMMIT").fetchall()
        connection.execute("DETACH h").fetchall()

    open_history(index, write)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, values: list[Any]) -> None:
    marks = ", ".join("?" for _ in values)
    connection.execute(f"INSERT INTO {table} VALUES ({marks})", values).fetchall()  # noqa: S608 - our own names


def _insert_queries(connection: duckdb.DuckDBPyConnection, row: EvaluationRow) -> None:
    results = row.results
    arrow.insert(
        connection,
        "h.evaluation_queries",
        {
            "evaluation_id": [row.evaluation_id] * len(results),
            "ord": np.arange(len(results), dtype=np.int32),
            **{name: [getattr(one, name) for one in results] for name in _QUERY_TEXTS},
            **{
                name: np.array([getattr(one, name) for one in results], dtype=np.int32)
                for name in _QUERY_COUNTS
            },
            "seconds": np.array([one.seconds for one in results], dtype=np.float64),
        },
    )
    pairs = [(one.query_id, name, value) for one in results for name, value in one.values.items()]
    arrow.insert(
        connection,
        "h.evaluation_values",
        {
            "evaluation_id": [row.evaluation_id] * len(pairs),
            "query_id": [query for query, _, _ in pairs],
            "metric": [name for _, name, _ in pairs],
            "value": np.array([value for _, _, value in pairs], dtype=np.float64),
        },
    )


def list_evaluations(
    index: IndexFolder, *, rag: str | None = None, queries: str | None = None, limit: int = 20
) -> tuple[EvaluationRow, ...]:
    """Return the latest evaluations with their metrics, newest first.

    Args:
        index: Folder of the rag's first index.
        rag: Only of this rag.
        queries: Only of query sets with this fingerprint, which can be compared.
        limit: How many at most.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be read.
    """

    def read(connection: duckdb.DuckDBPyConnection) -> tuple[EvaluationRow, ...]:
        if not attach_history(connection, index, "evaluations"):
            return ()
        rows = connection.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM h.evaluations "  # noqa: S608 - our own names
            "WHERE ($1 IS NULL OR rag = $1) AND ($2 IS NULL OR queries_fingerprint = $2) "
            f"ORDER BY started DESC, evaluation_id LIMIT {limit:d}",
            [rag, queries],
        ).fetchall()
        metrics = connection.execute(
            "SELECT * FROM h.evaluation_metrics WHERE list_contains($1, evaluation_id)",
            [[row[0] for row in rows]],
        ).fetchall()
        return tuple(
            EvaluationRow(
                *(with_zone(value) for value in row),
                metrics=tuple(MetricRow(*line[1:]) for line in metrics if line[0] == row[0]),
            )
            for row in rows
        )

    return open_history(index, read) if index.history.exists() else ()
