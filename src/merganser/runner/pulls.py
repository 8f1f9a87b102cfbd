"""Pulls: what serves a reference, and the progress stream (docs/model-runner.md, section 1.2)."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from merganser.errors import MerganserError
from merganser.models.ref import canonical
from merganser.runner.artifacts import Artifact, format_size
from merganser.runner.conversion import prepare
from merganser.runner.known_models import CatalogueModel, WeightFile, catalogue_model, default_alias
from merganser.runner.replies import TextError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from merganser.runner.model_store import ModelStore
    from merganser.runner.weights import WeightStore

MAX_CONCURRENT_PULLS = 2
REPORT_BYTES = 1 << 20
REPORT_SECONDS = 0.1
"""A layer reports at most this often."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RawText:
    """A line that is no JSON: how Docker Model Runner reports an error once a stream has begun."""

    text: str


Line = dict[str, Any] | RawText


@dataclass(frozen=True, slots=True)
class PullTarget:
    """What a reference is served by.

    Attributes:
        model: The packaged model.
        alias_of: Its name when it stands in for another model, "" when it is the one asked for.
    """

    model: CatalogueModel
    alias_of: str


def progress_line(kind: str, message: str, *, total: int = 0, **layer: Any) -> dict[str, Any]:
    """Return one line of the stream."""
    return {
        "type": kind,
        "message": message,
        "total": total,
        "layer": {"size": 0, "current": 0, **layer},
        "mode": "pull",
    }


class Puller:
    """Makes models available.

    Args:
        store: Gets the pulled models.
        weights: Finds their files.
        aliases: Reference to packaged or stored model; asked before the default ones.
        default_aliases: Let packaged models stand in for well-known ones.
    """

    def __init__(
        self,
        store: ModelStore,
        weights: WeightStore,
        *,
        aliases: Mapping[str, str],
        default_aliases: bool = True,
    ) -> None:
        self._store = store
        self._weights = weights
        self._aliases = {canonical(name): target for name, target in aliases.items()}
        self._default_aliases = default_aliases
        self._places = asyncio.Semaphore(MAX_CONCURRENT_PULLS)
        self._announced = set[str]()

    def resolve(self, reference: str) -> PullTarget | None:
        """Find what can serve a reference, by itself or as a stand-in."""
        if model := catalogue_model(reference):
            return PullTarget(model, "")
        alias = self._alias(reference)
        model = catalogue_model(alias) if alias else None
        return PullTarget(model, model.reference) if model else None

    async def pull(self, reference: str, token: str | None) -> AsyncIterator[Line]:
        """Make a model available and give its progress.

        The first line is given only when the pull has begun, so that errors before it can still
        be answered with a status.

        Raises:
            TextError: Refused before the first line.
        """
        if artifact := self._adopt_stored(reference):
            yield _cached_line(artifact)
            return
        target = self.resolve(reference)
        if target is None:
            raise TextError(404, "Model not found")
        self._announce(reference, target)
        async with self._places:
            async for line in self._stream(reference, target, token):
                yield line

    async def make_available(self, reference: str) -> None:
        """Pull without a requester; for models that must be there from the start.

        Raises:
            MerganserError: It cannot be had.
        """
        try:
            async for line in self.pull(reference, None):
                if isinstance(line, dict) and line["type"] == "error":
                    raise MerganserError(str(line["message"]))
        except TextError as error:
            raise MerganserError(f"cannot pull {reference!r}: {error.message}") from error

    def _alias(self, reference: str) -> str | None:
        if explicit := self._aliases.get(canonical(reference)):
            return explicit
        return default_alias(reference) if self._default_aliases else None

    def _adopt_stored(self, reference: str) -> Artifact | None:
        """Serve a reference by a model that is here; None when it has to be fetched."""
        if model := self._store.find(reference):
            return model.artifact
        alias = self._aliases.get(canonical(reference))
        if alias is None or catalogue_model(alias) or not (model := self._store.find(alias)):
            return None
        self._store.add(model.artifact, reference, alias_of=alias)
        return model.artifact

    def _announce(self, reference: str, target: PullTarget) -> None:
        if target.alias_of and canonical(reference) not in self._announced:
            self._announced.add(canonical(reference))
            logger.warning("%s", _stand_in_message(reference, target))

    async def _stream(
        self, reference: str, target: PullTarget, token: str | None
    ) -> AsyncIterator[Line]:
        if target.alias_of:
            yield progress_line("warning", _stand_in_message(reference, target))
        work = _Preparation(target.model, self._weights, token)
        try:
            async for line in work.lines():
                yield line
            artifact = await work.result()
        except MerganserError as error:
            yield progress_line("error", f"Error: {error}")
            yield RawText(f"error while pulling model: {error}")
            return
        finally:
            work.cancel()
        self._store.add(artifact, reference, alias_of=target.alias_of)
        yield progress_line("success", "Model pulled successfully")


def _stand_in_message(reference: str, target: PullTarget) -> str:
    wanted = canonical(reference).removesuffix(":latest")
    return (
        f"{wanted} is not available here; {target.alias_of} stands in for it. "
        f"Results are those of {target.alias_of}."
    )


def _cached_line(artifact: Artifact) -> dict[str, Any]:
    return progress_line("success", f"Using cached model: {format_size(artifact.size_bytes)}")


def layer_line(model: CatalogueModel, file: WeightFile, done: int) -> dict[str, Any]:
    """Return the line that says how many bytes of a file are there."""
    return progress_line(
        "progress",
        f"Downloaded: {done / 1e6:.2f} MB",
        total=model.size_bytes,
        id=f"sha256:{file.sha256}",
        size=file.size_bytes,
        current=done,
    )


class _CancelledPreparation(Exception):  # noqa: N818 - ends a thread and is never shown
    """The requester has gone."""


class _Preparation:
    """Prepares a model in a thread and hands its progress to the event loop."""

    def __init__(self, model: CatalogueModel, weights: WeightStore, token: str | None) -> None:
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._queue = asyncio.Queue[dict[str, Any] | None]()
        self._cancelled = threading.Event()
        self._reported = dict[str, tuple[int, float]]()
        self._done = self._loop.run_in_executor(None, self._run, weights, token)
        # Marks the error as seen: after the requester has gone it is never asked for.
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def lines(self) -> AsyncIterator[dict[str, Any]]:
        """Yield progress lines until the work ends, well or not."""
        while (line := await self._queue.get()) is not None:
            yield line

    async def result(self) -> Artifact:
        """Wait for the prepared model.

        Raises:
            MerganserError: It could not be prepared.
        """
        return await self._done

    def cancel(self) -> None:
        """Stop at the next report; what was downloaded is kept for the next attempt."""
        self._cancelled.set()

    def _run(self, weights: WeightStore, token: str | None) -> Artifact:
        try:
            return prepare(self._model, weights, self._report, token=token)
        finally:
            self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    def _report(self, file: WeightFile, done_bytes: int) -> None:
        if self._cancelled.is_set():
            raise _CancelledPreparation
        now = time.monotonic()
        last_bytes, last_time = self._reported.get(file.name, (0, 0.0))
        whole = done_bytes >= file.size_bytes
        far = done_bytes - last_bytes >= REPORT_BYTES or now - last_time >= REPORT_SECONDS
        if whole or (far and now - last_time >= REPORT_SECONDS / 4):
            self._reported[file.name] = (done_bytes, now)
            line = layer_line(self._model, file, done_bytes)
            self._loop.call_soon_threadsafe(self._queue.put_nowait, line)
            if whole and file is self._model.files[-1]:
                note = progress_line("progress", "Building model artifact...")
                self._loop.call_soon_threadsafe(self._queue.put_nowait, note)
