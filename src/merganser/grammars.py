"""What each programming language calls its definitions, and the parsers, loaded when first needed.

One ``Grammar`` a language: the node types of its syntax tree that define something. All else about
splitting is the same for every language and lives in ``merganser.split_code``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tree_sitter import Parser


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


@lru_cache
def parser_for(language: str) -> Parser:
    """Give the parser of a language in ``GRAMMARS``; its grammar is imported at the first call."""
    import tree_sitter  # noqa: PLC0415 - only who splits code pays for it

    grammar = GRAMMARS[language]
    module = importlib.import_module(grammar.package.replace("-", "_"))
    pointer: object = getattr(module, grammar.function)()
    return tree_sitter.Parser(tree_sitter.Language(pointer))


@lru_cache
def grammar_versions() -> tuple[str, ...]:
    """Name every package whose version can move a cut, as ``name==version``, sorted."""
    packages = sorted({grammar.package for grammar in GRAMMARS.values()} | {"tree-sitter"})
    return tuple(f"{package}=={importlib.metadata.version(package)}" for package in packages)
