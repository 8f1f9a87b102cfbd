"""Turn a packaged model's weights into something an engine can load, once.

Conversions are kept in the cache by model id. The id is a digest of the original weights, the
converter's version and the numeric variant of this machine, so equal ids mean equal vectors.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from merganser.runner.artifacts import Artifact, OnnxFiles, format_size, gguf_artifact
from merganser.runner.bert_onnx import (
    CONVERTER_VERSION,
    ConversionError,
    convert_bert,
    numeric_variant,
)
from merganser.runner.encoder import OnnxEncoder, Tokens
from merganser.runner.hub import file_sha256

if TYPE_CHECKING:
    from merganser.runner.known_models import CatalogueModel
    from merganser.runner.weights import Progress, Weights, WeightStore

logger = logging.getLogger(__name__)


def prepare(
    model: CatalogueModel, store: WeightStore, on_progress: Progress, *, token: str | None = None
) -> Artifact:
    """Obtain a catalogue model and convert it if needed. Blocks: call it in a thread.

    Raises:
        WeightsUnavailableError: No place has its weights.
        MissingExtraError: A library for the conversion is not installed.
    """
    weights = store.obtain(model, on_progress=on_progress, token=token)
    if model.kind == "chat":
        path = weights.paths[model.files[0].name]
        return gguf_artifact(path, digest=_digest_of(model, "gguf", ""), source=weights.source)
    return _convert(model, weights, store.cache_dir)


def _digest_of(model: CatalogueModel, converter: str, variant: str) -> str:
    """Digest the pinned files that the numbers come from, and how they are computed."""
    identity = {
        "weights": {file.name: file.sha256 for file in model.files},
        "converter": converter,
        "variant": variant,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _convert(model: CatalogueModel, weights: Weights, cache_dir: Path) -> Artifact:
    from filelock import FileLock  # noqa: PLC0415 - only a first use pays for it

    variant = numeric_variant()
    digest = _digest_of(model, CONVERTER_VERSION, variant)
    folder = cache_dir / "converted" / digest.removeprefix("sha256:")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not _is_whole(folder):
        with FileLock(f"{folder}.lock"):
            if not _is_whole(folder):
                _write_conversion(weights, folder)
    files = OnnxFiles(folder / "model.onnx", folder / "tokenizer.json", model.context_tokens)
    size = files.model.stat().st_size
    return Artifact(
        digest,
        files,
        config={
            "format": "onnx",
            "quantization": variant,
            "parameters": model.parameters,
            "architecture": model.architecture,
            "size": format_size(size),
            "context_size": model.context_tokens,
        },
        size_bytes=size,
        created=int(files.model.stat().st_mtime),
        source=weights.source,
    )


def _write_conversion(weights: Weights, folder: Path) -> None:
    """Convert beside the target and rename, so that a cut conversion leaves nothing behind."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="converting-") as scratch:
        draft = Path(scratch) / "draft"
        draft.mkdir()
        model = draft / "model.onnx"
        convert_bert(weights.paths["config.json"], weights.paths["model.safetensors"], model)
        tokenizer = draft / "tokenizer.json"
        shutil.copyfile(weights.paths["tokenizer.json"], tokenizer)
        _try_out(model, tokenizer)
        record = {name: file_sha256(draft / name) for name in ("model.onnx", "tokenizer.json")}
        (draft / "manifest.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(draft, folder)  # noqa: PTH105 - a rename of a folder in one step
    logger.info("converted the embedding model in %.1f s", time.monotonic() - started)


def _try_out(model: Path, tokenizer: Path) -> None:
    """Refuse to keep a conversion that does not load or does not give vectors of length 1.

    Raises:
        ConversionError: It does not.
    """
    encoder = OnnxEncoder(model, tokenizer, max_tokens=512)
    for ids in encoder.tokenize(["a merganser dives", "and comes up with the catch"]):
        if not np.isclose(np.linalg.norm(encoder.encode(Tokens(ids))), 1.0, atol=1e-3):
            raise ConversionError("the converted model does not return normalized vectors")


def _is_whole(folder: Path) -> bool:
    """Tell whether a conversion is there and is what was written."""
    try:
        record: dict[str, str] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        return bool(record) and all(
            file_sha256(folder / name) == digest for name, digest in record.items()
        )
    except (OSError, ValueError):
        return False
