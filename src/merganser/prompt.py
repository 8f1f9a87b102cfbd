"""Questions to the user, from deep inside a run to whoever sits at the terminal.

Only the command line knows whether somebody is there to answer; it sets its way of asking with
``prompting``. Without one, ``confirm`` returns its default.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_ask: ContextVar[Callable[[str], bool] | None] = ContextVar("_ask", default=None)


def confirm(question: str, *, default: bool) -> bool:
    """Return the answer to a yes-or-no question, or the default when there is no terminal."""
    ask = _ask.get()
    return default if ask is None else ask(question)


@contextmanager
def prompting(ask: Callable[[str], bool]) -> Generator[None]:
    """Let ``ask`` answer the questions of the block."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)
