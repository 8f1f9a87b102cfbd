"""What became of the firings of a config's deployments, for the doctor."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from merganser.deployment.deployed import PAGE, read_facts, read_tagged
from merganser.deployment.reconcile import MISSED
from merganser.doctor.deployments import Firings

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.types import DateTime

    from merganser.planning.deployments import Facts

LIMIT_REACHED = "Deployment concurrency limit reached."
"""What Prefect says of a run that it cancels because another one is under way."""

LATE = timedelta(seconds=30)
"""A worker looks every 2 s; what waits so long has none."""

_UNDER_WAY = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)


def read_firings(config: Path) -> tuple[Firings, ...]:
    """Give what became of the firings of each deployment that was made from a config, by name."""
    wanted = os.path.normpath(config)
    with get_client(sync_client=True) as client:
        found = [
            _firings(client, one, facts)
            for one in read_tagged(client)
            if (facts := read_facts(one)) is not None and facts.config == wanted
        ]
    return tuple(sorted(found, key=lambda one: one.deployment))


def _firings(client: SyncPrefectClient, one: DeploymentResponse, facts: Facts) -> Firings:
    completed = _runs(client, one, StateType.COMPLETED, sort=FlowRunSort.END_TIME_DESC, limit=1)
    since = completed[0].end_time if completed else None
    active = _runs(client, one, *_UNDER_WAY, limit=1)
    cancelled = _runs(client, one, StateType.CANCELLED, limit=PAGE)
    due = FlowRunFilterExpectedStartTime(before_=cast("DateTime", datetime.now(UTC) - LATE))
    late = _runs(client, one, StateType.SCHEDULED, due=due, limit=PAGE)
    later = [run for run in cancelled if _is_due_after(run, since)]
    words = [run.state.message or "" for run in later if run.state is not None]
    return Firings(
        deployment=f"{client.read_flow(one.flow_id).name}/{one.name}",
        facts=facts,
        paused=one.paused,
        completed=since,
        active_since=active[0].start_time or active[0].expected_start_time if active else None,
        skipped=words.count(LIMIT_REACHED),
        missed=words.count(MISSED),
        late=len(late),
        is_capped=len(later) == PAGE,
    )


def _runs(
    client: SyncPrefectClient,
    of: DeploymentResponse,
    *types: StateType,
    limit: int,
    due: FlowRunFilterExpectedStartTime | None = None,
    sort: FlowRunSort = FlowRunSort.EXPECTED_START_TIME_DESC,
) -> list[FlowRun]:
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[of.id]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
            expected_start_time=due,
        ),
        sort=sort,
        limit=limit,
    )


def _is_due_after(run: FlowRun, moment: datetime | None) -> bool:
    due = run.expected_start_time
    return moment is None or (due is not None and due > moment)
