"""Look at the Prefect server that a run would use, and at the deployments of a config on it.

Nothing is started, and neither Prefect nor a password appears here: what the server knows of the
deployments is data, which ``merganser.deployment.runs`` reads.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from merganser.config.flow_definition import IndexFlow, resolve_flows
from merganser.config.rag_definition import resolve_rag
from merganser.doctor.servers import Check
from merganser.humanize import show_age, without_credentials
from merganser.services.prefect_api import URL_VARIABLE, look_at_api
from merganser.services.prefect_server import CLIENT_AUTH_VARIABLE, own_login, running_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from merganser.config.load import Config
    from merganser.doctor.indexes import IndexDiagnosis
    from merganser.planning.deployments import DeploymentSpec


_SERVER = "Prefect server"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRuns:
    """What became of a deployment's scheduled runs.

    Attributes:
        deployment: Its full name.
        spec: What was deployed.
        paused: Whether its schedule is paused.
        completed: When a run of it completed last, or None.
        active_since: When the run that is under way began, or None.
        skipped: Number of runs since ``completed`` that were cancelled because one was under way.
        missed: Number of runs since then that no worker began.
        late: Number of runs that have been due for a while and that no worker begins.
        is_capped: Whether ``skipped`` and ``missed`` may be more than was counted.
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
    """Return a check for each deployment of a config.

    Args:
        config: The config.
        found: What became of the runs of its deployments.
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
    """Return how old the served snapshots of each index flow are, by the flow's name."""
    ages: dict[str, str] = {}
    for index in indexes:
        if served := index.served:
            ages[index.name] = show_age((now - served.created_at).total_seconds())
    found: dict[str, str] = {}
    for flow in resolve_flows(config):
        if isinstance(flow, IndexFlow):
            names = {i.name for rag in flow.rags for i in resolve_rag(config, rag).indexes}
            told = [f"{name} is {ages[name]} old" for name in sorted(names) if name in ages]
            found[flow.name] = ", ".join(told)
    return found


def diagnose_history(env: Mapping[str, str] | None = None) -> Check:
    """Look at ``PREFECT_API_URL``, else at the local server; never raises for what is wrong.

    Args:
        env: The environment; the process's own by default.
    """
    variables = os.environ if env is None else env
    if url := variables.get(URL_VARIABLE):
        login = variables.get(CLIENT_AUTH_VARIABLE) or own_login(url)
        return _ask(url.removesuffix("/"), URL_VARIABLE, {**variables, CLIENT_AUTH_VARIABLE: login})
    server = running_server()
    if server is None:
        return Check(_SERVER, "ok", "not running; a run starts it")
    login = server.login or variables.get(CLIENT_AUTH_VARIABLE, "")
    return _ask(f"{server.url}/api", "local server", {**variables, CLIENT_AUTH_VARIABLE: login})


def _ask(url: str, origin: str, env: Mapping[str, str]) -> Check:
    shown = f"{without_credentials(url)} ({origin})"
    state = look_at_api(url, origin, env)
    if state.problem:
        return Check(_SERVER, "problem", f"{shown} {state.problem}", fix=state.fix)
    version = f", version {state.version}" if state.version else ""
    return Check(_SERVER, "ok", f"{shown}{version}")
