"""Load grammars when they are needed, and parse with them.

What a definition is in each language's tree stands in ``merganser.chunking.languages``; here it is
read once, at the language's first file.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.languages import LANGUAGES, PACK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Language, Node, Tree

EXTRA = "languages"
"""The extra with the grammars of ``PACK``."""

# Nodes that a path looks at on its way down; names stand near the beginning.
_MAX_LOOKED_AT = 400
Path = tuple[str, ...]


class Rule(NamedTuple):
    """When a node of a type is a definition, and what it is called.

    Attributes:
        kind: ``function``, ``class``, ``method``, ``module`` or ``section``.
        names: Paths to the name, tried in turn.
        fixed: The name, where the language gives it.
        owner: Path to the type that it belongs to; empty for none.
        where: Path to a node that must be there; empty for none.
        among: Types and texts of which that node must have one; empty for any.
        body: Type of the next sibling that holds its inside; empty where it is the node itself.
    """

    kind: str
    names: tuple[Path, ...] = (("name",),)
    fixed: str = ""
    owner: Path = ()
    where: Path = ()
    among: frozenset[str] = frozenset()
    body: str = ""

    def holds(self, node: Node, text: str) -> bool:
        """Return whether a node of the rule's type is the definition that the rule means."""
        if not self.where:
            return True
        found = walk(node, self.where)
        return found is not None and (
            not self.among
            or found.type in self.among
            or text[found.start_byte : found.end_byte] in self.among
        )


@dataclass(frozen=True, slots=True)
class Grammar:
    """One language's syntax tree, as far as chunking needs it.

    Attributes:
        definitions: Rules by node type, tried in turn.
        wrappers: Node types around a definition, such as decorators, exports or templates.
        above: Node types that belong to what follows them.
        lists: Node types whose children are equals.
    """

    definitions: dict[str, tuple[Rule, ...]]
    wrappers: frozenset[str]
    above: frozenset[str]
    lists: frozenset[str]


@lru_cache
def grammar_of(language: str) -> Grammar:
    """Return the rules of a language of ``LANGUAGES``."""
    definitions: dict[str, tuple[Rule, ...]] = {}
    others: dict[str, set[str]] = {"wrap": set(), "above": set(), "list": set()}
    for line in LANGUAGES[language].rules.splitlines():
        what, *words = line.split() or [""]
        types = [word for word in words if ":" not in word]
        if what in others:
            others[what].update(types)
        elif what:
            keys = dict(word.split(":", 1) for word in words if ":" in word)
            for one in types:
                definitions[one] = (*definitions.get(one, ()), _rule(what, **keys))
    return Grammar(definitions, *(frozenset(types) for types in others.values()))


def _rule(kind: str, **keys: str) -> Rule:
    where, _, among = keys.get("if", "").partition("=")
    return Rule(
        kind,
        tuple(_path(one) for one in keys.get("name", "name").split("|")),
        keys.get("as", ""),
        _path(keys.get("owner", "")),
        _path(where),
        frozenset(among.split(",")) if among else frozenset(),
        keys.get("body", ""),
    )


def _path(written: str) -> Path:
    """Divide a path into steps; the last one begins with ``..`` where it looks downwards."""
    steps, dots, deep = written.partition("..")
    return (*(step for step in steps.split(".") if step), *([dots + deep] if dots else []))


def walk(node: Node, path: Path) -> Node | None:
    """Follow a path from a node; None where it leads nowhere."""
    for step in path:
        found = _step(node, step)
        if found is None:
            return None
        node = found
    return node


def _step(node: Node, step: str) -> Node | None:
    if step.startswith(".."):
        types = step[2:].split(",")
        return next((one for one in _downwards(node) if one.type in types), None)
    if step.isdecimal():
        at = int(step)
        return node.named_child(at) if at < node.named_child_count else None
    named = node.child_by_field_name(step)
    return named or next((one for one in node.named_children if one.type == step), None)


def _downwards(node: Node) -> Iterator[Node]:
    """Yield a node and those below it in the order of the text, up to a number of them."""
    waiting = [node]
    for _ in range(_MAX_LOOKED_AT):
        if not waiting:
            return
        one = waiting.pop()
        yield one
        waiting.extend(reversed(one.named_children))


# The parser reports progress every 100 steps. Of 3,000 sources of nine languages the most at any
# place were 0.02 for each byte before it and 242. Junk makes error recovery quadratic (12 kB of
# "<!--" as Go: 17 s; 40 kB of "A<" as Java: 3.5 GB), so it is stopped as soon as it is seen, by a
# number of steps; a time limit would make the chunks depend on the machine's load.
_REPORTS = 300
_BYTES_PER_REPORT = 40
# Some scanners look ahead to the end of the file for each token (20 kB of "<" as Bash: 0.7 s, four
# times that for twice as much). What they look at is handed out in blocks and counted: sources that
# people wrote are read twice, or 30 times if they are a few kB.
_READ_BYTES = 2_048
_READS = 512
_READ_FACTOR = 50


@lru_cache
def load_language(name: str) -> Language | None:
    """Import a grammar at its first use; None where its package is not installed."""
    import tree_sitter  # noqa: PLC0415 - only who chunks code pays for it

    row = LANGUAGES[name]
    module = row.package.replace("-", "_")
    try:
        if row.package == PACK:
            pointer: object = importlib.import_module(
                f"{module}.bindings.{row.function}"
            ).language()
        else:
            pointer = getattr(importlib.import_module(module), row.function)()
    except ModuleNotFoundError:
        return None
    return tree_sitter.Language(pointer)


def parse(source: bytes, language: str) -> Tree | None:
    """Parse source code; None when it takes so many steps that it cannot be code.

    Safe in threads: every call has a parser of its own.

    Args:
        source: The whole file.
        language: A key of ``LANGUAGES`` whose grammar is installed.
    """
    import tree_sitter  # noqa: PLC0415 - as above

    grammar = load_language(language)
    if grammar is None:
        return None

    most_reads = _READS + _READ_FACTOR * len(source) // _READ_BYTES
    reports = reads = 0
    # The binding (0.26) never lets go of what it was given, which would keep every source in
    # memory; so it is given one buffer again and again, which is emptied at the end.
    buffer = bytearray()

    def read(offset: int, _point: object) -> bytearray:
        nonlocal reads
        reads += 1
        # An early end of the file lets the scanner end, and the parser report.
        buffer[:] = source[offset : offset + _READ_BYTES] if reads <= most_reads else b""
        return buffer

    def stop(offset: int, _has_error: bool) -> bool:  # noqa: FBT001 - the library calls it
        nonlocal reports
        reports += 1
        return reports > _REPORTS + offset // _BYTES_PER_REPORT or reads > most_reads

    try:
        tree = tree_sitter.Parser(grammar).parse(read, progress_callback=stop)
    except ValueError:  # what a stopped parse raises
        return None
    finally:
        buffer.clear()
    return tree if reads <= most_reads else None


@lru_cache
def grammar_versions() -> tuple[str, ...]:
    """Name every package whose version can move a break, as ``name==version``, sorted.

    A package that is not installed has the version ``none``: its files are then cut as text.
    """
    packages = sorted({row.package for row in LANGUAGES.values()} | {"tree-sitter"})
    return tuple(f"{package}=={_version(package)}" for package in packages)


def is_installed(language: str) -> bool:
    """Tell whether the package with a language's grammar is installed, whether it works or not."""
    return _version(LANGUAGES[language].package) != "none"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
