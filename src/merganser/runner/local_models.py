"""Models that the user put into a folder: GGUF files and ONNX or BERT folders.

``models/qwen3.gguf`` is served as ``ai/qwen3``, ``models/acme/coder.gguf`` as ``acme/coder``, and a
folder ``models/acme/embed/`` with ``tokenizer.json`` and ``model.onnx`` as ``acme/embed``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from merganser.runner.artifacts import Artifact, format_size, gguf_artifact
from merganser.runner.gguf_metadata import NotGgufError
from merganser.runner.hub import file_sha256
from merganser.runner.onnx_engine import OnnxFiles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEFAULT_POSITIONS = 512
"""Of a sentence encoder whose config does not say."""

logger = logging.getLogger(__name__)


def find_local_models(folder: Path) -> list[tuple[str, Artifact]]:
    """Give reference and model of everything in the folder that can be served.

    Files that cannot be are named in the log. Blocks: each file is read once for its digest.
    """
    return [*_gguf_models(folder), *_onnx_models(folder)]


def _gguf_models(folder: Path) -> Iterator[tuple[str, Artifact]]:
    for path in sorted(folder.rglob("*.gguf")):
        try:
            yield _reference(path.with_suffix(""), folder), gguf_artifact(path, source=str(path))
        except (NotGgufError, OSError) as error:
            logger.warning("not served: %s", error)


def _onnx_models(folder: Path) -> Iterator[tuple[str, Artifact]]:
    for tokenizer in sorted(folder.rglob("tokenizer.json")):
        model = tokenizer.with_name("model.onnx")
        if model.is_file():
            yield _reference(tokenizer.parent, folder), _onnx_artifact(model, tokenizer)


def _reference(path: Path, folder: Path) -> str:
    return "/".join(path.relative_to(folder).parts).lower()


def _onnx_artifact(model: Path, tokenizer: Path) -> Artifact:
    digests = f"{file_sha256(model)}{file_sha256(tokenizer)}"
    positions = DEFAULT_POSITIONS
    config = model.with_name("config.json")
    if config.is_file():
        document = json.loads(config.read_text(encoding="utf-8"))
        positions = int(document.get("max_position_embeddings", positions))
    size = model.stat().st_size
    return Artifact(
        f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}",
        OnnxFiles(model, tokenizer, positions),
        config={"format": "onnx", "size": format_size(size), "context_size": positions},
        size_bytes=size,
        created=int(model.stat().st_mtime),
        source=str(model.parent),
    )
