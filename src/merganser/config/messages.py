"""Pydantic's errors as ours: at a position, in the words of the file, with a fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from merganser.config.checked_config import children, is_map
from merganser.config.keys import suggest
from merganser.config.sections import SECTIONS, Section
from merganser.config.spec_base import CUSTOM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from merganser.config.checked_config import Document
    from merganser.config.yaml_source import Location

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


def report_validation(document: Document, details: list[ErrorDetails]) -> None:
    """Add pydantic's errors to the document's.

    Args:
        document: What was validated; its value is the input.
        details: ``ValidationError.errors()``.
    """
    for detail in details:
        context: Mapping[str, Any] = detail.get("ctx") or {}
        location = (*_strip_tags(document.value, detail["loc"]), *context.get("at", ()))
        if document.is_covered(location):
            continue
        problem, fix = _explain(document, location, detail, context)
        on_key = detail["loc"][-1:] == ("[key]",)
        if detail["type"] == "union_tag_invalid":
            location = (*location, "type")
        document.error(location, problem, fix=fix, on_key=on_key)


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
    document: Document, location: Location, detail: ErrorDetails, context: Mapping[str, Any]
) -> tuple[str, str]:
    kind = detail["type"]
    written = document.written_value(location)
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
    return f"unknown type {kind!r}", suggest(str(kind), [*types, *section.dropped_types]) or listed


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
