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
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from merganser.chunking.grammars import GRAMMARS, Grammar, parse
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
_LISTS = frozenset(
    {
        # whole files
        *("module", "program", "source_file", "translation_unit"),
        # bodies
        *("block", "statement_block", "class_body", "declaration_list", "compound_statement"),
        *("field_declaration_list", "enum_body", "interface_body", "switch_body", "match_block"),
        *("statement_list", "enumerator_list", "enum_variant_list", "constructor_body"),
        *("annotation_type_body", "object_type", "enum_body_declarations", "do_group"),
        # preprocessor and linkage blocks around the declarations of C and C++
        *("preproc_ifdef", "preproc_if", "preproc_else", "preproc_elif", "linkage_specification"),
        # literals and calls
        *("list", "dictionary", "set", "tuple", "array", "object", "arguments", "argument_list"),
        *("initializer_list", "literal_value", "array_expression", "array_initializer"),
    }
)
# Types that belong to what follows them.
_PREFIXES = frozenset(
    {"comment", "line_comment", "block_comment", "decorator", "attribute_item", "html_comment"}
)
# A blank line above a break ends the comment block before it.
_BLANK_ABOVE = re.compile(r"\n[ \t\r\f]*\n\Z")
_INDENT = re.compile(r"[^\S\n]*")
# Characters of a name that become part of a symbol; each chunk inside bears them.
_MAX_NAME = 200
_NON_ASCII = re.compile(r"[^\x00-\x7f]")
_FUNCTION_VALUES = frozenset(
    {"arrow_function", "function_expression", "generator_function", "class", "function"}
)


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
        language: A key of ``merganser.chunking.grammars.GRAMMARS``.

    >>> limits = Limits(whole=40, part=40, structure=True, words=False)
    >>> source = "def dive(depth):\n    return -depth\n\ndef surface():\n    return 0\n"
    >>> [(piece.symbol, piece.kind) for piece in chunk_code(source, limits, language="python")]
    [('dive', 'function'), ('surface', 'function')]
    """
    return _CodeChunker(text, GRAMMARS[language], limits).chunk(language)


class _CodeChunker:
    """The state of chunking one file."""

    def __init__(self, text: str, grammar: Grammar, limits: Limits) -> None:
        self._text = text
        self._limits = limits
        self._definitions = grammar.definitions
        self._wrappers = grammar.wrappers
        self._naming = grammar.wrappers | grammar.definitions.keys()

    def chunk(self, language: str) -> list[Piece]:
        text = self._text
        # One byte for each character makes the parser's offsets character offsets. The letter
        # keeps names, strings and comments of any script what they are.
        plain = text if text.isascii() else _NON_ASCII.sub("x", text)
        tree = parse(plain.encode("ascii"), language)
        if tree is None:
            return chunk_text(text, self._limits)
        return self._chunk_node(tree.root_node, (0, len(text)), _TOP, self._limits.whole)

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
            definition = main and self._is_definition(main) and self._definition(main, scope)
            if fits:
                inner = definition[1] if definition else scope
                opens = bool(definition)
                items.append(Unit(part.start, part.end, inner.symbol, inner.kind, opens))
            else:
                items.append(self._chunk_part(part, scope, limit, depth))
        return pack(items, limit, self._limits)

    def _chunk_part(self, part: Part, scope: Scope, limit: int, depth: int) -> Group:
        """Chunk a part that is too long: a definition by its members, a statement by its lines."""
        definition = part.main and self._definition(part.main, scope)
        node, inner = definition or (part.main, scope)
        members = definition is not None and not inner.opaque
        transparent = node is not None and definition is None and node.type in _LISTS
        # What breaks inside goes on in the next piece, which then begins with an overlap.
        inside = limit if members or transparent else self._limits.part
        if node is None or depth >= _MAX_DEPTH or not node.child_count:
            narrow = Limits(inside, inside, structure=True, words=self._limits.words)
            return chunk_span(
                self._text, part.start, part.end, narrow, symbol=inner.symbol, kind=inner.kind
            )
        pieces = self._chunk_node(node, part[:2], inner, inside, depth=depth + 1)
        if members or transparent:
            return pieces
        return [pieces[0], *(piece._replace(continues=True) for piece in pieces[1:])]

    def _parts_of(self, node: Node, start: int, end: int) -> list[Part]:
        """Tile ``start:end`` with parts, going down until there is more than one.

        A definition is never gone into, so that its name is not lost; the body of anything but a
        list of equals joins its head, so that ``class Flow:`` is packed with the first members.
        """
        for _ in range(_MAX_DEPTH):
            parts = self._parts(node.children, start, end)
            main = parts[0].main
            if len(parts) > 1 or main is None or self._is_definition(main):
                break
            node = main
        else:
            return [Part(start, end, None)]
        if node.type in _LISTS:
            return parts
        at = max(range(len(parts)), key=lambda i: parts[i].end - parts[i].start)
        body = parts[at]
        if len(parts) > 1 and body.main is not None and body.main.type in _LISTS:
            parts[at : at + 1] = self._parts_of(body.main, body.start, body.end)
        return parts

    def _parts(self, children: Sequence[Node], start: int, end: int) -> list[Part]:
        """Divide ``start:end`` at the lines on which a named child begins."""
        text = self._text
        parts: list[Part] = []
        main: Node | None = None
        longest = -1
        held: int | None = None  # where comments began that wait for what they belong to
        line = indented = seen = start  # a line may hold half a million children
        for child in children:
            at = child.start_byte
            if at >= end:
                break
            if (newline := text.rfind("\n", seen, at)) >= 0:
                line = newline + 1
                indented = _end_of_indent(text, line)
            begin, seen = line, max(seen, at)
            if begin > start and child.is_named and at <= indented:
                if held is not None and _BLANK_ABOVE.search(text, max(start, begin - 80), begin):
                    parts.append(Part(start, held, main))
                    start, main, longest, held = held, None, -1, None
                if child.type in _PREFIXES:
                    held = begin if held is None else held
                    continue
                begin = begin if held is None else held
                if begin > start:
                    parts.append(Part(start, begin, main))
                    start, main, longest = begin, None, -1
                held = None
            length = child.end_byte - at
            if length > longest:
                main, longest = child, length
        parts.append(Part(start, end, main))
        return parts

    def _is_definition(self, node: Node) -> bool:
        return node.type in self._naming

    def _definition(self, node: Node, scope: Scope) -> tuple[Node, Scope] | None:
        """Find the definition that a node is or wraps, with the scope of its inside."""
        while (kind := self._definitions.get(node.type)) is None:
            inner = self._wrapped(node) if node.type in self._wrappers else None
            if inner is None:
                return None
            node = inner
        name = self._name(node)
        if node.type in {"variable_declarator", "field_definition", "public_field_definition"}:
            value = node.child_by_field_name("value")
            if value is None or value.type not in _FUNCTION_VALUES:
                return None
            kind = "class" if value.type == "class" else kind
            node = value
        # C++ defines members outside of their class under a qualified name.
        if kind == "function" and (scope.kind == "class" or "." in name):
            kind = "method"
        symbol = ".".join(part for part in (scope.symbol, name) if part)
        return node, Scope(symbol, kind, opaque=kind in {"function", "method"})

    def _wrapped(self, node: Node) -> Node | None:
        """Return the one definition inside a wrapper; a declaration of several has no one name."""
        found = [child for child in node.named_children if self._is_definition(child)]
        return found[0] if len(found) == 1 else None

    def _name(self, node: Node) -> str:
        """Read the name of a definition from the text; empty when it has none."""
        name = self._slice(node.child_by_field_name("name"))
        if name and node.type != "method_declaration":
            return name.replace("::", ".") if ":" in name else name
        match node.type:
            case "method_declaration":  # Go's name the type before the name, Java's do not
                owner = self._slice(node.child_by_field_name("receiver")).strip("()")
                return ".".join([*owner.split("[")[0].replace("*", " ").split()[-1:], name])
            case "impl_item":
                return self._slice(node.child_by_field_name("type")).partition("<")[0]
            case "function_definition" | "type_definition":
                return self._declared(node)
            case "field_definition":
                return self._slice(node.child_by_field_name("property"))
            case _:
                return ""

    def _declared(self, node: Node) -> str:
        """Follow C's declarators down to the name: ``int (*f(void))[3]`` declares ``f``."""
        for _ in range(_MAX_DEPTH):
            inner = node.child_by_field_name("declarator")
            if inner is None and node.type in {"parenthesized_declarator", "reference_declarator"}:
                inner = node.named_child(node.named_child_count - 1)
            if inner is None:
                break
            node = inner
        if node.type in {"function_definition", "type_definition"}:
            return ""
        return self._slice(node).replace("::", ".")

    def _slice(self, node: Node | None) -> str:
        if node is None:
            return ""
        return self._text[node.start_byte : min(node.end_byte, node.start_byte + _MAX_NAME)]


def _end_of_indent(text: str, line: int) -> int:
    indent = _INDENT.match(text, line)
    assert indent is not None  # it matches nothing, too
    return indent.end()
