"""YAML text as plain values, with a tree of positions beside them.

This module owns reading and YAML's own rules: encoding, duplicate keys, anchors, aliases and merge
keys. It knows nothing of the keys' meaning, which is ``merganser.config``'s.

Scalars follow YAML 1.2's core schema, as the Go tools that share these files do: ``on``, ``no``,
``12:30`` and ``2026-11-23`` are text, not booleans, minutes or dates.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from merganser.errors import SourcePosition, SpecError, SpecErrors, may_quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Location = tuple[str | int, ...]
"""The keys and indexes from the root to a value."""

Scalar = str | int | float | bool | None

MAX_BYTES = 4 * 1024 * 1024
"""A config is written by hand; what is larger is another file named by mistake."""

YAML_SUFFIXES = (".yaml", ".yml")
"""Endings of files of which an error may show a line."""

MAX_NODES = 50_000
"""Values after aliases are expanded. Nine nested aliases of nine each would give 10^9."""

MAX_DEPTH = 64
"""Levels of nesting; the language needs nine."""

# libyaml parses ten times faster than the Python parser; wheels have it, odd platforms may not.
_PARSER: Any = getattr(yaml, "CSafeLoader", None) or yaml.SafeLoader

_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as YAML counts them
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_TAG = "tag:yaml.org,2002:"
_MERGE_KEY = "<<"


@dataclass(frozen=True, slots=True)
class Positions:
    """Where a value stands, and where its parts stand.

    Attributes:
        value: Where the value begins.
        key: Where its key begins, or None for list items and the root.
        children: By key or index; empty for scalars.
    """

    value: SourcePosition
    key: SourcePosition | None = None
    children: Mapping[str | int, Positions] = field(default_factory=dict[str | int, "Positions"])

    def find(self, location: Sequence[str | int]) -> tuple[Positions, bool]:
        """Return the node at a location, or its nearest ancestor, and whether it was reached."""
        node = self
        for step in location:
            if step not in node.children:
                return node, False
            node = node.children[step]
        return node, True


@dataclass(frozen=True, slots=True)
class Source:
    """One YAML file, read.

    Attributes:
        path: As the user named it; error messages show it.
        value: dicts, lists, str, int, float, bool and None. Not shared with other sources.
        positions: The tree of places, of the same shape as the value.
        lines: The text, for excerpts.
    """

    path: Path
    value: Any
    positions: Positions
    lines: tuple[str, ...]


def read_source(path: Path) -> Source:
    """Read one YAML file.

    Raises:
        SpecErrors: The file is missing, too large, not UTF-8 or not valid YAML, or it repeats keys.
            Nothing of a file that is not named as YAML is in the message.
    """
    try:
        if not path.is_file():
            problem = "is a directory, not a file" if path.is_dir() else "there is no such file"
            raise _file_error(path, problem)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise _file_error(path, f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise _file_error(path, f"is larger than {MAX_BYTES // 1024**2} MiB, which no config is")
    try:
        return parse_source(_decode(data, path), path)
    except SpecErrors:
        if may_quote(path, *YAML_SUFFIXES):
            raise
    raise _file_error(path, "is not valid YAML; name it .yaml to be shown where")


def parse_source(text: str, path: Path) -> Source:
    """Parse YAML text.

    Args:
        text: The whole document.
        path: What error messages call it.

    Raises:
        SpecErrors: The text is not one valid YAML document, or it repeats keys.
    """
    lines = tuple(_LINE_BREAK.split(text))
    builder = _Builder(path, lines)
    try:
        node = builder.document(_events(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(part for part in (error.context, error.problem) if part)
        if "nesting depth" in problem:  # newer libyaml stops at a depth of its own, above ours
            builder.fail(f"nested deeper than {MAX_DEPTH} levels", mark)
        builder.fail(f"not valid YAML: {problem}", mark, fix=_syntax_fix(problem))
    except yaml.reader.ReaderError as error:
        index = error.position if isinstance(error.position, int) else 0
        line = len(_LINE_BREAK.findall(text, 0, index))
        column = index - max((m.end() for m in _LINE_BREAK.finditer(text, 0, index)), default=0)
        position = SourcePosition(path, line + 1, column + 1)
        problem = f"not valid YAML: the character U+{int(error.character):04X} is not allowed"
        raise SpecErrors([builder.error(problem, position, fix="remove it")]) from None
    if builder.errors:
        raise SpecErrors(builder.errors)
    return Source(path, _plain(node), _positions(node), lines)


def excerpt(lines: Sequence[str], position: SourcePosition) -> str:
    """Return the line at a position, ready to stand above a caret."""
    if not 1 <= position.line <= len(lines):
        return ""
    # A tab or a very long line would put the caret elsewhere than the eye expects it.
    return lines[position.line - 1].replace("\t", " ")[: position.column + 120].rstrip()


@dataclass(frozen=True, slots=True)
class _Node:
    position: SourcePosition
    _: KW_ONLY
    scalar: Scalar = None  # what it is when it has neither entries nor items
    entries: dict[str, _Node] | None = None
    items: tuple[_Node, ...] | None = None
    key: SourcePosition | None = None
    size: int = 1


def _plain(node: _Node) -> Any:
    if node.entries is not None:
        return {key: _plain(child) for key, child in node.entries.items()}
    if node.items is not None:
        return [_plain(child) for child in node.items]
    return node.scalar


def _positions(node: _Node) -> Positions:
    children = dict[str | int, Positions]()
    for key, child in (node.entries or {}).items():
        children[key] = _positions(child)
    for index, child in enumerate(node.items or ()):
        children[index] = _positions(child)
    return Positions(node.position, node.key, children)


class _Builder:
    """Build nodes from parser events, so that depth and expansion stay bounded.

    PyYAML's own composer recurses as deep as the text says and leaves duplicate keys to the last.
    """

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path = path
        self.lines = lines
        self.errors = list[SpecError]()
        self._anchors = dict[str, _Node]()
        self._open = set[str]()
        self._expanded = 0

    def document(self, events: Iterator[Any]) -> _Node:
        root: _Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self.fail(
                        "a second YAML document begins here",
                        event.start_mark,
                        fix="keep one document a file",
                    )
                root = self._node(next(events), events, depth=1)
        return root or _Node(SourcePosition(self.path, 1, 1), entries={})

    def error(self, problem: str, position: SourcePosition, *, fix: str = "") -> SpecError:
        line = excerpt(self.lines, position)
        return SpecError(problem, position=position, fix=fix, source_line=line)

    def fail(self, problem: str, mark: Any, *, fix: str = "") -> NoReturn:
        raise SpecErrors([*self.errors, self.error(problem, self._at(mark), fix=fix)])

    def _at(self, mark: Any) -> SourcePosition:
        if mark is None:
            return SourcePosition(self.path, 1, 1)
        # Parsers report the end of the text as a line after the last.
        line = min(mark.line, len(self.lines) - 1)
        column = mark.column if line == mark.line else len(self.lines[line])
        return SourcePosition(self.path, line + 1, column + 1)

    def _node(self, event: Any, events: Iterator[Any], *, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        anchor: str | None = event.anchor
        if anchor:
            self._open.add(anchor)
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(self._at(event.start_mark), scalar=self._scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, events, depth)
        else:
            node = self._mapping(event, events, depth)
        self._count(1, event)
        if anchor:
            self._open.discard(anchor)
            self._anchors[anchor] = node
        return node

    def _alias(self, event: Any) -> _Node:
        name: str = event.anchor
        if name in self._open:
            self.fail(f"the alias *{name} stands inside its own anchor", event.start_mark)
        if name not in self._anchors:
            known = ", ".join(f"&{anchor}" for anchor in self._anchors) or "none"
            self.fail(
                f"the alias *{name} has no anchor before it",
                event.start_mark,
                fix=f"quote text that begins with '*'; anchors so far: {known}",
            )
        node = self._anchors[name]
        self._count(node.size, event)
        return replace(node, position=self._at(event.start_mark))

    def _count(self, nodes: int, event: Any) -> None:
        self._expanded += nodes
        if self._expanded > MAX_NODES:
            problem = f"more than {MAX_NODES:,} values once aliases are expanded"
            self.fail(problem, event.start_mark)

    def _sequence(self, start: Any, events: Iterator[Any], depth: int) -> _Node:
        self._refuse_tag(start, "seq")
        items = list[_Node]()
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            items.append(self._node(event, events, depth=depth + 1))
        size = 1 + sum(item.size for item in items)
        return _Node(self._at(start.start_mark), items=tuple(items), size=size)

    def _mapping(self, start: Any, events: Iterator[Any], depth: int) -> _Node:
        self._refuse_tag(start, "map")
        entries = dict[str, _Node]()
        merges = list[dict[str, _Node]]()
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event)
            at = self._at(event.start_mark)
            merge = key == _MERGE_KEY and isinstance(event, yaml.ScalarEvent) and event.implicit[0]
            node = replace(self._node(next(events), events, depth=depth + 1), key=at)
            if merge:
                merges.extend(self._merged(node, at))
            elif key in entries:
                first = entries[key].key
                line = first.line if first else 0
                fix = f"it stands in line {line} already; keep one"
                self.errors.append(self.error(f"the key {key!r} is repeated", at, fix=fix))
            else:
                entries[key] = node
        for merged in merges:  # written keys win, then earlier merges
            entries = {**merged, **entries}
        size = 1 + sum(entry.size for entry in entries.values())
        return _Node(self._at(start.start_mark), entries=entries, size=size)

    def _key(self, event: Any) -> str:
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        key = self._alias(event).scalar if isinstance(event, yaml.AliasEvent) else None
        if not isinstance(key, str):
            fix = "quote text that begins with {"
            self.fail("a key must be plain text", event.start_mark, fix=fix)
        return key

    def _merged(self, node: _Node, at: SourcePosition) -> tuple[dict[str, _Node], ...]:
        parts = (node,) if node.items is None else node.items
        maps = tuple(part.entries for part in parts if part.entries is not None)
        if len(maps) != len(parts):
            self.errors.append(self.error("'<<' takes a map or a list of maps", at))
        return maps

    def _refuse_tag(self, event: Any, expected: str) -> None:
        if event.tag not in {None, "!", _TAG + expected}:
            tag = event.tag.replace(_TAG, "!!")
            self.fail(f"the tag {tag!r} is not supported", event.start_mark, fix="remove the tag")

    def _scalar(self, event: Any) -> Scalar:
        text: str = event.value
        if event.tag in {None, "!"}:
            return resolve_scalar(text) if event.implicit[0] else text
        kind = event.tag.removeprefix(_TAG)
        if kind == "str":
            return text
        value = resolve_scalar(text)
        accepted = {"int": int, "float": int | float, "bool": bool, "null": type(None)}
        if kind not in accepted:
            self._refuse_tag(event, "str")
        elif not isinstance(value, accepted[kind]):
            self.fail(f"{text!r} is no {kind}", event.start_mark, fix=f"remove the tag !!{kind}")
        return value


def resolve_scalar(text: str) -> Scalar:
    """Return the value of an unquoted scalar by YAML 1.2's core schema."""
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if len(text) > 100:  # no number; Python refuses integers of more than 4300 digits
        return text
    if _INTEGER.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITY.fullmatch(text) or text in {".nan", ".NaN", ".NAN"}:
        return float(text.replace(".", "", 1))
    return text


def _events(text: str) -> Iterator[Any]:
    parser = _PARSER(text)
    try:
        while parser.check_event():
            yield parser.get_event()
    finally:
        parser.dispose()


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", errors="replace")
        lines = _LINE_BREAK.split(before)
        position = SourcePosition(path, len(lines), len(lines[-1]) + 1)
        problem = f"not UTF-8: the byte 0x{data[error.start]:02x} is not text"
        fix = "save the file as UTF-8"
        raise SpecErrors([SpecError(problem, position=position, fix=fix)]) from None


def _syntax_fix(problem: str) -> str:
    if "mapping values" in problem:
        return "quote a value that contains ': '"
    if "cannot start any token" in problem:
        return "indent with spaces, and quote values that begin with a special character"
    if "block mapping" in problem or "block collection" in problem:
        return "check the indentation of this line and the one above"
    return ""


def _file_error(path: Path, problem: str) -> SpecErrors:
    return SpecErrors([SpecError(f"{path}: {problem}")])
