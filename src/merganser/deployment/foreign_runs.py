"""Tell which runs would start something else than our flows.

Whoever reaches a Prefect server can give a run, a deployment or a work pool a command of their own,
which a worker then runs as its user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.errors import MerganserError
from merganser.planning.deployments import DEPLOYED_AT_VARIABLE, SPEC_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.workers.process import ProcessJobConfiguration

JOB_VARIABLES = ("command", "entrypoint", "env", "working_dir")
"""What decides which program runs, and how; all else of a process work pool is harmless."""

OUR_FLOWS = "merganser.flows."
"""How the entrypoints of our deployments begin."""


class ForeignRunError(MerganserError):
    """A run would start something that merganser did not deploy."""


def refuse_foreign(
    job: ProcessJobConfiguration, deployment: DeploymentResponse | None, allowed: Collection[str]
) -> None:
    """Refuse a run with a command, environment, entrypoint or folder that is not ours.

    Args:
        job: What the work pool, the deployment and the run make together, not prepared yet.
        deployment: The run's; None when it has none, and then nothing of ours runs.
        allowed: Of ``JOB_VARIABLES``, those that may be anybody's.

    Raises:
        ForeignRunError: It has one that is not allowed.
    """
    ours = {SPEC_VARIABLE, DEPLOYED_AT_VARIABLE}
    foreign = {
        "command": job.command is not None,
        "entrypoint": deployment is not None
        and bool(
            not (deployment.entrypoint or "").startswith(OUR_FLOWS)
            or ":" in (deployment.entrypoint or "")  # a path to a file
            or deployment.pull_steps
        ),
        "env": not job.env.keys() <= ours,
        "working_dir": job.working_dir is not None,
    }
    _refuse([name for name in JOB_VARIABLES if foreign[name]], allowed)


def refuse_environment(given: Mapping[str, Any], allowed: Collection[str]) -> None:
    """Refuse a run with an environment of its own: ours have that of their deployment.

    The names that a deployment sets say which config is run, so a run that sets them runs another.

    Args:
        given: Job variables of the run itself, before they are put over those of its deployment.
        allowed: As for ``refuse_foreign``.

    Raises:
        ForeignRunError: It has one, and that is not allowed.
    """
    if any(value and name.partition(".")[0] == "env" for name, value in given.items()):
        _refuse(["env"], allowed)


def _refuse(foreign: Sequence[str], allowed: Collection[str]) -> None:
    refused = [name for name in foreign if name not in allowed]
    if refused:
        options = " ".join(f"--allow-job-variables {name}" for name in refused)
        raise ForeignRunError(
            f"refused: its {', '.join(refused)} is not what merganser deploys; if that is meant,"
            f" start the worker with {options}"
        )
