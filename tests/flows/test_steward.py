"""What a worker starts after completed runs, asked of a real server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed

from merganser.deployable import compare, define_deployments
from merganser.flows.deploying import apply_changes, read_deployed
from merganser.flows.steward import Steward
from merganser.load import Config, load_config

pytestmark = pytest.mark.usefixtures("prefect_server")

CONFIG = """\
rag: {code: {docs: [./src], strategies: [{type: bm25}]}}
flows:
  often: {type: index}
  then: {type: index, after: often}
"""
POOL = "chains"


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.md").write_text("# Ducks\n")
    (tmp_path / "chained.yaml").write_text(CONFIG)
    return load_config(tmp_path / "chained.yaml")


def deploy(config: Config) -> tuple[UUID, UUID]:
    """Deploy the config; give the upstream deployment and the one after it."""
    name = config.path.parent.name
    changes = compare(define_deployments(config, name=name, pool=POOL), read_deployed())
    ids = apply_changes(config, changes)
    return UUID(ids[f"chained.often/{name}"]), UUID(ids[f"chained.then/{name}"])


def runs_of(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    return client.read_flow_runs(flow_run_filter=wanted)


def end_a_run(client: SyncPrefectClient, deployment: UUID, state: State) -> UUID:
    run = client.create_flow_run_from_deployment(deployment)
    client.set_flow_run_state(run.id, state, force=True)
    return run.id


def test_only_a_completed_run_starts_what_comes_after_and_once_whoever_looks(
    client: SyncPrefectClient, config: Config
) -> None:
    often, then = deploy(config)
    for state in (Failed(), Cancelled(), Completed(name="Degraded"), Completed()):
        end_a_run(client, often, state)
    # A crash is answered with a new run of the same deployment, not with one of the next.
    end_a_run(client, often, Crashed())
    completed = {
        str(run.id) for run in runs_of(client, often) if run.state and run.state.is_completed()
    }
    assert len(completed) == 2

    workers = Steward(POOL), Steward(POOL), Steward(POOL, [config.path.parent.name])
    for worker in workers:
        worker.tend()
        worker.tend()

    keys = [run.idempotency_key for run in runs_of(client, then)]
    assert sorted(map(str, keys)) == sorted(f"after-{one}-{then}" for one in completed)


def test_a_worker_of_other_queues_or_pools_starts_nothing(
    client: SyncPrefectClient, config: Config
) -> None:
    often, then = deploy(config)
    end_a_run(client, often, Completed())
    before = len(runs_of(client, then))

    Steward(POOL, ["another"]).tend()
    Steward("another").tend()
    assert len(runs_of(client, then)) == before

    Steward(POOL).tend()
    assert len(runs_of(client, then)) == before + 1


def test_runs_that_ended_before_the_chain_was_deployed_start_nothing(
    client: SyncPrefectClient, config: Config, rewrite: Callable[[str], Config]
) -> None:
    unchained = rewrite(CONFIG.replace(", after: often", ""))
    often, then = deploy(unchained)
    end_a_run(client, often, Completed())
    before = len(runs_of(client, then))
    Steward(POOL).tend()
    assert len(runs_of(client, then)) == before

    deploy(rewrite(CONFIG))
    Steward(POOL).tend()
    assert len(runs_of(client, then)) == before

    end_a_run(client, often, Completed())
    Steward(POOL).tend()
    assert len(runs_of(client, then)) == before + 1


@pytest.fixture
def rewrite(config: Config) -> Callable[[str], Config]:
    """Give a function that writes the config anew."""

    def write(text: str) -> Config:
        config.path.write_text(text)
        return load_config(config.path)

    return write
