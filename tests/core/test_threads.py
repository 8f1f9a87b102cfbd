"""A limit on threads holds wherever work would take all cores."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest

from merganser.errors import PlanError
from merganser.store import database
from merganser.threads import limiting_threads, thread_limit, within_limit

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MERGANSER_THREADS", raising=False)


def threads_of(connection: duckdb.DuckDBPyConnection) -> int:
    [(threads,)] = connection.execute("SELECT current_setting('threads')").fetchall()
    return threads


def test_nothing_is_limited_by_default(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MERGANSER_THREADS", "")

    assert thread_limit() is None
    assert within_limit(64) == 64


def test_a_block_is_limited_and_the_inner_one_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MERGANSER_THREADS", "7")
    limits = [thread_limit()]

    with limiting_threads(5):
        limits.append(thread_limit())
        with limiting_threads(None):
            limits.append(thread_limit())
        with limiting_threads(2):
            limits += [within_limit(64), within_limit(1)]
        limits.append(thread_limit())

    assert limits == [7, 5, 5, 2, 1, 5]
    assert thread_limit() == 7


def test_a_thread_with_the_context_of_a_block_is_limited():
    found: list[int | None] = []

    with limiting_threads(3):
        context = copy_context()
    thread = threading.Thread(target=lambda: found.append(context.run(thread_limit)))
    thread.start()
    thread.join()

    assert found == [3]


@pytest.mark.parametrize("text", ["0", "-1", "all", "1.5"])
def test_a_variable_that_is_no_number_of_threads_is_named(
    monkeypatch: pytest.MonkeyPatch, text: str
):
    monkeypatch.setenv("MERGANSER_THREADS", text)

    with pytest.raises(PlanError, match=f"MERGANSER_THREADS is '{text}'"):
        thread_limit()


def test_connections_of_duckdb_take_no_more_threads(tmp_path: Path):
    with limiting_threads(3):
        opened = [
            database.connect(tmp_path),
            database.connect_open(),
            database.connect_writer(tmp_path / "spill", tmp_path),
        ]

    assert [threads_of(connection) for connection in opened] == [3, 3, 3]


def test_a_kept_connection_is_of_the_limit_that_holds_now(tmp_path: Path):
    found: list[int] = []

    for limit in (3, 5, None, 3):
        with limiting_threads(limit), database.borrow("c", tmp_path) as connection:
            found.append(threads_of(connection))

    usual = threads_of(database.connect_open())
    assert found == [3, 5, usual, 3]
