"""``merganser clones``: the git repositories that were cloned, and their disk use."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.options import DURATION, json_option, print_json
from merganser.cli.terminal import say
from merganser.humanize import align_columns, show_age, show_bytes

if TYPE_CHECKING:
    from datetime import timedelta


@click.command()
@click.option(
    "--remove-unused",
    type=DURATION,
    metavar="TIME",
    help="Remove what no run wanted for this time, such as 720h; 0 removes all.",
)
@json_option
def command(*, remove_unused: timedelta | None, as_json: bool) -> int:
    """List the clones of git repositories on this machine, with their disk use."""
    from merganser.documents.clones import list_clones, remove_clone, size_of
    from merganser.documents.repositories import REPOSITORIES
    from merganser.services.supervisor import merganser_home

    home, now = merganser_home(), time.time()
    rows: list[dict[str, Any]] = []
    for folder, clone in list_clones(home):
        size, idle = size_of(folder), now - clone.used
        unused = remove_unused is not None and idle >= remove_unused.total_seconds()
        if unused:
            remove_clone(folder, clone)
        rows.append({"folder": str(folder), **asdict(clone), "bytes": size, "removed": unused})
    if as_json:
        print_json({"folder": str(home / REPOSITORIES), "clones": rows})
        return 0
    if not rows:
        say(f"no clones in {home / REPOSITORIES}")
    lines = [
        (
            "removed" if row["removed"] else "",
            str(row["url"]),
            str(row["ref"]) or "default branch",
            str(row["commit"])[:12],
            show_bytes(row["bytes"]),
            f"used {show_age(now - row['used'])} ago",
        )
        for row in rows
    ]
    for line in align_columns(lines) if lines else ():
        say(line)
    return 0
