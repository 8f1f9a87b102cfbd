"""Deployments of ours as a server has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags

from merganser.planning.deployments import FACTS_VARIABLE, TAG, Facts

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

PAGE = 200
"""Prefect's limit of rows a request."""


def read_tagged(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Give the deployments that merganser made, and any of the same tag."""
    wanted = DeploymentFilter(tags=DeploymentFilterTags(all_=[TAG]))
    found = list["DeploymentResponse"]()
    while True:
        page = client.read_deployments(deployment_filter=wanted, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return found


def run_environment(deployment: DeploymentResponse) -> dict[str, str]:
    """Give the environment variables that the runs of a deployment get."""
    variables: dict[str, Any] = deployment.job_variables or {}
    return variables.get("env", {})


def read_facts(deployment: DeploymentResponse) -> Facts | None:
    """Give what was deployed; None for a deployment that merganser did not make."""
    return Facts.from_json(run_environment(deployment).get(FACTS_VARIABLE, ""))
