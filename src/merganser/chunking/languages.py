"""Say of each language what a definition is in its syntax tree: one row a language.

A row names the grammar and has lines of ``what type type ... key:path``. ``what`` is

- ``class``, ``module``, ``section``: a definition that has members of its own,
- ``function``, ``method``: one whose inside is statements; a function in a class is a method,
- ``wrap``: types around a definition, such as decorators, exports or templates,
- ``above``: types that belong to what follows them, beside comments and decorators,
- ``list``: types whose children are equals, beside those whose names say so.

The types are node types of the grammar (``print(parse(source, language).root_node)`` shows them).
The keys say more about a definition:

- ``name:PATH``: where its name stands; by default its field ``name``,
- ``as:WORD``: its name, where it is a keyword of the language,
- ``owner:PATH``: the type that it belongs to, where the name does not say so,
- ``if:PATH`` or ``if:PATH=WORD,WORD``: counts only where a node stands at the path, or one of that
  type or text; a type may have several lines, of which the first that holds counts,
- ``body:TYPE``: its inside is the next sibling, of that type.

A path is steps with ``.`` between them, each a field, a type of a named child, or the number of a
named child; ``..TYPE,TYPE`` is the first node of one of these types, from there downwards in the
order of the text. ``@`` is the line on which the definition begins, up to its bracket. ``|`` parts
paths that are tried in turn.

A grammar must end on any input, and kill no process: those of Perl (an open ``<<A``), Gleam (nested
``do``), Typst and YAML (deep nesting) do one or the other, so they have no row.

To add a language: its row here, its file names in ``merganser.documents.file_types``, a sample and
its outline in ``tests/core/chunking/samples``; then ``make reference``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

PACK = "tree-sitter-language-pack"
"""The distribution of the extra ``languages``; a row of it names its grammar as ``function``."""


class Row(NamedTuple):
    """One language.

    Attributes:
        package: Distribution that ships the grammar; its module has the same name with ``_``.
        rules: What a definition is, as the module says.
        function: Name of the module's function that returns the grammar; in ``PACK`` the
            grammar's own name.
    """

    package: str
    rules: str
    function: str = "language"


_DECLARED = (
    "name:declarator..identifier,field_identifier,qualified_identifier,type_identifier,"
    "destructor_name,operator_name,operator_cast"
)
_C = f"""
    function function_definition {_DECLARED}
    class type_definition {_DECLARED}
    class struct_specifier union_specifier enum_specifier
"""
_CPP = f"""{_C}
    class class_specifier concept_definition alias_declaration
    module namespace_definition
    wrap template_declaration
"""
_JAVASCRIPT = """
    function function_declaration generator_function_declaration
    class class_declaration class
    method method_definition
    class variable_declarator if:value=class
    function variable_declarator if:value=arrow_function,function_expression,generator_function
    function field_definition name:property if:value=arrow_function,function_expression
    wrap export_statement lexical_declaration variable_declaration
"""
_TYPESCRIPT = f"""{_JAVASCRIPT}
    function public_field_definition if:value=arrow_function,function_expression
    class abstract_class_declaration interface_declaration enum_declaration type_alias_declaration
    module internal_module module
    wrap expression_statement ambient_declaration
"""
_SHADER = f"""
    function function_definition {_DECLARED}
    class struct_specifier
"""
_HASKELL_LIKE = """
    above signature haddock
    list declarations class_declarations instance_declarations class_body
"""

LANGUAGES: Mapping[str, Row] = {
    "ada": Row(
        PACK,
        """
        module package_body package_declaration
        class full_type_declaration task_body protected_body name:identifier|name
        function subprogram_body subprogram_declaration name:..identifier
        list non_empty_declarative_part compilation
        """,
        "ada",
    ),
    "bash": Row("tree-sitter-bash", "function function_definition"),
    "bicep": Row(
        PACK,
        """
        section parameter_declaration variable_declaration resource_declaration name:identifier
        section module_declaration output_declaration type_declaration name:identifier
        """,
        "bicep",
    ),
    "c": Row("tree-sitter-c", _C),
    "clojure": Row(
        PACK,
        """
        module list_lit if:0=ns name:1
        class list_lit if:0=defprotocol,defrecord,deftype,definterface name:1.name|1
        function list_lit if:0=def,defn,defn-,defmacro,defmulti,defmethod name:1.name|1
        function list_lit if:0=deftest,defonce name:1.name|1
        """,
        "clojure",
    ),
    "cmake": Row(
        PACK,
        "function function_def macro_def name:..argument",
        "cmake",
    ),
    "commonlisp": Row(
        PACK,
        """
        function defun name:defun_header.function_name
        class list_lit if:0=defclass,defstruct,deftype,define-condition name:1
        wrap list_lit
        """,
        "commonlisp",
    ),
    "cpp": Row("tree-sitter-cpp", _CPP),
    "csharp": Row(
        "tree-sitter-c-sharp",
        """
        module namespace_declaration file_scoped_namespace_declaration
        class class_declaration struct_declaration interface_declaration enum_declaration
        class record_declaration record_struct_declaration delegate_declaration
        method method_declaration constructor_declaration destructor_declaration
        method property_declaration event_declaration
        method operator_declaration name:operator
        method indexer_declaration as:this
        function local_function_statement
        wrap global_statement
        """,
    ),
    "css": Row(
        "tree-sitter-css",
        """
        section rule_set name:selectors
        section media_statement supports_statement keyframes_statement at_rule name:@
        """,
    ),
    "cuda": Row(PACK, _CPP, "cuda"),
    "d": Row(
        PACK,
        """
        class class_declaration struct_declaration interface_declaration name:identifier
        class enum_declaration union_declaration template_declaration name:identifier
        function function_declaration name:identifier
        method constructor as:this
        list module_def aggregate_body
        """,
        "d",
    ),
    "dart": Row(
        PACK,
        """
        class class_definition enum_declaration extension_declaration
        class mixin_declaration name:identifier
        function function_signature body:function_body
        function method_signature name:..identifier body:function_body if:getter_signature
        function method_signature name:function_signature.name|..identifier body:function_body
        """,
        "dart",
    ),
    "dockerfile": Row(PACK, "section from_instruction name:as|image_spec.name", "dockerfile"),
    "elisp": Row(PACK, "function function_definition macro_definition", "elisp"),
    "elixir": Row(
        PACK,
        """
        module call if:target=defmodule,defprotocol,defimpl name:arguments.alias
        function call if:target=def,defp,defguard name:arguments.call.target|arguments..identifier
        function call if:target=defmacro,defmacrop,defdelegate name:arguments..identifier
        function call if:target=test,describe name:arguments..quoted_content
        above unary_operator
        """,
        "elixir",
    ),
    "elm": Row(
        PACK,
        """
        class type_declaration type_alias_declaration
        function value_declaration name:..lower_case_identifier
        above type_annotation
        """,
        "elm",
    ),
    "erlang": Row(
        PACK,
        """
        function fun_decl name:function_clause.name|clause.name
        class record_decl
        class type_alias name:name.name|name
        above spec
        """,
        "erlang",
    ),
    "fish": Row(PACK, "function function_definition", "fish"),
    "fortran": Row(
        PACK,
        """
        module module submodule program name:0.name
        class derived_type_definition name:0.type_name
        function function subroutine name:0.name
        list internal_procedures
        """,
        "fortran",
    ),
    "fsharp": Row(
        PACK,
        """
        module named_module namespace
        module module_defn name:identifier
        class type_definition name:..type_name
        function function_or_value_defn name:..identifier
        method member_defn name:method_or_prop_defn.name.1|method_or_prop_defn.name
        wrap declaration_expression
        """,
        "fsharp",
    ),
    "gdscript": Row(
        PACK,
        """
        class class_definition enum_definition
        function function_definition
        method constructor_definition as:_init
        """,
        "gdscript",
    ),
    "glsl": Row(PACK, _SHADER, "glsl"),
    "go": Row(
        "tree-sitter-go",
        """
        function function_declaration
        method method_declaration owner:receiver..type_identifier
        class type_spec type_alias
        wrap type_declaration
        """,
    ),
    "graphql": Row(
        PACK,
        """
        class object_type_definition interface_type_definition name:name
        class enum_type_definition input_object_type_definition name:name
        class union_type_definition scalar_type_definition directive_definition name:name
        class object_type_extension interface_type_extension name:name
        function operation_definition fragment_definition name:name|fragment_name
        wrap definition type_system_definition type_definition executable_definition
        wrap type_system_extension type_extension
        """,
        "graphql",
    ),
    "groovy": Row(
        "tree-sitter-groovy",
        """
        class class_declaration interface_declaration enum_declaration trait_declaration
        function function_definition function_declaration method_declaration
        method constructor_declaration
        """,
    ),
    "haskell": Row(
        PACK,
        f"""
        module module
        class data_type newtype class instance type_synomym type_family
        function function bind
        {_HASKELL_LIKE}
        """,
        "haskell",
    ),
    "haxe": Row(
        PACK,
        """
        class class_declaration interface_declaration typedef_declaration
        function function_declaration
        """,
        "haxe",
    ),
    "hcl": Row(PACK, "section block name:@\nlist body config_file", "hcl"),
    "hlsl": Row(PACK, _SHADER, "hlsl"),
    "java": Row(
        "tree-sitter-java",
        """
        class class_declaration interface_declaration enum_declaration record_declaration
        class annotation_type_declaration
        method method_declaration constructor_declaration compact_constructor_declaration
        """,
    ),
    "javascript": Row("tree-sitter-javascript", _JAVASCRIPT),
    "json": Row("tree-sitter-json", "section pair name:key.string_content|key"),
    "julia": Row(
        PACK,
        """
        module module_definition
        class struct_definition abstract_definition name:..identifier
        function function_definition macro_definition name:..identifier
        function assignment name:0..identifier if:0=call_expression
        above string_literal
        """,
        "julia",
    ),
    "kotlin": Row(
        "tree-sitter-kotlin",
        """
        class class_declaration object_declaration companion_object
        class type_alias name:type|identifier
        function function_declaration
        method secondary_constructor as:constructor
        """,
    ),
    "latex": Row(
        PACK,
        """
        section part chapter section subsection subsubsection paragraph name:text.text|text
        function new_command_definition name:declaration
        list generic_environment
        """,
        "latex",
    ),
    "lua": Row(
        PACK,
        """
        function function_declaration name:name.method|name.field|name owner:name.table
        function assignment_statement if:expression_list.function_definition name:variable_list
        wrap variable_declaration
        """,
        "lua",
    ),
    "luau": Row(PACK, "function function_declaration\nclass type_definition", "luau"),
    "makefile": Row(
        PACK,
        """
        section rule name:targets
        function define_directive
        """,
        "make",
    ),
    "nim": Row(
        PACK,
        """
        class type_declaration name:type_symbol_declaration.name
        function proc_declaration func_declaration template_declaration macro_declaration
        function iterator_declaration method_declaration converter_declaration
        wrap type_section
        list type_section
        """,
        "nim",
    ),
    "nix": Row(PACK, "section binding name:attrpath\nlist binding_set", "nix"),
    "objective-c": Row(
        PACK,
        f"""{_C}
        class class_interface class_implementation protocol_declaration name:identifier
        class category_interface category_implementation name:identifier
        method method_definition method_declaration name:identifier
        wrap implementation_definition
        """,
        "objc",
    ),
    "ocaml": Row(
        PACK,
        """
        module module_definition name:module_binding.module_name
        class type_definition name:type_binding.name
        class class_definition name:class_binding.class_name
        function value_definition name:let_binding.pattern
        method method_definition name:method_name
        list structure signature
        """,
        "ocaml",
    ),
    "ocaml-interface": Row(
        PACK,
        """
        module module_definition name:module_binding.module_name
        module module_type_definition name:module_type_name
        class type_definition name:type_binding.name
        class class_definition name:class_binding.class_name
        class exception_definition name:constructor_declaration.constructor_name
        function value_specification name:value_name
        list structure signature
        """,
        "ocaml_interface",
    ),
    "odin": Row(
        PACK,
        """
        class struct_declaration enum_declaration union_declaration name:identifier
        function procedure_declaration name:identifier
        """,
        "odin",
    ),
    "pascal": Row(
        PACK,
        """
        class declType
        function defProc name:header.name
        list interface implementation declTypes declSection declClass
        """,
        "pascal",
    ),
    "php": Row(
        "tree-sitter-php",
        """
        module namespace_definition if:body
        class class_declaration interface_declaration trait_declaration enum_declaration
        function function_definition
        method method_declaration
        """,
        "language_php",
    ),
    "powershell": Row(
        PACK,
        """
        function function_statement name:function_name
        class class_statement enum_statement name:simple_name
        method class_method_definition name:simple_name
        """,
        "powershell",
    ),
    "prisma": Row(
        PACK,
        "section model_block enum_block key_value_block type_block view_block name:identifier",
        "prisma",
    ),
    "protobuf": Row(
        PACK,
        """
        class message service enum name:message_name|service_name|enum_name
        method rpc name:rpc_name
        class extend name:full_ident
        """,
        "proto",
    ),
    "puppet": Row(
        PACK,
        """
        class class_definition defined_resource_type name:class_identifier
        function function_declaration name:class_identifier|identifier
        class node_definition name:@
        """,
        "puppet",
    ),
    "purescript": Row(
        PACK,
        f"""
        class data newtype type_alias
        class class_declaration name:class_head.class_name
        class class_instance name:..class_name
        function function
        {_HASKELL_LIKE}
        """,
        "purescript",
    ),
    "python": Row(
        "tree-sitter-python",
        """
        function function_definition
        class class_definition
        wrap decorated_definition
        """,
    ),
    "r": Row(
        PACK,
        """
        function binary_operator if:rhs=function_definition name:lhs
        class binary_operator if:rhs.function=setRefClass,R6Class,setClass name:lhs
        """,
        "r",
    ),
    "rego": Row(PACK, "function rule name:..var\nlist policy module", "rego"),
    "ruby": Row(
        "tree-sitter-ruby",
        """
        module module
        class class
        class singleton_class name:value
        method method singleton_method
        method call if:arguments.method name:arguments.method.name
        method call if:arguments.singleton_method name:arguments.singleton_method.name
        """,
    ),
    "rust": Row(
        "tree-sitter-rust",
        """
        function function_item function_signature_item macro_definition
        class struct_item enum_item union_item trait_item
        class impl_item name:type.type|type
        module mod_item
        """,
    ),
    "scala": Row(
        "tree-sitter-scala",
        """
        class class_definition object_definition trait_definition enum_definition
        class package_object given_definition extension_definition type_definition
        function function_definition function_declaration
        """,
    ),
    "scheme": Row(
        PACK,
        """
        class list if:0=define-record-type,struct name:1
        function list if:0=define,define-syntax,define-macro,define-values name:1.0|1
        """,
        "scheme",
    ),
    "scss": Row(
        PACK,
        """
        section rule_set name:selectors
        section media_statement supports_statement keyframes_statement at_rule name:@
        function mixin_statement function_statement
        """,
        "scss",
    ),
    "solidity": Row(
        PACK,
        """
        class contract_declaration interface_declaration library_declaration
        class struct_declaration enum_declaration name:name
        function function_definition modifier_definition
        method constructor_definition as:constructor
        method fallback_receive_definition name:@
        """,
        "solidity",
    ),
    "sql": Row(
        PACK,
        """
        class create_table create_view create_materialized_view create_type name:object_reference
        class create_schema create_index create_sequence name:column|object_reference|identifier
        function create_function create_procedure create_trigger name:object_reference
        wrap statement
        """,
        "sql",
    ),
    "starlark": Row(PACK, "function function_definition", "starlark"),
    "swift": Row(
        "tree-sitter-swift",
        """
        class class_declaration protocol_declaration typealias_declaration
        function function_declaration protocol_function_declaration
        function property_declaration if:computed_value name:name
        method init_declaration as:init
        method deinit_declaration as:deinit
        method subscript_declaration as:subscript
        """,
    ),
    "tcl": Row(
        PACK,
        """
        function procedure
        module namespace name:word_list.1
        """,
        "tcl",
    ),
    "thrift": Row(
        PACK,
        """
        class struct_definition union_definition enum_definition name:type|identifier
        class exception_definition service_definition name:type|identifier
        method function_definition name:identifier
        """,
        "thrift",
    ),
    "toml": Row(
        "tree-sitter-toml",
        "section table table_array_element name:dotted_key|bare_key|quoted_key",
    ),
    "tsx": Row("tree-sitter-typescript", _TYPESCRIPT, "language_tsx"),
    "typescript": Row("tree-sitter-typescript", _TYPESCRIPT, "language_typescript"),
    "verilog": Row(
        PACK,
        """
        module module_declaration package_declaration interface_declaration name:..simple_identifier
        module program_declaration name:..simple_identifier
        class class_declaration name:class_identifier|..simple_identifier
        function function_declaration task_declaration name:..function_identifier,task_identifier
        method class_constructor_declaration as:new
        wrap module_or_generate_item package_or_generate_item_declaration class_item class_method
        wrap interface_or_generate_item
        """,
        "verilog",
    ),
    "vhdl": Row(
        PACK,
        """
        class entity_declaration package_declaration package_body component_declaration
        class architecture_body
        function process_statement name:label|..label
        function function_body procedure_body name:designator
        function function_declaration procedure_declaration name:designator
        wrap design_unit
        list declarative_part concurrent_statement_part design_file
        """,
        "vhdl",
    ),
    "vim": Row(PACK, "function function_definition name:function_declaration.name", "vim"),
    "wgsl": Row(PACK, "function function_declaration\nclass struct_declaration", "wgsl"),
    "xml": Row(PACK, "section element name:STag.Name\nlist content", "xml"),
    "zig": Row(
        PACK,
        """
        function Decl if:FnProto name:FnProto.function
        class Decl if:..ContainerDecl name:VarDecl.variable_type_function
        function TestDecl name:STRINGLITERALSINGLE
        """,
        "zig",
    ),
}
"""By ``Document.language``."""
