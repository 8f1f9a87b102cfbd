"""Submit tasks with types: one place for what Prefect's signatures leave open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect import Task
    from prefect.futures import PrefectFuture

P = ParamSpec("P")
R = TypeVar("R")


def submit(
    step: Task[P, R], *args: Any, after: Iterable[PrefectFuture[Any]] = (), **kwargs: Any
) -> PrefectFuture[R]:
    """Start a task of the current flow run.

    Args:
        step: The task.
        args: Its arguments; a future stands for its result and draws an edge in the run's graph.
        after: Tasks that come before without giving an argument; they draw an edge too.
        kwargs: Its keyword arguments.
    """
    start = cast("Any", step).submit
    return cast("PrefectFuture[R]", start(*args, wait_for=list(after), **kwargs))
