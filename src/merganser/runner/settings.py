"""Engine settings as ``_configure`` takes them (docs/model-runner.md, section 3)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from merganser.humanize import parse_duration
from merganser.models.runtime_flags import ALLOWED, PAIRS, SWITCHES
from merganser.runner.engines import Mode  # noqa: TC001 - pydantic resolves it

BACKENDS = ("llama.cpp", "vllm", "mlx", "sglang", "diffusers")
"""Backend names that a path may carry; only the first is here."""

DEFAULT_BACKEND = BACKENDS[0]

DEFAULT_BATCH = 2048
DEFAULT_UBATCH = 512
"""llama.cpp's defaults: logical batch, and the physical one that bounds an embedding input."""

_LONG = {
    "-b": "--batch-size",
    "-c": "--ctx-size",
    "-np": "--parallel",
    "-s": "--seed",
    "-t": "--threads",
    "-tb": "--threads-batch",
    "-ub": "--ubatch-size",
    "--temperature": "--temp",
}
_LAYERS = {"-ngl", "--gpu-layers", "--n-gpu-layers"}
_WHOLE = {*_LONG.values(), *_LAYERS, "--top-k"} - {"--temp"}
_NUMBERS = {"--temp", "--top-p", "--min-p", "--repeat-penalty"}
_POOLINGS = {"none", "mean", "cls", "last", "rank"}


class InvalidRequestError(ValueError):
    """The body is not a configure request: ``400 invalid request``."""


class FlagError(ValueError):
    """A runtime flag that is not allowed: 500 with the message."""


class _Body(BaseModel):
    """Part of a request as Go reads it: no other types, and null is as good as absent."""

    model_config = ConfigDict(strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, given: Any) -> Any:
        """Leave out the keys that are null."""
        if not isinstance(given, Mapping):
            return given
        fields = cast("Mapping[str, Any]", given)
        return {key: value for key, value in fields.items() if value is not None}


class DraftSettings(_Body):
    """Speculative decoding by a second, smaller model."""

    draft_model: str = ""
    num_tokens: int = 0
    min_acceptance_rate: float = 0.0


class _ConfigureBody(_Body):
    model: str = ""
    mode: Mode | Literal[""] = ""
    context_size: int = Field(0, alias="context-size")
    runtime_flags: list[str] = Field([], alias="runtime-flags")
    raw_runtime_flags: str = Field("", alias="raw-runtime-flags")
    speculative: DraftSettings = DraftSettings()
    keep_alive: str = ""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine is started; equal settings need no restart.

    Attributes:
        document: What was sent, without model and mode; shown by ``GET _configure``.
        context_tokens: Context size, or None for the model's own.
        flags: Runtime flags by their long names; a switch has the value "".
        fault: What llama.cpp says of the flags when it ends at its start, or "".
        draft: Speculative decoding, or None.
        keep_alive_seconds: Idle time before eviction; infinite means never, None the default.
    """

    _: KW_ONLY
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context_tokens: int | None = None
    flags: Mapping[str, str] = field(default_factory=dict[str, str])
    fault: str = ""
    draft: DraftSettings | None = None
    keep_alive_seconds: float | None = None

    def number(self, flag: str, default: int) -> int:
        """Return a numeric flag or the default."""
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


def parse_configure(document: Mapping[str, Any], *, backend: str) -> ConfigureCommand:
    """Check a ``_configure`` body.

    Raises:
        InvalidRequestError: It does not have the right types.
        FlagError: A runtime flag is not allowed.
    """
    try:
        body = _ConfigureBody.model_validate(document)
        words = body.runtime_flags or shlex.split(body.raw_runtime_flags)
    except ValueError as error:
        raise InvalidRequestError from error
    _check_flags(words, backend)
    flags, fault = _read_flags(words)
    settings = EngineSettings(
        document={key: value for key, value in document.items() if key not in {"model", "mode"}},
        context_tokens=body.context_size if body.context_size > 0 else None,
        flags=flags,
        fault=fault,
        draft=body.speculative if body.speculative.draft_model else None,
        keep_alive_seconds=_parse_keep_alive(body.keep_alive),
    )
    mode = body.mode or ("embedding" if "--embeddings" in words else "completion")
    return ConfigureCommand(body.model, mode, settings)


def _check_flags(words: Sequence[str], backend: str) -> None:
    """Refuse what Docker Model Runner's runtime_flags.go refuses, in its order and words."""
    for word in words:
        key = word.partition("=")[0] if word.startswith("-") else ""
        if key and key not in ALLOWED:
            raise FlagError(f'runtime flag "{key}" is not allowed for backend "{backend}"')
    for word in words:
        value, shown = word.partition("=")[2], json.dumps(word, ensure_ascii=False)
        if value.startswith("-") and not value[1:2].isdigit():
            raise FlagError(
                f"invalid flag {shown}: value cannot start with '-' unless followed by a digit"
            )
    for word in words:
        if "/" in word or "\\" in word:
            shown, why = json.dumps(word, ensure_ascii=False), "(contains '/' or '\\\\')"
            raise FlagError(f"invalid runtime flag {shown}: paths are not allowed {why}")


def _read_flags(words: Sequence[str]) -> tuple[dict[str, str], str]:
    """Read flags as llama.cpp does, a flag and its value in a word each.

    Returns:
        The flags by their long names, and what llama.cpp says when it ends over them, or "".
    """
    flags, rest = dict[str, str](), iter(words)
    for word in rest:
        if word not in ALLOWED:
            return flags, f"error: invalid argument: {word}"
        name = _LONG.get(word, word)
        values = [next(rest, None) for _ in range(0 if word in SWITCHES else 1 + (word in PAIRS))]
        if None in values:
            return flags, f'error while handling argument "{word}": expected value for argument'
        value = " ".join(one for one in values if one is not None)
        if wrong := _wrong_value(name, value):
            return flags, f'error while handling argument "{word}": {wrong}'
        flags[name] = value
    return flags, ""


def _wrong_value(name: str, value: str) -> str:
    """Return what llama.cpp says of a value that it cannot read, or ""."""
    if name in _WHOLE and not re.match(r"\s*[+-]?\d", value):
        return "" if name in _LAYERS and value in {"auto", "all"} else "stoi"
    if name in _NUMBERS and not re.match(r"\s*[+-]?\.?\d", value):
        return "stof"
    if name == "--pooling" and value not in _POOLINGS:
        return "invalid value"
    return ""


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
