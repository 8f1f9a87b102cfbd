"""From a path to a checked `Config`: reading, ``extends``, variables, validation, references."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.config.config_tree import ConfigTree, SpecWarning, dotted, is_map, matches
from merganser.config.cross_checks import check_collisions, check_references, map_models
from merganser.config.sections import PATHS, PATTERNS, TEMPLATES, URLS, VARIABLE_NAMES
from merganser.config.spec_models import is_environment_name
from merganser.config.validate import check_keys, validate_spec
from merganser.config.yaml_source import (
    YAML_SUFFIXES,
    Positions,
    Source,
    excerpt,
    read_source,
)
from merganser.errors import SourcePosition, SpecError, SpecErrors, may_quote
from merganser.humanize import without_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.spec_root import Spec
    from merganser.config.yaml_source import Location

_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_QUOTED = re.compile(r"""(['"])(.*)\1""")
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
        tree: Where each key stands, for errors that are only found when the config is used.
    """

    path: Path
    spec: Spec
    warnings: tuple[SpecWarning, ...]
    fingerprint: str
    tree: ConfigTree = field(repr=False, compare=False)

    @property
    def directory(self) -> Path:
        """The folder that relative paths in the config are relative to."""
        return self.path.parent

    def position(self, *location: str | int) -> SourcePosition:
        """Return the place of a value, or of its nearest ancestor in the text."""
        return self.tree.position(location)


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
    tree = _read_tree(path)
    _mask_secrets(tree)
    check_keys(tree)
    _fill_templates(tree, os.environ if environment is None else environment)
    map_models(tree, model_map or {})
    spec = validate_spec(tree)
    check_references(tree)
    if spec is not None and not tree.errors:
        check_collisions(tree, spec)
    if spec is None or tree.errors:
        raise SpecErrors(tree.errors)
    _warn_of_surprises(tree, spec)
    return Config(
        path=path.absolute(),
        spec=spec,
        warnings=tuple(sorted(tree.warnings, key=_warning_order)),
        fingerprint=_fingerprint(spec),
        tree=tree,
    )


def _mask_secrets(tree: ConfigTree) -> None:
    """Hide possible secrets in messages: tokens in place of variable names, logins in URLs."""
    for pattern in VARIABLE_NAMES:
        for location, value in tree.matches(pattern):
            if isinstance(value, str) and not is_environment_name(value):
                tree.mask(location)
    for pattern in URLS:
        for location, value in tree.matches(pattern):
            if isinstance(value, str) and without_credentials(value) != value:
                tree.mask(location)


def _warning_order(warning: SpecWarning) -> tuple[bool, str, int, int]:
    at = warning.position
    return (False, str(at.path), at.line, at.column) if at else (True, "", 0, 0)


def _fingerprint(spec: Spec) -> str:
    meaning = spec.model_dump(mode="json", exclude={"version", "metadata", "extends"})
    meaning["entry_agent"] = spec.entry_agent
    # Which strategies write how they chunk: what is written and what is left out mean other things.
    meaning["chunked"] = [
        [name, "chunking" in strategy.model_fields_set]
        for name, rag in spec.rag.items()
        for strategy in rag.strategies
    ]
    text = json.dumps(meaning, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _warn_of_surprises(tree: ConfigTree, spec: Spec) -> None:
    if not spec.agents and not spec.rag:
        tree.warn((), "there are neither agents nor rags, so there is nothing to run")
    legacy = spec.version is not None and int(spec.version) <= _LEGACY_VERSION
    for name, model in spec.models.items():
        location = ("models", name)
        options = model.provider_opts
        if legacy and model.provider == "dmr" and model.max_tokens and not options.context_size:
            tree.warn(
                (*location, "max_tokens"),
                f"limits the answer here; in version {spec.version} it set the size of the context,"
                " which is now provider_opts.context_size",
            )
        drafted = {"speculative_num_tokens", "speculative_acceptance_rate"}
        if options.speculative_draft_model is None and drafted & options.model_fields_set:
            tree.warn((*location, "provider_opts"), "has no effect without speculative_draft_model")


def _read_tree(path: Path) -> ConfigTree:
    lines = dict[Path, tuple[str, ...]]()
    value, positions = _read_with_base(path, (), lines)
    return ConfigTree(value, positions, lines)


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
    if not may_quote(base_path, *YAML_SUFFIXES):
        problem = f"{extends!r} is not the name of a YAML file"
        raise _error_at(source, ("extends",), problem, fix="name a file that ends in .yaml or .yml")
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
    line = excerpt(source.lines, node.value) if may_quote(source.path, *YAML_SUFFIXES) else ""
    key = dotted(location)
    return SpecErrors([SpecError(problem, position=node.value, key=key, fix=fix, source_line=line)])


def _move_paths(value: dict[str, Any], old: Path, new: Path) -> None:
    """Rewrite the paths of an extended file so that they hold from the extending one's folder."""
    if _is_same(old, new):
        return
    for pattern in (*PATHS, *PATTERNS):
        for location, text in list(matches(value, pattern)):
            if isinstance(text, str) and (moved := _move_path(text, old, new, pattern)) != text:
                parent: Any = value
                for step in location[:-1]:
                    parent = parent[step]
                parent[location[-1]] = moved


def _move_path(text: str, old: Path, new: Path, pattern: Sequence[str]) -> str:
    """Return a path relative to another folder; what holds everywhere stays as it is."""
    mark = "!" if "docs" in pattern and text.startswith("!") else ""
    path = text.removeprefix(mark)
    if not mark and pattern not in PATTERNS:
        if "://" in text or Path(text).is_absolute():
            return text
        return os.path.relpath(old / text, new)
    # A name alone and "**/..." are looked for anywhere.
    if "/" not in path.rstrip("/") or path.startswith(("**/", f"{old}/")):
        return text
    moved = os.path.relpath(old / path.lstrip("/"), new)
    return f"{mark}{'' if moved.startswith('../') else './'}{moved}{'/' * path.endswith('/')}"


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


class _TemplateError(Exception):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def _fill_templates(tree: ConfigTree, environment: Mapping[str, str]) -> None:
    """Replace environment variables where the language allows them; report those that are missing.

    As in cagent, an empty variable counts as missing before ``||``.
    """
    for pattern in TEMPLATES:
        for location, value in list(tree.matches(pattern)):
            if not isinstance(value, str) or "${" not in value:
                continue
            try:
                filled = _TEMPLATE.sub(lambda m: _evaluate(m[1], environment), value)
                tree.replace(location, filled)
            except _TemplateError as error:
                tree.error(location, error.problem, fix=error.fix)
                tree.cover(location)


def _evaluate(expression: str, environment: Mapping[str, str]) -> str:
    missing = list[str]()
    for word in expression.split("||"):
        variable = _VARIABLE.fullmatch(word.strip())
        quoted = _QUOTED.fullmatch(word.strip())
        if quoted:
            return quoted[2]
        if not variable:
            raise _TemplateError(
                f"cannot read ${{{expression}}}",
                "write ${env.NAME} or ${env.NAME || 'default'}",
            )
        if environment.get(variable[1]):
            return environment[variable[1]]
        missing.append(variable[1])
    names = " and ".join(missing)
    raise _TemplateError(
        f"the environment variable {names} is not set",
        f"set {missing[0]}, or give a default: ${{env.{missing[0]} || 'default'}}",
    )
