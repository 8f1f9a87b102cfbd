"""What keys in different places must agree on: names exist, and are not used twice."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from merganser.config.config_tree import SpecWarning, dotted, is_map, lookup, matches
from merganser.config.sections import MODEL_NAMES, MODEL_REFERENCES, Pattern
from merganser.config.spec_agents import RagToolset
from merganser.config.spec_base import suggest
from merganser.config.spec_models import AUTO_MODEL, LOCAL_PROVIDER, split_reference
from merganser.config.spec_rag import safe_name
from merganser.models.ref import canonical

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from merganser.config.config_tree import ConfigTree
    from merganser.config.spec_root import Spec
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


def _model_key(model: str) -> str:
    """Return the form in which two spellings of one model's name are equal, tags included."""
    return canonical(model.strip().casefold().removeprefix(f"{LOCAL_PROVIDER}/"))


def map_models(tree: ConfigTree, model_map: Mapping[str, str]) -> None:
    """Replace models by others, whatever spelling of their names the file uses.

    Args:
        tree: Changed in place.
        model_map: Wanted name to used name; both with or without ``dmr/`` and ``:latest``.
    """
    used = {_model_key(wanted): target.removeprefix("dmr/") for wanted, target in model_map.items()}
    unmatched = {_model_key(wanted): wanted for wanted in model_map}
    declared = _names(tree, "models")
    for pattern in MODEL_NAMES + MODEL_REFERENCES:
        for location, value in list(tree.matches(pattern)):
            if not isinstance(value, str) or (value in declared and pattern in MODEL_REFERENCES):
                continue
            inline = split_reference(value) if pattern in MODEL_REFERENCES else ("", value)
            key = inline and _model_key(inline[1])
            if inline is None or key not in used:
                continue
            unmatched.pop(key, None)
            tree.replace(location, "/".join(part for part in (inline[0], used[key]) if part))
    for wanted in unmatched.values():
        problem = f"--model-map {wanted}=...: no model of that name is used"
        tree.warnings.append(SpecWarning(problem))


def check_references(tree: ConfigTree) -> None:
    """Report every name that is not declared and every model that has no address."""
    for pattern, section, word in REFERENCES:
        for location, value in tree.matches(pattern):
            if isinstance(value, str) and not tree.is_covered(location):
                _check_name(tree, location, value, section, word)
    _check_models(tree)
    for location, entry in tree.matches(("flows", "*")):
        if is_map(entry):
            _check_cycle(tree, location)
            _check_subject(tree, location, entry)
    _check_secrets_gates(tree)


def _check_secrets_gates(tree: ConfigTree) -> None:
    """Refuse to count the secrets of a rag that does not look for them."""
    for pattern in (("flows", "*", "gate"), ("flows", "*", "gate", "*")):
        for location, gate in tree.matches(pattern):
            if lookup(gate, ("secrets",)) is None:
                continue
            rags = _names(tree, "rag")
            named = lookup(tree.value, (*location[:2], "rag")) or list(rags)
            for rag in [named] if isinstance(named, str) else named:
                if lookup(rags, (rag, "secrets")) == "keep":
                    tree.error(
                        (*location, "secrets"),
                        f"no secrets are looked for in the rag {rag!r}, whose secrets are kept",
                        fix=f"write rag.{rag}.secrets: redact, or leave the gate out",
                    )


def _check_models(tree: ConfigTree) -> None:
    for pattern in MODEL_REFERENCES:
        for location, value in tree.matches(pattern):
            if isinstance(value, str) and not tree.is_covered(location):
                _check_model(tree, location, value)
    for location, entry in tree.matches(("models", "*")):
        provider = lookup(entry, ("provider",))
        if isinstance(provider, str) and not lookup(entry, ("base_url",)):
            _check_provider(tree, (*location, "provider"), provider)


def _names(tree: ConfigTree, section: str) -> dict[str, Any]:
    names = tree.value.get(section)
    return names if is_map(names) else {}


def _check_name(tree: ConfigTree, location: Location, name: str, section: str, word: str) -> None:
    declared = _names(tree, section)
    if name not in declared:
        listed = f"declared: {', '.join(declared)}" if declared else f"declare it under {section}"
        tree.error(location, f"there is no {word} {name!r}", fix=suggest(name, declared) or listed)


def _check_model(tree: ConfigTree, location: Location, reference: str) -> None:
    declared = _names(tree, "models")
    if reference in declared:
        return
    if reference == AUTO_MODEL:
        if location[-2:] == ("reranking", "model"):
            tree.error(location, "'auto' names no reranker", fix="name the model")
        return
    if "," in reference:
        fix = "name one model"
        tree.error(location, f"several models in turn, {reference!r}, not supported yet", fix=fix)
        return
    inline = split_reference(reference)
    if inline is None:
        fix = suggest(reference, declared) or "declare it under models, or write provider/model"
        tree.error(location, f"there is no model {reference!r}", fix=fix)
    else:
        _check_provider(tree, location, inline[0], reference)


def _check_provider(
    tree: ConfigTree, location: Location, provider: str, reference: str = ""
) -> None:
    providers = _names(tree, "providers")
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
    tree.error(location, f"the provider {provider!r} has no base_url", fix=fix)


def _check_cycle(tree: ConfigTree, location: Location) -> None:
    """Report a cycle of ``after`` at the first of its flows only."""
    flows = _names(tree, "flows")
    start = str(location[-1])
    trail = _find_cycle({name: _after(entry) for name, entry in flows.items()}, start)
    if trail and start == min(trail, key=list(flows).index):
        path = " -> ".join([*trail, start])
        tree.error(
            (*location, "after"), f"runs after itself: {path}", fix="remove one of these 'after'"
        )


def _check_subject(tree: ConfigTree, location: Location, entry: dict[str, Any]) -> None:
    """Report a flow that stands for all rags or the entry agent where there is none."""
    subjects = {
        "index": ("rag", "rag"),
        "evaluate": ("rag", "rag"),
        "batch": ("agent", "agents"),
    }
    key, section = subjects.get(str(entry.get("type")), ("", ""))
    if key and not entry.get(key) and not _names(tree, section):
        tree.error(location, f"there is no {key} for it", fix=f"declare one under {section}")


def _after(entry: Any) -> tuple[str, ...]:
    value = lookup(entry, ("after",))
    names = [value] if isinstance(value, str) else [v for _, v in matches(value, ("*",))]
    return tuple(name for name in names if isinstance(name, str))


def _find_cycle(after: Mapping[str, tuple[str, ...]], start: str) -> list[str]:
    """Return the flows on a shortest way from a flow back to itself; empty without one."""
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


def check_collisions(tree: ConfigTree, spec: Spec) -> None:
    """Report names, folders and files that are used twice.

    Args:
        tree: The config; errors are added to it.
        spec: The spec of the tree, whose references hold.
    """
    _check_flow_names(tree, spec)
    _check_batch_files(tree, spec)
    _check_tool_names(tree, spec)
    _check_databases(tree, spec)


def _check_flow_names(tree: ConfigTree, spec: Spec) -> None:
    """A flow is also a Python name, ``<config>__<flow>``, and shares its namespace with asking."""
    fix = "choose another name"
    seen = dict[str, str]()
    reserved = {f"ask-{agent}": agent for agent in spec.agents}
    for name in spec.flows:
        location = ("flows", name)
        if name in reserved:
            problem = f"the name belongs to the flow that asks the agent {reserved[name]!r}"
            tree.error(location, problem, fix=fix, on_key=True)
        identifier = re.sub(r"[^a-z0-9]", "_", name.casefold())
        other = seen.setdefault(identifier, name)
        if other != name:
            similar = f"too similar to {dotted(('flows', other))}"
            problem = f"{similar}: as a Python name both are {identifier}"
            tree.error(location, problem, fix=fix, on_key=True)


def _check_batch_files(tree: ConfigTree, spec: Spec) -> None:
    for name, flow in spec.flows.items():
        if flow.type == "batch" and os.path.normpath(flow.input) == os.path.normpath(flow.output):
            tree.error(
                ("flows", name, "output"),
                f"{flow.output!r} is the input too, and would be overwritten",
                fix="write the answers to another file",
            )


def _check_tool_names(tree: ConfigTree, spec: Spec) -> None:
    for agent in spec.agents:
        owners = dict[str, str]()
        for location, tool, rag in _tools(spec, agent):
            if tool not in owners:
                owners[tool] = rag
            elif owners[tool] == rag:
                tree.error(location, f"the agent has the rag {rag!r} already", fix="remove it")
            else:
                tree.error(
                    location,
                    f"the rags {owners[tool]!r} and {rag!r} would both be the tool {tool!r}",
                    fix=f"write another name at rag.{rag}.tool.name",
                )


def _tools(spec: Spec, agent: str) -> Iterator[tuple[Location, str, str]]:
    for number, rag in enumerate(spec.agents[agent].rag):
        yield ("agents", agent, "rag", number), spec.rag[rag].tool.name or safe_name(rag), rag
    for number, toolset in enumerate(spec.agents[agent].toolsets):
        if isinstance(toolset, RagToolset):
            tool = toolset.name or spec.rag[toolset.ref].tool.name or safe_name(toolset.ref)
            yield ("agents", agent, "toolsets", number, "ref"), tool, toolset.ref


def _check_databases(tree: ConfigTree, spec: Spec) -> None:
    owners = dict[str, str]()
    for name, rag in spec.rag.items():
        for number, strategy in enumerate(rag.strategies):
            if strategy.database is None:
                continue
            folder = os.path.normpath(strategy.database)
            if owners.setdefault(folder, name) != name:
                tree.error(
                    ("rag", name, "strategies", number, "database"),
                    f"{strategy.database!r} holds the index of the rag {owners[folder]!r} already",
                    fix="give each rag its own, or leave it out",
                )
