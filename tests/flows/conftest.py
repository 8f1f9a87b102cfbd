"""What tests of deployments share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client

from merganser.deployment.runs import our_deployments

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[SyncPrefectClient]:
    """Return a client of the server; what the module deployed to its ``POOL`` goes at the end."""
    pool: str = request.node.getparent(pytest.Module).obj.POOL
    with get_client(sync_client=True) as client:
        yield client
        for deployment in our_deployments(client):
            if deployment.work_pool_name == pool:
                client.delete_deployment(deployment.id)
