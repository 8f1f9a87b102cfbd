"""Name what each language calls its definitions, and parse, with grammars loaded when needed.

One ``Grammar`` a language: the node types of its syntax tree that define something. All else about
splitting is the same for every language and lives in ``merganser.chunking.code``.
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
    """One language's syntax tree, as far as splitting needs it.

    Attributes:
        package: Distribution that ships the grammar; its module has the same name with ``_``.
        function: Name of the module's function that gives the language.
        definitions: Node type to kind; a ``class`` or ``module`` has members of its own.
        wrappers: Node types around a definition, such as decorators, exports or templates.
    """

    package: str
    definitions: Mapping[str, str]
    wrappers: frozenset[str] = frozenset()
    function: str = "language"


_C_DEFINITIONS = {
    "function_definition": "function",
    "struct_specifier": "class",
    "union_specifier": "class",
    "enum_specifier": "class",
    "type_definition": "class",
}
_JAVASCRIPT_DEFINITIONS = {
    "function_declaration": "function",
    "generator_function_declaration": "function",
    "class_declaration": "class",
    "class": "class",
    "method_definition": "method",
    "variable_declarator": "function",
    "field_definition": "function",
    "public_field_definition": "function",
}
_JAVASCRIPT_WRAPPERS = frozenset(
    {"export_statement", "lexical_declaration", "variable_declaration", "ambient_declaration"}
)
_TYPESCRIPT_DEFINITIONS = _JAVASCRIPT_DEFINITIONS | {
    "abstract_class_declaration": "class",
    "interface_declaration": "class",
    "enum_declaration": "class",
    "type_alias_declaration": "class",
    "internal_module": "module",
    "module": "module",
}

GRAMMARS: Mapping[str, Grammar] = {
    "python": Grammar(
        "tree-sitter-python",
        {"function_definition": "function", "class_definition": "class"},
        frozenset({"decorated_definition"}),
    ),
    "go": Grammar(
        "tree-sitter-go",
        {
            "function_declaration": "function",
            "method_declaration": "method",
            "type_spec": "class",
            "type_alias": "class",
        },
        frozenset({"type_declaration"}),
    ),
    "javascript": Grammar("tree-sitter-javascript", _JAVASCRIPT_DEFINITIONS, _JAVASCRIPT_WRAPPERS),
    "typescript": Grammar(
        "tree-sitter-typescript",
        _TYPESCRIPT_DEFINITIONS,
        _JAVASCRIPT_WRAPPERS | {"expression_statement"},
        "language_typescript",
    ),
    "tsx": Grammar(
        "tree-sitter-typescript",
        _TYPESCRIPT_DEFINITIONS,
        _JAVASCRIPT_WRAPPERS | {"expression_statement"},
        "language_tsx",
    ),
    "rust": Grammar(
        "tree-sitter-rust",
        {
            "function_item": "function",
            "function_signature_item": "function",
            "struct_item": "class",
            "enum_item": "class",
            "union_item": "class",
            "trait_item": "class",
            "impl_item": "class",
            "mod_item": "module",
            "macro_definition": "function",
        },
    ),
    "java": Grammar(
        "tree-sitter-java",
        {
            "class_declaration": "class",
            "interface_declaration": "class",
            "enum_declaration": "class",
            "record_declaration": "class",
            "annotation_type_declaration": "class",
            "method_declaration": "method",
            "constructor_declaration": "method",
            "compact_constructor_declaration": "method",
        },
    ),
    "c": Grammar("tree-sitter-c", _C_DEFINITIONS),
    "cpp": Grammar(
        "tree-sitter-cpp",
        _C_DEFINITIONS | {"class_specifier": "class", "namespace_definition": "module"},
        frozenset({"template_declaration"}),
    ),
    "bash": Grammar("tree-sitter-bash", {"function_definition": "function"}),
}


# The parser reports progress every 100 steps: 0.005 times a byte on the reference corpus, 0.009 at
# most. Junk makes its error recovery quadratic (12 kB of "<!--" as Go: 17 s), so it is stopped at
# a number of steps; a time limit would make the chunks depend on the machine's load.
_REPORTS = 1000
_BYTES_PER_REPORT = 25
_READ_BYTES = 65_536


@lru_cache
def _language(name: str) -> Language:
    """Import a grammar at its first use."""
    import tree_sitter  # noqa: PLC0415 - only who splits code pays for it

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

    budget = _REPORTS + len(source) // _BYTES_PER_REPORT
    reports = 0
    # The binding (0.26) never lets go of what it was given, which would keep every source in
    # memory; so it is given one buffer again and again, which is emptied at the end.
    buffer = bytearray()

    def read(offset: int, _point: object) -> bytearray:
        buffer[:] = source[offset : offset + _READ_BYTES]
        return buffer

    def stop(_offset: int, _has_error: bool) -> bool:  # noqa: FBT001 - the library calls it
        nonlocal reports
        reports += 1
        return reports > budget

    try:
        return tree_sitter.Parser(_language(language)).parse(read, progress_callback=stop)
    except ValueError:  # what a stopped parse raises
        return None
    finally:
        buffer.clear()


@lru_cache
def grammar_versions() -> tuple[str, ...]:
    """Name every package whose version can move a cut, as ``name==version``, sorted."""
    packages = sorted({grammar.package for grammar in GRAMMARS.values()} | {"tree-sitter"})
    return tuple(f"{package}=={importlib.metadata.version(package)}" for package in packages)
