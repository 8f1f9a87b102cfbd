"""Chunk source code along its syntax tree.

A definition that fits stays whole, with the comments and decorators above it; small neighbours
share a piece; one that is too long breaks at the starts of its members or statements, each piece
named by the path of the definition (``Flow.run``). Breaks fall at line starts until a single line
is too long. Nothing depends on the code being valid: what the parser cannot read is chunked as
text.

Only nodes that are too long are looked into, so the work in Python is per piece, not per node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.grammars import Grammar, Rule, grammar_of, parse, walk
from merganser.chunking.packing import Unit, pack
from merganser.chunking.text import Limits, Piece, chunk_span, chunk_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tree_sitter import Node

    from merganser.chunking.packing import Group

# Levels that are looked into; deeper nesting is machine-made and is chunked as text. It also
# bounds Python's recursion and the work for one line of ten thousand brackets.
_MAX_DEPTH = 60
# Types whose children are a list of equals, of every language: none of them takes in another.
_LISTS = re.compile(
    # whole files and bodies
    r"(^|_)(program|source|source_file|translation_unit|compilation_unit|document|chunk|file)$"
    r"|(^|_)(body|block|statements|declarations|items|members|group|compound_statement)$"
    # lists, literals and calls
    r"|_list$|^(list|dictionary|set|tuple|array|object|arguments|module|object_type)$"
    r"|^(literal_value|array_expression|array_initializer|stylesheet)$"
    # preprocessor and linkage blocks around the declarations of C and C++
    r"|^(preproc_ifdef|preproc_if|preproc_else|preproc_elif|linkage_specification)$"
    r"|^enum_body_declarations$|_enum_body$|^match_block$|^ERROR$"
)
# Types that belong to what follows them.
_PREFIXES = re.compile(r"comment|^(decorator|attribute_item|annotation|attribute|attribute_list)$")
# Words that begin a definition and are no node of their own.
_MODIFIERS = frozenset(
    {"pub", "export", "extern", "inline", "static", "local", "public", "private"}
)
# A blank line above a break ends the comment block before it.
_BLANK_ABOVE = re.compile(r"\n[ \t\r\f]*\n\Z")
# Characters of a name that become part of a symbol; each chunk inside bears them.
_MAX_NAME = 200
# Marks between the parts of a name: ``Counter::next``, ``Birds\Merganser``.
_PARTED = re.compile(r"(?<=\w)(?:::|\\)(?=\w)")
_BODY = re.compile(r"[{\n]")
_NON_ASCII = re.compile(r"[^\x00-\x7f]")


class Part(NamedTuple):
    """Whole lines of one child, with the comments above it.

    Attributes:
        start: First character.
        end: One past the last character.
        main: The longest node of the part, or None where no node was found.
    """

    start: int
    end: int
    main: Node | None


@dataclass(frozen=True, slots=True)
class Scope:
    """The definition that the lines being chunked belong to.

    Attributes:
        symbol: Dotted path, empty at the top of a file.
        kind: Kind of the innermost definition.
        opaque: Whether inner definitions that fit count as plain statements: true in functions.
    """

    symbol: str
    kind: str
    opaque: bool


_TOP = Scope("", "module", opaque=False)


def chunk_code(text: str, limits: Limits, *, language: str) -> list[Piece]:
    r"""Tile the text with pieces along its syntax tree.

    Args:
        text: The whole file.
        limits: Length of pieces; ``structure`` is taken as set.
        language: A key of ``merganser.chunking.languages.LANGUAGES``.

    >>> limits = Limits(whole=40, part=40, structure=True, words=False)
    >>> source = "def dive(depth):\n    return -depth\n\ndef surface():\n    return 0\n"
    >>> [(piece.symbol, piece.kind) for piece in chunk_code(source, limits, language="python")]
    [('dive', 'function'), ('surface', 'function')]
    """
    try:
        pieces = _chunk_tree(text, limits, language)
    except MemoryError:
        raise  # it is no property of the file, and its chunks must not depend on the machine
    except Exception:  # noqa: BLE001 - grammars are others' code, and a source is a text as well
        pieces = None
    return chunk_text(text, limits) if pieces is None else pieces


def _chunk_tree(text: str, limits: Limits, language: str) -> list[Piece] | None:
    """Tile the text along its syntax tree; None where there is none of use."""
    # One byte for each character makes the parser's offsets character offsets. The letter keeps
    # names, strings and comments of any script what they are.
    plain = text if text.isascii() else _NON_ASCII.sub("x", text)
    tree = parse(plain.encode("ascii"), language)
    grammar = grammar_of(language)
    if tree is None or _is_broken(tree.root_node, grammar):
        return None
    return _CodeChunker(text, grammar, limits).chunk(tree.root_node)


# More than this share of a file in no definition and no statement: it is in another language.
_BROKEN = 0.5


def _is_broken(root: Node, grammar: Grammar) -> bool:
    """Tell whether a grammar understood too little of a file for its tree to be of use.

    Definitions that were understood count as such, also among errors.
    """
    if not root.has_error:
        return False
    errors = [root] if root.is_error else [one for one in root.children if one.is_error]
    broken = sum(one.end_byte - one.start_byte for one in errors)
    for error in errors:
        for child in error.named_children:
            if child.type in grammar.definitions or child.type in grammar.wrappers:
                broken -= child.end_byte - child.start_byte
    return broken > _BROKEN * (root.end_byte - root.start_byte)


@cache
def _is_list(node_type: str) -> bool:
    return _LISTS.search(node_type) is not None


@cache
def _is_prefix(node_type: str) -> bool:
    return _PREFIXES.search(node_type) is not None


class _CodeChunker:
    """The state of chunking one file."""

    def __init__(self, text: str, grammar: Grammar, limits: Limits) -> None:
        self._text = text
        self._limits = limits
        self._definitions = grammar.definitions
        self._wrappers = grammar.wrappers
        self._above = grammar.above
        self._lists = grammar.lists
        self._naming = grammar.wrappers | grammar.definitions.keys()

    def chunk(self, root: Node) -> list[Piece]:
        return self._chunk_node(root, (0, len(self._text)), _TOP, self._limits.whole)

    def _chunk_node(
        self, node: Node, span: tuple[int, int], scope: Scope, limit: int, *, depth: int = 0
    ) -> list[Piece]:
        """Tile a span, the lines of ``node``, with pieces of at most ``limit``."""
        items: list[Unit | Group] = []
        for part in self._parts_of(node, *span):
            fits = part.end - part.start <= limit
            if fits and scope.opaque:
                items.append(Unit(part.start, part.end, scope.symbol, scope.kind, opens=False))
                continue
            main = part.main
            definition = self._definition(main, scope) if main is not None else None
            if fits:
                inner = definition[1] if definition else scope
                opens = bool(definition)
                items.append(Unit(part.start, part.end, inner.symbol, inner.kind, opens))
                continue
            own = self._text.rfind("\n", part.start, main.start_byte) + 1 if main else 0
            if definition and part.start < own and part.end - own <= limit:
                # A definition that fits without the comments above it stays whole.
                symbol, kind = definition[1].symbol, definition[1].kind
                above = replace(self._limits, whole=limit, structure=True)
                items.append(
                    chunk_span(self._text, part.start, own, above, symbol=symbol, kind=kind)
                )
                items.append(Unit(own, part.end, symbol, kind, opens=True))
            else:
                items.append(self._chunk_part(part, definition, scope, limit, depth))
        return pack(items, limit, self._limits)

    def _chunk_part(
        self,
        part: Part,
        definition: tuple[Node, Scope] | None,
        scope: Scope,
        limit: int,
        depth: int,
    ) -> Group:
        """Chunk a part that is too long: a definition by its members, a statement by its lines."""
        node, inner = definition or (part.main, scope)
        members = definition is not None and not inner.opaque
        transparent = node is not None and definition is None and self._is_list(node.type)
        # What breaks inside goes on in the next piece, which then begins with an overlap.
        inside = limit if members or transparent else self._limits.part
        if node is None or depth >= _MAX_DEPTH or not node.child_count:
            narrow = replace(self._limits, whole=inside, structure=True)
            return chunk_span(
                self._text, part.start, part.end, narrow, symbol=inner.symbol, kind=inner.kind
            )
        pieces = self._chunk_node(node, part[:2], inner, inside, depth=depth + 1)
        if members or transparent:
            return pieces
        return [pieces[0], *(piece._replace(continues=True) for piece in pieces[1:])]

    def _parts_of(self, node: Node, start: int, end: int, *, depth: int = 0) -> list[Part]:
        """Tile ``start:end`` with parts, going down until there is more than one.

        A definition is never gone into, so that its name is not lost; the body of anything but a
        list of equals joins its head, so that ``class Flow:`` is packed with the first members;
        ``depth`` counts the bodies that joined already.
        """
        for _ in range(_MAX_DEPTH):
            parts = self._parts(node.children, start, end)
            main = parts[0].main
            if len(parts) > 1 or main is None or self._is_definition(main):
                break
            node = main
        else:
            return [Part(start, end, None)]
        if self._is_list(node.type) or depth >= _MAX_DEPTH:
            return parts
        at = max(range(len(parts)), key=lambda i: parts[i].end - parts[i].start)
        body = parts[at]
        if len(parts) > 1 and body.main is not None and self._is_list(body.main.type):
            parts[at : at + 1] = self._parts_of(body.main, body.start, body.end, depth=depth + 1)
        return parts

    def _parts(self, children: Sequence[Node], start: int, end: int) -> list[Part]:
        """Divide ``start:end`` at the lines on which a named child begins."""
        text, naming, above = self._text, self._naming, self._above
        parts: list[Part] = []
        main: Node | None = None
        longest = -1
        held: int | None = None  # where comments began that wait for what they belong to
        line = seen = indented = start  # a line may hold half a million children
        for child in children:
            at = child.start_byte
            if at >= end:
                break
            if at > seen:
                if (newline := text.rfind("\n", seen, at)) >= 0:
                    line = newline + 1
                    indented = at if at == line or text[line:at].isspace() else line
                seen = at
            kind, begin = child.type, line
            is_named = child.is_named
            if at <= indented and begin > start and (is_named or kind in _MODIFIERS):
                if held is not None and _BLANK_ABOVE.search(text, max(start, begin - 80), begin):
                    parts.append(Part(start, held, main))
                    start, main, longest, held = held, None, -1, None
                if kind in above or _is_prefix(kind):
                    held = begin if held is None else held
                    continue
                begin = begin if held is None else held
                if begin > start:
                    parts.append(Part(start, begin, main))
                    start, main, longest = begin, None, -1
                held = None
            length = child.end_byte - at
            if is_named and kind in naming:
                length += len(text)  # a short head of a definition goes before a long body
            if length > longest:
                main, longest = child, length
        parts.append(Part(start, end, main))
        return parts

    def _is_list(self, node_type: str) -> bool:
        return node_type in self._lists or _is_list(node_type)

    def _is_definition(self, node: Node) -> bool:
        return node.type in self._naming

    def _definition(self, node: Node, scope: Scope) -> tuple[Node, Scope] | None:
        """Find the definition that a node is or wraps, with the scope of its inside."""
        while (rule := self._rule(node)) is None:
            inner = self._wrapped(node) if node.type in self._wrappers else None
            if inner is None:
                return None
            node = inner
        name = self._name(node, rule)
        kind = rule.kind
        # C++ defines members outside of their class under a qualified name.
        if kind == "function" and (scope.kind == "class" or "." in name):
            kind = "method"
        dot = "." if scope.symbol and name and name[0] != "." else ""
        symbol = f"{scope.symbol}{dot}{name}"
        if rule.body:
            body = node.next_named_sibling
            node = body if body is not None and body.type == rule.body else node
        return node, Scope(symbol, kind, opaque=kind in {"function", "method"})

    def _rule(self, node: Node) -> Rule | None:
        """Return the rule that makes a node a definition."""
        for rule in self._definitions.get(node.type, ()):
            if rule.holds(node, self._text):
                return rule
        return None

    def _wrapped(self, node: Node) -> Node | None:
        """Return the one definition inside a wrapper; a declaration of several has no one name."""
        found = [child for child in node.named_children if self._is_definition(child)]
        return found[0] if len(found) == 1 else None

    def _name(self, node: Node, rule: Rule) -> str:
        """Read the name of a definition from the text; empty when it has none."""
        name = rule.fixed
        for path in () if name else rule.names:
            if path == ("@",):
                name = _BODY.split(self._slice(node), 1)[0]
            else:
                name = self._slice(walk(node, path))
            if name:
                break
        owner = self._slice(walk(node, rule.owner)) if rule.owner else ""
        return f"{owner}.{_plain_name(name)}" if owner else _plain_name(name)

    def _slice(self, node: Node | None) -> str:
        if node is None:
            return ""
        return self._text[node.start_byte : min(node.end_byte, node.start_byte + _MAX_NAME)]


def _plain_name(written: str) -> str:
    """Return a name in one line, with dots between its parts and without quotes.

    >>> _plain_name("Counter::next"), _plain_name('resource "aws_instance" "web"')
    ('Counter.next', 'resource aws_instance web')
    """
    if written.isidentifier():
        return written
    name = " ".join(written.replace('"', "").split())
    name = name.lstrip("'*{ ").rstrip("'*;,:} ")
    return name if "(" in name else _PARTED.sub(".", name)
