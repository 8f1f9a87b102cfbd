"""``docs/commands.md``, made from the commands themselves.

``python -m merganser.cli.reference > docs/commands.md`` writes it anew; a test compares. The width
is fixed, so that the page does not depend on the terminal of whoever makes it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from merganser.cli import COMMANDS, EXIT_DEGRADED, EXIT_FAILED, EXIT_INTERRUPTED, group

if TYPE_CHECKING:
    from collections.abc import Iterator

WIDTH = 80
"""Columns; what a terminal has at least, and a code block on a page shows without scrolling."""

_HEAD = """\
# Commands

<!-- Made by `python -m merganser.cli.reference > docs/commands.md`; a test compares. -->

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
    EXIT_INTERRUPTED: "interrupted by Ctrl-C; finished shards and answers are kept",
}


def render_reference() -> str:
    """Return the page: exit codes, then the help of every command in the group's order."""
    codes = [f"| {code} | {meaning} |" for code, meaning in _EXIT_CODES.items()]
    table = "\n".join(["| code | meaning |", "| --- | --- |", *codes])
    sections = [f"{_HEAD}\n{table}", *_sections()]
    return "\n\n".join(sections) + "\n"


def _sections() -> Iterator[str]:
    with _context(group, "merganser") as root:
        yield _section("merganser", group.get_help(root))
        for name in COMMANDS:
            command = group.get_command(root, name)
            assert command is not None, "every listed command has a module"
            yield from _command_sections(command, name, root)


def _command_sections(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield a command's help, then that of the commands below it."""
    with _context(command, name, parent) as context:
        yield _section(context.command_path, command.get_help(context))
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                yield from _command_sections(command.commands[below], below, context)


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


def _section(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```"


if __name__ == "__main__":
    sys.stdout.write(render_reference())
