"""Dask and Ray: task runners for the shards of an index run, and for nothing else of it.

Everything but embedding works on the index folder, which one process writes, so it stays in the
threads of the flow run. A cluster without an address lives as long as the embedding stage.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, assert_never, cast

from prefect.client.schemas.objects import State, TaskRunResult

from merganser.errors import MerganserError, PlanError
from merganser.humanize import install_extra
from merganser.models.outage import wait_seconds
from merganser.remote.sharing import receive_shard, share_run
from merganser.tasks.indexing import embed_shard_remotely
from merganser.threads import thread_limit, within_limit

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from uuid import UUID

    from prefect.futures import PrefectFuture

    from merganser.config.index_definition import IndexDefinition
    from merganser.config.spec_flows import RunnerSpec
    from merganser.indexing.workspace import Workspace
    from merganser.remote.sharing import ShardReceipt
    from merganser.tasks.models import ReadyModel


def require_runner(runner: RunnerSpec) -> None:
    """Refuse a runner whose package is not here, before anything is done.

    Raises:
        PlanError: The message says what to install.
    """
    if find_spec(f"prefect_{runner.type}") is None:
        raise PlanError(
            f"'runner: {runner.type}' needs a package that is not here:"
            f" {install_extra(runner.type)}"
        )


def embed_remotely(
    runner: RunnerSpec,
    workers: int | None,
    run: Workspace,
    index: IndexDefinition,
    model: ReadyModel | None,
    *,
    after: Iterable[PrefectFuture[Any] | State[Any]],
) -> list[State[Any]]:
    """Embed all shards of a run in other processes and take in what they leave.

    Returns:
        The states of the shards, which draw the edges to what comes after them.

    Raises:
        MerganserError: The first failure of a shard, or the shared folder cannot be reached.
        PlanError: No cluster answers, or it lost a shard for good.
    """
    with _naming_failures(runner, index.name):
        shared, shards = share_run(run), run.shards
        upstream = [
            cast("Any", TaskRunResult(id=_run_id(one))) for one in after
        ]  # frozen, so hashable
        # On this machine as many processes as there may be threads, with one each.
        threads = thread_limit() and (thread_limit() if runner.address else 1)
        inputs = {"run": set(upstream)}  # of an argument: both runners drop or refuse other names
        with _open(
            runner, min(within_limit(workers or os.cpu_count() or 1), len(shards))
        ) as cluster:
            futures = [
                cluster.submit(
                    embed_shard_remotely,
                    parameters={
                        "run": shared,
                        "shard": shard,
                        "index": index,
                        "model": model,
                        "wait_seconds": wait_seconds(),
                        "threads": threads,
                    },
                    dependencies=inputs,
                )
                for shard in shards
            ]
            failure: Exception | None = None
            for future in futures:
                try:
                    receipt: ShardReceipt = future.result()
                except Exception as error:  # noqa: BLE001 - the others are waited for, then it is raised
                    failure = failure or error
                else:
                    receive_shard(run, receipt)
            if failure is not None:
                raise failure
            return [future.state for future in futures]


@contextmanager
def _naming_failures(runner: RunnerSpec, name: str) -> Generator[None]:
    """Say in a sentence that a cluster failed; other errors go through."""
    try:
        yield
    except MerganserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and not _is_of_cluster(error):
            raise
        raise PlanError(
            f"the shards of {name!r} cannot be embedded on {runner}: "
            f"{type(error).__name__}: {error}; what was embedded is kept"
        ) from error


def _is_of_cluster(error: Exception) -> bool:
    """Return whether the cluster failed, not what ran on it."""
    return type(error).__module__.partition(".")[0] in {"distributed", "ray"}


def _run_id(one: PrefectFuture[Any] | State[Any]) -> UUID:
    found = one.state_details.task_run_id if isinstance(one, State) else one.task_run_id
    assert found is not None, "only task runs come before a task run"
    return found


@contextmanager
def _open(runner: RunnerSpec, workers: int) -> Generator[Any]:
    """Connect to a cluster, or start one on this machine for as long as the block runs."""
    library: Any = import_module(f"prefect_{runner.type}")  # an extra
    where: dict[str, Any] = {"address": runner.address} if runner.address else {}
    match runner.type:
        case "dask":
            options = {
                "n_workers": workers,
                "threads_per_worker": 1,
                "dashboard_address": None,
                "silence_logs": logging.ERROR,
            }
            cluster = library.DaskTaskRunner(**(where or {"cluster_kwargs": options}))
        case "ray":
            options = {"num_cpus": workers, "include_dashboard": False, "log_to_driver": False}
            cluster = library.RayTaskRunner(**(where or {"init_kwargs": options}))
        case _:
            assert_never(runner.type)
    with cluster:
        yield cluster
