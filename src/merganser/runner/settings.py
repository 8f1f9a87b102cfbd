"""Engine settings as ``_configure`` takes them: parsed, checked, comparable (section 3)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, cast, get_args

from merganser.humanize import parse_duration
from merganser.runner.engines import Mode

BACKENDS = ("llama.cpp", "vllm", "mlx", "sglang", "diffusers")
"""Backend names that a path may carry; only the first is here."""

DEFAULT_BACKEND = BACKENDS[0]

DEFAULT_BATCH = 2048
DEFAULT_UBATCH = 512
"""llama.cpp's defaults: logical batch, and the physical one that bounds an embedding input."""

_ALLOWED_FLAGS = frozenset({
    "-b", "--batch-size", "-c", "--ctx-size", "-fa", "--flash-attn", "-np", "--parallel", "-ngl",
    "--gpu-layers", "--n-gpu-layers", "--ngl", "-t", "--threads", "-tb", "--threads-batch", "-ub",
    "--ubatch-size", "--cache-type-k", "--cache-type-v", "--chat-template",
    "--chat-template-kwargs", "--embeddings", "--jinja", "--min-p", "--mlock", "--no-mmap",
    "--no-warmup", "--pooling", "--reasoning-budget", "--reasoning-format", "--repeat-penalty",
    "--reranking", "--seed", "--spec-draft-n-max", "--spec-draft-n-min", "--spec-draft-p-min",
    "--temp", "--top-k", "--top-p",
})  # fmt: skip
_LONG = {
    "-b": "--batch-size",
    "-c": "--ctx-size",
    "-np": "--parallel",
    "-t": "--threads",
    "-ub": "--ubatch-size",
}


class InvalidRequestError(ValueError):
    """The body is not a configure request: ``400 invalid request``."""


class FlagError(ValueError):
    """A runtime flag that is not allowed: 500 with the message."""


@dataclass(frozen=True, slots=True)
class DraftSettings:
    """Speculative decoding by a second, smaller model."""

    model: str
    num_tokens: int
    min_acceptance_rate: float


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is started; equal settings need no restart.

    Attributes:
        document: What was sent, without model and mode; shown by ``GET _configure``.
        context_tokens: Context size, or None for the model's own.
        flags: Runtime flags by their long names; a switch has the value "".
        draft: Speculative decoding, or None.
        keep_alive_seconds: Idle time before eviction; infinite means never, None the default.
    """

    _: KW_ONLY
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context_tokens: int | None = None
    flags: Mapping[str, str] = field(default_factory=dict[str, str])
    draft: DraftSettings | None = None
    keep_alive_seconds: float | None = None

    def number(self, flag: str, default: int) -> int:
        """Give a numeric flag or the default."""
        try:
            return int(self.flags[flag])
        except (KeyError, ValueError):
            return default

    @property
    def ubatch_tokens(self) -> int:
        """The physical batch: the longest input that cannot be split."""
        batch = self.number("--batch-size", DEFAULT_BATCH)
        return min(batch, self.number("--ubatch-size", DEFAULT_UBATCH))


@dataclass(frozen=True, slots=True)
class ConfigureCommand:
    """One ``_configure`` request."""

    model: str
    mode: Mode
    settings: EngineSettings


def parse_configure(document: object, *, backend: str) -> ConfigureCommand:
    """Check a ``_configure`` body.

    Raises:
        InvalidRequestError: It does not have the right types.
        FlagError: A runtime flag is not allowed.
    """
    if not isinstance(document, Mapping):
        raise InvalidRequestError
    fields = cast("Mapping[str, Any]", document)
    model = _typed(fields, "model", str, "")
    flags = _parse_flags(_flag_words(fields), backend)
    mode = _typed(fields, "mode", str, "")
    if mode and mode not in get_args(Mode):
        raise InvalidRequestError
    chosen = cast("Mode", mode or ("embedding" if "--embeddings" in flags else "completion"))
    size = _typed(fields, "context-size", int, 0)
    settings = EngineSettings(
        document={key: value for key, value in fields.items() if key not in {"model", "mode"}},
        context_tokens=size if size > 0 else None,
        flags=flags,
        draft=_parse_draft(fields),
        keep_alive_seconds=_parse_keep_alive(_typed(fields, "keep_alive", str, "")),
    )
    return ConfigureCommand(model, chosen, settings)


def _typed(fields: Mapping[str, Any], key: str, kind: type[Any], default: Any) -> Any:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InvalidRequestError
    return value


def _flag_words(fields: Mapping[str, Any]) -> list[str]:
    listed: Sequence[object] = _typed(fields, "runtime-flags", list, [])
    if not all(isinstance(word, str) for word in listed):
        raise InvalidRequestError
    if listed:
        return [str(word) for word in listed]
    try:
        return shlex.split(_typed(fields, "raw-runtime-flags", str, ""))
    except ValueError as error:
        raise InvalidRequestError from error


def _parse_flags(words: Sequence[str], backend: str) -> dict[str, str]:
    flags = dict[str, str]()
    current = ""
    for word in words:
        if "/" in word or "\\" in word:
            raise FlagError(f'invalid runtime flag "{word}": paths are not allowed')
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            key, _, value = word.partition("=")
            if value.startswith("-") and not value[1:2].isdigit():
                raise FlagError(f'invalid runtime flag "{word}"')
            if key not in _ALLOWED_FLAGS:
                raise FlagError(f'runtime flag "{key}" is not allowed for backend "{backend}"')
            current = _LONG.get(key, key)
            flags[current] = value
        elif current:
            flags[current] = word
    return flags


def _parse_draft(fields: Mapping[str, Any]) -> DraftSettings | None:
    given = _typed(fields, "speculative", Mapping, None)
    if given is None:
        return None
    draft = cast("Mapping[str, Any]", given)
    model = _typed(draft, "draft_model", str, "")
    if not model:
        return None
    rate = draft.get("min_acceptance_rate") or 0.0
    if not isinstance(rate, int | float):
        raise InvalidRequestError
    return DraftSettings(model, _typed(draft, "num_tokens", int, 0), float(rate))


def _parse_keep_alive(text: str) -> float | None:
    """Read a Go duration, ``"0"`` or a negative number for never."""
    if not text:
        return None
    if text.startswith("-"):
        return float("inf")
    seconds = parse_duration(text)
    if seconds is None:
        raise InvalidRequestError
    return seconds


def format_keep_alive(seconds: float) -> str:
    """Write as ``/engines/ps`` does: ``5m0s``, ``45s``, ``-1`` for never."""
    if seconds == float("inf"):
        return "-1"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:g}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail
