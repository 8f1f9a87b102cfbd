"""The key check: unknown keys are errors, known ones that cannot be run yet warn or are refused."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from merganser.config import unsupported as later
from merganser.config.checked_config import is_map, lookup
from merganser.config.sections import (
    FOREIGN_TOOLSETS,
    NAME_MAPS,
    SECTIONS,
    Section,
    Variant,
    readable,
)
from merganser.config.yaml_source import Location

if TYPE_CHECKING:
    from collections.abc import Collection

    from merganser.config.checked_config import Document
    from merganser.config.sections import Pattern


# As difflib measures it, `topk` is at 0.89 from `top_k` and `chunk_size` at 0.7 from `batch_size`.
_NEAR = 0.72


def check_keys(document: Document) -> None:
    """Report every key that is not run, and take it out of the document's value."""
    for pattern in FOREIGN_TOOLSETS:
        for location, entry in list(document.matches(pattern)):
            if is_map(entry):
                _check_limits(document, location, entry)
    for section in SECTIONS:
        for location, entry in list(document.matches(section.pattern)):
            if is_map(entry) and not document.is_covered(location):
                _check_entry(document, location, entry, section)
        _drop_toolsets(document, section)


def _check_entry(
    document: Document, location: Location, entry: dict[str, Any], section: Section
) -> None:
    kind = str(entry.get("type"))
    variant = section.variants.get("") or section.variants.get(kind)
    if variant:
        _check_map(document, location, entry, section, variant)
    elif kind in section.dropped_types:
        _check_dropped(document, location, entry, section.dropped_types[kind])
    elif kind in section.later_types:
        known = section.later_types[kind]
        document.error((*location, "type"), known.problem, fix=known.fix)
        document.cover(location)


def _drop_toolsets(document: Document, section: Section) -> None:
    dropped = dict[Location, set[int]]()
    for location, entry in document.matches(section.pattern):
        index = location[-1] if location else None
        if not is_map(entry) or not isinstance(index, int):
            continue
        if str(entry.get("type")) in section.dropped_types:
            dropped.setdefault(location[:-1], set()).add(index)
    for location, indexes in dropped.items():
        document.drop_items(location, indexes)


def suggest(word: str, known: Collection[str]) -> str:
    """Give ``did you mean 'x'?`` for the nearest known word, or nothing."""
    lowered = {name.casefold(): name for name in known}
    near = get_close_matches(word.casefold(), lowered, n=1, cutoff=_NEAR)
    return f"did you mean {lowered[near[0]]!r}?" if near else ""


def _check_map(
    document: Document,
    location: Location,
    entry: dict[str, Any],
    section: Section,
    variant: Variant,
) -> None:
    fields = variant.model.model_fields
    for key in list(entry):
        at = (*location, key)
        if entry[key] is None and (key in fields or key in variant.later):
            # `toolsets:` with nothing behind it is the same as no toolsets.
            if (*section.pattern, key) not in NAME_MAPS or not location:
                del entry[key]
            continue
        if key in fields:
            continue
        del entry[key]
        known = variant.later.get(key)
        if known is None:
            hint = _hint(key, {*fields, *variant.later}, section.pattern)
            document.error(at, "unknown key", fix=hint, on_key=True)
        elif known.refused:
            document.error(at, known.problem, fix=known.fix, on_key=True)
            if known.explains_all:
                document.cover(location)
        else:
            document.warn(at, known.problem)


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


def _check_dropped(
    document: Document, location: Location, entry: dict[str, Any], known: frozenset[str]
) -> None:
    document.warn(
        (*location, "type"), f"the toolset {entry['type']!r} is not supported yet, ignored"
    )
    _check_limits(document, location, entry)
    for key in entry:
        if key not in known and key not in later.TOOLSET_LIMITS:
            hint = _hint(key, known, ("agents", "*", "toolsets", "*"))
            document.error((*location, key), "unknown key", fix=hint, on_key=True)


def _check_limits(document: Document, location: Location, entry: dict[str, Any]) -> None:
    for key, known in later.TOOLSET_LIMITS.items():
        if lookup(entry, (key,)) is not None:
            document.error((*location, key), known.problem, fix=known.fix, on_key=True)
