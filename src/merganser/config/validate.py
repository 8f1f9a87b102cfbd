"""From plain values to the `Spec`: keys that are not supported, then values that do not fit.

Unknown keys are errors; known ones that are not supported yet warn or are refused. Pydantic's
errors are told as ours: at a position, in the words of the file, with a fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from merganser.config.config_tree import children, is_map, lookup
from merganser.config.sections import (
    FOREIGN_TOOLSETS,
    NAME_MAPS,
    SECTIONS,
    Section,
    Variant,
    readable,
)
from merganser.config.spec_base import CUSTOM, suggest
from merganser.config.spec_root import Spec
from merganser.config.unsupported import TOOLSET_LIMITS
from merganser.config.yaml_source import Location

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic_core import ErrorDetails

    from merganser.config.config_tree import ConfigTree
    from merganser.config.sections import Pattern

_KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a map",
    "mapping_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
}
_FIXES = {
    "string_type": "quote it",
    "bool_type": "write true or false, without quotes",
    "tuple_type": "write it as a list: [a, b], or one '- ' a line",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
_SHOWN_CHARACTERS = 80


def check_keys(tree: ConfigTree) -> None:
    """Report every key that is not supported, and take it out of the tree's value."""
    for pattern in FOREIGN_TOOLSETS:
        for location, entry in tree.matches(pattern):
            if is_map(entry):
                _check_limits(tree, location, entry)
    for section in SECTIONS:
        ignored = dict[Location, set[str | int]]()
        for location, entry in list(tree.matches(section.pattern)):
            if not is_map(entry):
                continue
            if str(entry.get("type")) in section.ignored_types:
                ignored.setdefault(location[:-1], set()).add(location[-1])
            if not tree.is_covered(location):
                _check_entry(tree, location, entry, section)
        for location, indexes in ignored.items():
            tree.drop_items(location, indexes)


def _check_entry(
    tree: ConfigTree, location: Location, entry: dict[str, Any], section: Section
) -> None:
    kind = str(entry.get("type"))
    if variant := section.variants.get("") or section.variants.get(kind):
        _check_map(tree, location, entry, section, variant)
    elif kind in section.ignored_types:
        _check_ignored_toolset(tree, location, entry, section)
    elif known := section.refused_types.get(kind):
        tree.error((*location, "type"), known.problem, fix=known.fix)
        tree.cover(location)


def _check_map(
    tree: ConfigTree,
    location: Location,
    entry: dict[str, Any],
    section: Section,
    variant: Variant,
) -> None:
    fields, unsupported = variant.model.model_fields, variant.unsupported
    for key in list(entry):
        at = (*location, key)
        if entry[key] is None and (key in fields or key in unsupported):
            # `toolsets:` with nothing behind it is the same as no toolsets.
            if (*section.pattern, key) not in NAME_MAPS or not location:
                del entry[key]
            continue
        if key in fields:
            continue
        del entry[key]
        known = unsupported.get(key)
        if known is None:
            hint = _hint(key, {*fields, *unsupported}, section.pattern)
            tree.error(at, "unknown key", fix=hint, on_key=True)
        elif known.refused:
            tree.error(at, known.problem, fix=known.fix, on_key=True)
            if known.explains_all:
                tree.cover(location)
        else:
            tree.warn(at, known.problem)


def _hint(key: str, here: Collection[str], pattern: Pattern) -> str:
    near = suggest(key, here)
    if near:
        return near
    elsewhere = [
        section.pattern
        for section in SECTIONS
        for variant in section.variants.values()
        if key in variant.model.model_fields and section.pattern != pattern
    ]
    if elsewhere and key not in {"type", "name"}:
        places = " or ".join(dict.fromkeys(readable(place) for place in elsewhere))
        return f"it belongs under {places}"
    return f"known keys: {', '.join(sorted(here))}"


def _check_ignored_toolset(
    tree: ConfigTree, location: Location, entry: dict[str, Any], section: Section
) -> None:
    kind = str(entry["type"])
    known = section.ignored_types[kind]
    tree.warn((*location, "type"), f"the toolset {kind!r} is not supported yet, ignored")
    _check_limits(tree, location, entry)
    for key in entry:
        if key not in known and key not in TOOLSET_LIMITS:
            hint = _hint(key, known, section.pattern)
            tree.error((*location, key), "unknown key", fix=hint, on_key=True)


def _check_limits(tree: ConfigTree, location: Location, entry: dict[str, Any]) -> None:
    for key, known in TOOLSET_LIMITS.items():
        if lookup(entry, (key,)) is not None:
            tree.error((*location, key), known.problem, fix=known.fix, on_key=True)


def validate_spec(tree: ConfigTree) -> Spec | None:
    """Return the spec of a tree, or add the tree's errors to it and return None."""
    try:
        return Spec.model_validate(tree.value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _report(tree, detail)
        return None


def _report(tree: ConfigTree, detail: ErrorDetails) -> None:
    """Add one of pydantic's errors to a tree, unless another error explains its place."""
    context: Mapping[str, Any] = detail.get("ctx") or {}
    location = (*_strip_tags(tree.value, detail["loc"]), *context.get("at", ()))
    if tree.is_covered(location):
        return
    problem, fix = _explain(tree, location, detail, context)
    on_key = detail["loc"][-1:] == ("[key]",)
    if detail["type"] == "union_tag_invalid":
        location = (*location, "type")
    tree.error(location, problem, fix=fix, on_key=on_key)


def _strip_tags(value: Any, loc: tuple[str | int, ...]) -> Location:
    """Leave out the steps that name a member of a union and stand nowhere in the text."""
    location: Location = ()
    for index, step in enumerate(loc):
        if step == "[key]":
            continue
        here = dict(children(value))
        if step in here:
            value = here[step]
        elif not is_map(value) or isinstance(step, int):
            continue  # a scalar or map that may stand without the list around it
        elif step == here.get("type") or str(step)[:1].isupper():
            continue
        elif index < len(loc) - 1:
            value = None
        location += (step,)
    return location


def _explain(
    tree: ConfigTree, location: Location, detail: ErrorDetails, context: Mapping[str, Any]
) -> tuple[str, str]:
    kind = detail["type"]
    written = tree.written_value(location)
    if kind == CUSTOM:
        return context["problem"], context["fix"]
    if kind == "missing":
        return f"the key {location[-1]!r} is missing", f"add '{location[-1]}: ...'"
    if kind.startswith("union_tag"):
        return _explain_type(location, written)
    if kind == "literal_error":
        return _explain_literal(written, str(context["expected"]))
    if kind in {"string_too_short", "too_short"}:
        return "must not be empty", ""
    problem = detail["msg"]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        problem = f"must be {words} {context[bound]:g}"
    elif kind in _KINDS:
        problem = f"must be {_KINDS[kind]}"
    return f"{problem}, got {_show(written)}", _FIXES.get(kind, "")


def _explain_type(location: Location, written: Any) -> tuple[str, str]:
    section = _section_at(location)
    types = [*section.variants]
    if not is_map(written) or "type" not in written:
        return "the key 'type' is missing", f"add 'type: {types[0]}' or {' or '.join(types[1:])}"
    kind = written["type"]
    listed = f"types: {', '.join(types)}"
    return f"unknown type {kind!r}", suggest(str(kind), [*types, *section.ignored_types]) or listed


def _explain_literal(written: Any, expected: str) -> tuple[str, str]:
    options = [option.strip("' ") for option in expected.replace(" or ", ",").split(",")]
    return f"must be {expected}, got {_show(written)}", suggest(str(written), options)


def _section_at(location: Location) -> Section:
    for section in SECTIONS:
        if len(section.pattern) == len(location) and all(
            wanted in {"*", step} for wanted, step in zip(section.pattern, location, strict=True)
        ):
            return section
    raise AssertionError(f"no section at {location}")


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
