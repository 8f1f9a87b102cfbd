"""What all tasks share: who retries how often, the cache policy, and how a flow starts one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, TypedDict, TypeVar, cast

from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingResult
from prefect.futures import PrefectFuture
from prefect.utilities.annotations import quote

from merganser.errors import TransientError
from merganser.models.outage import is_away
from merganser.progress import remark

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect import Task
    from prefect.cache_policies import CachePolicy
    from prefect.client.schemas.objects import State, TaskRun

P = ParamSpec("P")
R = TypeVar("R")


def retry_condition(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Retry only what may vanish by itself, and say so to whoever waits.

    Prefect asks only while a retry is left. A model server that is away is waited for by the calls
    themselves, see ``merganser.models.outage``.

    Args:
        task: The task that failed; unused, Prefect passes it.
        task_run: Its run; unused, Prefect passes it.
        state: The failed state, whose exception decides.

    Returns:
        True for a ``TransientError`` that is no model server's, False for everything else.
    """
    del task, task_run
    try:
        result = state.result(raise_on_failure=False)
    except MissingResult:
        return False
    if isinstance(result, TransientError) and not is_away(result):
        remark(f"trying again soon: {result}")
        return True
    return False


class TaskOptions(TypedDict):
    """Keyword arguments of ``prefect.task`` that several tasks share."""

    retries: int
    retry_delay_seconds: float | list[float]
    retry_jitter_factor: float
    retry_condition_fn: Any
    cache_policy: CachePolicy
    persist_result: bool


MODEL_TASK: TaskOptions = {
    # For an index that another process is writing.
    "retries": 3,
    "retry_delay_seconds": [2.0, 10.0, 30.0],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": retry_condition,
    # Resuming comes from our own stores alone, never from Prefect's results.
    "cache_policy": NO_CACHE,
    "persist_result": False,
}
"""Tasks that talk to the model server."""

LOCAL_TASK: TaskOptions = {
    **MODEL_TASK,
    "retries": 0,
    "retry_delay_seconds": 0.0,
    "retry_jitter_factor": 0.0,
}
"""Tasks that only touch this machine's files: what fails once fails again."""


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
        kwargs: Its keyword arguments, as ``args``.
    """
    given = [_shielded(value) for value in args]
    named = {name: _shielded(value) for name, value in kwargs.items()}
    start = cast("Any", step).submit
    return cast("PrefectFuture[R]", start(*given, wait_for=list(after), **named))


def _shielded(value: Any) -> Any:
    return cast("Any", value) if isinstance(value, PrefectFuture) else quote(value)
