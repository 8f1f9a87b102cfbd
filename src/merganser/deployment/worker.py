"""A worker in this process: it runs what is deployed, watches documents and reconciles runs."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.utilities.processutils import command_to_string
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from merganser.deployment.foreign_runs import refuse_environment, refuse_foreign
from merganser.deployment.reconcile import Reconciler
from merganser.deployment.watch import watch_documents
from merganser.ending import GRACE_SECONDS, cut_off_later

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse

    from merganser.config.index_definition import IndexDefinition

RETRY_SECONDS = 5.0
"""Pause before a worker that lost its server tries again."""

RECONCILE_SECONDS = 5.0
"""Time between two looks at the runs and at the models."""

STOP_SECONDS = GRACE_SECONDS - 2.0
"""How long runs under way may take to end when the worker is told to stop."""

_SERVER_ERRORS = (httpx.HTTPError, PrefectException, RuntimeError)
"""What a server that is away looks like; Prefect's own worker would end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A deployment that runs when documents change.

    Attributes:
        deployment_id: On the server.
        label: Name for messages.
        indexes: Whose documents are watched.
    """

    deployment_id: str
    label: str
    indexes: tuple[IndexDefinition, ...]


async def run_worker(
    pool: str,
    *,
    queues: Sequence[str] = (),
    watched: Sequence[Watched] = (),
    limit: int | None = None,
    allowed: Collection[str] = (),
    keep_models: Callable[[], str] | None = None,
    say: Callable[[str], None],
) -> None:
    """Run what is due in a pool until SIGINT or SIGTERM; runs under way are ended as Crashed.

    Args:
        pool: The work pool, which exists.
        queues: Only these of its queues; all when empty.
        watched: What to run when documents change.
        limit: Most runs at a time; any number when None.
        allowed: Of ``JOB_VARIABLES``, those that may be anybody's.
        keep_models: Called every few seconds to keep the model server up; returns what the user
            should know, or "".
        say: Called with what the user should know.
    """
    with _stop_signal() as stop:
        reconciler = Reconciler(pool, queues)
        if missed := await asyncio.to_thread(reconciler.skip_missed):
            was = "scheduled run was" if missed == 1 else "scheduled runs were"
            say(f"{missed} {was} missed while no worker was there; the newest one due runs now")
        jobs = [
            _run_due(pool, queues, limit, frozenset(allowed), say),
            _reconcile(reconciler, say),
            *([_keep_models(keep_models, say)] if keep_models else ()),
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
            await asyncio.wait([stopping, *tasks], timeout=STOP_SECONDS)


@contextmanager
def _stop_signal() -> Generator[asyncio.Event]:
    """Yield an event that SIGINT and SIGTERM set.

    A second signal changes nothing: ending the runs takes a moment.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int) -> None:
        stop.set()
        cut_off_later(number)

    for number in numbers:
        loop.add_signal_handler(number, end, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


class OurJobConfiguration(ProcessJobConfiguration):
    """Begins runs without the steps that fetch code: ours is installed."""

    allowed: ClassVar[frozenset[str]] = frozenset()
    """Of ``JOB_VARIABLES``, those that may be anybody's."""

    @classmethod
    async def resolve_for_flow_run(cls, flow_run: FlowRun, **options: Any) -> Self:
        """Put the variables of pool, deployment and run together.

        Raises:
            ForeignRunError: The run would start something that is not ours.
        """
        refuse_environment(flow_run.job_variables or {}, cls.allowed)  # not seen once it is done
        return await super().resolve_for_flow_run(flow_run, **options)

    def prepare_for_flow_run(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Name the command, which spares a second import of Prefect.

        Raises:
            ForeignRunError: The run would start something that is not ours.
        """
        refuse_foreign(self, deployment, self.allowed)
        self.command = self.command or command_to_string(
            [sys.executable, "-P", "-m", "prefect.engine"]
        )
        super().prepare_for_flow_run(flow_run, deployment, *args, **kwargs)


class _Worker(ProcessWorker):
    """A process worker whose runs begin sooner."""

    job_configuration = OurJobConfiguration

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Return a name of its own, so that Prefect's registry keeps its process worker."""
        return "merganser-process"


async def _run_due(
    pool: str,
    queues: Sequence[str],
    limit: int | None,
    allowed: frozenset[str],
    say: Callable[[str], None],
) -> None:
    """Run a worker, and another one when it gave up because the server was away too long."""
    OurJobConfiguration.allowed = allowed
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
        except* _SERVER_ERRORS as errors:
            say(f"the Prefect server is away ({errors.exceptions[0]}); again in {RETRY_SECONDS} s")
        await asyncio.sleep(RETRY_SECONDS)


async def _reconcile(reconciler: Reconciler, say: Callable[[str], None]) -> None:
    """Reconcile every few seconds; a trouble of the server is said once, until it is over."""
    said = ""
    while True:
        trouble = ""
        try:
            for line in await asyncio.to_thread(reconciler.reconcile_once):
                say(line)
        except _SERVER_ERRORS as error:
            trouble = f"cannot look after runs: {type(error).__name__}: {error}"
        said = _say_once(trouble, said, say)
        await asyncio.sleep(RECONCILE_SECONDS)


async def _keep_models(keep_models: Callable[[], str], say: Callable[[str], None]) -> None:
    said = ""
    while True:
        said = _say_once(await asyncio.to_thread(keep_models), said, say)
        await asyncio.sleep(RECONCILE_SECONDS)


def _say_once(text: str, said: str, say: Callable[[str], None]) -> str:
    """Say a text that is new and not empty; return it."""
    if text and text != said:
        say(text)
    return text


@dataclass(frozen=True, slots=True)
class _Trigger:
    """Starts a run of a watched deployment and waits for its end."""

    watched: Watched
    say: Callable[[str], None]

    async def run(self) -> bool:
        """Return whether the run completed."""
        label = self.watched.label
        try:
            async with get_client() as client:
                run = await client.create_flow_run_from_deployment(
                    UUID(self.watched.deployment_id), tags=["watch"]
                )
                self.say(f"{label}: documents to look at, run {run.name}")
                while run.state is None or not run.state.is_final():
                    await asyncio.sleep(1.0)
                    run = await client.read_flow_run(run.id)
        except _SERVER_ERRORS as error:
            self.say(f"{label}: {type(error).__name__}: {error}")
            return False
        if not run.state.is_completed():
            self.say(f"{label}: {run.state.name}: {run.state.message or ''}")
        return run.state.is_completed()
