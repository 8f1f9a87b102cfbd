"""The one place where text for people leaves the program.

Documents, file names, answers of models and errors of servers hold what their writers put there: a
terminal that gets it raw sets its title, clears its screen, fills the clipboard or shows a line in
another order than it is. JSON and HTML are for programs and are printed as they are.
"""

from __future__ import annotations

import click

from merganser.humanize import visible


def say(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text for people, with nothing in it that a terminal would obey."""
    click.echo(visible(text), err=err, nl=nl)
