"""What a Prefect server knows of our deployments and their runs, and runs whose process is gone.

The server's other deployments are left alone: ours bear the tag ``merganser``, and carry what was
deployed in the environment of their runs.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    FlowRunFilter,
    TaskRunFilter,
    WorkPoolFilter,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from merganser.doctor.deployments import ScheduledRuns
from merganser.planning.deployments import SPEC_VARIABLE, TAG, DeploymentSpec
from merganser.services.run_marks import dead_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

PAGE = 200
"""Prefect's limit of rows a request."""

MISSED = "Missed: no worker was there when it was due."
"""Message of a scheduled run that a worker cancelled because a newer one stands for it."""

LIMIT_REACHED = "Deployment concurrency limit reached."
"""Message of a run that Prefect cancelled because another one was under way."""

LATE = timedelta(seconds=30)
"""A worker looks every 2 s; a run that has waited this long has none."""

_OURS = DeploymentFilter.model_validate({"tags": {"all_": [TAG]}})
_UNDER_WAY = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def our_deployments(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Return the deployments that merganser made, and any others with its tag."""
    found = list["DeploymentResponse"]()
    while True:
        page = client.read_deployments(deployment_filter=_OURS, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


def run_environment(deployment: DeploymentResponse) -> dict[str, str]:
    """Return the environment variables that the runs of a deployment get."""
    variables: dict[str, Any] = deployment.job_variables or {}
    return variables.get("env", {})


def read_spec(deployment: DeploymentResponse) -> DeploymentSpec | None:
    """Return what was deployed; None for a deployment that merganser did not make."""
    return DeploymentSpec.from_json(run_environment(deployment).get(SPEC_VARIABLE, ""))


def read_runs(
    client: SyncPrefectClient,
    *states: StateType,
    deployments: Iterable[UUID] | None = None,
    pool: str | None = None,
    queues: Sequence[str] = (),
    due_before: datetime | None = None,
    due_after: datetime | None = None,
    ended_after: datetime | None = None,
    sort: FlowRunSort = FlowRunSort.EXPECTED_START_TIME_ASC,
    limit: int = PAGE,
) -> list[FlowRun]:
    """Read runs of our deployments.

    Args:
        client: The server's client.
        states: Only runs in one of these.
        deployments: Only runs of these.
        pool: Only runs of this work pool.
        queues: Only runs of these queues of it; all when empty.
        due_before: Only runs that are scheduled for a time before.
        due_after: Only runs that are scheduled for a time after.
        ended_after: Only runs that ended after it.
        sort: Order of the rows.
        limit: Most runs, at most ``PAGE``.
    """
    wanted = {
        "state": {"type": {"any_": states}},
        "deployment_id": None if deployments is None else {"any_": list(deployments)},
        "work_queue_name": {"any_": list(queues)} if queues else None,
        "next_scheduled_start_time": {"before_": due_before, "after_": due_after}
        if due_before or due_after
        else None,
        "end_time": {"after_": ended_after} if ended_after else None,
    }
    return client.read_flow_runs(
        deployment_filter=_OURS,
        work_pool_filter=WorkPoolFilter.model_validate({"name": {"any_": [pool]}})
        if pool
        else None,
        flow_run_filter=FlowRunFilter.model_validate(wanted),
        sort=sort,
        limit=limit,
    )


def next_scheduled_runs(deployments: Mapping[str, str]) -> dict[str, str]:
    """Return by name when each deployment is due next, in local time; those not due are left out.

    Args:
        deployments: Names by id.
    """
    found = dict[str, str]()
    sort = FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC
    with get_client(sync_client=True) as client:
        for deployment_id, name in deployments.items():
            for run in read_runs(
                client,
                StateType.SCHEDULED,
                deployments=[UUID(deployment_id)],
                due_after=datetime.now(UTC),
                sort=sort,
                limit=1,
            ):
                if due := run.next_scheduled_start_time:
                    found[name] = f"{due.astimezone():%Y-%m-%d %H:%M:%S}"
    return found


def read_scheduled_runs(config: Path) -> tuple[ScheduledRuns, ...]:
    """Return what became of the scheduled runs of each deployment of a config, sorted by name."""
    wanted = os.path.normpath(config)
    with get_client(sync_client=True) as client:
        found = [
            _scheduled_runs_of(client, one, spec)
            for one in our_deployments(client)
            if (spec := read_spec(one)) is not None and spec.config == wanted
        ]
    return tuple(sorted(found, key=lambda one: one.deployment))


def _scheduled_runs_of(
    client: SyncPrefectClient, one: DeploymentResponse, spec: DeploymentSpec
) -> ScheduledRuns:
    latest = FlowRunSort.EXPECTED_START_TIME_DESC
    read = partial(read_runs, client, deployments=[one.id], sort=latest)
    completed = read(StateType.COMPLETED, sort=FlowRunSort.END_TIME_DESC, limit=1)
    since = completed[0].end_time if completed else None
    active = read(*_UNDER_WAY, limit=1)
    cancelled = [run for run in read(StateType.CANCELLED) if _is_due_after(run, since)]
    messages = [run.state.message for run in cancelled if run.state is not None]
    return ScheduledRuns(
        deployment=f"{client.read_flow(one.flow_id).name}/{one.name}",
        spec=spec,
        paused=one.paused,
        completed=since,
        active_since=active[0].start_time or active[0].expected_start_time if active else None,
        skipped=messages.count(LIMIT_REACHED),
        missed=messages.count(MISSED),
        late=len(read(StateType.SCHEDULED, due_before=datetime.now(UTC) - LATE)),
        is_capped=len(cancelled) == PAGE,
    )


def _is_due_after(run: FlowRun, moment: datetime | None) -> bool:
    due = run.expected_start_time
    return moment is None or (due is not None and due > moment)


def settle_dead_runs() -> int:
    """Mark the runs of dead processes of this machine, with their unfinished tasks, as Crashed.

    ``kill -9`` and a power cut leave a run *Running* for ever.

    Returns:
        How many flow runs were marked.
    """
    dead = dead_runs(os.environ.get("PREFECT_API_URL", ""))
    if not dead:
        return 0
    with get_client(sync_client=True) as client:
        return sum(_settle(client, file) for file in dead)


def _settle(client: SyncPrefectClient, file: Path) -> bool:
    """Mark one run and its unfinished tasks; a run that the server does not know is dropped."""
    run_id = UUID(file.stem)
    crashed = Crashed(message="The process that ran this flow is gone.")
    unfinished = {"state": {"type": {"any_": [*_UNDER_WAY, StateType.SCHEDULED]}}}
    marked = False
    try:
        run = client.read_flow_run(run_id)
        if run.state is not None and not run.state.is_final():
            client.set_flow_run_state(run_id, crashed, force=True)
            marked = True
        for task_run in client.read_task_runs(
            flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run_id]}}),
            task_run_filter=TaskRunFilter.model_validate(unfinished),
        ):
            client.set_task_run_state(task_run.id, crashed, force=True)
    except ObjectNotFound:
        pass
    file.unlink(missing_ok=True)
    return marked
