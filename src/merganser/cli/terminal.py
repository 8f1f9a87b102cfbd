"""The one place where text for people leaves the program.

Documents, file names, answers of models and errors of servers hold what their writers put there: a
terminal that gets it raw sets its title, clears its screen, fills the clipboard or shows a line in
another order than it is. JSON and HTML are for programs and are printed as they are.
"""

from __future__ import annotations

import re

import click

_CONTROLS = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # all but tab and the ends of lines
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, overrides and isolates of direction
    "\u2028\u2029\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible, but terminals obey some
    "\ud800-\udfff]"  # bytes of a file name that are no UTF-8
    r"|\r(?!\n)"  # what follows would be written over the line
)


def visible(text: str) -> str:
    r"""Return a text with its control characters as escapes that can be read.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people, with nothing in it that a terminal would obey."""
    click.echo(visible(text), err=err, nl=nl)
