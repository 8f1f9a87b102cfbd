"""What a worker does beside running flows: settle, restart, skip, and start what comes after."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby, product
from textwrap import shorten
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterTags,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterWorkQueueName,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Crashed, Failed

from merganser.deployment.deployed import PAGE
from merganser.deployment.downstream import read_chains
from merganser.flows.lifecycle import settle_dead_runs
from merganser.planning.deployments import TAG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.types import DateTime

MAX_RESTARTS = 3
"""After so many crashes in a row trying again does not help."""

RESTART_TAG = "restart:"
LOOK_BACK = timedelta(hours=1)
"""Older crashes are history: the schedule has gone on since."""

CHAIN_LOOK_BACK = timedelta(days=1)
"""A worker that returns within it still starts what comes after runs that completed meanwhile."""

TEND_SECONDS = 5.0

MISSED = "Missed: no worker was there when it was due."
"""Of a firing that is skipped, because a newer one stands for it."""

_EXCEPTION = "Flow run encountered an exception: "
"""How Prefect begins the message of a run that an error ended."""

NEVER_BEGAN = timedelta(seconds=90)
"""Importing takes seconds; a run that was handed out so long ago lost its worker."""


class Steward:
    """Keeps the runs of a work pool true.

    Every worker has one; what two do at once is done once, by idempotency keys.

    Args:
        pool: The work pool.
        queues: Its queues that this worker runs; empty for all.
    """

    def __init__(self, pool: str, queues: Sequence[str] = ()) -> None:
        self._pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
        self._queue = FlowRunFilterWorkQueueName(any_=list(queues)) if queues else None
        self._began = datetime.now(UTC)
        self._done = set[tuple[UUID, StateType]]()
        self._chained = set[str]()
        """Spares asking the server, which keeps the keys, again and again."""

    def begin(self) -> int:
        """Settle what died and skip firings that nobody was there for, but for the newest.

        Returns:
            How many firings were skipped.
        """
        settle_dead_runs()
        now = cast("DateTime", datetime.now(UTC))
        due = FlowRunFilterNextScheduledStartTime(before_=now)
        with get_client(sync_client=True) as client:
            late = [
                run
                for run in self._read(client, StateType.SCHEDULED, due=due)
                if run.auto_scheduled
            ]
            missed = _all_but_newest(late)
            for run in missed:
                client.set_flow_run_state(run.id, Cancelled(message=MISSED))
        return len(missed)

    def tend(self) -> list[str]:
        """Settle runs whose process is gone or never was, and start crashed ones again.

        Then start what comes after runs that completed.

        Returns:
            Runs that have failed or crashed since the last time, each with its reason.
        """
        troubles: list[str] = []
        settle_dead_runs()
        now = cast("DateTime", datetime.now(UTC))
        ended = FlowRunFilterEndTime(after_=now - LOOK_BACK)
        with get_client(sync_client=True) as client:
            for run in self._read(client, StateType.PENDING):
                if run.state is not None and run.state.timestamp < now - NEVER_BEGAN:
                    text = "Handed to a worker, and never began: the worker is gone."
                    client.set_flow_run_state(run.id, Crashed(message=text), force=True)
            for run in self._read(client, StateType.CRASHED, StateType.FAILED, ended=ended):
                if run.state is None or (run.id, run.state.type) in self._done:
                    continue
                self._done.add((run.id, run.state.type))
                if run.state.timestamp > self._began:
                    troubles.append(_describe_trouble(run.name, run.state))
                if run.state.is_crashed():
                    self._answer_crash(client, run)
            self._start_downstream(client, now - CHAIN_LOOK_BACK)
        return troubles

    def _read(
        self,
        client: SyncPrefectClient,
        *states: StateType,
        due: FlowRunFilterNextScheduledStartTime | None = None,
        ended: FlowRunFilterEndTime | None = None,
        of: FlowRunFilterDeploymentId | None = None,
        sort: FlowRunSort = FlowRunSort.EXPECTED_START_TIME_ASC,
    ) -> list[FlowRun]:
        return client.read_flow_runs(
            deployment_filter=DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG])),
            work_pool_filter=self._pool,
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(states))),
                next_scheduled_start_time=due,
                end_time=ended,
                deployment_id=of,
                work_queue_name=self._queue,
            ),
            sort=sort,
            limit=PAGE,
        )

    def _start_downstream(self, client: SyncPrefectClient, after: DateTime) -> None:
        """Start each deployment that comes after a completed run, once for each such run."""
        chains = read_chains(client)
        if not chains:
            return
        completed = self._read(
            client,
            StateType.COMPLETED,
            ended=FlowRunFilterEndTime(after_=after),
            of=FlowRunFilterDeploymentId(any_=list({chain.upstream for chain in chains})),
            sort=FlowRunSort.END_TIME_DESC,
        )
        for run, chain in product(reversed(completed), chains):
            key = chain.key(run)
            if key not in self._chained and chain.follows(run):
                client.create_flow_run_from_deployment(
                    chain.downstream, tags=["after"], idempotency_key=key
                )
                self._chained.add(key)

    def _answer_crash(self, client: SyncPrefectClient, run: FlowRun) -> None:
        """Start a crashed run again, or fail it for good; nothing if the schedule went on since."""
        if run.deployment_id is None:
            return
        deployment = client.read_deployment(run.deployment_id)
        if deployment.concurrency_options is None or _went_on(client, run):
            return
        restarts = _restarts(run)
        if restarts >= MAX_RESTARTS:
            text = f"Crashed {restarts + 1} times in a row, not started again: see its log."
            client.set_flow_run_state(run.id, Failed(message=text), force=True)
            return
        client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters=run.parameters,
            tags=[
                *(tag for tag in run.tags if not tag.startswith(RESTART_TAG)),
                f"{RESTART_TAG}{restarts + 1}",
            ],
            idempotency_key=f"restart-{run.id}",
        )


def _describe_trouble(name: str, state: State) -> str:
    """Say in a line what became of a run; the rest is in its log."""
    message = " ".join((state.message or "").removeprefix(_EXCEPTION).split())
    return f"{name}: {state.name}: {shorten(message, 240, placeholder=' ...') or 'no reason given'}"


def _restarts(run: FlowRun) -> int:
    """How often what this run does had been started again before."""
    numbers = [tag.removeprefix(RESTART_TAG) for tag in run.tags if tag.startswith(RESTART_TAG)]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _went_on(client: SyncPrefectClient, crashed: FlowRun) -> bool:
    """Whether the deployment has a run that began later and is under way or completed."""
    later = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[crashed.deployment_id or crashed.id]),
            state=FlowRunFilterState(
                type=FlowRunFilterStateType(
                    any_=[StateType.PENDING, StateType.RUNNING, StateType.COMPLETED]
                )
            ),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=1,
    )
    began = crashed.expected_start_time
    return any(
        run.expected_start_time is not None
        and began is not None
        and run.expected_start_time > began
        for run in later
    )


def _all_but_newest(runs: Sequence[FlowRun]) -> list[FlowRun]:
    ordered = sorted(runs, key=lambda run: (str(run.deployment_id), str(run.expected_start_time)))
    groups = groupby(ordered, key=lambda run: run.deployment_id)
    return [run for _, group in groups for run in list(group)[:-1]]
