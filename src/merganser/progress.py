"""Progress of long work, from whoever does it to whoever shows it.

The core and the tasks call ``report`` and ``remark``; the command line listens with ``listening``.
Without a listener a report costs one look-up. Threads that Prefect starts carry the listener along,
because their context is copied.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import TypeAlias

    Listener: TypeAlias = Callable[["Progress | Remark"], None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one activity is.

    Attributes:
        activity: What is going on, stable during it, for example ``embed codebase``.
        done: Units finished, or the increment when ``advance`` is true.
        total: Units in all, or None when not known.
        unit: ``texts``, ``bytes``, ``files``, ``questions``.
        advance: ``done`` is to be added to what was reported before.
    """

    activity: str
    done: int
    total: int | None
    unit: str
    advance: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """Something whoever waits should know, such as why nothing moves."""

    text: str


_listener: ContextVar[Listener | None] = ContextVar("_listener", default=None)


def report(
    activity: str, done: int, total: int | None = None, *, unit: str, advance: bool = False
) -> None:
    """Tell the listener, if there is one, how far an activity is."""
    if listener := _listener.get():
        listener(Progress(activity, done, total, unit, advance))


def remark(text: str) -> None:
    """Tell the listener a sentence, if there is one."""
    if listener := _listener.get():
        listener(Remark(text))


@contextmanager
def listening(listener: Listener) -> Generator[None]:
    """Send the reports of the block, and of the threads it starts, to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
