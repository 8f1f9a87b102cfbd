"""DuckDB connections and the tables of catalogues and segments.

All files are written in the storage format of DuckDB 1.5, which 1.5 and 2.0 read. Tables have no
keys or indexes: on 1.5 and 2.0 a primary key makes every checkpoint rewrite the whole table, so
uniqueness is the writer's care. No extension is needed, and none is ever downloaded.
"""

from __future__ import annotations

import atexit
import os
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import duckdb

from merganser.errors import StoreBusyError, StoreError, StoreFormatError
from merganser.store.identity import damaged
from merganser.threads import thread_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
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
    row_count INTEGER, term_count BIGINT, ctime_ns BIGINT, kind VARCHAR, encoding VARCHAR,
    note VARCHAR);
CREATE TABLE {0}.segments (
    segment INTEGER, file VARCHAR, row_count INTEGER, live_rows INTEGER, size_bytes BIGINT,
    embedding VARCHAR, dimensions INTEGER, identity VARCHAR, checksum VARCHAR,
    dead_since_ns BIGINT);
CREATE TABLE {0}.skipped (path VARCHAR, reason VARCHAR, detail VARCHAR);
CREATE TABLE {0}.redactions (path VARCHAR, line INTEGER, kind VARCHAR);
"""

SEGMENT_TABLES = """
CREATE TABLE {0}.chunks (
    row INTEGER, file_id INTEGER, ord INTEGER, start_line INTEGER, end_line INTEGER,
    start_char INTEGER, end_char INTEGER, symbol VARCHAR, kind VARCHAR, hash_high UBIGINT,
    hash_low UBIGINT, doc_len INTEGER, text VARCHAR, place VARCHAR DEFAULT '');
CREATE TABLE {0}.terms (term_id INTEGER, term VARCHAR);
CREATE TABLE {0}.postings (term_id INTEGER, row INTEGER, tf UTINYINT);
"""

_PATIENCE_SECONDS = 5.0
_BUSY = ("Could not set lock", "Conflicting lock", "file handle conflict")
# What DuckDB says when another process has the file, and when another thread of this one has.

VECTORS_TABLE = "CREATE TABLE {0}.vectors (row INTEGER, file_id INTEGER, v FLOAT[{1}]);"
DRIFT_TABLE = "CREATE TABLE {0}.canaries (ord INTEGER, text VARCHAR, v FLOAT[{1}]);"


_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}


def connect(*folders: Path) -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory, to which files are attached.

    Use one cursor a query and fetch all of it: on DuckDB 2.0 an unread result owns its cursor.

    Args:
        folders: Only files below these can be attached or read.
    """
    connection = connect_open()
    confine(connection, folders=folders)
    return connection


def connect_open() -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory that reaches any file until ``confine`` is called.

    It uses as many threads as ``thread_limit`` says when it is opened.
    """
    limit = thread_limit()
    return duckdb.connect(":memory:", config=_CLOSED | ({"threads": limit} if limit else {}))


def confine(
    connection: duckdb.DuckDBPyConnection,
    *,
    folders: Iterable[Path] = (),
    files: Iterable[Path] = (),
) -> None:
    """Take away the file system for good, but for some places and what is attached already.

    A database file may hold views that read any file of the machine; with this they fail.
    """
    for setting, paths in (("allowed_directories", folders), ("allowed_paths", files)):
        listed = ", ".join(quote(str(path.absolute())) for path in paths)
        if listed:
            connection.execute(f"SET {setting} = [{listed}]").fetchall()
    connection.execute("SET enable_external_access = false").fetchall()


WRITER_MEMORY = "256MB"
"""Of DuckDB in each connection of an index run; by default it keeps pages that are read once in up
to 80 % of the machine's memory. 300,000 chunks peak at 1.0 GB with it and at 1.6 GB with 1 GB, for
the same CPU."""


def connect_writer(spill: Path, *folders: Path) -> duckdb.DuckDBPyConnection:
    """Open an empty database as ``connect`` does, with bounded memory.

    Args:
        spill: What exceeds the memory goes to files here, and not where the command was started.
        folders: Only files below these can be attached or read.
    """
    connection = connect_open()
    connection.execute(f"SET memory_limit = '{WRITER_MEMORY}'").fetchall()
    connection.execute(f"SET temp_directory = {quote(str(spill))}").fetchall()
    confine(connection, folders=folders)
    return connection


_shared_guard = threading.Lock()
_shared: dict[tuple[Path, int | None], duckdb.DuckDBPyConnection] = {}
# A connection that outlives the interpreter's modules makes duckdb 2.0 report leaks on stderr.
atexit.register(_shared.clear)


@contextmanager
def borrow(name: str, folder: Path) -> Generator[duckdb.DuckDBPyConnection]:
    """Lend a connection for small files of a folder; what is attached as ``name`` is detached.

    Making a database costs 20 ms of CPU, reading a catalogue 3 ms, and a run does that often: the
    connection of the last folder is kept.
    """
    with _shared_guard:
        limit = thread_limit()
        kept = next((k for k in _shared if folder.is_relative_to(k[0]) and k[1] == limit), None)
        if kept is None:
            for other in _shared.values():
                other.close()
            _shared.clear()
            _shared[kept := (folder, limit)] = connect(folder)
        cursor = _shared[kept].cursor()
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


def first_line(error: Exception) -> str:
    """Return an error of DuckDB without the stack that it may print below."""
    return str(error).strip().partition("\n")[0]


def quote(text: str) -> str:
    """Write a string as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def attach_new(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a database file that is to be written.

    Raises:
        StoreFormatError: It is there already, and holds more than tables.
    """
    connection.execute(
        f"ATTACH {quote(str(path))} AS {name} (TYPE duckdb, {_FILE_OPTIONS})"
    ).fetchall()
    refuse_views(connection, path, name)


def attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach a finished file for reading.

    Raises:
        FileNotFoundError: It is not there.
        StoreFormatError: A newer DuckDB wrote it, or it holds more than tables.
        DamagedIndexError: It is no DuckDB database, or a damaged one.
        StoreError: It may not be read.
    """
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        connection.execute(
            f"ATTACH {quote(str(path))} AS {name} (TYPE duckdb, READ_ONLY)"
        ).fetchall()
    except duckdb.Error as error:
        if not path.exists():  # collected by a writer in this instant
            raise FileNotFoundError(path) from error
        if not os.access(path, os.R_OK):
            raise StoreError(f"{str(path)!r} may not be read by this user") from error
        if "version number" in str(error):
            raise StoreFormatError(
                f"{str(path)!r} is of a newer merganser: upgrade merganser, or name another folder "
                f"with `database` ({first_line(error)})"
            ) from error
        raise damaged(path, f"cannot be read ({first_line(error)})") from error
    refuse_views(connection, path, name)


def refuse_views(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Refuse a file that has a view where a table is expected: its query is a stranger's.

    Args:
        connection: With the file attached.
        path: The file, for the message.
        name: What it is attached as.

    Raises:
        StoreFormatError: The message names the view.
    """
    found = connection.execute(
        "SELECT view_name FROM duckdb_views() WHERE database_name = $1 AND NOT internal "
        "ORDER BY view_name LIMIT 1",
        [name],
    ).fetchall()
    if found:
        raise _foreign(str(path), "view", found[0][0])


def refuse_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse what is attached if a file of it holds macros; takes 16 ms of CPU.

    Raises:
        StoreFormatError: The message names the file and the macro.
    """
    found = connection.execute(
        "SELECT d.path, f.function_name FROM duckdb_functions() f JOIN duckdb_databases() d "
        "USING (database_name) WHERE NOT f.internal AND d.path IS NOT NULL ORDER BY ALL LIMIT 1"
    ).fetchall()
    if found:
        raise _foreign(found[0][0], "macro", found[0][1])


def _foreign(path: str, noun: str, name: str) -> StoreFormatError:
    return StoreFormatError(
        f"{path!r} holds the {noun} {name!r}; merganser writes tables only, so this is no file of "
        "an index: remove it and index again with --full, or name another folder with `database`"
    )


def finish(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Bring an attached file to disk in full, without a write-ahead log, and let go of it."""
    connection.execute(f"CHECKPOINT {name}").fetchall()
    connection.execute(f"DETACH {name}").fetchall()
