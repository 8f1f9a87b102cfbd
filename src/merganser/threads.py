"""How many threads work may use, from whoever says it to whoever starts them.

``limiting_threads`` says it for a block, ``MERGANSER_THREADS`` for a process. DuckDB, the graphs of
approximate search and the workers of a run ask here; products of numpy take one thread anyway. The
model server is a process of its own and knows nothing of it.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Generator

VARIABLE = "MERGANSER_THREADS"

_limit: ContextVar[int | None] = ContextVar("_limit", default=None)


def thread_limit() -> int | None:
    """Return how many threads one kind of work may use at a time here; None for what it likes.

    Raises:
        PlanError: ``MERGANSER_THREADS`` is no number of threads.
    """
    limit = _limit.get()
    return _read_variable() if limit is None else limit


def within_limit(wanted: int) -> int:
    """Return as many workers as are wanted, or as may be.

    Raises:
        PlanError: As ``thread_limit`` does.
    """
    return min(wanted, thread_limit() or wanted)


@contextmanager
def limiting_threads(threads: int | None) -> Generator[None]:
    """Limit the threads of the block, and of what the threads that it starts do.

    Args:
        threads: At least 1; None leaves the limit as it is.
    """
    token = _limit.set(threads or _limit.get())
    try:
        yield
    finally:
        _limit.reset(token)


def _read_variable() -> int | None:
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return None
    if not (text.isdecimal() and int(text)):
        raise PlanError(f"{VARIABLE} is {text!r}; it must be a number of threads, from 1")
    return int(text)
