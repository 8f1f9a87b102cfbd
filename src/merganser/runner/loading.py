"""Load the engine that serves a model in a mode: the one place that knows all engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from merganser.errors import MerganserError
from merganser.runner.artifacts import Artifact, GgufFile
from merganser.runner.engines import EncoderOnlyEngine, Engine, EngineLoadError, Mode
from merganser.runner.llama_engine import LlamaEngine
from merganser.runner.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.runner.settings import EngineSettings


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """What is to be loaded.

    Attributes:
        artifact: The model.
        name: Its name in answers.
        mode: What the engine is started for.
        settings: Batch and context sizes and flags.
        draft: A second, smaller model that drafts for it, or None.
    """

    artifact: Artifact
    _: KW_ONLY
    name: str
    mode: Mode
    settings: EngineSettings
    draft: Artifact | None = None


EngineLoader = Callable[[EngineOrder], Awaitable[Engine]]
"""Loads engines; ``load_engine`` is the one that does it for real."""


async def load_engine(order: EngineOrder) -> Engine:
    """Load a model in a thread; when this is cancelled meanwhile, the engine is closed again.

    Raises:
        EngineLoadError: It cannot be loaded.
        MissingExtraError: The library that would load it is not installed.
    """
    building = asyncio.ensure_future(asyncio.to_thread(_build_engine, order))
    try:
        return await asyncio.shield(building)
    except asyncio.CancelledError:
        with suppress(Exception):
            engine = await building
            await engine.close()
        raise


def _build_engine(order: EngineOrder) -> Engine:
    files = order.artifact.files
    if isinstance(files, GgufFile):
        return LlamaEngine(files, order.name, order.mode, order.settings, draft=_draft_path(order))
    if order.mode != ("reranking" if files.reranks else "embedding"):
        return EncoderOnlyEngine()
    try:
        return OnnxEngine(files, order.settings)
    except MerganserError:
        raise
    except Exception as error:  # onnxruntime raises many kinds, all of them about the file
        raise EngineLoadError(f"onnxruntime failed: {error}") from error


def _draft_path(order: EngineOrder) -> Path | None:
    """Return the draft model's file; a model never drafts for itself, that only costs."""
    draft = order.draft
    if draft is None or draft.digest == order.artifact.digest:
        return None
    if not isinstance(draft.files, GgufFile):
        raise EngineLoadError(f"failed to get draft model: {draft.digest} is no GGUF model")
    return draft.files.path
