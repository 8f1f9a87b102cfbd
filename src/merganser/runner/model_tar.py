"""Read a model from the tar stream of ``POST /models/load`` (section 8).

The stream holds ``blobs/sha256/<hex>`` and then ``manifest.json``. Each blob is checked against its
name; the model's id is the digest of the manifest's bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.errors import MerganserError
from merganser.runner.artifacts import Artifact, GgufFile, gguf_artifact
from merganser.runner.gguf_metadata import NotGgufError
from merganser.runner.hub import file_sha256

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_BLOB = re.compile(r"(?:\./)?blobs/sha256/([0-9a-f]{64})")
_MAX_MANIFEST_BYTES = 1 << 20


class BadModelTarError(MerganserError):
    """The stream is no model: no tar, a wrong digest, no manifest, no GGUF layer."""


async def read_model_tar(stream: AsyncIterator[bytes], folder: Path) -> Artifact:
    """Store the model's file in ``folder`` and describe it.

    Raises:
        BadModelTarError: The stream is no model.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="loading-") as scratch:
        archive = Path(scratch) / "model.tar"
        with archive.open("wb") as sink:
            async for piece in stream:
                sink.write(piece)
        return await asyncio.to_thread(_unpack, archive, folder)


def _unpack(archive: Path, folder: Path) -> Artifact:
    blobs = dict[str, Path]()
    manifest = b""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = member.name.removeprefix("./")
                if not member.isfile():
                    continue
                if name == "manifest.json" and member.size <= _MAX_MANIFEST_BYTES:
                    manifest = _read(tar, member)
                elif match := _BLOB.fullmatch(name):
                    blobs[match[1]] = _store_blob(tar, member, match[1], folder)
    except tarfile.TarError as error:
        raise BadModelTarError(f"not a tar archive: {error}") from error
    if not manifest:
        raise BadModelTarError("manifest.json is missing")
    return _describe(manifest, blobs)


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member)
    return source.read() if source is not None else b""


def _store_blob(tar: tarfile.TarFile, member: tarfile.TarInfo, digest: str, folder: Path) -> Path:
    target = folder / f"{digest}.blob"
    source = tar.extractfile(member)
    if source is None:
        raise BadModelTarError(f"{member.name} cannot be read")
    with target.open("wb") as sink:
        while block := source.read(1 << 20):
            sink.write(block)
    found = file_sha256(target)
    if found != digest:
        target.unlink()
        raise BadModelTarError(f"{member.name} has sha256 {found}")
    return target


def _describe(manifest: bytes, blobs: dict[str, Path]) -> Artifact:
    try:
        document: dict[str, Any] = json.loads(manifest)
        layers = [
            str(layer["digest"]).removeprefix("sha256:")
            for layer in document["layers"]
            if "gguf" in str(layer["mediaType"])
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BadModelTarError(f"manifest.json: {error}") from error
    path = blobs.get(layers[0]) if layers else None
    if path is None:
        raise BadModelTarError("no GGUF layer")
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    try:
        artifact = gguf_artifact(path, digest=digest, source="loaded")
    except NotGgufError as error:
        raise BadModelTarError(str(error)) from error
    return _with_packaged_config(artifact, _read_config(document, blobs))


def _read_config(manifest: dict[str, Any], blobs: dict[str, Path]) -> dict[str, Any]:
    """Give the packager's ``config``; it is empty for artifacts of other packagers."""
    try:
        path = blobs[str(manifest["config"]["digest"]).removeprefix("sha256:")]
        document: dict[str, Any] = json.loads(path.read_bytes())
        return dict(document["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadModelTarError(f"the config blob cannot be read: {error}") from error


def _with_packaged_config(artifact: Artifact, config: dict[str, Any]) -> Artifact:
    """Show the packager's config, and use its context size as the default."""
    context = config.get("context_size")
    if isinstance(context, int) and isinstance(artifact.files, GgufFile):
        files = replace(artifact.files, context_tokens=context)
        return replace(artifact, config=config, files=files)
    return replace(artifact, config=config)
