"""``merganser check``: the config alone, in milliseconds."""

from __future__ import annotations

import click

from merganser.cli.options import file_argument, json_option, print_json
from merganser.cli.terminal import say
from merganser.errors import SpecErrors


@click.command()
@file_argument
@json_option
def command(file: str, *, as_json: bool) -> int:
    """Load FILE and report every error and warning, without touching models or history."""
    from merganser.config.check import check_as_json, render_check
    from merganser.config.load import load_config

    try:
        config = load_config(file)
    except SpecErrors as errors:
        if not as_json:
            raise
        print_json({"ok": False, "errors": [str(error) for error in errors.errors]})
        return 1
    if as_json:
        print_json(check_as_json(config))
    else:
        say(render_check(config))
    return 0
