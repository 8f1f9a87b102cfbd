"""Questions to the user, from deep inside a run to whoever sits at the terminal.

Only the command line knows whether somebody is there to answer; it installs its way of asking with
``asking``. Without one nobody is asked, and the caller takes its default.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_asker: ContextVar[Callable[[str], bool] | None] = ContextVar("_asker", default=None)


def consents(question: str, *, default: bool) -> bool:
    """Ask a yes-or-no question; give the default when nobody is there."""
    asker = _asker.get()
    return default if asker is None else asker(question)


@contextmanager
def asking(asker: Callable[[str], bool]) -> Generator[None]:
    """Put the questions of the block to the asker."""
    token = _asker.set(asker)
    try:
        yield
    finally:
        _asker.reset(token)
