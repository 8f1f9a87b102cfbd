"""Print what is generated from the spec and the commands; tests compare the files with it.

    python scripts/reference.py schema > configs/schema.json
    python scripts/reference.py language > docs/language.md
    python scripts/reference.py commands > docs/commands.md

``make reference`` writes all three. Keys that are known but not supported are in the schema as
deprecated, so that editors do not underline a file that loads. Help is shown in a fixed width, so
that the page does not depend on the terminal of whoever makes it.
"""

from __future__ import annotations

import ast
import json
import sys
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import COMMANDS, EXIT_DEGRADED, EXIT_FAILED, EXIT_STALE, group
from merganser.config.sections import ADDITIONS, SECTIONS, Pattern, readable
from merganser.config.spec_agents import AgentSpec
from merganser.config.spec_root import Spec
from merganser.config.unsupported import TOOLSETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from merganser.config.sections import Section, Variant
    from merganser.config.unsupported import UnsupportedKeys

TITLE = "merganser"
_UNSUPPORTED = "Known to cagent's language; not supported yet, ignored with a warning."


def build_schema() -> dict[str, Any]:
    """Return the JSON schema of a config."""
    schema = Spec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = TITLE
    definitions: dict[str, Any] = schema["$defs"]
    for section in SECTIONS:
        for variant in section.variants.values():
            entry = schema if variant.model is Spec else definitions[variant.model.__name__]
            properties: dict[str, Any] = entry.setdefault("properties", {})
            for name, text in field_docstrings(variant.model).items():
                properties[name]["description"] = text
            for key, known in variant.unsupported.items():
                if not known.refused:
                    properties[key] = {"description": _UNSUPPORTED, "deprecated": True}
    definitions["UnsupportedToolset"] = {
        "description": _UNSUPPORTED,
        "deprecated": True,
        "type": "object",
        "properties": {"type": {"type": "string", "enum": sorted(TOOLSETS)}},
        "required": ["type"],
    }
    items = definitions[AgentSpec.__name__]["properties"]["toolsets"]["items"]
    items["oneOf"].append({"$ref": "#/$defs/UnsupportedToolset"})
    del items["discriminator"]  # it lists the types that are run, and would exclude the others
    return schema


def render_schema() -> str:
    """Return the text of ``configs/schema.json``."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Collect the string below each field, of the class and the classes it extends."""
    found = dict[str, str]()
    for owner in reversed(model.__mro__):
        if not owner.__module__.startswith("merganser.config.spec_"):
            continue
        for field, text in pairwise(_class_body(owner)):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(docstring))),
                ):
                    found[name] = " ".join(docstring.split()).replace("``", "`")
                case _:
                    pass
    return found


def _class_body(owner: type) -> list[ast.stmt]:
    path = sys.modules[owner.__module__].__file__ or ""
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            return node.body
    raise AssertionError(f"{owner} is not defined in {path}")


_LANGUAGE_HEAD = """\
# The language

<!-- Made by `python scripts/reference.py language > docs/language.md`; a test compares. -->

A config is YAML in cagent's language, with additions that are marked **added**.
A key that merganser knows but does not run yet is ignored with a warning.
If ignoring it would lift a restriction, the file is refused.
Any other key is an error that says where it is and what was probably meant.
`${env.NAME}` and `${env.NAME || 'default'}` are filled in from the environment in a `base_url`,
in the names of models, and in toolsets; elsewhere they stay as they are written.

Much of cagent's language does not run yet. Of docker-agent's 84 public examples (November 2026)
3 load as they are, none of them does all that it says, and 69 are turned away for the name of a
cloud provider. With the providers' servers given (`providers: {openai: {base_url: ...}}`, in the
file or in one that `extends` it) 72 load, 60 of these with warnings. The filesystem toolset has
its reading tools alone; tools by MCP, shell, sub-agents, commands and memory are among what is
ignored.
"""


def render_language() -> str:
    """Return the text of ``docs/language.md``: every place of a config, with its keys."""
    schema = build_schema()
    parts = [_LANGUAGE_HEAD.strip()]
    for section in SECTIONS:
        parts += _section(section, schema)
    return "\n\n".join(parts) + "\n"


def _section(section: Section, schema: Mapping[str, Any]) -> Iterator[str]:
    title = readable(section.pattern)
    yield f"## {title[0].upper() + title[1:] if not section.pattern else f'`{title}`'}"
    for kind, variant in section.variants.items():
        if kind:
            yield f"### `type: {kind}`"
        yield (variant.model.__doc__ or "").strip().split("\n\n")[0].replace("``", "`")
        yield "\n".join(_keys(section.pattern, variant, schema))
        yield from _unsupported(variant.unsupported)
    if section.ignored_types:
        yield f"Ignored with a warning, as a whole: {_listed(sorted(section.ignored_types))}."
    for kind, known in section.refused_types.items():
        yield f"Refused: `type: {kind}` ({known.problem}; {known.fix})."


def _keys(pattern: Pattern, variant: Variant, schema: Mapping[str, Any]) -> Iterator[str]:
    whole = variant.model is Spec
    entry = schema if whole else schema["$defs"][variant.model.__name__]
    texts = field_docstrings(variant.model)
    for name, field in variant.model.model_fields.items():
        shape: dict[str, Any] = entry["properties"][name]
        facts = [_value(shape)]
        if field.is_required():
            facts.append("required")
        elif (default := shape.get("default")) and isinstance(default, str | int | float):
            facts.append(f"default `{json.dumps(default, ensure_ascii=False)}`")
        added = " **added**" if (*pattern, name) in ADDITIONS else ""
        yield f"- `{name}` ({'; '.join(fact for fact in facts if fact)}){added}: {texts[name]}"


def _value(shape: Mapping[str, Any]) -> str:
    """Return in a few words what a key takes."""
    if "enum" in shape or "const" in shape:
        return " or ".join(f"`{value}`" for value in shape.get("enum", [shape.get("const")]))
    if options := shape.get("anyOf") or shape.get("oneOf"):
        words = [_value(option) for option in options if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(word for word in words if word))
    if "$ref" in shape:
        return "map"
    kind = shape.get("type")
    if kind == "array":
        return "list" if "$ref" in str(shape.get("items")) else f"list of {_value(shape['items'])}"
    bounds = _bounds(shape)
    return {
        "string": "text",
        "boolean": "true or false",
        "integer": f"whole number{bounds}",
        "number": f"number{bounds}",
        "object": "map",
    }.get(str(kind), "")


def _bounds(shape: Mapping[str, Any]) -> str:
    low, high = shape.get("minimum"), shape.get("maximum")
    if low is not None and high is not None:
        return f" from {low:g} to {high:g}"
    return f" from {low:g}" if low is not None else ""


def _unsupported(keys: UnsupportedKeys) -> Iterator[str]:
    if ignored := [key for key, known in keys.items() if not known.refused]:
        yield f"Ignored with a warning: {_listed(ignored)}."
    refused = [(known.problem, known.fix, key) for key, known in keys.items() if known.refused]
    lines = [
        f"- {_listed([key for *_, key in group])}: {problem}; {fix}."
        for (problem, fix), group in groupby(refused, key=lambda entry: entry[:2])
    ]
    if lines:
        yield "Refused:\n\n" + "\n".join(lines)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


WIDTH = 80
"""Columns; what a terminal has at least, and a code block on a page shows without scrolling."""

_COMMANDS_HEAD = """\
# Commands

<!-- Made by `python scripts/reference.py commands > docs/commands.md`; a test compares. -->

Each command takes a config, FILE, whose keys are in configs/schema.json.
What is meant for a program to read goes to standard output, everything else to standard error.
With `--json`, standard output is one JSON document; of an error it is `{"error": "..."}`.
`--debug` may stand anywhere and shows the traceback of an error.

## Exit codes
"""

_EXIT_CODES = {
    0: "done",
    EXIT_FAILED: "an error that the message explains, or a run that failed",
    click.UsageError.exit_code: "wrong usage: an unknown command or option, a missing argument",
    EXIT_DEGRADED: "done, but with parts that failed; they are named",
    EXIT_STALE: "done, but a passage is not what stands in its file (with `--require-fresh` alone)",
    130: "ended by Ctrl-C; what was embedded and answered is kept",
    143: "ended by SIGTERM (129: by SIGHUP), as by Ctrl-C",
}


def render_commands() -> str:
    """Return the page: exit codes, then the help of every command in the group's order."""
    codes = [f"| {code} | {meaning} |" for code, meaning in _EXIT_CODES.items()]
    table = "\n".join(["| code | meaning |", "| --- | --- |", *codes])
    sections = [f"{_COMMANDS_HEAD}\n{table}", *_help_pages()]
    return "\n\n".join(sections) + "\n"


def _help_pages() -> Iterator[str]:
    with _context(group, "merganser") as root:
        yield _help_page("merganser", group.get_help(root))
        for name in COMMANDS:
            command = group.get_command(root, name)
            assert command is not None, "every listed command has a module"
            yield from _pages_of_command(command, name, root)


def _pages_of_command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield a command's help, then that of the commands below it."""
    with _context(command, name, parent) as context:
        yield _help_page(context.command_path, command.get_help(context))
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                yield from _pages_of_command(command.commands[below], below, context)


def _context(
    command: click.Command, name: str, parent: click.Context | None = None
) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        terminal_width=WIDTH,
        help_option_names=["-h", "--help"],
    )


def _help_page(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```"


if __name__ == "__main__":
    pages = {"schema": render_schema, "language": render_language, "commands": render_commands}
    sys.stdout.write(pages[sys.argv[1]]())
