"""What deploying a config comes to, as data: one deployment for each flow, and what would change.

Nothing here knows Prefect. ``merganser.deployment.apply`` reads what a server has and applies the
changes; ``merganser deploy`` shows them first.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from merganser.config.flow_definition import AskFlow, resolve_flows
from merganser.errors import PlanError
from merganser.planning.plan import build_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from merganser.config.flow_definition import FlowDefinition
    from merganser.config.load import Config
    from merganser.config.spec_flows import ScheduleSpec

DEFAULT_POOL = "merganser"
TAG = "merganser"
"""On every deployment of ours, so that they are found among others."""

SPEC_VARIABLE = "MERGANSER_DEPLOYMENT"
"""Environment variable of a deployed run that holds its ``DeploymentSpec`` as JSON."""

DEPLOYED_AT_VARIABLE = "MERGANSER_DEPLOYED_AT"
"""Environment variable that says when it was deployed, as ISO 8601.

Prefect's own ``updated`` changes whenever a worker polls."""

Action = Literal["create", "update", "unchanged", "retire"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentSpec:
    """What a deployment was made from; an equal spec needs no new deployment.

    It is stored with the deployment, so that a later ``deploy`` can compare, and a worker can find
    the config and see whether it has changed since.

    Attributes:
        config: Absolute path of the YAML.
        flow: Name of its flow.
        spec: Fingerprint of what the config means.
        plan: Fingerprint of the flow's plan.
        program: Version of merganser; another version may have other parameters.
        schedule: In words; "" for none.
        after: Flows whose success starts this one.
        pool: Work pool.
        tags: Tags of the deployment, in order.
        parameters: Defaults that differ from the flow's own.
        models: Models that were replaced, wanted name to used name.
    """

    config: str
    flow: str
    spec: str
    plan: str
    program: str
    schedule: str
    after: tuple[str, ...]
    pool: str
    tags: tuple[str, ...]
    parameters: tuple[tuple[str, str], ...] = ()
    models: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DeploymentSpec | None:
        """Return what ``to_json`` wrote; None for other text, for example of another version."""
        try:
            value: dict[str, Any] = json.loads(text)
            return cls(**{name: _freeze(part) for name, part in value.items()})
        except (ValueError, TypeError, AttributeError):
            return None

    def differences(self, other: DeploymentSpec) -> tuple[str, ...]:
        """Return what is not as in ``other``, with both values unless they are fingerprints."""
        found = list[str]()
        for name in self.__slots__:
            new, old = getattr(self, name), getattr(other, name)
            if new != old:
                shown = name not in {"spec", "plan"}
                found.append(f"{name}: {_show(old)} -> {_show(new)}" if shown else name)
        return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentDefinition:
    """One flow as it should be deployed.

    Attributes:
        flow: The flow.
        label: Name of the Prefect flow, ``<config>.<flow>``.
        name: Name of the deployment.
        schedule: When it runs by itself, or None.
        upstream: Full names of the deployments whose success starts it.
        exclusive: Whether one run at a time is allowed, and a crashed run is started again. Not so
            for asking: several people ask at once, and a question is not repeated by itself.
        queue: Work queue in the pool, one a config, so that ``serve`` runs its own configs only.
        spec: What it is made from.
    """

    flow: FlowDefinition
    label: str
    name: str
    schedule: ScheduleSpec | None
    upstream: tuple[str, ...]
    exclusive: bool
    queue: str
    spec: DeploymentSpec

    @property
    def full_name(self) -> str:
        """Flow and deployment, as Prefect writes them."""
        return f"{self.label}/{self.name}"

    @property
    def watches(self) -> bool:
        """Whether changed files start it."""
        return self.schedule is not None and self.schedule.watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """A deployment that a server has.

    Attributes:
        id: On that server.
        full_name: ``<flow>/<name>``.
        spec: What was deployed; None for a deployment that merganser did not make.
        whole: Whether its automation is there too.
    """

    id: str
    full_name: str
    spec: DeploymentSpec | None
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to be done with one deployment.

    Attributes:
        action: Retiring deletes the deployment; its runs stay in the history.
        full_name: ``<flow>/<name>``.
        reasons: What differs, for people.
        definition: What is wanted; None when it retires.
        deployed: What is there; None when it is created.
    """

    action: Action
    full_name: str
    reasons: tuple[str, ...] = ()
    definition: DeploymentDefinition | None = field(default=None, repr=False)
    deployed: Deployed | None = None


def flow_label(config: Config, flow: FlowDefinition) -> str:
    """Return the name of a flow in Prefect."""
    return f"{config.path.stem}.{flow.name}"


def define_deployments(
    config: Config,
    *,
    name: str | None = None,
    pool: str = DEFAULT_POOL,
    parameters: Mapping[str, str] | None = None,
    models: Mapping[str, str] | None = None,
) -> tuple[DeploymentDefinition, ...]:
    """Return the deployments of a config, in the order of its flows.

    Args:
        config: The loaded config.
        name: Of the deployments and their queue; the config's own name when left out.
        pool: Work pool that runs them.
        parameters: Defaults that differ from the flows' own.
        models: Models that were replaced when the config was loaded.
    """
    name = name or config.path.stem
    return tuple(
        _define(config, flow, name, pool=pool, parameters=parameters or {}, models=models or {})
        for flow in resolve_flows(config)
    )


def _define(
    config: Config,
    flow: FlowDefinition,
    name: str,
    *,
    pool: str,
    parameters: Mapping[str, str],
    models: Mapping[str, str],
) -> DeploymentDefinition:
    asked = isinstance(flow, AskFlow)
    schedule = None if asked else flow.spec.schedule
    after = () if asked else flow.spec.after
    tags = (TAG, f"config:{name}", *config.spec.metadata.tags)
    return DeploymentDefinition(
        flow=flow,
        label=flow_label(config, flow),
        name=name,
        schedule=schedule,
        upstream=tuple(f"{config.path.stem}.{one}/{name}" for one in after),
        exclusive=not asked,
        queue=re.sub(r"[/%]", "-", name),
        spec=DeploymentSpec(
            config=os.path.normpath(config.path),
            flow=flow.name,
            spec=config.fingerprint,
            plan=build_plan(config, flow).fingerprint,
            program=version("merganser"),
            schedule=str(schedule or ""),
            after=after,
            pool=pool,
            tags=tuple(dict.fromkeys(tags)),
            parameters=tuple(sorted(parameters.items())),
            models=tuple(sorted(models.items())),
        ),
    )


def compare(
    wanted: Iterable[DeploymentDefinition], deployed: Iterable[Deployed]
) -> tuple[Change, ...]:
    """Return what to do so that a server has what is wanted: the wanted ones first, in order.

    A deployment retires when it was made from one of the wanted configs, under the same name, and
    is no longer wanted.

    Args:
        wanted: Deployments of one config or several.
        deployed: What the server has, of these configs and of others.

    Raises:
        PlanError: A name is taken by another config, or by a deployment of another program.
    """
    wanted = tuple(wanted)
    there = {one.full_name: one for one in deployed}
    changes = [_compare_one(one, there.get(one.full_name)) for one in wanted]
    owners = {(one.spec.config, one.name) for one in wanted}
    names = {one.full_name for one in wanted}
    for one in there.values():
        if one.spec is None or one.full_name in names:
            continue
        if (one.spec.config, one.full_name.rpartition("/")[2]) in owners:
            reason = (f"{one.spec.config} has no flow {one.spec.flow!r} any more",)
            changes.append(
                Change(action="retire", full_name=one.full_name, reasons=reason, deployed=one)
            )
    return tuple(changes)


def _compare_one(wanted: DeploymentDefinition, deployed: Deployed | None) -> Change:
    name = wanted.full_name
    if deployed is None:
        return Change(action="create", full_name=name, definition=wanted)
    if deployed.spec is None:
        raise PlanError(
            f"the deployment {name!r} was not made by this version of merganser; delete it, or"
            " deploy under another name: --name NAME"
        )
    other = deployed.spec.config
    if other != wanted.spec.config and Path(other).exists():
        raise PlanError(
            f"the deployment {name!r} belongs to {other}; rename one of the configs, or deploy"
            " this one under another name: --name NAME"
        )
    reasons = wanted.spec.differences(deployed.spec)
    if not deployed.whole:
        reasons += ("its automation is missing",)
    return Change(
        action="update" if reasons else "unchanged",
        full_name=name,
        reasons=reasons,
        definition=wanted,
        deployed=deployed,
    )


def _freeze(value: Any) -> Any:
    return tuple(_freeze(part) for part in value) if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType] - JSON


def _show(value: Any) -> str:
    if not isinstance(value, tuple):
        return str(value) or "none"
    parts = cast("tuple[str | tuple[str, str], ...]", value)
    words = (part if isinstance(part, str) else "=".join(part) for part in parts)
    return ", ".join(words) or "none"
