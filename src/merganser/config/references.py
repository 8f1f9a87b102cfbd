"""Names that must exist: models, providers, rags, agents and flows refer to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.config.checked_config import SpecWarning, is_map, lookup, matches
from merganser.config.keys import suggest
from merganser.config.sections import MODEL_NAMES, MODEL_REFERENCES, Pattern
from merganser.config.spec_models import AUTO_MODEL, LOCAL_PROVIDER, model_key, split_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.config.checked_config import Document
    from merganser.config.yaml_source import Location

REFERENCES: tuple[tuple[Pattern, str, str], ...] = (
    (("agents", "*", "rag", "*"), "rag", "rag"),
    (("agents", "*", "toolsets", "*", "ref"), "rag", "rag"),
    (("flows", "*", "rag"), "rag", "rag"),
    (("flows", "*", "rag", "*"), "rag", "rag"),
    (("flows", "*", "agent"), "agents", "agent"),
    (("flows", "*", "after"), "flows", "flow"),
    (("flows", "*", "after", "*"), "flows", "flow"),
)
"""Pattern of the reference, the top-level key that declares the names, and the word for one."""

_REGISTRIES = frozenset({"ai", "hf.co", "huggingface.co", "docker.io"})
"""First parts of model names that people write where the provider belongs."""


def map_models(document: Document, model_map: Mapping[str, str]) -> None:
    """Replace models by others, whatever spelling of their names the file uses.

    Args:
        document: Changed in place.
        model_map: Wanted name to used name; both with or without ``dmr/`` and ``:latest``.
    """
    used = {model_key(wanted): target.removeprefix("dmr/") for wanted, target in model_map.items()}
    unmatched = {model_key(wanted): wanted for wanted in model_map}
    declared = _names(document, "models")
    for pattern in MODEL_NAMES + MODEL_REFERENCES:
        for location, value in list(document.matches(pattern)):
            if not isinstance(value, str) or (value in declared and pattern in MODEL_REFERENCES):
                continue
            inline = split_reference(value) if pattern in MODEL_REFERENCES else ("", value)
            if inline is None or model_key(inline[1]) not in used:
                continue
            key = model_key(inline[1])
            unmatched.pop(key, None)
            document.replace(location, "/".join(part for part in (inline[0], used[key]) if part))
    for wanted in unmatched.values():
        problem = f"--model-map {wanted}=...: no model of that name is used"
        document.warnings.append(SpecWarning(problem))


def check_references(document: Document) -> None:
    """Report every name that is not declared and every model that has no address."""
    for pattern, section, word in REFERENCES:
        for location, value in document.matches(pattern):
            if isinstance(value, str) and not document.is_covered(location):
                _check_name(document, location, value, section, word)
    _check_models(document)
    for location, entry in document.matches(("flows", "*")):
        if is_map(entry):
            _check_cycle(document, location)
            _check_subject(document, location, entry)


def _check_models(document: Document) -> None:
    for pattern in MODEL_REFERENCES:
        for location, value in document.matches(pattern):
            if isinstance(value, str) and not document.is_covered(location):
                _check_model(document, location, value)
    for location, entry in document.matches(("models", "*")):
        provider = lookup(entry, ("provider",))
        if isinstance(provider, str) and not lookup(entry, ("base_url",)):
            _check_provider(document, (*location, "provider"), provider)


def _names(document: Document, section: str) -> dict[str, Any]:
    names = document.value.get(section)
    return names if is_map(names) else {}


def _check_name(document: Document, location: Location, name: str, section: str, word: str) -> None:
    declared = _names(document, section)
    if name not in declared:
        listed = f"declared: {', '.join(declared)}" if declared else f"declare it under {section}"
        document.error(
            location, f"there is no {word} {name!r}", fix=suggest(name, declared) or listed
        )


def _check_model(document: Document, location: Location, reference: str) -> None:
    declared = _names(document, "models")
    if reference in declared:
        return
    if reference == AUTO_MODEL:
        if location[-2:] == ("reranking", "model"):
            document.error(location, "'auto' names no reranker", fix="name the model")
        return
    if "," in reference:
        fix = "name one model"
        document.error(
            location, f"several models in turn, {reference!r}, not supported yet", fix=fix
        )
        return
    inline = split_reference(reference)
    if inline is None:
        fix = suggest(reference, declared) or "declare it under models, or write provider/model"
        document.error(location, f"there is no model {reference!r}", fix=fix)
    else:
        _check_provider(document, location, inline[0], reference)


def _check_provider(
    document: Document, location: Location, provider: str, reference: str = ""
) -> None:
    providers = _names(document, "providers")
    if provider == LOCAL_PROVIDER or provider in providers:
        return
    inline = bool(reference)
    if inline and provider in _REGISTRIES:
        fix = f"write {LOCAL_PROVIDER}/{reference}"
    else:
        near = suggest(provider, [LOCAL_PROVIDER, *providers])
        where = f"providers.{provider}.base_url" if inline else "base_url here"
        example = (
            "http://localhost:11434/v1" if provider == "ollama" else "http://localhost:8000/v1"
        )
        fix = near or f"write {where}, for example {example}, or use the provider dmr"
    document.error(location, f"the provider {provider!r} has no base_url", fix=fix)


def _check_cycle(document: Document, location: Location) -> None:
    """Report a cycle of ``after`` at the first of its flows only."""
    flows = _names(document, "flows")
    start = str(location[-1])
    trail = _find_cycle({name: _after(entry) for name, entry in flows.items()}, start)
    if trail and start == min(trail, key=list(flows).index):
        path = " -> ".join([*trail, start])
        document.error(
            (*location, "after"), f"runs after itself: {path}", fix="remove one of these 'after'"
        )


def _check_subject(document: Document, location: Location, entry: dict[str, Any]) -> None:
    """Report a flow that stands for all rags or the entry agent where there is none."""
    subjects = {
        "index": ("rag", "rag"),
        "evaluate": ("rag", "rag"),
        "batch": ("agent", "agents"),
    }
    key, section = subjects.get(str(entry.get("type")), ("", ""))
    if key and not entry.get(key) and not _names(document, section):
        document.error(location, f"there is no {key} for it", fix=f"declare one under {section}")


def _after(entry: Any) -> tuple[str, ...]:
    value = lookup(entry, ("after",))
    names = [value] if isinstance(value, str) else [v for _, v in matches(value, ("*",))]
    return tuple(name for name in names if isinstance(name, str))


def _find_cycle(after: Mapping[str, tuple[str, ...]], start: str) -> list[str]:
    """Give the flows on a shortest way from a flow back to itself, or none."""
    trails = [[start]]
    seen = set[str]()
    for trail in trails:  # grows while it is read: breadth first
        for name in after.get(trail[-1], ()):
            if name == start:
                return trail
            if name not in seen:
                seen.add(name)
                trails.append([*trail, name])
    return []
