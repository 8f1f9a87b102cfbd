"""Which model is meant, where it is served and what it is used for, as plain data.

Everything is frozen, hashable and has a stable ``repr``, because plans take their fingerprints
from it. This module imports no library, so that a config can be checked quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from merganser.errors import SourcePosition

Role = Literal["chat", "draft", "embedding", "reranking"]
ScoreNormalization = Literal["auto", "sigmoid", "none"]
"""How a reranker's raw scores become 0 to 1; ``auto`` takes a sigmoid where it sees logits."""


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
        runtime_flags: Flags for the engine.
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
