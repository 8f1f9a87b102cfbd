"""A config while it is checked: plain values, their positions, and the problems found so far."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from merganser.config.yaml_source import Location, excerpt
from merganser.errors import SourcePosition, SpecError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    from merganser.config.sections import Pattern
    from merganser.config.yaml_source import Positions


@dataclass(frozen=True, slots=True)
class SpecWarning:
    """Something in a config that is not an error but may surprise.

    Attributes:
        problem: What it is.
        key: The dotted key; may be empty.
        position: Where it stands, or None when it does not stand in the file.
    """

    problem: str
    key: str = ""
    position: SourcePosition | None = None

    def __str__(self) -> str:
        """Return ``path:line:col: key: problem``."""
        return ": ".join(str(part) for part in (self.position, self.key, self.problem) if part)


class ConfigTree:
    """The plain values of a config and of what it extends, with where each of them stands.

    Locations are those of ``value`` as it is now; positions and messages are those of the file,
    also after list items were removed.

    Attributes:
        value: Plain data; the checks change it in place.
        written: The same as the file has it, before anything was replaced or removed.
        errors: Errors found so far.
        warnings: Warnings found so far.
    """

    def __init__(
        self,
        value: dict[str, Any],
        positions: Positions,
        lines: Mapping[Path, Sequence[str]],
    ) -> None:
        self.value = value
        self.written = copy.deepcopy(value)
        self.errors = list[SpecError]()
        self.warnings = list[SpecWarning]()
        self._positions = positions
        self._lines = dict(lines)
        self._kept = dict[Location, tuple[int, ...]]()
        self._covered = set[Location]()

    def error(
        self,
        location: Location,
        problem: str,
        *,
        fix: str = "",
        on_key: bool = False,
    ) -> None:
        """Add an error at a location, or at its nearest ancestor in the text.

        Args:
            location: Where; the last steps may be missing in the text.
            problem: What is wrong.
            fix: What to do.
            on_key: Point at the key, not at its value.
        """
        written = self._as_written(location)
        position = self.position(location, on_key=on_key)
        line = excerpt(self._lines.get(position.path, ()), position)
        self.errors.append(
            SpecError(problem, position=position, key=dotted(written), fix=fix, source_line=line)
        )

    def warn(self, location: Location, problem: str) -> None:
        """Add a warning at a key."""
        position = self.position(location, on_key=True)
        self.warnings.append(SpecWarning(problem, dotted(self._as_written(location)), position))

    def mask(self, location: Location) -> None:
        """Keep a value that may be a secret out of the excerpts of every error."""
        position = self.position(location)
        value = str(self.written_value(location))
        lines = list(self._lines[position.path])
        line, at = lines[position.line - 1], position.column - 1
        # Written with escapes or over several lines, it is not found: then the rest goes.
        hidden = line.replace(value, "*" * len(value))
        lines[position.line - 1] = line[:at] + "*" * len(line[at:]) if hidden == line else hidden
        self._lines[position.path] = lines

    def cover(self, location: Location) -> None:
        """Report no more errors at or below a location: one that was added explains them."""
        self._covered.add(location)

    def is_covered(self, location: Location) -> bool:
        """Return whether a location is at or below one that is covered."""
        return any(location[:n] in self._covered for n in range(len(location) + 1))

    def position(self, location: Location, *, on_key: bool = False) -> SourcePosition:
        """Return the place of a value or key, or of its nearest ancestor in the text."""
        node, found = self._positions.find(self._as_written(location))
        return node.key if node.key and (on_key or not found) else node.value

    def written_value(self, location: Location) -> Any:
        """Return the value as the file has it, before variables were filled in."""
        return lookup(self.written, self._as_written(location))

    def drop_items(self, location: Location, indexes: Collection[str | int]) -> None:
        """Remove items of a list; locations used after this count without them."""
        items: list[Any] = lookup(self.value, location)
        kept = tuple(i for i in range(len(items)) if i not in indexes)
        self._kept[location] = kept
        items[:] = [items[i] for i in kept]

    def replace(self, location: Location, value: Any) -> None:
        """Set the value at a location."""
        lookup(self.value, location[:-1])[location[-1]] = value

    def matches(self, pattern: Pattern) -> Iterator[tuple[Location, Any]]:
        """Yield every location that fits a pattern, with its value."""
        return matches(self.value, pattern)

    def _as_written(self, location: Location) -> Location:
        written: Location = ()
        for step in location:
            kept = self._kept.get(written)
            written += (kept[step] if kept and isinstance(step, int) else step,)
        return written


def is_map(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether a plain value is a map."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Return whether a plain value is a list."""
    return isinstance(value, list)


def children(value: Any) -> Iterator[tuple[str | int, Any]]:
    """Yield the entries of a map or list; a scalar has none."""
    if is_map(value):
        yield from value.items()
    elif is_list(value):
        yield from enumerate(value)


def lookup(value: Any, location: Location) -> Any:
    """Return the value at a location, or None where there is none."""
    for step in location:
        value = dict(children(value)).get(step)
    return value


def matches(value: Any, pattern: Pattern, at: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Yield every location that fits a pattern, with its value.

    ``*`` stands for any one step and ``**``, at the end, for any number of steps to a scalar.
    """
    if not pattern:
        yield at, value
        return
    head, *rest = pattern
    for step, child in children(value):
        if head == "**":
            deeper = pattern if isinstance(child, dict | list) else ()
            yield from matches(child, deeper, (*at, step))
        elif head in {"*", step}:
            yield from matches(child, tuple(rest), (*at, step))


def dotted(location: Location) -> str:
    """Return a location as people read it, such as ``agents.root.toolsets[0].type``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return text.removeprefix(".")
