"""Which model is meant, where it is served and what it is used for, as plain data.

Everything is frozen, hashable and has a stable ``repr``, because plans take their fingerprints
from it. This module imports no library, so that a config can be checked quickly.

One model has many spellings: ``qwen3``, ``ai/qwen3``, ``docker.io/ai/qwen3:latest``. Docker Model
Runner normalises what it is sent and returns fully qualified tags, so two names are compared in
their ``canonical`` spelling.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from merganser.errors import SpecError, SpecErrors

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from merganser.errors import SourcePosition

Role = Literal["chat", "draft", "embedding", "reranking"]
ScoreNormalization = Literal["auto", "sigmoid", "none"]
"""How a reranker's raw scores become 0 to 1; ``auto`` takes a sigmoid where it sees logits."""
PullPolicy = Literal["always", "missing", "never", "ask"]
"""When a model is pulled: even if it is there, if it is missing, never, or if the user agrees."""

# The server adds the default registry to what it stores; users leave it out.
_DEFAULT_REGISTRIES = ("docker.io/", "index.docker.io/", "registry-1.docker.io/")
_HUGGING_FACE = "huggingface.co/"
_ID = re.compile(r"[0-9a-f]{12}|[0-9a-f]{64}|sha256:[0-9a-f]{64}")
_SHORT_ID_LENGTH = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftModel:
    """A small model that drafts tokens for a large one (speculative decoding).

    Attributes:
        model: Its name at Docker Model Runner.
        num_tokens: Tokens drafted at a time.
        acceptance_rate: Least probability of a proposed token, 0 to 1.
    """

    model: str
    num_tokens: int = 16
    acceptance_rate: float = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """A model with all that is needed to reach and set it up.

    Attributes:
        name: As the config refers to it: a declared name or ``provider/model``.
        provider: ``dmr`` or the name of another server.
        model: Its name at the provider, for example ``ai/qwen3:14B``.
        base_url: Address of the server; None means that Docker Model Runner is looked for.
        token_env: Name of the environment variable that holds the token, or None.
        token_position: Where that name stands in the YAML.
        temperature: 0 to 2, or None for the model's own, as with the next four.
        max_tokens: Most tokens in an answer.
        top_p: 0 to 1.
        frequency_penalty: -2 to 2.
        presence_penalty: -2 to 2.
        context_size: Tokens, or None for the model's own.
        runtime_flags: Flags for the engine, as the config has them; see ``runtime_flags``.
        flag_positions: Where each of them stands in the YAML, or nothing.
        draft: Model for speculative decoding, or None.
        keep_alive: How long it stays in memory, as the server takes it (``5m``, ``0``, ``-1``);
            None leaves it to the server.
        score_normalization: How a reranker's raw scores become 0 to 1.
        supports_tools: Whether it can call tools; None means that a probe finds out.
    """

    name: str
    provider: str
    model: str
    base_url: str | None = None
    token_env: str | None = None
    token_position: SourcePosition | None = field(default=None, repr=False, compare=False)
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    context_size: int | None = None
    runtime_flags: tuple[str, ...] = ()
    flag_positions: tuple[SourcePosition, ...] = field(default=(), repr=False, compare=False)
    draft: DraftModel | None = None
    keep_alive: str | None = None
    score_normalization: ScoreNormalization = "auto"
    supports_tools: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUse:
    """A model and what it is needed for.

    Attributes:
        model: The model.
        role: What it does.
        used_by: The place in the config that names it.
    """

    model: ModelRef
    role: Role
    used_by: str


def canonical(ref: str) -> str:
    """Return the one spelling of a model reference that two equal references share.

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
    """Return whether a reference is pulled from Hugging Face."""
    return canonical(ref).startswith(_HUGGING_FACE)


def pull_command(ref: str) -> str:
    """Return the shell command that makes a model local."""
    name = canonical(ref)
    return f"docker model pull {name.removesuffix(':latest')}"


def names_same_model(ref: str, *, model_id: str, tags: Iterable[str]) -> bool:
    """Return whether a reference means the model with this id and these tags.

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


def token_of(model: ModelRef | None, *, env: Mapping[str, str] | None = None) -> str | None:
    """Read the token that a model's server wants from the variable that its config names.

    Raises:
        SpecErrors: The variable is not set or empty; with the place where it is named.
    """
    if model is None or model.token_env is None:
        return None
    if token := (os.environ if env is None else env).get(model.token_env):
        return token
    name = model.token_env
    raise SpecErrors(
        [
            SpecError(
                f"the environment variable {name!r} is not set, and model {model.name!r} needs it",
                position=model.token_position,
                key="token_key",
                fix=f"export {name}=... before the command, or leave token_key out where the "
                "server wants no token",
            )
        ]
    )
