"""What a worker does for the runs of its pool, beside running flows.

It marks runs whose process is gone, starts crashed runs again, skips scheduled runs that were
missed, and starts the deployments that come ``after`` a run that completed.

Prefect's automations could do part of this, and one does: it marks runs whose heartbeats stop (see
``apply``). The rest is done here because an automation acts on an event. One that misses its event,
for example because the server was restarted just then, starts nothing and says nothing, and none
can look whether the schedule has gone on meanwhile. A worker looks at the runs themselves, every
few seconds, and what several workers do at once is done once, by idempotency keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby, product
from textwrap import shorten
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed, Failed

from merganser.deployment.foreign_runs import ForeignRunError
from merganser.deployment.runs import (
    MISSED,
    our_deployments,
    read_runs,
    read_spec,
    run_environment,
    settle_dead_runs,
)
from merganser.planning.deployments import DEPLOYED_AT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

MAX_RESTARTS = 3
"""After so many crashes in a row trying again does not help."""

RESTART_TAG = "restart:"

CRASH_LOOK_BACK = timedelta(hours=1)
"""A run that crashed before is not started again: the schedule has gone on since."""

DOWNSTREAM_LOOK_BACK = timedelta(days=1)
"""A worker that returns within it still starts what comes after runs that completed meanwhile."""

NEVER_BEGAN = timedelta(seconds=90)
"""Importing takes seconds; a run that was handed out so long ago lost its worker."""

_EXCEPTION = "Flow run encountered an exception: "
"""How Prefect begins the message of a run that an error ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownstreamTrigger:
    """One flow of a config that runs after another one.

    Attributes:
        upstream: Deployment whose completed runs start the other.
        downstream: Deployment that is started.
        since: When it was deployed; runs that ended before start nothing.
    """

    upstream: UUID
    downstream: UUID
    since: datetime

    def applies(self, run: FlowRun) -> bool:
        """Whether a run starts the downstream deployment; one that is Degraded has completed."""
        return (
            run.deployment_id == self.upstream
            and run.state is not None
            and run.state.is_completed()
            and run.end_time is not None
            and run.end_time > self.since
        )

    def key(self, run: FlowRun) -> str:
        """Return the key by which the server creates one run only, whichever worker asks for it."""
        return f"after-{run.id}-{self.downstream}"


class Reconciler:
    """Brings the runs of a work pool in line with what is deployed; every worker has one.

    Args:
        pool: The work pool.
        queues: Its queues that this worker runs; all when empty.
    """

    def __init__(self, pool: str, queues: Sequence[str] = ()) -> None:
        self._read = partial(read_runs, pool=pool, queues=queues)
        self._began = datetime.now(UTC)
        self._seen = set[tuple[UUID, StateType]]()
        self._triggered = set[str]()
        """Spares asking the server, which keeps the keys, again and again."""

    def skip_missed(self) -> int:
        """Mark dead runs, and cancel the scheduled runs that were missed, except the newest.

        Returns:
            How many scheduled runs were cancelled.
        """
        settle_dead_runs()
        with get_client(sync_client=True) as client:
            due = self._read(client, StateType.SCHEDULED, due_before=datetime.now(UTC))
            missed = _all_but_newest([run for run in due if run.auto_scheduled])
            for run in missed:
                client.set_flow_run_state(run.id, Cancelled(message=MISSED))
        return len(missed)

    def reconcile_once(self) -> list[str]:
        """Mark dead runs, start crashed ones again, then start what comes after completed ones.

        Returns:
            Runs that have failed or crashed since the last time, each with its reason.
        """
        settle_dead_runs()
        with get_client(sync_client=True) as client:
            self._crash_what_never_began(client)
            troubles = self._answer_failures(client)
            self._start_downstream(client)
        return troubles

    def _crash_what_never_began(self, client: SyncPrefectClient) -> None:
        for run in self._read(client, StateType.PENDING):
            if run.state is not None and run.state.timestamp < datetime.now(UTC) - NEVER_BEGAN:
                text = "Handed to a worker, and never began: the worker is gone."
                client.set_flow_run_state(run.id, Crashed(message=text), force=True)

    def _answer_failures(self, client: SyncPrefectClient) -> list[str]:
        troubles: list[str] = []
        since = datetime.now(UTC) - CRASH_LOOK_BACK
        for run in self._read(client, StateType.CRASHED, StateType.FAILED, ended_after=since):
            if run.state is None or (run.id, run.state.type) in self._seen:
                continue
            self._seen.add((run.id, run.state.type))
            if run.state.timestamp > self._began:
                troubles.append(_describe_trouble(run.name, run.state))
            # One that was refused would be refused again, or run without what it asked for.
            if run.state.is_crashed() and ForeignRunError.__name__ not in (run.state.message or ""):
                _restart(client, run)
        return troubles

    def _start_downstream(self, client: SyncPrefectClient) -> None:
        """Start each deployment that comes after a completed run, once for each such run."""
        triggers = read_triggers(client)
        if not triggers:
            return
        completed = self._read(
            client,
            StateType.COMPLETED,
            ended_after=datetime.now(UTC) - DOWNSTREAM_LOOK_BACK,
            deployments=list({trigger.upstream for trigger in triggers}),
            sort=FlowRunSort.END_TIME_DESC,
        )
        for run, trigger in product(reversed(completed), triggers):
            key = trigger.key(run)
            if key not in self._triggered and trigger.applies(run):
                client.create_flow_run_from_deployment(
                    trigger.downstream, tags=["after"], idempotency_key=key
                )
                self._triggered.add(key)


def read_triggers(client: SyncPrefectClient) -> list[DownstreamTrigger]:
    """Return what ``after`` has deployed."""
    ours = [(one, spec) for one in our_deployments(client) if (spec := read_spec(one))]
    ids = {(spec.config, one.name, spec.flow): one.id for one, spec in ours}
    return [
        DownstreamTrigger(
            upstream=ids[upstream], downstream=one.id, since=datetime.fromisoformat(since)
        )
        for one, spec in ours
        if (since := run_environment(one).get(DEPLOYED_AT_VARIABLE))
        for flow in spec.after
        if (upstream := (spec.config, one.name, flow)) in ids
    ]


def _restart(client: SyncPrefectClient, run: FlowRun) -> None:
    """Start a crashed run again, or fail it for good; nothing if the schedule went on since."""
    if run.deployment_id is None:
        return
    deployment = client.read_deployment(run.deployment_id)
    if deployment.concurrency_options is None or _is_superseded(client, run, run.deployment_id):
        return
    tags = [tag for tag in run.tags if not tag.startswith(RESTART_TAG)]
    numbers = [tag.removeprefix(RESTART_TAG) for tag in run.tags if tag not in tags]
    restarts = max((int(number) for number in numbers if number.isdecimal()), default=0)
    if restarts >= MAX_RESTARTS:
        text = f"Crashed {restarts + 1} times in a row, not started again: see its log."
        client.set_flow_run_state(run.id, Failed(message=text), force=True)
        return
    client.create_flow_run_from_deployment(
        run.deployment_id,
        parameters=run.parameters,
        tags=[*tags, f"{RESTART_TAG}{restarts + 1}"],
        idempotency_key=f"restart-{run.id}",
    )


def _is_superseded(client: SyncPrefectClient, crashed: FlowRun, deployment: UUID) -> bool:
    """Whether a later run of the deployment is under way or has completed."""
    latest = read_runs(
        client,
        StateType.PENDING,
        StateType.RUNNING,
        StateType.COMPLETED,
        deployments=[deployment],
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    began = crashed.expected_start_time
    return any(
        run.expected_start_time is not None
        and began is not None
        and run.expected_start_time > began
        for run in latest
    )


def _describe_trouble(name: str, state: State) -> str:
    """Say in a line what became of a run; the rest is in its log."""
    message = " ".join((state.message or "").removeprefix(_EXCEPTION).split())
    return f"{name}: {state.name}: {shorten(message, 240, placeholder=' ...') or 'no reason given'}"


def _all_but_newest(runs: Sequence[FlowRun]) -> list[FlowRun]:
    """Leave out the newest run of each deployment."""
    ordered = sorted(runs, key=lambda run: (str(run.deployment_id), str(run.expected_start_time)))
    groups = groupby(ordered, key=lambda run: run.deployment_id)
    return [run for _, group in groups for run in list(group)[:-1]]
