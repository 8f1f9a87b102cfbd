"""One row a run, in a database that any process may write for an instant.

DuckDB locks a file for the process that has it open, so it is opened, written and closed for each
row, and a writer that meets another one tries again for a bounded time.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np

from merganser.errors import StoreError, StoreFormatError
from merganser.store import arrow
from merganser.store.database import attach_new, connect, quote, refuse_views, wait_for_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from merganser.store.database import R
    from merganser.store.folder import IndexFolder

_RUNS_TABLE = """CREATE TABLE IF NOT EXISTS h.runs (
    run_id VARCHAR, started TIMESTAMP, finished TIMESTAMP, status VARCHAR, generation INTEGER,
    files INTEGER, added INTEGER, changed INTEGER, moved INTEGER, removed INTEGER, failed INTEGER,
    skipped INTEGER, chunks BIGINT, texts_embedded BIGINT, texts_reused BIGINT, bytes BIGINT,
    error VARCHAR)"""

_FAILURES_TABLE = """CREATE TABLE IF NOT EXISTS h.failures (
    run_id VARCHAR, path VARCHAR, reason VARCHAR, detail VARCHAR)"""


_SKIPS_TABLE = """CREATE TABLE IF NOT EXISTS h.skips (
    run_id VARCHAR, generation INTEGER, path VARCHAR, reason VARCHAR)"""


@dataclass(frozen=True, slots=True)
class SkipRow:
    """A file that a run left out for the first time and published nothing about.

    Attributes:
        run_id: Name of the run.
        generation: The snapshot that was served, and does not list the file.
        path: As users see it.
        reason: A short word.
    """

    run_id: str
    generation: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class FailureRow:
    """A file that a run could not index; its old version stayed, when there was one."""

    run_id: str
    path: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of an index.

    Attributes:
        run_id: Name of the run.
        started: With time zone; stored in UTC.
        finished: As ``started``.
        status: ``published``, ``unchanged``, ``degraded`` (published, with failed files) or
            ``failed``.
        generation: The snapshot it published, or None.
        files: Live files after it.
        added: New files.
        changed: Files with other content.
        moved: Renamed files.
        removed: Files that are gone.
        failed: Files that kept their old version.
        skipped: Files not indexed, for a stated reason.
        chunks: Live chunks after it.
        texts_embedded: Texts sent to the model.
        texts_reused: Texts whose vectors were there.
        bytes: Size of the files that were read.
        error: What ended it, or "".
    """

    run_id: str
    started: datetime
    finished: datetime
    status: str
    generation: int | None = None
    files: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    failed: int = 0
    skipped: int = 0
    chunks: int = 0
    texts_embedded: int = 0
    texts_reused: int = 0
    bytes: int = 0
    error: str = ""


def record_run(
    index: IndexFolder,
    run: RunRow,
    failures: Sequence[FailureRow] = (),
    skips: Sequence[SkipRow] = (),
) -> None:
    """Append one run.

    Args:
        index: Whose history.
        run: What it did.
        failures: The files that it could not index.
        skips: What it left out first, when it published nothing; all beside one snapshot.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be written.
    """

    def write(connection: duckdb.DuckDBPyConnection) -> None:
        attach_new(connection, index.history, "h")
        connection.execute("BEGIN").fetchall()
        connection.execute(_RUNS_TABLE).fetchall()
        marks = ", ".join("?" for _ in fields(RunRow))
        connection.execute(
            f"INSERT INTO h.runs VALUES ({marks})",  # noqa: S608 - names and numbers of our own
            [without_zone(value) for value in astuple(run)],
        ).fetchall()
        if failures:
            connection.execute(_FAILURES_TABLE).fetchall()
            rows = [astuple(failure) for failure in failures]
            connection.executemany("INSERT INTO h.failures VALUES (?, ?, ?, ?)", rows)
        if skips:
            _insert_skips(connection, skips)
        connection.execute("COMMIT").fetchall()
        connection.execute("DETACH h").fetchall()

    open_history(index, write)


def _insert_skips(connection: duckdb.DuckDBPyConnection, skips: Sequence[SkipRow]) -> None:
    """Write down what is left out beside the served snapshot, in place of earlier ones'."""
    connection.execute(_SKIPS_TABLE).fetchall()
    generation = skips[0].generation
    connection.execute("DELETE FROM h.skips WHERE generation <> $1", [generation]).fetchall()
    columns: dict[str, NDArray[np.int32] | list[str]] = {
        "run_id": [row.run_id for row in skips],
        "generation": np.full(len(skips), generation, np.int32),
        "path": [row.path for row in skips],
        "reason": [row.reason for row in skips],
    }
    arrow.insert(connection, "h.skips", columns)


def list_runs(index: IndexFolder, *, limit: int = 100) -> tuple[RunRow, ...]:
    """Return the latest runs, newest first.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be read.
    """

    def read(connection: duckdb.DuckDBPyConnection) -> tuple[RunRow, ...]:
        attach_history(connection, index, "runs")
        names = [field.name for field in fields(RunRow)]
        rows = connection.execute(
            f"SELECT {', '.join(names)} FROM h.runs ORDER BY started DESC, run_id LIMIT {limit:d}"  # noqa: S608 - names and numbers of our own
        ).fetchall()
        return tuple(RunRow(**dict(zip(names, map(with_zone, row), strict=True))) for row in rows)

    return open_history(index, read) if index.history.exists() else ()


def list_failures(index: IndexFolder, runs: Sequence[RunRow]) -> tuple[FailureRow, ...]:
    """Return the files that some runs could not index, by run and path.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be read.
    """

    def read(connection: duckdb.DuckDBPyConnection) -> tuple[FailureRow, ...]:
        if not attach_history(connection, index, "failures"):
            return ()
        rows = connection.execute(
            "SELECT run_id, path, reason, detail FROM h.failures "
            "WHERE list_contains($1, run_id) ORDER BY run_id DESC, path",
            [[run.run_id for run in runs]],
        ).fetchall()
        return tuple(FailureRow(*row) for row in rows)

    return open_history(index, read) if runs else ()


def list_noted_skips(index: IndexFolder, generation: int) -> frozenset[tuple[str, str]]:
    """Return path and reason of what runs that published nothing left out beside a snapshot.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreError: It cannot be read.
    """

    def read(connection: duckdb.DuckDBPyConnection) -> frozenset[tuple[str, str]]:
        if not attach_history(connection, index, "skips"):
            return frozenset()
        query = "SELECT path, reason FROM h.skips WHERE generation = $1"
        return frozenset(connection.execute(query, [generation]).fetchall())

    return open_history(index, read) if index.history.exists() else frozenset()


def attach_history(connection: duckdb.DuckDBPyConnection, index: IndexFolder, table: str) -> bool:
    """Attach the history as ``h``, read-only, and tell whether it has a table already."""
    connection.execute(
        f"ATTACH {quote(str(index.history))} AS h (TYPE duckdb, READ_ONLY)"
    ).fetchall()
    refuse_views(connection, index.history, "h")
    query = "SELECT 1 FROM duckdb_tables() WHERE database_name = 'h' AND table_name = $1"
    return bool(connection.execute(query, [table]).fetchall())


def without_zone(value: object) -> object:
    """Return a time as it is stored, in UTC; anything else as it is."""
    # Python's side of TIMESTAMPTZ needs another package.
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


def with_zone(value: Any) -> Any:
    """Return a stored time its zone back; anything else as it is."""
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


def open_history(index: IndexFolder, action: Callable[[duckdb.DuckDBPyConnection], R]) -> R:
    """Do something with the history, again while another process has it; return what it returns.

    Args:
        index: Whose history.
        action: Attaches the file to the connection it is given, reads or writes.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        StoreFormatError: It is no DuckDB database that can be read.
        StoreError: It cannot be read or written.
    """

    def attempt() -> R:
        with closing(connect(index.path)) as connection:
            return action(connection)

    try:
        return wait_for_lock(attempt, index.history)
    except (duckdb.SerializationException, duckdb.InvalidInputException) as error:
        raise StoreFormatError(f"{str(index.history)!r} cannot be read: {error}") from error
    except duckdb.Error as error:
        raise StoreError(f"{str(index.history)!r}: {error}") from error
