"""Model names as Docker Model Runner reads them.

One model has many spellings: ``qwen3``, ``ai/qwen3``, ``docker.io/ai/qwen3:latest``. The server
normalises what it is sent and returns fully qualified tags, so the two sides only compare equal
after the same normalisation, which is what this module does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# The server adds the default registry to what it stores; users leave it out.
_DEFAULT_REGISTRIES = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_HUGGING_FACE = "huggingface.co/"
_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}|sha256:[0-9a-f]{64}")
_SHORT_ID_LENGTH = 12


def canonical(ref: str) -> str:
    """Give the one spelling of a model reference that two equal references share.

    The name part is lower-cased, the tag keeps its case (it is a quantisation hint on Hugging
    Face); a missing tag is ``latest``, a missing organisation ``ai``, the default registry is
    dropped. Ids (12 or 64 hex digits, or ``sha256:`` and 64) stay as they are.

    Args:
        ref: A reference as written by a user or returned by the server.

    Returns:
        ``[registry/]organisation/name:tag``, or the id.
    """
    ref = ref.strip()
    for registry in _DEFAULT_REGISTRIES:
        if ref.lower().startswith(registry):
            ref = ref[len(registry) :]
            break
    if not ref or _ID.fullmatch(ref):
        return ref
    if ref.lower().startswith("hf.co/"):
        ref = _HUGGING_FACE + ref[len("hf.co/") :]
    # A colon before the last slash belongs to a registry's port.
    head, slash, last = ref.rpartition("/")
    name, _, tag = last.partition(":")
    name = (head + slash + name).lower()
    if "/" not in name:
        name = f"ai/{name}"
    return f"{name}:{tag or 'latest'}"


def is_hugging_face(ref: str) -> bool:
    """Tell whether a reference is pulled from Hugging Face."""
    return canonical(ref).startswith(_HUGGING_FACE)


def pull_command(ref: str) -> str:
    """Give the shell command that makes a model local."""
    name = canonical(ref)
    return f"docker model pull {name.removesuffix(':latest')}"


def names_same_model(ref: str, *, model_id: str, tags: Iterable[str]) -> bool:
    """Tell whether a reference means the model with this id and these tags.

    The server itself falls back to a bare-name match on ``GET /models/{ref}``, where ``qwen3``
    finds any organisation's ``qwen3``; inference does not, so the answer has to be checked.

    Args:
        ref: What the user wrote.
        model_id: ``sha256:`` and 64 hex digits.
        tags: The tags that the server returned.
    """
    name = canonical(ref)
    digest = model_id.removeprefix("sha256:")
    if digest and name in {model_id, digest, digest[:_SHORT_ID_LENGTH]}:
        return True
    return name in {canonical(tag) for tag in tags}
