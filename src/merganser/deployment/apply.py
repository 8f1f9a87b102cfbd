"""Read the deployments of a Prefect server, and create, update and delete ours.

What should be there is data, from ``merganser.planning.deployments``. A deployment carries its spec
in the environment of its runs; its automation is owned by it, and replaced and deleted with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast
from uuid import UUID

from prefect.automations import EventTrigger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    StateType,
    VersionInfo,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron, Interval
from prefect.types.entrypoint import EntrypointType

from merganser.deployment.runs import our_deployments, read_spec
from merganser.flows.compile import compile_flow
from merganser.planning.deployments import DEPLOYED_AT_VARIABLE, SPEC_VARIABLE, TAG, Deployed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.schedules import Schedule as PrefectSchedule

    from merganser.config.load import Config
    from merganser.config.spec_flows import ScheduleSpec
    from merganser.planning.deployments import Change, DeploymentDefinition

HEARTBEATS_MISSED = timedelta(seconds=75)
"""Two and a half beats of 30 s: a dead run is Crashed, and its slot free, well within 2 minutes."""

LEASE_SECONDS = 60
"""How long a slot is held for a run that never began; the least that Prefect takes."""

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Intervals are counted from here, so that a new deployment does not shift them."""


def read_deployed() -> tuple[Deployed, ...]:
    """Return the deployments that merganser made, and any others with its tag."""
    with get_client(sync_client=True) as client:
        return tuple(_deployed(client, one) for one in our_deployments(client))


def ensure_pool(name: str) -> None:
    """Create the process work pool unless there is one of that name."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            except ObjectAlreadyExists:
                return  # another process was faster


def apply_changes(config: Config, changes: Iterable[Change]) -> dict[str, str]:
    """Apply the changes of one config.

    Returns:
        The ids by full name.

    Raises:
        PlanError: A flow cannot be compiled.
    """
    changes = tuple(changes)
    ids = {one.full_name: one.deployed.id for one in changes if one.deployed is not None}
    with get_client(sync_client=True) as client:
        for change in changes:
            if change.definition is not None and change.action in {"create", "update"}:
                ids[change.full_name] = str(_put(config, change.definition))
                _put_automation(client, change.full_name, ids[change.full_name])
            elif change.action == "retire":
                _retire(client, ids[change.full_name])
    return ids


def prefect_schedule(schedule: ScheduleSpec) -> PrefectSchedule | None:
    """Return Prefect's form of a schedule; None for one that watches files."""
    if schedule.cron:
        return Cron(schedule.cron, timezone=schedule.timezone or "UTC")
    if schedule.interval:
        return Interval(schedule.interval, anchor_date=ANCHOR, timezone="UTC")
    return None


def _deployed(client: SyncPrefectClient, one: DeploymentResponse) -> Deployed:
    full_name = f"{client.read_flow(one.flow_id).name}/{one.name}"
    related = client.read_resource_related_automations(f"prefect.deployment.{one.id}")
    enabled = {automation.name for automation in related if automation.enabled}
    spec = read_spec(one)
    return Deployed(
        id=str(one.id),
        full_name=full_name,
        spec=spec,
        whole=spec is None or _mark_dead_runs_name(full_name) in enabled,
    )


def _put(config: Config, wanted: DeploymentDefinition) -> UUID:
    flow = compile_flow(config, wanted.flow)
    schedule = prefect_schedule(wanted.schedule) if wanted.schedule else None
    limit = ConcurrencyLimitConfig(
        limit=1,
        collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW,
        grace_period_seconds=LEASE_SECONDS,
    )
    environment = {
        SPEC_VARIABLE: wanted.spec.to_json(),
        DEPLOYED_AT_VARIABLE: datetime.now(UTC).isoformat(),
    }
    ensure_pool(wanted.spec.pool)
    deployment = RunnerDeployment.from_flow(
        flow,
        name=wanted.name,
        schedules=[schedule] if schedule else [],
        concurrency_limit=limit if wanted.exclusive else None,
        parameters=dict(wanted.spec.parameters),
        tags=list(wanted.spec.tags),
        version=flow.version,
        work_pool_name=wanted.spec.pool,
        work_queue_name=wanted.queue,
        job_variables={"env": environment},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Without it Prefect asks git about the folder that we are called in, which runs what a
    # repository's configuration names.
    version = VersionInfo(type="prefect:simple", version=flow.version or "")
    # A coroutine only where a loop runs.
    return cast("UUID", deployment.apply(version_info=version))


def _retire(client: SyncPrefectClient, deployment_id: str) -> None:
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment_id}")
    client.delete_deployment(UUID(deployment_id))


def _put_automation(client: SyncPrefectClient, full_name: str, deployment_id: str) -> None:
    own = f"prefect.deployment.{deployment_id}"
    client.delete_resource_owned_automations(own)
    client.create_automation(_mark_dead_runs(full_name, own))


def _mark_dead_runs_name(full_name: str) -> str:
    return f"{full_name}: mark dead runs"


def _mark_dead_runs(full_name: str, own: str) -> AutomationCore:
    """A run whose heartbeats stop, or that never began, is Crashed."""
    final = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled")}
    alive = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=_mark_dead_runs_name(full_name),
        description="Marks a run Crashed whose heartbeats stop, so that its slot is free again.",
        owner_resource=own,
        tags=[TAG],
        trigger=EventTrigger(
            after={alive, "prefect.flow-run.Pending", "prefect.flow-run.Submitting"},
            expect={alive, *final, "prefect.flow-run.Crashed"},
            match_related={"prefect.resource.id": own, "prefect.resource.role": "deployment"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=HEARTBEATS_MISSED,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                force=False,
                state=StateType.CRASHED,
                message=f"No heartbeat for {HEARTBEATS_MISSED.seconds} s: the process is gone.",
            )
        ],
    )
