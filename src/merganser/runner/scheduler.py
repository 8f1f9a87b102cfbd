"""Which engines are loaded, for whom, and for how long.

The rules are those of docs/model-runner.md, sections 1.5, 3 and 6.

State of one (model digest, mode)::

    unloaded → loading → idle ⇄ in use → evicted

- A request for an engine that loads waits; several share one load; when the last of them leaves,
  the load is given up.
- There are ``min(cores, 8)`` slots. When all are taken, all idle engines go, whatever their
  keep-alive; when all are in use, the request waits.
- Settings are kept per (digest, mode) and replaced whole. Reranking falls back to the settings of
  completion.

Everything here runs on the server's event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from merganser.errors import MerganserError
from merganser.models.ref import canonical
from merganser.runner.engines import Engine, EngineLoadError, Mode
from merganser.runner.loading import EngineOrder, load_engine
from merganser.runner.settings import DEFAULT_BACKEND, EngineSettings, format_keep_alive

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from merganser.runner.loading import EngineLoader
    from merganser.runner.model_store import FoundModel, ModelStore

DEFAULT_IDLE_SECONDS = 300.0
PRELOAD_SECONDS = 60.0
"""Limit of the load that ``_configure`` starts by itself."""

_ZERO_TIME = "0001-01-01T00:00:00Z"
_Key = tuple[str, Mode]

logger = logging.getLogger(__name__)


class RunnerBusyError(MerganserError):
    """The engine is answering requests and cannot be reconfigured: 409."""


@dataclass(slots=True, eq=False)
class _Loaded:
    """One slot: an engine, or the load that will give it."""

    key: _Key
    name: str
    keep_alive_seconds: float
    ready: asyncio.Task[Engine]
    users: int = 0
    last_used: datetime = field(default_factory=lambda: datetime.now(UTC))
    expiry: asyncio.TimerHandle | None = None

    @property
    def is_loading(self) -> bool:
        return not self.ready.done()

    @property
    def has_failed(self) -> bool:
        return self.ready.done() and (self.ready.cancelled() or self.ready.exception() is not None)


@dataclass(frozen=True, slots=True)
class _Configured:
    """Settings of one (model, mode)."""

    model: str
    digest: str
    mode: Mode
    settings: EngineSettings

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``GET _configure``; its keys are capitalized."""
        return {
            "Backend": DEFAULT_BACKEND,
            "Model": self.model,
            "ModelID": self.digest,
            "Mode": self.mode,
            "Config": dict(self.settings.document),
        }


class Scheduler:
    """Loads, shares and evicts engines.

    Args:
        store: Finds draft models.
        load_engine: Loads an engine.
        slots: Engines at one time; None means ``min(cores, 8)``.
        idle_seconds: Keep-alive of engines whose settings name none.
    """

    def __init__(
        self,
        store: ModelStore,
        *,
        load_engine: EngineLoader = load_engine,
        slots: int | None = None,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
    ) -> None:
        self.slots = slots or min(os.cpu_count() or 1, 8)
        self._store = store
        self._load_engine = load_engine
        self._idle_seconds = idle_seconds
        self._loaded = dict[_Key, _Loaded]()
        self._configured = dict[_Key, _Configured]()
        self._lock = asyncio.Lock()  # held by whoever adds or takes out an engine
        self._released = asyncio.Event()
        self._background = set[asyncio.Task[None]]()

    @asynccontextmanager
    async def use(self, model: FoundModel, reference: str, mode: Mode) -> AsyncGenerator[Engine]:
        """Load or find an engine and keep it while the block runs.

        Raises:
            EngineLoadError: It could not be loaded.
            MissingExtraError: Its library is not installed.
        """
        loaded = await self._enter(model, reference, mode)
        try:
            yield await asyncio.shield(loaded.ready)
        finally:
            self._leave(loaded)

    async def configure(self, reference: str, mode: Mode, settings: EngineSettings) -> None:
        """Replace the settings of a model in a mode, then load it in the background.

        An unknown model is accepted and nothing comes of it. The load is always in completion mode,
        as Docker Model Runner's is.

        Raises:
            RunnerBusyError: Its engine is answering requests.
        """
        model = self._store.find(reference)
        if model is None:
            return
        digest = model.artifact.digest
        key = (digest, mode)
        known = self._configured.get(key)
        if known is not None and known.settings == settings:
            return
        async with self._lock:
            loaded = self._loaded.get(key)
            if loaded is not None and (loaded.users or loaded.is_loading):
                raise RunnerBusyError("runner already active")
            if loaded is not None:
                await self._evict(loaded)
            self._configured[key] = _Configured(reference, digest, mode, settings)
        self._start(self._preload(model, reference))

    def configurations(self, reference: str = "") -> list[dict[str, Any]]:
        """Return the entries of ``GET _configure``, of all models or of one."""
        model = self._store.find(reference) if reference else None
        wanted = {reference, model.artifact.digest if model else reference}
        return [
            entry.to_json()
            for entry in self._configured.values()
            if not reference or entry.digest in wanted or entry.model in wanted
        ]

    async def unload(self, references: list[str], *, every: bool = False, backend: str = "") -> int:
        """Evict idle engines and give their number; those in use stay.

        Settings are dropped for every model when ``every``, and for the named ones when the backend
        is named too.
        """
        found = [self._store.find(reference) for reference in references]
        digests = {model.artifact.digest for model in found if model is not None}
        if backend and backend != DEFAULT_BACKEND:
            return 0
        if every:
            self._configured.clear()
        elif backend:
            for key in [key for key in self._configured if key[0] in digests]:
                del self._configured[key]
        async with self._lock:
            gone = [
                loaded
                for loaded in self._loaded.values()
                if not loaded.users and (every or loaded.key[0] in digests)
            ]
            for loaded in gone:
                await self._evict(loaded)
        return len(gone)

    def processes(self) -> list[dict[str, Any]]:
        """Return the entries of ``/engines/ps``."""
        return [self._describe(loaded) for loaded in self._loaded.values()]

    async def close(self) -> None:
        """End everything."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        async with self._lock:
            for loaded in list(self._loaded.values()):
                await self._evict(loaded)

    def settings_for(self, digest: str, mode: Mode) -> EngineSettings:
        """Return the settings that an engine would be started with now."""
        fallbacks: tuple[Mode, ...] = (mode,)
        if mode == "reranking":
            fallbacks = (mode, "completion")
        for candidate in fallbacks:
            if entry := self._configured.get((digest, candidate)):
                return entry.settings
        return EngineSettings()

    async def _enter(self, model: FoundModel, reference: str, mode: Mode) -> _Loaded:
        while True:
            async with self._lock:
                if loaded := await self._find_or_begin(model, reference, mode):
                    loaded.users += 1
                    if loaded.expiry is not None:
                        loaded.expiry.cancel()
                    return loaded
                self._released.clear()
            await self._released.wait()

    async def _find_or_begin(self, model: FoundModel, reference: str, mode: Mode) -> _Loaded | None:
        """Return the engine's slot; None when every slot is in use by others."""
        key = (model.artifact.digest, mode)
        loaded = self._loaded.get(key)
        if loaded is not None and not loaded.has_failed:
            return loaded
        self._loaded.pop(key, None)
        if len(self._loaded) >= self.slots:
            for other in [other for other in self._loaded.values() if not other.users]:
                await self._evict(other)
        if len(self._loaded) >= self.slots:
            return None
        return self._begin(model, reference, mode)

    def _begin(self, model: FoundModel, reference: str, mode: Mode) -> _Loaded:
        settings = self.settings_for(model.artifact.digest, mode)
        keep_alive = settings.keep_alive_seconds
        loaded = _Loaded(
            (model.artifact.digest, mode),
            reference,
            self._idle_seconds if keep_alive is None else keep_alive,
            asyncio.create_task(self._load(model, reference, mode, settings)),
        )
        self._loaded[loaded.key] = loaded
        return loaded

    async def _load(
        self, model: FoundModel, reference: str, mode: Mode, settings: EngineSettings
    ) -> Engine:
        if settings.fault:
            raise EngineLoadError(
                f"llama.cpp terminated unexpectedly: llama.cpp failed: {settings.fault}"
            )
        draft = None
        if settings.draft is not None:
            draft = self._store.find(settings.draft.draft_model)
            if draft is None:
                raise EngineLoadError("failed to get draft model: model not found")
        logger.info("loading %s for %s", reference, mode)
        order = EngineOrder(
            model.artifact,
            name=canonical(reference),
            mode=mode,
            settings=settings,
            draft=draft.artifact if draft else None,
        )
        return await self._load_engine(order)

    def _leave(self, loaded: _Loaded) -> None:
        # Without awaiting: this runs while a disconnected request is being cancelled.
        loaded.users -= 1
        loaded.last_used = datetime.now(UTC)
        if not loaded.users and self._loaded.get(loaded.key) is loaded:
            if loaded.is_loading or loaded.has_failed:
                del self._loaded[loaded.key]
                loaded.ready.cancel()
            else:
                self._expire_later(loaded)
        self._released.set()

    def _expire_later(self, loaded: _Loaded) -> None:
        if loaded.keep_alive_seconds == float("inf"):
            return
        loop = asyncio.get_running_loop()
        loaded.expiry = loop.call_later(
            loaded.keep_alive_seconds, lambda: self._start(self._expire(loaded))
        )

    async def _expire(self, loaded: _Loaded) -> None:
        async with self._lock:
            if not loaded.users and self._loaded.get(loaded.key) is loaded:
                await self._evict(loaded)

    async def _evict(self, loaded: _Loaded) -> None:
        """Take an engine out and free it; the lock is held."""
        self._loaded.pop(loaded.key, None)
        if loaded.expiry is not None:
            loaded.expiry.cancel()
        if loaded.is_loading:
            loaded.ready.cancel()
        elif not loaded.has_failed:
            await loaded.ready.result().close()
        self._released.set()

    async def _preload(self, model: FoundModel, reference: str) -> None:
        with suppress(MerganserError, TimeoutError):
            async with asyncio.timeout(PRELOAD_SECONDS), self.use(model, reference, "completion"):
                pass

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _describe(self, loaded: _Loaded) -> dict[str, Any]:
        in_use = loaded.users > 0 and not loaded.is_loading
        last_used = loaded.last_used.isoformat().replace("+00:00", "Z")
        document: dict[str, Any] = {
            "backend_name": DEFAULT_BACKEND,
            "model_name": loaded.name,
            "mode": loaded.key[1],
            "last_used": _ZERO_TIME if loaded.users else last_used,
        }
        if in_use:
            document["in_use"] = True
        if loaded.is_loading:
            document["loading"] = True
        document["keep_alive"] = format_keep_alive(loaded.keep_alive_seconds)
        return document
