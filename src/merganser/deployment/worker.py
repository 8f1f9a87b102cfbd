"""A worker in this process: it runs what is deployed, watches files, and keeps the history true."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import PrefectException
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from merganser.deployment.reconcile import TEND_SECONDS, Steward
from merganser.deployment.watch import watch_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from prefect.types import DateTime

    from merganser.config.definitions import IndexDefinition

AGAIN_SECONDS = 5.0
"""Pause before a worker that lost its server tries again."""

STOP_SECONDS = 20.0
"""How long runs under way may take to end when the worker is told to."""

_TROUBLE = (httpx.HTTPError, PrefectException, RuntimeError)
"""What a server that is away looks like; Prefect's own worker would end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A deployment that runs when documents change.

    Attributes:
        deployment_id: On the server.
        label: For people.
        indexes: Whose documents.
    """

    deployment_id: str
    label: str
    indexes: tuple[IndexDefinition, ...]


async def work(
    pool: str,
    *,
    queues: Sequence[str] = (),
    watched: Sequence[Watched] = (),
    limit: int | None = None,
    keep: Callable[[], str] | None = None,
    say: Callable[[str], None],
) -> None:
    """Run what is due in a pool until SIGINT or SIGTERM; runs under way are ended as Crashed.

    Args:
        pool: The work pool, which is there.
        queues: Only these of its queues; all when empty.
        watched: What to run when documents change.
        limit: Runs at a time; any number when None.
        keep: Called every few seconds to keep up what runs need; gives what to say of it.
        say: Told what people should know.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    steward = Steward(pool, queues)
    if missed := await asyncio.to_thread(steward.begin):
        was = "firing was" if missed == 1 else "firings were"
        say(f"{missed} {was} missed while no worker was there; the newest one due runs now")
    jobs = [
        _poll(pool, queues, limit, say),
        _tend(steward, say),
        *([_keep(keep, say)] if keep else ()),
        *(watch_documents(one.indexes, _Trigger(one, say).run, say=say) for one in watched),
    ]
    tasks = [asyncio.create_task(job) for job in jobs]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        # Another signal meanwhile says nothing new: ending the runs takes a moment.
        await asyncio.wait([stopping, *tasks], timeout=STOP_SECONDS)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def next_firings(deployments: Mapping[str, str]) -> dict[str, str]:
    """Give when each deployment is due next, local time, for those that are.

    Args:
        deployments: Name by id.
    """
    found = dict[str, str]()
    with get_client(sync_client=True) as client:
        for deployment_id, name in deployments.items():
            runs = client.read_flow_runs(
                flow_run_filter=FlowRunFilter(
                    deployment_id=FlowRunFilterDeploymentId(any_=[UUID(deployment_id)]),
                    state=FlowRunFilterState(
                        type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])
                    ),
                    next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
                        after_=cast("DateTime", datetime.now(UTC))
                    ),
                ),
                sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
                limit=1,
            )
            if runs and runs[0].next_scheduled_start_time:
                due = runs[0].next_scheduled_start_time.astimezone()
                found[name] = f"{due:%Y-%m-%d %H:%M:%S}"
    return found


class _Configuration(ProcessJobConfiguration):
    """Begins runs without the steps that fetch code: ours is installed."""

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        """Name the command, which spares a second import of Prefect."""
        self.command = self.command or command_to_string([sys.executable, "-m", "prefect.engine"])
        super().prepare_for_flow_run(*args, **kwargs)


class _Worker(ProcessWorker):
    """A process worker whose runs begin sooner."""

    job_configuration = _Configuration

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Leave Prefect's registry of worker types its own process worker."""
        return "merganser-process"


async def _poll(
    pool: str, queues: Sequence[str], limit: int | None, say: Callable[[str], None]
) -> None:
    """Run a worker, and another one when it gave up because the server was away too long."""
    while True:
        worker = _Worker(
            work_pool_name=pool,
            work_queues=list(queues) or None,
            name=f"merganser {socket.gethostname()} {'+'.join(queues) or pool}",
            # A run that is fetched early takes its slot early, while the one before still has it.
            prefetch_seconds=0,
            limit=limit,
        )
        try:
            await worker.start(printer=lambda *_, **__: None)
        except* _TROUBLE as errors:
            say(f"the Prefect server is away ({errors.exceptions[0]}); again in {AGAIN_SECONDS} s")
        await asyncio.sleep(AGAIN_SECONDS)


async def _tend(steward: Steward, say: Callable[[str], None]) -> None:
    said = ""
    while True:
        try:
            for trouble in await asyncio.to_thread(steward.tend):
                say(trouble)
            said = ""
        except _TROUBLE as error:
            text = f"cannot look after runs: {type(error).__name__}: {error}"
            if text != said:
                say(text)
            said = text
        await asyncio.sleep(TEND_SECONDS)


async def _keep(keep: Callable[[], str], say: Callable[[str], None]) -> None:
    said = ""
    while True:
        text = await asyncio.to_thread(keep)
        if text and text != said:
            say(text)
        said = text
        await asyncio.sleep(TEND_SECONDS)


@dataclass(frozen=True, slots=True)
class _Trigger:
    """Starts a run of a watched deployment and waits for its end."""

    watched: Watched
    say: Callable[[str], None]

    async def run(self) -> bool:
        """Give whether the run completed."""
        try:
            async with get_client() as client:
                run = await client.create_flow_run_from_deployment(
                    UUID(self.watched.deployment_id), tags=["watch"]
                )
                self.say(f"{self.watched.label}: documents to look at, run {run.name}")
                while run.state is None or not run.state.is_final():
                    await asyncio.sleep(1.0)
                    run = await client.read_flow_run(run.id)
        except _TROUBLE as error:
            self.say(f"{self.watched.label}: {type(error).__name__}: {error}")
            return False
        if not run.state.is_completed():
            self.say(f"{self.watched.label}: {run.state.name}: {run.state.message or ''}")
        return run.state.is_completed()
