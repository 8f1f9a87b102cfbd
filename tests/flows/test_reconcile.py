"""What a worker makes of runs that completed, crashed, or were missed, on a real server."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled, Completed, Crashed, Failed, Pending, Running

from merganser.config.load import Config, load_config
from merganser.deployment.apply import apply_changes, read_deployed
from merganser.deployment.reconcile import Reconciler
from merganser.planning.deployments import compare, define_deployments

if TYPE_CHECKING:
    from prefect.types import DateTime

pytestmark = pytest.mark.usefixtures("prefect_server")

CONFIG = """\
rag: {code: {docs: [./src], strategies: [{type: bm25}]}}
flows:
  often: {type: index}
  then: {type: index, after: often}
"""
POOL = "chains"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.md").write_text("# Ducks\n")
    (tmp_path / "chained.yaml").write_text(CONFIG)
    return load_config(tmp_path / "chained.yaml")


def deploy(config: Config) -> tuple[UUID, UUID]:
    """Deploy the config; give the upstream deployment and the one after it."""
    changes = compare(define_deployments(config, pool=POOL), read_deployed())
    ids = apply_changes(config, changes)
    return UUID(ids["chained.often/chained"]), UUID(ids["chained.then/chained"])


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

    workers = Reconciler(POOL), Reconciler(POOL), Reconciler(POOL, ["chained"])
    for worker in workers:
        worker.reconcile_once()
        worker.reconcile_once()

    keys = [run.idempotency_key for run in runs_of(client, then)]
    assert sorted(map(str, keys)) == sorted(f"after-{one}-{then}" for one in completed)


def test_a_worker_of_other_queues_or_pools_starts_nothing(
    client: SyncPrefectClient, config: Config
) -> None:
    often, then = deploy(config)
    end_a_run(client, often, Completed())
    before = len(runs_of(client, then))

    Reconciler(POOL, ["another"]).reconcile_once()
    Reconciler("another").reconcile_once()
    assert len(runs_of(client, then)) == before

    Reconciler(POOL).reconcile_once()
    assert len(runs_of(client, then)) == before + 1


def test_runs_that_ended_before_the_chain_was_deployed_start_nothing(
    client: SyncPrefectClient, config: Config, rewrite: Callable[[str], Config]
) -> None:
    unchained = rewrite(CONFIG.replace(", after: often", ""))
    often, then = deploy(unchained)
    end_a_run(client, often, Completed())
    before = len(runs_of(client, then))
    Reconciler(POOL).reconcile_once()
    assert len(runs_of(client, then)) == before

    deploy(rewrite(CONFIG))
    Reconciler(POOL).reconcile_once()
    assert len(runs_of(client, then)) == before

    end_a_run(client, often, Completed())
    Reconciler(POOL).reconcile_once()
    assert len(runs_of(client, then)) == before + 1


@pytest.fixture
def rewrite(config: Config) -> Callable[[str], Config]:
    """Return a function that writes the config anew."""

    def write(text: str) -> Config:
        config.path.write_text(text)
        return load_config(config.path)

    return write


def test_a_run_that_never_began_frees_its_slot_and_is_started_again(
    client: SyncPrefectClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    often, _ = deploy(config)
    first, second = (client.create_flow_run_from_deployment(often).id for _ in range(2))
    client.set_flow_run_state(first, Pending())
    client.set_flow_run_state(second, Pending())
    assert types_of(client, first, second) == [StateType.PENDING, StateType.CANCELLED]
    Reconciler(POOL).reconcile_once()
    assert types_of(client, first) == [StateType.PENDING], "it may still be importing"

    monkeypatch.setattr("merganser.deployment.reconcile.NEVER_BEGAN", timedelta(0))
    Reconciler(POOL).reconcile_once()
    Reconciler(POOL).reconcile_once()

    assert types_of(client, first) == [StateType.CRASHED]
    (again,) = (run for run in runs_of(client, often) if "restart:1" in run.tags)
    client.set_flow_run_state(again.id, Pending())
    assert types_of(client, again.id) == [StateType.PENDING], "the slot is free"


def test_the_server_marks_a_run_without_heartbeats_and_frees_its_slot(
    client: SyncPrefectClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("merganser.deployment.apply.HEARTBEATS_MISSED", timedelta(seconds=10))
    often, then = deploy(config)
    done = end_a_run(client, then, Completed())
    silent = client.create_flow_run_from_deployment(often).id
    client.set_flow_run_state(silent, Pending())
    client.set_flow_run_state(silent, Running())

    deadline = time.monotonic() + 90
    while types_of(client, silent) != [StateType.CRASHED]:
        assert time.monotonic() < deadline
        time.sleep(0.5)

    assert "No heartbeat" in str(client.read_flow_run(silent).state)
    assert types_of(client, done) == [StateType.COMPLETED]
    later = client.create_flow_run_from_deployment(often).id
    client.set_flow_run_state(later, Pending())
    assert types_of(client, later) == [StateType.PENDING]


def test_a_crash_that_comes_again_and_again_fails_in_the_end(
    client: SyncPrefectClient, config: Config
) -> None:
    often, _ = deploy(config)
    end_a_run(client, often, Crashed())
    for _ in range(5):
        Reconciler(POOL).reconcile_once()
        for run in runs_of(client, often):
            if run.state is not None and run.state.is_scheduled():
                client.set_flow_run_state(run.id, Crashed(), force=True)

    states = [run.state for run in runs_of(client, often) if run.state is not None]
    assert sorted(state.type for state in states) == ["CRASHED"] * 3 + ["FAILED"]
    (failed,) = (state for state in states if state.is_failed())
    assert "Crashed 4 times in a row" in str(failed.message)


def test_runs_that_fail_are_told_once_each_with_the_reason(
    client: SyncPrefectClient, config: Config
) -> None:
    often, _ = deploy(config)
    end_a_run(client, often, Failed(message="before this worker"))
    worker = Reconciler(POOL)
    message = "Flow run encountered an exception: StoreError: no room\nleft"
    end_a_run(client, often, Failed(message=message))

    told, again = worker.reconcile_once(), worker.reconcile_once()

    assert [line.partition(": ")[2] for line in told] == ["Failed: StoreError: no room left"]
    assert again == []


def test_of_the_scheduled_runs_that_nobody_was_there_for_only_the_newest_runs(
    client: SyncPrefectClient, rewrite: Callable[[str], Config]
) -> None:
    often, _ = deploy(rewrite(CONFIG.replace("often: {", "often: {schedule: {interval: 1s}, ")))
    deadline = time.monotonic() + 60
    while len(late := due_runs(client, often)) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    missed = Reconciler(POOL).skip_missed()

    left = due_runs(client, often)
    ended = types_of(client, *(run.id for run in late[:2]))
    assert missed >= 2
    assert ended == [StateType.CANCELLED, StateType.CANCELLED]
    assert "Missed" in str(client.read_flow_run(late[0].id).state)
    # The newest of those that were late then, and what has come due since.
    assert left
    assert not {run.id for run in left} & {run.id for run in late[:2]}


def types_of(client: SyncPrefectClient, *runs: UUID) -> list[StateType | None]:
    return [client.read_flow_run(run).state_type for run in runs]


def due_runs(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """Return the runs that wait although their time has come, the oldest first."""
    return client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            expected_start_time=FlowRunFilterExpectedStartTime(
                before_=cast("DateTime", datetime.now(UTC))
            ),
        ),
        sort=FlowRunSort.EXPECTED_START_TIME_ASC,
    )
