"""From a path to a checked `Config`: reading, ``extends``, variables, validation, references."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from merganser.config.checked_config import Document, SpecWarning, dotted, is_map, matches
from merganser.config.collisions import check_collisions
from merganser.config.keys import check_keys
from merganser.config.messages import report_validation
from merganser.config.references import check_references, map_models
from merganser.config.sections import PATHS, VARIABLE_NAMES
from merganser.config.spec_models import is_environment_name
from merganser.config.spec_root import Spec
from merganser.config.template import fill_templates
from merganser.config.yaml_source import Positions, Source, excerpt, read_source
from merganser.errors import SourcePosition, SpecError, SpecErrors
from merganser.humanize import without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.config.yaml_source import Location

_LEGACY_VERSION = 7
"""Up to this version cagent took a local model's ``max_tokens`` for its context size."""


@dataclass(frozen=True, slots=True)
class Config:
    """A config that was loaded without errors.

    Attributes:
        path: Absolute path of the file.
        spec: What it says.
        warnings: What may surprise, in the order of the text.
        fingerprint: SHA-256 (hex) of what the config means. Comments, order of keys, defaults
            written out, anchors, ``version`` and ``metadata`` do not change it.
        document: Where each key stands, for errors that are only found when the config is used.
    """

    path: Path
    spec: Spec
    warnings: tuple[SpecWarning, ...]
    fingerprint: str
    document: Document = field(repr=False, compare=False)

    @property
    def directory(self) -> Path:
        """The folder that relative paths in the config are relative to."""
        return self.path.parent

    def position(self, *location: str | int) -> SourcePosition:
        """Give the place of a value, or of its nearest ancestor in the text."""
        return self.document.position(location)


def load_config(
    path: str | Path,
    *,
    model_map: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """Load and check a config.

    Args:
        path: The YAML file.
        model_map: Models to replace, wanted name to used name, in any spelling.
        environment: Variables for ``${env.NAME}``; the process's own when left out.

    Raises:
        SpecErrors: All problems of the file, with their positions.
    """
    path = Path(path)
    document = _read_document(path)
    _mask_secrets(document)
    check_keys(document)
    fill_templates(document, os.environ if environment is None else environment)
    map_models(document, model_map or {})
    spec = _validate(document)
    check_references(document)
    if spec is not None and not document.errors:
        check_collisions(document, spec)
    if spec is None or document.errors:
        raise SpecErrors(document.errors)
    _warn_of_surprises(document, spec)
    return Config(
        path=path.absolute(),
        spec=spec,
        warnings=tuple(sorted(document.warnings, key=_warning_order)),
        fingerprint=_fingerprint(spec),
        document=document,
    )


def _mask_secrets(document: Document) -> None:
    """Keep what people write in places where no secret belongs out of messages."""
    for pattern in VARIABLE_NAMES:
        for location, value in document.matches(pattern):
            if isinstance(value, str) and not is_environment_name(value):
                document.mask(location)
    for location, value in document.matches(("flows", "*", "shards")):
        if isinstance(value, str) and "://" in value and without_credentials(value) != value:
            document.mask(location)


def _validate(document: Document) -> Spec | None:
    try:
        return Spec.model_validate(document.value)
    except ValidationError as error:
        report_validation(document, error.errors(include_url=False))
        return None


def _warning_order(warning: SpecWarning) -> tuple[bool, str, int, int]:
    at = warning.position
    return (False, str(at.path), at.line, at.column) if at else (True, "", 0, 0)


def _fingerprint(spec: Spec) -> str:
    meaning = spec.model_dump(mode="json", exclude={"version", "metadata", "extends"})
    meaning["entry_agent"] = spec.entry_agent
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _warn_of_surprises(document: Document, spec: Spec) -> None:
    if not spec.agents and not spec.rag:
        document.warn((), "there are neither agents nor rags, so there is nothing to run")
    legacy = spec.version is not None and int(spec.version) <= _LEGACY_VERSION
    for name, model in spec.models.items():
        location = ("models", name)
        options = model.provider_opts
        if legacy and model.provider == "dmr" and model.max_tokens and not options.context_size:
            document.warn(
                (*location, "max_tokens"),
                f"limits the answer here; in version {spec.version} it set the size of the context,"
                " which is now provider_opts.context_size",
            )
        drafted = {"speculative_num_tokens", "speculative_acceptance_rate"}
        if options.speculative_draft_model is None and drafted & options.model_fields_set:
            document.warn(
                (*location, "provider_opts"), "has no effect without speculative_draft_model"
            )


def _read_document(path: Path) -> Document:
    lines = dict[Path, tuple[str, ...]]()
    value, positions = _read_with_base(path, (), lines)
    return Document(value, positions, lines)


def _read_with_base(
    path: Path, readers: tuple[Path, ...], lines: dict[Path, tuple[str, ...]]
) -> tuple[dict[str, Any], Positions]:
    source = read_source(path)
    lines[path] = source.lines
    value = source.value
    if value is None:
        value = {}
    if not is_map(value):
        raise _error_at(source, (), "must be a map of keys such as agents, models and rag")
    extends = value.get("extends")
    if not isinstance(extends, str):  # anything else is reported by the validation
        return value, source.positions
    base_path = Path(os.path.normpath(path.parent / extends))
    chain = (*readers, path)
    if any(_is_same(base_path, reader) for reader in chain):
        names = " -> ".join(str(reader) for reader in (*chain, base_path))
        raise _error_at(
            source, ("extends",), f"extends itself: {names}", fix="remove one 'extends'"
        )
    if not base_path.is_file():
        problem = f"there is no file {extends!r}"
        raise _error_at(source, ("extends",), problem, fix=f"looked at {base_path}")
    base_value, base_positions = _read_with_base(base_path, chain, lines)
    _move_paths(base_value, base_path.parent, path.parent)
    return _merge(base_value, base_positions, value, source.positions)


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _error_at(source: Source, location: Location, problem: str, *, fix: str = "") -> SpecErrors:
    node, _ = source.positions.find(location)
    line = excerpt(source.lines, node.value)
    key = dotted(location)
    return SpecErrors([SpecError(problem, position=node.value, key=key, fix=fix, source_line=line)])


def _move_paths(value: dict[str, Any], old: Path, new: Path) -> None:
    """Rewrite the paths of an extended file so that they hold from the extending one's folder."""
    if _is_same(old, new):
        return
    for pattern in PATHS:
        for location, text in list(matches(value, pattern)):
            if isinstance(text, str) and "://" not in text and not Path(text).is_absolute():
                parent: Any = value
                for step in location[:-1]:
                    parent = parent[step]
                parent[location[-1]] = os.path.relpath(old / text, new)


def _merge(
    base: dict[str, Any], base_positions: Positions, own: dict[str, Any], positions: Positions
) -> tuple[dict[str, Any], Positions]:
    """Lay a map over another: maps are merged, anything else is replaced."""
    value = {**base, **own}
    children = {**base_positions.children, **positions.children}
    for key in base.keys() & own.keys():
        below, above = base[key], own[key]
        if is_map(below) and is_map(above):
            value[key], children[key] = _merge(
                below, base_positions.children[key], above, positions.children[key]
            )
    return value, Positions(positions.value, positions.key, children)
