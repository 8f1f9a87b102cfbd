"""Which engine serves a model in a mode: the one place that knows all engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from merganser.errors import MerganserError
from merganser.runner.artifacts import GgufFile
from merganser.runner.engines import EncoderOnlyEngine, Engine, EngineLoadError, Mode
from merganser.runner.llama_engine import LlamaEngine
from merganser.runner.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from pathlib import Path

    from merganser.runner.artifacts import Artifact
    from merganser.runner.settings import EngineSettings


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
    """Give the draft model's file; a model never drafts for itself, that only costs."""
    if draft is None or draft.digest == artifact.digest:
        return None
    if not isinstance(draft.files, GgufFile):
        raise EngineLoadError(f"failed to get draft model: {draft.digest} is no GGUF model")
    return draft.files.path
