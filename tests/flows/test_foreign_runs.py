"""A worker runs what merganser deployed, and nothing that somebody else put into a run of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.workers.process import ProcessWorker

from merganser.config.load import load_config
from merganser.deployment.apply import apply_changes, read_deployed
from merganser.deployment.foreign_runs import ForeignRunError
from merganser.deployment.reconcile import Reconciler
from merganser.deployment.worker import OurJobConfiguration
from merganser.planning.deployments import compare, define_deployments

if TYPE_CHECKING:
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient

pytestmark = pytest.mark.usefixtures("prefect_server")

POOL = "foreign-runs"
CONFIG = """\
rag: {code: {docs: [./src], strategies: [{type: bm25}]}}
flows:
  nightly: {type: index, schedule: {cron: "0 3 1 1 *"}}
"""


@pytest.fixture
def deployment(tmp_path: Path) -> UUID:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.md").write_text("# Ducks\n")
    (tmp_path / "foreign.yaml").write_text(CONFIG)
    config = load_config(tmp_path / "foreign.yaml")
    ids = apply_changes(config, compare(define_deployments(config, pool=POOL), read_deployed()))
    return UUID(ids["foreign.nightly/foreign"])


async def resolve(run_id: UUID, *allowed: str, pool_command: str | None = None) -> Any:
    """Do what a worker does with a run before it starts it."""

    class Configuration(OurJobConfiguration):
        pass

    Configuration.allowed = frozenset(allowed)
    async with get_client() as client:
        pool = await client.read_work_pool(POOL)
        # The first worker of a pool writes it.
        pool.base_job_template = ProcessWorker.get_default_base_job_template()
        if pool_command:
            pool.base_job_template["job_configuration"]["command"] = pool_command
        return await Configuration.resolve_for_flow_run(
            await client.read_flow_run(run_id), client=client, work_pool=pool, worker_name="test"
        )


FOREIGN: dict[str, dict[str, Any]] = {
    "command": {"command": "touch {mark}"},
    "env": {"env": {"PYTHONPATH": "{mark}"}},
    "env of another config": {"env": {"MERGANSER_DEPLOYMENT": '{"config": "{mark}"}'}},
    "env with a dot": {"env.LD_PRELOAD": "{mark}"},
    "working_dir": {"working_dir": "{mark}"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_run_with_variables_of_others_is_refused_unless_they_are_allowed(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, what: str
):
    variables = json.loads(json.dumps(FOREIGN[what]).replace("{mark}", str(tmp_path)))
    run = client.create_flow_run_from_deployment(deployment, job_variables=variables)
    name = what.partition(" ")[0]

    with pytest.raises(ForeignRunError, match=f"--allow-job-variables {name}$"):
        asyncio.run(resolve(run.id))

    assert asyncio.run(resolve(run.id, name)).command


def test_a_run_of_ours_begins(client: SyncPrefectClient, deployment: UUID):
    run = client.create_flow_run_from_deployment(deployment)

    assert "prefect.engine" in str(asyncio.run(resolve(run.id)).command)


@pytest.mark.parametrize(
    "foreign",
    [
        {"entrypoint": "evil.py:flow"},
        {"entrypoint": "merganser.flows.x:flow"},
        {"entrypoint": "os.system"},
        {"pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "true"}}]},
    ],
    ids=str,
)
def test_a_deployment_with_another_entrypoint_is_refused(
    client: SyncPrefectClient, deployment: UUID, foreign: dict[str, Any]
):
    ours = client.read_deployment(deployment)
    stated: dict[str, Any] = {"entrypoint": ours.entrypoint} | foreign
    other = client.create_deployment(
        flow_id=ours.flow_id,
        name="other",
        work_pool_name=POOL,
        **stated,
    )
    run = client.create_flow_run_from_deployment(other)

    with pytest.raises(ForeignRunError, match=r"--allow-job-variables entrypoint$"):
        asyncio.run(resolve(run.id))

    client.delete_deployment(other)


def test_a_command_of_the_work_pool_is_refused(client: SyncPrefectClient, deployment: UUID):
    run = client.create_flow_run_from_deployment(deployment)

    with pytest.raises(ForeignRunError, match="command"):
        asyncio.run(resolve(run.id, pool_command="touch here"))


def test_the_worker_crashes_a_refused_run_and_does_not_start_it_again(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
):
    mark = tmp_path / "ran"
    run = client.create_flow_run_from_deployment(
        deployment, job_variables={"command": f"touch {mark}"}
    )
    with subprocess.Popen(
        [sys.executable, "-m", "merganser", "worker", "--pool", POOL],
        env={**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())},
        stderr=subprocess.PIPE,
        text=True,
    ) as worker:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            state = client.read_flow_run(run.id).state
            if state is not None and state.is_final():
                break
            time.sleep(0.5)
        worker.terminate()
        worker.communicate(timeout=60)
    Reconciler(POOL).reconcile_once()

    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.is_crashed()
    assert "--allow-job-variables command" in (state.message or "")
    assert not mark.exists()
    assert not [
        other
        for other in client.read_flow_runs()
        if other.deployment_id == deployment and other.tags and "restart" in str(other.tags)
    ]
