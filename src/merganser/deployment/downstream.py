"""What ``after`` deploys: which completed runs start which deployments.

Workers follow chains, not the server's automations: a trigger that misses an event starts nothing
and says nothing, while a worker looks at the runs themselves, again and again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from merganser.deployment.deployed import read_facts, read_tagged, run_environment
from merganser.planning.deployments import DEPLOYED_AT_VARIABLE

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One flow of a config that runs after another one.

    Attributes:
        upstream: Deployment whose completed runs start the other.
        downstream: Deployment that is started.
        since: When the chain was deployed; runs that ended before start nothing.
    """

    upstream: UUID
    downstream: UUID
    since: datetime

    def follows(self, run: FlowRun) -> bool:
        """Whether a run starts the downstream deployment; one that is Degraded has completed."""
        return (
            run.deployment_id == self.upstream
            and run.state is not None
            and run.state.is_completed()
            and run.end_time is not None
            and run.end_time > self.since
        )

    def key(self, run: FlowRun) -> str:
        """Give the key by which the server takes one start only, whoever asks for it."""
        return f"after-{run.id}-{self.downstream}"


def read_chains(client: SyncPrefectClient) -> list[Chain]:
    """Give the chains that are deployed."""
    deployed = [(one, facts) for one in read_tagged(client) if (facts := read_facts(one))]
    ids = {(facts.config, one.name, facts.flow): one.id for one, facts in deployed}
    return [
        Chain(upstream=ids[upstream], downstream=one.id, since=datetime.fromisoformat(since))
        for one, facts in deployed
        if (since := run_environment(one).get(DEPLOYED_AT_VARIABLE))
        for flow in facts.after
        if (upstream := (facts.config, one.name, flow)) in ids
    ]
