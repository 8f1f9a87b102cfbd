"""Model files: what they are, what they say of themselves, and those in the user's own folder.

``models/qwen3.gguf`` is served as ``ai/qwen3``, ``models/acme/coder.gguf`` as ``acme/coder``, and a
folder ``models/acme/embed/`` with ``tokenizer.json`` and ``model.onnx`` as ``acme/embed``. When the
``config.json`` beside them says ``...ForSequenceClassification`` with one label, it is a reranker.

The metadata of a GGUF file is read here because the reader of the ``gguf`` package builds an object
for each of the 50,000 vocabulary entries (5 s for a model of 98 MB, against 10 ms), and because it
belongs to an extra that embedding does without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from merganser.runner.hub import file_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

DEFAULT_POSITIONS = 512
"""Of a sentence encoder whose config does not say."""

Scalar = str | int | float | bool

_SCALARS: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""GGUF's value types by number, as struct codes; 8 is a string and 9 an array."""
_STRING: Final = 8
_ARRAY: Final = 9
_MAX_STRING_BYTES: Final = 1 << 20

FILE_TYPES: Final = {
    0: "F32", 1: "MOSTLY_F16", 2: "MOSTLY_Q4_0", 3: "MOSTLY_Q4_1", 7: "MOSTLY_Q8_0",
    8: "MOSTLY_Q5_0", 9: "MOSTLY_Q5_1", 10: "MOSTLY_Q2_K", 11: "MOSTLY_Q3_K_S",
    12: "MOSTLY_Q3_K_M", 13: "MOSTLY_Q3_K_L", 14: "MOSTLY_Q4_K_S", 15: "MOSTLY_Q4_K_M",
    16: "MOSTLY_Q5_K_S", 17: "MOSTLY_Q5_K_M", 18: "MOSTLY_Q6_K", 32: "MOSTLY_BF16",
}  # fmt: skip
"""``general.file_type`` by number, as llama.cpp names them."""


class NotGgufError(ValueError):
    """The file does not begin as a GGUF file does, or breaks off."""


@dataclass(frozen=True, slots=True)
class OnnxFiles:
    """What an ONNX model is made of.

    Attributes:
        model: The graph.
        tokenizer: The ``tokenizer.json`` beside it.
        max_tokens: Positions the model has.
        reranks: It reads a query and a passage together and gives one score; otherwise it embeds.
    """

    model: Path
    tokenizer: Path
    max_tokens: int
    reranks: bool = False


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF model.

    Attributes:
        path: The file.
        context_tokens: Context it was trained with, or None.
    """

    path: Path
    context_tokens: int | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that can be loaded.

    Attributes:
        digest: ``sha256:`` and 64 hex digits; identifies what is computed, not how it is named.
        files: What the engine loads.
        config: The ``config`` part of its Model JSON.
        size_bytes: On disk.
        created: Unix time.
        source: Where its weights came from, for people.
    """

    digest: str
    files: OnnxFiles | GgufFile
    _: KW_ONLY
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    size_bytes: int = 0
    created: int = 0
    source: str = ""


def format_size(size_bytes: float) -> str:
    """Return a size as Docker Model Runner shows it, ``21.77MiB``."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.2f}{unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f}GiB"


def find_local_models(folder: Path) -> list[tuple[str, Artifact]]:
    """Return reference and model of everything in the folder that can be served.

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
    config = model.with_name("config.json")
    document: dict[str, Any] = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    positions = int(document.get("max_position_embeddings", DEFAULT_POSITIONS))
    size = model.stat().st_size
    return Artifact(
        f"sha256:{hashlib.sha256(digests.encode()).hexdigest()}",
        OnnxFiles(model, tokenizer, positions, reranks=_scores_pairs(document)),
        config={"format": "onnx", "size": format_size(size), "context_size": positions},
        size_bytes=size,
        created=int(model.stat().st_mtime),
        source=str(model.parent),
    )


def _scores_pairs(config: Mapping[str, Any]) -> bool:
    """Tell a cross-encoder by what its export says: a classifier of one label, which is a score."""
    architectures: list[str] = config.get("architectures") or []
    labels = config.get("num_labels") or len(config.get("id2label") or (0,))
    return labels == 1 and any(a.endswith("ForSequenceClassification") for a in architectures)


def gguf_artifact(path: Path, *, digest: str = "", source: str = "file") -> Artifact:
    """Describe a GGUF file; without a digest, its bytes are read for one.

    Raises:
        NotGgufError: It is no GGUF file.
    """
    metadata = read_gguf_metadata(path)
    architecture = str(metadata.get("general.architecture", ""))
    context = metadata.get(f"{architecture}.context_length")
    context_tokens = int(context) if isinstance(context, int) else None
    size = path.stat().st_size
    quantization = FILE_TYPES.get(int(metadata.get("general.file_type", -1)), "unknown")
    config: dict[str, Any] = {
        "format": "gguf",
        "quantization": quantization,
        "parameters": str(metadata.get("general.size_label", "")),
        "architecture": architecture,
        "size": format_size(size),
        "gguf": {key: _as_text(value) for key, value in metadata.items()},
        "context_size": context_tokens,
    }
    return Artifact(
        digest or f"sha256:{file_sha256(path)}",
        GgufFile(path, context_tokens),
        config={key: value for key, value in config.items() if value is not None and value != ""},
        size_bytes=size,
        created=int(path.stat().st_mtime),
        source=source,
    )


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def read_gguf_metadata(path: Path) -> dict[str, Scalar]:
    """Return the scalar metadata of a GGUF file; arrays are left out.

    Raises:
        NotGgufError: It is no GGUF file of version 2 or 3.
        OSError: It cannot be read.
    """
    with path.open("rb") as source:
        if source.read(4) != b"GGUF":
            raise NotGgufError(f"{path}: not a GGUF file")
        try:
            version, _tensors, count = _unpack(source, "IQQ")
            if version not in {2, 3}:
                raise NotGgufError(f"{path}: GGUF version {version} is not supported")
            return _read_pairs(source, count)
        except (struct.error, UnicodeDecodeError, KeyError) as error:
            raise NotGgufError(f"{path}: broken metadata: {error}") from error


def _read_pairs(source: BinaryIO, count: int) -> dict[str, Scalar]:
    found = dict[str, Scalar]()
    for _ in range(count):
        key = _read_string(source)
        (kind,) = _unpack(source, "I")
        if kind == _ARRAY:
            _skip_array(source)
        elif kind == _STRING:
            found[key] = _read_string(source)
        else:
            (found[key],) = _unpack(source, _SCALARS[kind])
    return found


def _unpack(source: BinaryIO, codes: str) -> tuple[int, ...]:
    layout = f"<{codes}"
    return struct.unpack(layout, source.read(struct.calcsize(layout)))


def _read_string(source: BinaryIO) -> str:
    (length,) = _unpack(source, "Q")
    if length > _MAX_STRING_BYTES:
        raise NotGgufError(f"a string of {length} bytes in the metadata")
    return source.read(length).decode("utf-8")


def _skip_array(source: BinaryIO) -> None:
    kind, count = _unpack(source, "IQ")
    if kind == _STRING:
        for _ in range(count):
            (length,) = _unpack(source, "Q")
            source.seek(length, 1)
    elif kind == _ARRAY:
        for _ in range(count):
            _skip_array(source)
    else:
        source.seek(count * struct.calcsize(f"<{_SCALARS[kind]}"), 1)
