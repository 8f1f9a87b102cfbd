"""From a model's name in a config to all that is needed to reach it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from merganser.config.spec_base import suggest
from merganser.config.spec_models import (
    AUTO_CHAT_MODEL,
    AUTO_MODEL,
    LOCAL_PROVIDER,
    split_reference,
)
from merganser.errors import PlanError
from merganser.models.ref import DraftModel, ModelRef

if TYPE_CHECKING:
    from collections.abc import Collection

    from merganser.config.load import Config
    from merganser.config.spec_models import ProviderOptions

_SAMPLING = {"temperature", "max_tokens", "top_p", "frequency_penalty", "presence_penalty"}


def resolve_model(config: Config, reference: str) -> ModelRef:
    """Return the model behind a declared name, an inline ``provider/model`` or ``auto``.

    Raises:
        PlanError: It is none of these.
    """
    if reference == AUTO_MODEL and reference not in config.spec.models:
        return replace(resolve_model(config, AUTO_CHAT_MODEL), name=AUTO_MODEL)
    declared = config.spec.models.get(reference)
    if declared is None:
        inline = split_reference(reference)
        if inline is None:
            raise PlanError(unknown_name(config, "model", reference, config.spec.models))
        return _served_by(config, reference, *inline)
    found = _served_by(config, reference, declared.provider, declared.model)
    if declared.token_key:
        position = config.position("models", reference, "token_key")
        found = replace(found, token_env=declared.token_key, token_position=position)
    options = declared.provider_opts
    flags = options.runtime_flags
    where = ("models", reference, "provider_opts", "runtime_flags")
    return replace(
        found,
        base_url=declared.base_url or found.base_url,
        **declared.model_dump(include=_SAMPLING),
        context_size=options.context_size,
        runtime_flags=flags,
        flag_positions=tuple(config.position(*where, index) for index in range(len(flags))),
        draft=_draft(options),
        keep_alive=options.keep_alive,
        supports_tools=declared.supports_tools,
    )


def _served_by(config: Config, name: str, provider: str, model: str) -> ModelRef:
    """Return a model with the address and the token of its provider, if that is declared."""
    found = ModelRef(name=name, provider=provider, model=model)
    spec = config.spec.providers.get(provider)
    if spec is None:
        return found
    position = config.position("providers", provider, "token_key") if spec.token_key else None
    return replace(found, base_url=spec.base_url, token_env=spec.token_key, token_position=position)


def _draft(options: ProviderOptions) -> DraftModel | None:
    if options.speculative_draft_model is None:
        return None
    return DraftModel(
        model=options.speculative_draft_model.removeprefix(f"{LOCAL_PROVIDER}/"),
        num_tokens=options.speculative_num_tokens,
        acceptance_rate=options.speculative_acceptance_rate,
    )


def unknown_name(config: Config, word: str, name: str, known: Collection[str]) -> str:
    """Return the message about a name that the config does not have, with the nearest one.

    Args:
        config: The config.
        word: What it names, for example ``flow``.
        name: The unknown name.
        known: Names that the config has.
    """
    listed = f"{word}s of the file: {', '.join(known)}" if known else f"the file has no {word}"
    return f"there is no {word} {name!r} in {config.path}; {suggest(name, known) or listed}"
