"""``models`` and ``providers``: which model, where it is served and how it is set up."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from merganser.config.spec_base import Count, Number, StrictModel, Text, Unit, fault, read_duration

LOCAL_PROVIDER = "dmr"
"""Docker Model Runner; any other provider needs a ``base_url``."""

AUTO_MODEL = "auto"
AUTO_CHAT_MODEL = "dmr/ai/qwen3"
"""What an agent without a model uses; cagent's default for local models."""
AUTO_EMBEDDING_MODEL = "dmr/ai/embeddinggemma"
"""What ``embedding_model: auto`` means; cagent's default for local models."""

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_url(value: str) -> str:
    if not re.fullmatch(r"((https?|unix)://[^\s/]|unix:///)\S*", value) or not _is_port_right(
        value
    ):
        raise fault("must be an address such as http://127.0.0.1:12434/engines/v1")
    return value


def _is_port_right(url: str) -> bool:
    """Return whether host and port can be read, brackets closed and the port at most 65,535."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def is_environment_name(value: str) -> bool:
    """Return whether a text can name an environment variable."""
    return _ENVIRONMENT_NAME.fullmatch(value) is not None


def _check_environment_name(value: str) -> str:
    if not is_environment_name(value):
        # The value may be the secret itself, so it is not shown.
        raise fault(
            "must be the name of an environment variable, not the token",
            fix="put the token in a variable such as OPENAI_API_KEY and write that name here",
        )
    return value


def _split_flags(value: Any) -> Any:
    return tuple(re.split(r"[\s,]+", value.strip(" ,"))) if isinstance(value, str) else value


def _read_integer(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _check_keep_alive(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if value <= 0 else f"{value}s"
    if value != "-1":
        read_duration(value.removeprefix("-") if isinstance(value, str) else value)
    return value


BaseUrl = Annotated[str, AfterValidator(_check_url)]
TokenKey = Annotated[str, AfterValidator(_check_environment_name)]
Penalty = Annotated[float, Strict(), Field(ge=-2, le=2)]


class ProviderOptions(StrictModel):
    """Settings of the engine behind Docker Model Runner."""

    runtime_flags: Annotated[
        tuple[Text, ...], BeforeValidator(_split_flags, json_schema_input_type=str | list[Text])
    ] = ()
    """Flags for the engine, as a list or as text split at spaces and commas. ``--ngl=33`` becomes
    what the server takes; a flag that it refuses is left out, which ``check`` and the run tell."""

    context_size: (
        Annotated[Count, BeforeValidator(_read_integer, json_schema_input_type=int | str)] | None
    ) = None
    """Tokens of context; the model's own when left out."""

    keep_alive: (
        Annotated[str, BeforeValidator(_check_keep_alive, json_schema_input_type=str | int)] | None
    ) = None
    """How long an idle model stays in memory: ``5m``, ``0`` for no time, ``-1`` for ever."""

    speculative_draft_model: Text | None = None
    """A small model of the same family that drafts tokens for the large one to check."""

    speculative_num_tokens: Count = 16
    """Tokens drafted at a time; llama.cpp's default."""

    speculative_acceptance_rate: Unit = 0.8
    """Least probability at which a drafted token is proposed; cagent's default."""


class ModelSpec(StrictModel):
    """A model under a name of its own."""

    provider: Text
    """``dmr`` for Docker Model Runner, or any name with a ``base_url``."""

    model: Text
    """The model's name at the provider, for example ``ai/qwen3:14B``."""

    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    """Randomness of the answer; the model's own when left out."""

    max_tokens: Count | None = None
    """Most tokens in one answer. The context's size is ``provider_opts.context_size``."""

    top_p: Unit | None = None
    """Probability mass that sampling keeps."""

    frequency_penalty: Penalty | None = None
    """Penalty on tokens by how often they have appeared."""

    presence_penalty: Penalty | None = None
    """Penalty on tokens that have appeared at all."""

    base_url: BaseUrl | None = None
    """Address of an OpenAI-compatible server; for ``dmr`` found by itself when left out."""

    token_key: TokenKey | None = None
    """Name of the environment variable that holds the token."""

    provider_opts: ProviderOptions = ProviderOptions()
    """Settings of the engine."""

    supports_tools: Annotated[bool, Strict()] | None = None
    """Whether the model can call tools; tried out once when left out."""


class ProviderSpec(StrictModel):
    """An OpenAI-compatible server under a name of its own."""

    api_type: Literal["openai_chatcompletions"] = "openai_chatcompletions"
    """Dialect of the server."""

    base_url: BaseUrl
    """Address of the server, for example ``http://localhost:11434/v1``."""

    token_key: TokenKey | None = None
    """Name of the environment variable that holds the token."""


def split_reference(reference: str) -> tuple[str, str] | None:
    """Return provider and model of an inline ``provider/model``, or None for a declared name."""
    provider, slash, model = reference.partition("/")
    return (provider, model) if slash and provider and model else None
