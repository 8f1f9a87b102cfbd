"""Load the engine that serves a model in a mode: the one place that knows all engines."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from merganser.errors import MerganserError
from merganser.runner.artifacts import GgufFile
from merganser.runner.engines import EncoderOnlyEngine, Engine, EngineLoadError, Mode
from merganser.runner.llama_engine import LlamaEngine
from merganser.runner.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.runner.artifacts import Artifact
    from merganser.runner.settings import EngineSettings


class EngineLoader(Protocol):
    """Loads engines; ``load_engine`` is the one that does it for real."""

    async def __call__(
        self,
        artifact: Artifact,
        *,
        name: str,
        mode: Mode,
        settings: EngineSettings,
        draft: Artifact | None = None,
    ) -> Engine:
        """Load a model for a mode.

        Raises:
            EngineLoadError: It cannot be loaded.
            MissingExtraError: The library that would load it is not installed.
        """
        ...


async def load_engine(
    artifact: Artifact,
    *,
    name: str,
    mode: Mode,
    settings: EngineSettings,
    draft: Artifact | None = None,
) -> Engine:
    """Load a model in a thread; when this is cancelled meanwhile, the engine is closed again.

    Raises:
        EngineLoadError: It cannot be loaded.
        MissingExtraError: The library that would load it is not installed.
    """
    build = partial(build_engine, artifact, name=name, mode=mode, settings=settings, draft=draft)
    building = asyncio.ensure_future(asyncio.to_thread(build))
    try:
        return await asyncio.shield(building)
    except asyncio.CancelledError:
        with suppress(Exception):
            engine = await building
            await engine.close()
        raise


def build_engine(
    artifact: Artifact,
    *,
    name: str,
    mode: Mode,
    settings: EngineSettings,
    draft: Artifact | None = None,
) -> Engine:
    """Load a model. Blocks: call it in a thread.

    Raises:
        EngineLoadError: It cannot be loaded.
        MissingExtraError: The library that would load it is not installed.
    """
    if not isinstance(artifact.files, GgufFile):
        if mode != "embedding":
            return EncoderOnlyEngine()
        try:
            return OnnxEngine(artifact.files, settings)
        except MerganserError:
            raise
        except Exception as error:  # onnxruntime raises many kinds, all of them about the file
            raise EngineLoadError(f"onnxruntime failed: {error}") from error
    return LlamaEngine(
        artifact.files.path,
        name,
        mode,
        settings,
        trained_context=artifact.files.context_tokens,
        draft=_draft_path(artifact, draft),
    )


def _draft_path(artifact: Artifact, draft: Artifact | None) -> Path | None:
    """Return the draft model's file; a model never drafts for itself, that only costs."""
    if draft is None or draft.digest == artifact.digest:
        return None
    if not isinstance(draft.files, GgufFile):
        raise EngineLoadError(f"failed to get draft model: {draft.digest} is no GGUF model")
    return draft.files.path
