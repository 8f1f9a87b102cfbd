"""Tasks that get a model ready: check, pull, configure; each is a bar of its own in the run."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from merganser.embedding.embedder import Embedder
from merganser.models.address import Address, resolve_address
from merganser.models.client import ModelRunner
from merganser.models.outage import outlast, waiting_for_server
from merganser.models.pull import PullProgress, report_pull
from merganser.models.ref import token_of
from merganser.models.retry import RetryPolicy, with_retries
from merganser.models.server_errors import model_not_found
from merganser.progress import remark
from merganser.tasks.options import MODEL_TASK

if TYPE_CHECKING:
    from uuid import UUID

    from merganser.config.index_definition import EmbeddingDefinition
    from merganser.models.configure import SetUp
    from merganser.models.ref import ModelRef, ModelUse
    from merganser.models.wire import ServedModel

_ARTIFACT_SECONDS = 2.0
"""Each update of a progress artifact is a request to the Prefect server."""


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What ``check_model`` found.

    Attributes:
        use: The model with the role in which it is needed.
        address: The server that answered.
        served: What the server has, or None when the model is not local.
    """

    use: ModelUse
    address: Address
    served: ServedModel | None


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model that is pulled, configured and loaded.

    Attributes:
        use: The model with the role in which it is needed, without flags that were refused.
        address: Its server.
        served: What the server has, with the digest of the weights.
        notes: What a user should know, an alias above all.
        left_out: Those of the notes that tell of refused flags.
    """

    use: ModelUse
    address: Address
    served: ServedModel
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()


@task(**MODEL_TASK, task_run_name="check {use.role} {use.model.model}")
def check_model(use: ModelUse, base_url: str | None, *, waits: bool = False) -> ModelStatus:
    """Find the model's server and ask whether the model is local.

    Args:
        use: The model.
        base_url: The server's address, or None to look for one.
        waits: Wait for a server that is not there. Without it whoever sits at a terminal learns of
            one that is not started within seconds.

    Raises:
        RunnerUnreachableError: No server answers; the message lists every address tried.
    """

    async def find() -> Address:
        return await resolve_address(base_url=use.model.base_url or base_url)

    async def check() -> ModelStatus:
        with nullcontext() if waits else waiting_for_server(0):
            address = await with_retries(find, RetryPolicy())
        async with open_runner(address, use.model) as runner:
            return ModelStatus(use, address, await runner.model(use.model.model))

    status = asyncio.run(check())
    found = status.served.id if status.served else "not local"
    get_run_logger().info("%s at %s: %s", use.model.model, status.address.shown, found)
    return status


@task(**MODEL_TASK, task_run_name="pull {status.use.model.model}")
def pull_model(status: ModelStatus) -> ModelStatus:
    """Pull the model, with its progress as an artifact of the run.

    Raises:
        ModelNotFoundError: It is missing at a server that pulls nothing.
        PullError: It could not be pulled.
    """
    ref = status.use.model.model
    show = _PullArtifact(ref)

    async def pull() -> ServedModel:
        async with open_runner(status.address, status.use.model) as runner:
            if await runner.managed():
                return await outlast(lambda: runner.pull(ref, on_progress=show))
        if status.served is None:
            where = status.address.shown
            raise model_not_found(ref, where=where, reason="that server pulls nothing by itself")
        return status.served

    return ModelStatus(status.use, status.address, asyncio.run(pull()))


@task(**MODEL_TASK, task_run_name="configure {status.use.role} {status.use.model.model}")
def configure_model(status: ModelStatus) -> ReadyModel:
    """Configure the model for its role and load it, so that later tasks do not wait.

    Raises:
        RunnerUnavailableError: It stayed busy and could not be configured.
        RequestRejectedError: The configuration is refused, or the model cannot be loaded.
    """
    assert status.served is not None, "pull_model comes before"
    served = status.served

    async def configure() -> SetUp:
        async with open_runner(status.address, status.use.model) as runner:
            return await runner.set_up(status.use, served)

    done = asyncio.run(configure())
    notes = (*((served.note,) if served.note else ()), *done.left_out)
    for note in notes:
        get_run_logger().warning(note)
    for text in done.left_out:
        remark(text)
    return ReadyModel(done.use, status.address, served, notes, done.left_out)


def open_runner(address: Address, model: ModelRef) -> ModelRunner:
    """Return a client, which tries again by itself and waits for a server that is away."""
    return ModelRunner(address, token=token_of(model))


def embedder_of(
    ready: ReadyModel, definition: EmbeddingDefinition, runner: ModelRunner
) -> Embedder:
    """Return the embedder of a ready model; the fingerprint is known after its first answer."""
    return Embedder(
        runner,
        ready.use.model,
        ready.served,
        dimensions=definition.dimensions,
        batch_size=definition.batch_size,
        concurrency=definition.concurrency,
    )


class _PullArtifact:
    """Sends a pull's progress to the terminal and, every two seconds, to the run's artifact."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._show = report_pull(model)
        self._sent = 0.0
        self._artifact: UUID | None = None

    def __call__(self, progress: PullProgress) -> None:
        """Take one line of the pull."""
        self._show(progress)
        done, total = progress.received_bytes, progress.total_bytes
        if not total or monotonic() - self._sent < _ARTIFACT_SECONDS:
            return
        self._sent = monotonic()
        percent = 100.0 * done / total
        if self._artifact is None:
            created: Any = create_progress_artifact(percent, description=f"Pull {self._model}")
            self._artifact = cast("UUID", created)
        else:
            update_progress_artifact(self._artifact, percent)
