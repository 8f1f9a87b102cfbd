"""A flow that only says why a deployed run cannot begin."""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import Flow
from prefect.client.orchestration import get_client

if TYPE_CHECKING:
    from merganser.errors import MerganserError
    from merganser.planning.deployments import Facts

RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""Set by Prefect for the process of a deployed run."""


def refuse(facts: Facts, error: MerganserError) -> Flow[..., Any]:
    """Make a flow that takes whatever the run was given and fails with the error.

    Args:
        facts: What was deployed.
        error: Why it cannot run.

    Raises:
        MerganserError: No run is to begin in this process; it is the same error.
    """
    run_id = os.environ.get(RUN_VARIABLE)
    if run_id is None:
        raise error

    def body(**parameters: Any) -> None:
        del parameters
        raise error

    with get_client(sync_client=True) as client:
        given = client.read_flow_run(UUID(run_id)).parameters
    kind = inspect.Parameter.KEYWORD_ONLY
    names = [inspect.Parameter(name, kind, default=None) for name in given]
    # Prefect binds a run's parameters by the signature.
    body.__signature__ = inspect.Signature(names)
    return Flow(body, name=facts.flow, persist_result=False, validate_parameters=False)
