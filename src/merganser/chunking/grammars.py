"""Name what each language calls its definitions, and parse, with grammars loaded when needed.

One ``Grammar`` a language: the node types of its syntax tree that define something. All else about
chunking is the same for every language and lives in ``merganser.chunking.code``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tree_sitter import Language, Tree


@dataclass(frozen=True, slots=True)
class Grammar:
    """One language's syntax tree, as far as chunking needs it.

    Attributes:
        package: Distribution that ships the grammar; its module has the same name with ``_``.
        function: Name of the module's function that returns the language.
        definitions: Node type to kind; a ``class`` or ``module`` has members of its own.
        wrappers: Node types around a definition, such as decorators, exports or templates.
    """

    package: str
    definitions: Mapping[str, str]
    wrappers: frozenset[str] = frozenset()
    function: str = "language"


def _definitions(**kinds: str) -> dict[str, str]:
    """Return the kind by node type, of ``kind="type type"``; ``class_`` stands for ``class``."""
    return {one: kind.rstrip("_") for kind, types in kinds.items() for one in types.split()}


_C = _definitions(
    function="function_definition",
    class_="struct_specifier union_specifier enum_specifier type_definition",
)
_JAVASCRIPT = _definitions(
    function="function_declaration generator_function_declaration variable_declarator "
    "field_definition public_field_definition",
    class_="class_declaration class",
    method="method_definition",
)
_JAVASCRIPT_WRAPPERS = frozenset(
    {"export_statement", "lexical_declaration", "variable_declaration", "ambient_declaration"}
)
_TYPESCRIPT = _JAVASCRIPT | _definitions(
    class_="abstract_class_declaration interface_declaration enum_declaration "
    "type_alias_declaration",
    module="internal_module module",
)
_TYPESCRIPT_WRAPPERS = _JAVASCRIPT_WRAPPERS | {"expression_statement"}

GRAMMARS: Mapping[str, Grammar] = {
    "bash": Grammar("tree-sitter-bash", _definitions(function="function_definition")),
    "c": Grammar("tree-sitter-c", _C),
    "cpp": Grammar(
        "tree-sitter-cpp",
        _C | _definitions(class_="class_specifier", module="namespace_definition"),
        frozenset({"template_declaration"}),
    ),
    "go": Grammar(
        "tree-sitter-go",
        _definitions(
            function="function_declaration",
            method="method_declaration",
            class_="type_spec type_alias",
        ),
        frozenset({"type_declaration"}),
    ),
    "java": Grammar(
        "tree-sitter-java",
        _definitions(
            class_="class_declaration interface_declaration enum_declaration record_declaration "
            "annotation_type_declaration",
            method="method_declaration constructor_declaration compact_constructor_declaration",
        ),
    ),
    "javascript": Grammar("tree-sitter-javascript", _JAVASCRIPT, _JAVASCRIPT_WRAPPERS),
    "python": Grammar(
        "tree-sitter-python",
        _definitions(function="function_definition", class_="class_definition"),
        frozenset({"decorated_definition"}),
    ),
    "rust": Grammar(
        "tree-sitter-rust",
        _definitions(
            function="function_item function_signature_item macro_definition",
            class_="struct_item enum_item union_item trait_item impl_item",
            module="mod_item",
        ),
    ),
    "tsx": Grammar("tree-sitter-typescript", _TYPESCRIPT, _TYPESCRIPT_WRAPPERS, "language_tsx"),
    "typescript": Grammar(
        "tree-sitter-typescript", _TYPESCRIPT, _TYPESCRIPT_WRAPPERS, "language_typescript"
    ),
}
"""By language; to support another one, add its line here and its package to the dependencies."""


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
def _language(name: str) -> Language:
    """Import a grammar at its first use."""
    import tree_sitter  # noqa: PLC0415 - only who chunks code pays for it

    grammar = GRAMMARS[name]
    module = importlib.import_module(grammar.package.replace("-", "_"))
    pointer: object = getattr(module, grammar.function)()
    return tree_sitter.Language(pointer)


def parse(source: bytes, language: str) -> Tree | None:
    """Parse source code; None when it takes so many steps that it cannot be code.

    Safe in threads: every call has a parser of its own.

    Args:
        source: The whole file.
        language: A key of ``GRAMMARS``.
    """
    import tree_sitter  # noqa: PLC0415 - as above

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
        tree = tree_sitter.Parser(_language(language)).parse(read, progress_callback=stop)
    except ValueError:  # what a stopped parse raises
        return None
    finally:
        buffer.clear()
    return tree if reads <= most_reads else None


@lru_cache
def grammar_versions() -> tuple[str, ...]:
    """Name every package whose version can move a break, as ``name==version``, sorted."""
    packages = sorted({grammar.package for grammar in GRAMMARS.values()} | {"tree-sitter"})
    return tuple(f"{package}=={importlib.metadata.version(package)}" for package in packages)
