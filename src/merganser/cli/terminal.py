"""The one place where text for people leaves the program.

Documents, file names, answers of models and errors of servers hold what their writers put there: a
terminal that gets it raw sets its title, clears its screen, fills the clipboard or shows a line in
another order than it is. JSON and HTML are for programs and are printed as they are.
"""

from __future__ import annotations

import shutil
import sys

import click

from merganser.humanize import fold_lines, visible

_MIN_WIDTH = 40


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people, with nothing in it that a terminal would obey."""
    click.echo(visible(text), err=err, nl=nl)


def say_folded(text: str) -> None:
    """Print as ``say``; on a terminal, lines that are wider are broken at spaces."""
    text = visible(text)
    if sys.stdout.isatty():
        text = fold_lines(text, max(shutil.get_terminal_size().columns, _MIN_WIDTH))
    say(text)
