"""Judge the deployments of a config: whether they are up to date, and whether runs were skipped.

What a server knows of them is data here; ``merganser.deployment.runs`` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from merganser.config.flow_definition import IndexFlow, resolve_flows
from merganser.config.rag_definition import resolve_rag
from merganser.doctor.servers import Check
from merganser.humanize import show_age

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.config.load import Config
    from merganser.doctor.indexes import IndexDiagnosis
    from merganser.planning.deployments import DeploymentSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRuns:
    """What became of a deployment's scheduled runs.

    Attributes:
        deployment: Its full name.
        spec: What was deployed.
        paused: Whether its schedule is.
        completed: When a run of it completed last, or None.
        active_since: When the run that is under way began, or None.
        skipped: Runs since ``completed`` that were cancelled because one was under way.
        missed: Runs since then that no worker was there for.
        late: Runs that have been due for a while and that no worker takes.
        is_capped: There may be more of both than were counted.
    """

    deployment: str
    spec: DeploymentSpec
    paused: bool
    completed: datetime | None
    active_since: datetime | None
    skipped: int
    missed: int
    late: int
    is_capped: bool


def judge_deployments(
    config: Config,
    found: Iterable[ScheduledRuns],
    indexes: Sequence[IndexDiagnosis],
    *,
    models: Mapping[str, str],
    now: datetime | None = None,
) -> tuple[Check, ...]:
    """Give a check for each deployment of a config.

    Args:
        config: The config.
        found: Its deployments.
        indexes: What its indexes serve, for their age.
        models: Models that were replaced when the config was loaded.
        now: With time zone; the present by default.
    """
    moment = now or datetime.now(UTC)
    ages = _index_ages(config, indexes, moment)
    return tuple(
        _judge(one, config, moment, ages.get(one.spec.flow, ""), models=models) for one in found
    )


def _judge(
    one: ScheduledRuns, config: Config, now: datetime, index_age: str, *, models: Mapping[str, str]
) -> Check:
    title = f"deployment {one.deployment}"
    if dict(one.spec.models) == dict(models) and one.spec.spec != config.fingerprint:
        detail = f"{one.spec.config} has changed since it was deployed: its runs refuse to begin"
        return Check(title, "problem", detail, fix=f"merganser deploy {one.spec.config}")
    parts = [one.spec.schedule or "no schedule", _last(one, now)]
    fixes: list[str] = []
    if one.paused:
        parts.append("paused")
        fixes.append("resume its schedule in the UI")
    more = " or more" if one.is_capped else ""
    if one.skipped:
        parts.append(f"{one.skipped}{more} scheduled runs skipped since, as a run was under way")
        fixes.append("look at that run, or schedule the runs further apart than one takes")
    if one.missed:
        parts.append(f"{one.missed}{more} scheduled runs missed since, as no worker was there")
        fixes.append(f"keep one running: merganser worker --pool {one.spec.pool}")
    if index_age:
        parts.append(index_age)
    if one.late:
        counted = "1 scheduled run is" if one.late == 1 else f"{one.late} scheduled runs are"
        parts.insert(1, f"{counted} due, and no worker is there to begin")
        start = f"merganser serve {one.spec.config}, or merganser worker --pool {one.spec.pool}"
        return Check(title, "problem", "; ".join(parts), fix="; ".join((start, *fixes)))
    return Check(title, "note" if fixes else "ok", "; ".join(parts), fix="; ".join(fixes))


def _last(one: ScheduledRuns, now: datetime) -> str:
    last = "never completed"
    if one.completed is not None:
        last = f"completed {show_age((now - one.completed).total_seconds())} ago"
    if one.active_since is not None:
        last += f", under way for {show_age((now - one.active_since).total_seconds())}"
    return last


def _index_ages(config: Config, indexes: Sequence[IndexDiagnosis], now: datetime) -> dict[str, str]:
    """Say how old what each index flow publishes is."""
    ages: dict[str, str] = {}
    for index in indexes:
        served = next((one for one in index.snapshots if one.served), None)
        if served is not None:
            created = datetime.fromisoformat(served.created)
            created = created if created.tzinfo else created.replace(tzinfo=UTC)
            ages[index.name] = show_age((now - created).total_seconds())
    found: dict[str, str] = {}
    for flow in resolve_flows(config):
        if isinstance(flow, IndexFlow):
            names = {i.name for rag in flow.rags for i in resolve_rag(config, rag).indexes}
            told = [f"{name} is {ages[name]} old" for name in sorted(names) if name in ages]
            found[flow.name] = ", ".join(told)
    return found
