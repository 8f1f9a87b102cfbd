"""Deployments on a Prefect server: read what is there, make it what it should be.

What should be is data, from ``merganser.deployable``. A deployment carries its facts in the
environment of its runs; its automations are owned by it, so they are replaced and go with it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.automations import EventTrigger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import (
    ConcurrencyLimitConfig,
    ConcurrencyLimitStrategy,
    StateType,
)
from prefect.deployments.runner import RunnerDeployment
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.schedules import Cron, Interval
from prefect.types.entrypoint import EntrypointType

from merganser.deployable import FACTS_VARIABLE, TAG, Deployed, DeploymentDefinition, Facts
from merganser.flows.compile import compile_flow

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.schedules import Schedule as PrefectSchedule

    from merganser.definitions import Schedule
    from merganser.deployable import Change
    from merganser.load import Config

HEARTBEATS_MISSED = timedelta(seconds=75)
"""Two and a half beats of 30 s: a dead run is Crashed, and its slot free, well within 2 minutes."""

LEASE_SECONDS = 60
"""How long a slot is held for a run that never began; the least that Prefect takes."""

PAGE = 200
"""Prefect's limit of rows a request."""

ANCHOR = datetime(2020, 1, 1, tzinfo=UTC)
"""Where intervals are counted from, so that a new deployment does not shift them."""


def read_deployed() -> tuple[Deployed, ...]:
    """Give the deployments of the server that merganser made, and any of the same tag."""
    with get_client(sync_client=True) as client:
        return tuple(_deployed(client, one) for one in _read_tagged(client))


def ensure_pool(name: str) -> None:
    """Create the process work pool unless there is one of that name."""
    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(name)
        except ObjectNotFound:
            try:
                client.create_work_pool(WorkPoolCreate(name=name, type="process"))
            except ObjectAlreadyExists:
                return  # somebody was faster


def apply_changes(config: Config, changes: Iterable[Change]) -> dict[str, str]:
    """Do what the changes of one config say.

    Returns:
        The ids by full name.

    Raises:
        PlanError: A flow cannot be compiled.
    """
    changes = tuple(changes)
    ids = {one.full_name: one.deployed.id for one in changes if one.deployed is not None}
    with get_client(sync_client=True) as client:
        done = list[DeploymentDefinition]()
        for change in changes:
            if change.definition is not None and change.action in {"create", "update"}:
                ids[change.full_name] = str(_put(config, change.definition))
                done.append(change.definition)
            elif change.action == "retire":
                _retire(client, ids[change.full_name])
        for definition in done:
            _put_automations(client, definition, ids)
    return ids


def prefect_schedule(schedule: Schedule) -> PrefectSchedule | None:
    """Give Prefect's form of a schedule; None when files decide."""
    if schedule.cron:
        return Cron(schedule.cron, timezone=schedule.timezone)
    if schedule.interval:
        return Interval(schedule.interval, anchor_date=ANCHOR, timezone="UTC")
    return None


def _read_tagged(client: SyncPrefectClient) -> list[DeploymentResponse]:
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found = list[Any]()
    while True:
        page = client.read_deployments(deployment_filter=wanted, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


def _deployed(client: SyncPrefectClient, one: DeploymentResponse) -> Deployed:
    variables: dict[str, Any] = one.job_variables or {}
    facts = Facts.from_json(str(variables.get("env", {}).get(FACTS_VARIABLE, "")))
    flow = client.read_flow(one.flow_id)
    owned = client.read_resource_related_automations(f"prefect.deployment.{one.id}")
    wanted = 0 if facts is None else 1 + len(facts.after)
    return Deployed(
        id=str(one.id),
        full_name=f"{flow.name}/{one.name}",
        facts=facts,
        whole=len([a for a in owned if a.enabled]) >= wanted,
    )


def _put(config: Config, wanted: DeploymentDefinition) -> UUID:
    flow = compile_flow(config, wanted.flow)
    schedule = prefect_schedule(wanted.schedule) if wanted.schedule else None
    limit = ConcurrencyLimitConfig(
        limit=1,
        collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW,
        grace_period_seconds=LEASE_SECONDS,
    )
    ensure_pool(wanted.facts.pool)
    deployment = RunnerDeployment.from_flow(
        flow,
        name=wanted.name,
        schedules=[schedule] if schedule else [],
        concurrency_limit=limit if wanted.exclusive else None,
        parameters=dict(wanted.facts.parameters),
        tags=list(wanted.facts.tags),
        version=flow.version,
        work_pool_name=wanted.facts.pool,
        work_queue_name=wanted.queue,
        job_variables={"env": {FACTS_VARIABLE: wanted.facts.to_json()}},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return cast("UUID", deployment.apply())  # a coroutine only where a loop runs


def _retire(client: SyncPrefectClient, deployment_id: str) -> None:
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment_id}")
    client.delete_deployment(UUID(deployment_id))


def _put_automations(
    client: SyncPrefectClient, definition: DeploymentDefinition, ids: dict[str, str]
) -> None:
    own = f"prefect.deployment.{ids[definition.full_name]}"
    client.delete_resource_owned_automations(own)
    wanted: Sequence[AutomationCore] = [
        _mark_dead_runs(definition, own),
        *(_run_after(definition, up, own, ids) for up in definition.upstream),
    ]
    for automation in wanted:
        client.create_automation(automation)


def _mark_dead_runs(definition: DeploymentDefinition, own: str) -> AutomationCore:
    """A run whose heartbeats stop, or that never began, is Crashed."""
    final = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled")}
    alive = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name=f"{definition.full_name}: mark dead runs",
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


def _run_after(
    definition: DeploymentDefinition, upstream: str, own: str, ids: dict[str, str]
) -> AutomationCore:
    """A run of the upstream deployment that completed starts one of this."""
    return AutomationCore(
        name=f"{definition.full_name}: after {upstream.partition('/')[0]}",
        description=f"Starts {definition.label} when {upstream} has completed.",
        owner_resource=own,
        tags=[TAG],
        trigger=EventTrigger(
            expect={"prefect.flow-run.Completed"},
            match_related={
                "prefect.resource.id": f"prefect.deployment.{ids[upstream]}",
                "prefect.resource.role": "deployment",
            },
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=UUID(ids[definition.full_name]),
                parameters=None,
                job_variables=None,
            )
        ],
    )
