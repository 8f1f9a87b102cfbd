"""DuckDB connections and the tables of catalogues and segments.

All files are written in the storage format of DuckDB 1.5, which 1.5 and 2.0 read. Tables have no
keys or indexes: on 1.5 and 2.0 a primary key makes every checkpoint rewrite the whole table, so
uniqueness is the writer's care. No extension is needed, and none is ever downloaded.
"""

from __future__ import annotations

import atexit
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import duckdb

from merganser.errors import StoreBusyError, StoreError, StoreFormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

R = TypeVar("R")

SCHEMA_VERSION = 1
"""Version of the tables below; a newer snapshot is refused, an older one is rebuilt."""

_FILE_OPTIONS = "STORAGE_VERSION 'v1.5.0', ROW_GROUP_SIZE 30720"
# 30,720 rows a group: a scan runs in as many threads as there are groups, and the default of
# 122,880 leaves most indexes with one. Measured 13 % smaller and faster at 100k chunks.

CATALOGUE_TABLES = """
CREATE TABLE {0}.meta (key VARCHAR, value VARCHAR);
CREATE TABLE {0}.files (
    path VARCHAR, language VARCHAR, size_bytes BIGINT, mtime_ns BIGINT, inode UBIGINT,
    stat_ns BIGINT, content_hash VARCHAR, segment INTEGER, file_id INTEGER, first_row INTEGER,
    row_count INTEGER, term_count BIGINT);
CREATE TABLE {0}.segments (
    segment INTEGER, file VARCHAR, row_count INTEGER, live_rows INTEGER, size_bytes BIGINT,
    embedding VARCHAR, dimensions INTEGER);
CREATE TABLE {0}.skipped (path VARCHAR, reason VARCHAR, detail VARCHAR);
"""

SEGMENT_TABLES = """
CREATE TABLE {0}.chunks (
    row INTEGER, file_id INTEGER, ord INTEGER, start_line INTEGER, end_line INTEGER,
    start_char INTEGER, end_char INTEGER, symbol VARCHAR, kind VARCHAR, hash_high UBIGINT,
    hash_low UBIGINT, doc_len INTEGER, text VARCHAR);
CREATE TABLE {0}.terms (term_id INTEGER, term VARCHAR);
CREATE TABLE {0}.postings (term_id INTEGER, row INTEGER, tf UTINYINT);
"""

_PATIENCE_SECONDS = 5.0
_BUSY = ("Could not set lock", "Conflicting lock", "file handle conflict")
# What DuckDB says when another process has the file, and when another thread of this one has.

VECTORS_TABLE = "CREATE TABLE {0}.vectors (row INTEGER, file_id INTEGER, v FLOAT[{1}]);"
DRIFT_TABLE = "CREATE TABLE {0}.canaries (ord INTEGER, text VARCHAR, v FLOAT[{1}]);"


def connect() -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory, to which files are attached.

    Use one cursor a query and fetch all of it: on DuckDB 2.0 an unread result owns its cursor.
    """
    return duckdb.connect(
        ":memory:",
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"},
    )


WRITER_MEMORY = "256MB"
"""Of DuckDB in each connection of an index run; by default it keeps pages that are read once in up
to 80 % of the machine's memory. 300,000 chunks peak at 1.0 GB with it and at 1.6 GB with 1 GB, for
the same CPU."""


def connect_writer(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open an empty database as ``connect`` does, with bounded memory.

    Args:
        folder: What exceeds the memory goes to files here, and not where the command was started.
    """
    connection = connect()
    connection.execute(f"SET memory_limit = '{WRITER_MEMORY}'").fetchall()
    connection.execute(f"SET temp_directory = {quote(str(folder))}").fetchall()
    return connection


_shared_guard = threading.Lock()
_shared: list[duckdb.DuckDBPyConnection] = []
# A connection that outlives the interpreter's modules makes duckdb 2.0 report leaks on stderr.
atexit.register(_shared.clear)


@contextmanager
def borrow(name: str) -> Generator[duckdb.DuckDBPyConnection]:
    """Lend the process's connection for small files; what is attached as ``name`` is detached.

    Making a database costs 20 ms of CPU, reading a catalogue 3 ms, and a run does that often.
    """
    with _shared_guard:
        if not _shared:
            _shared.append(connect())
        cursor = _shared[0].cursor()
        try:
            yield cursor
        finally:
            cursor.execute(f"DETACH DATABASE IF EXISTS {name}").fetchall()
            cursor.close()


def wait_for_lock(action: Callable[[], R], path: Path) -> R:
    """Do something with a database file, again while another process has it open.

    Args:
        action: Attaches the file, and reads or writes it.
        path: The file, for the message.

    Raises:
        StoreBusyError: Other processes kept the file busy for seconds.
        duckdb.Error: ``action`` failed for another reason.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return action()
        except (duckdb.SerializationException, duckdb.InvalidInputException):
            raise  # the file is damaged, whatever the message says
        except duckdb.Error as error:
            if not any(words in str(error) for words in _BUSY):
                raise
            if time.monotonic() > deadline:
                raise StoreBusyError(f"another process has {str(path)!r} open: {error}") from error
        time.sleep(random.uniform(0.01, 0.05))  # noqa: S311 - to get out of step, not a secret


def quote(text: str) -> str:
    """Write a string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def attach_new(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a database file that is to be written."""
    connection.execute(f"ATTACH {quote(str(path))} AS {name} ({_FILE_OPTIONS})").fetchall()


def attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a finished file for reading.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: It is no DuckDB database, or one of a format this DuckDB cannot read.
        StoreError: DuckDB cannot open it for another reason.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        connection.execute(f"ATTACH {quote(str(path))} AS {name} (READ_ONLY)").fetchall()
    except (duckdb.SerializationException, duckdb.InvalidInputException) as error:
        raise StoreFormatError(f"{str(path)!r} cannot be read: {error}") from error
    except duckdb.Error as error:
        if not path.exists():  # collected by a writer in this instant
            raise FileNotFoundError(path) from error
        raise StoreError(
            f"{str(path)!r} cannot be opened ({error}); `merganser rollback` to another snapshot, "
            "or index again with --full"
        ) from error


def finish(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Bring an attached file to disk in full, without a write-ahead log, and let go of it."""
    connection.execute(f"CHECKPOINT {name}").fetchall()
    connection.execute(f"DETACH {name}").fetchall()
