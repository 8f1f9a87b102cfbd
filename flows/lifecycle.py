"""Runs that died without a word: find them and tell Prefect the truth.

``kill -9`` or a power cut leaves a run *Running* for ever. Every run of ours therefore leaves a
small file while it lives (process id, machine, server); the next command settles those whose
process is gone by marking the run and its unfinished tasks Crashed.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from merganser.services.supervisor import merganser_home, process_alive

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED, StateType.CANCELLING]


@contextmanager
def registered_run() -> Generator[None]:
    """Leave the file of the current flow run while the block runs."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield
        return
    file = _folder() / f"{context.flow_run.id}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_own_mark()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def settle_dead_runs() -> int:
    """Mark the runs of dead processes on this machine as Crashed.

    Returns:
        How many flow runs were settled.
    """
    dead = [file for file in sorted(_folder().glob("*.json")) if _is_dead(file)]
    if not dead:
        return 0
    with get_client(sync_client=True) as client:
        return sum(_settle(client, file) for file in dead)


def _folder() -> Path:
    return merganser_home() / "runs"


def _own_mark() -> dict[str, str | int]:
    server = os.environ.get("PREFECT_API_URL", "")
    return {"pid": os.getpid(), "host": socket.gethostname(), "server": server}


def _is_dead(file: Path) -> bool:
    with suppress(OSError, ValueError, KeyError):
        mark = json.loads(file.read_text())
        own = _own_mark()
        here = (mark["host"], mark["server"]) == (own["host"], own["server"])
        return here and not process_alive(int(mark["pid"]))
    return False


def _settle(client: SyncPrefectClient, file: Path) -> bool:
    """Mark one run and its unfinished tasks; a run that the server has forgotten is dropped."""
    flow_run_id = UUID(file.stem)
    crashed = Crashed(message="The process that ran this flow is gone.")
    settled = False
    with suppress(ObjectNotFound):
        run = client.read_flow_run(flow_run_id)
        if run.state is not None and not run.state.is_final():
            client.set_flow_run_state(flow_run_id, crashed, force=True)
            settled = True
        for task_run in client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
            task_run_filter=TaskRunFilter(
                state=TaskRunFilterState(type=TaskRunFilterStateType(any_=_UNFINISHED))
            ),
        ):
            client.set_task_run_state(task_run.id, crashed, force=True)
    file.unlink(missing_ok=True)
    return settled
