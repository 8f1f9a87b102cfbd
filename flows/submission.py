"""Submit tasks with types: one place for what Prefect's signatures leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect import State, Task

P = ParamSpec("P")
R = TypeVar("R")


def submit(
    step: Task[P, R],
    *args: Any,
    after: Iterable[PrefectFuture[Any] | State[Any]] = (),
    **kwargs: Any,
) -> PrefectFuture[R]:
    """Start a task of the current flow run.

    The edges of the run's graph are these futures and no others: Prefect does not look into any
    other argument. It would take time for large ones, and draw edges between tasks that happen to
    hold the same object, be it an empty tuple.

    Args:
        step: The task.
        args: Its arguments; a future stands for its result and draws an edge.
        after: Tasks that come before without giving an argument; they draw an edge too.
        kwargs: Its keyword arguments, likewise.
    """
    given = [_shielded(value) for value in args]
    named = {name: _shielded(value) for name, value in kwargs.items()}
    start = cast("Any", step).submit
    return cast("PrefectFuture[R]", start(*given, wait_for=list(after), **named))


def _shielded(value: Any) -> Any:
    return cast("Any", value) if isinstance(value, PrefectFuture) else quote(value)
