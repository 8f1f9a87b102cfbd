"""``merganser deploy``: put the flows of a config on a server, to run by themselves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.options import (
    file_argument,
    json_option,
    load_shown,
    parse_pairs,
    print_json,
)
from merganser.cli.terminal import say
from merganser.planning.deployments import DEFAULT_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.config.load import Config
    from merganser.planning.deployments import Change

_MARKS = {"create": "+", "update": "~", "unchanged": "=", "retire": "-"}


@click.command()
@file_argument
@click.option("--apply", is_flag=True, help="Do it without asking, retirements included.")
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--name", metavar="NAME", help="Name of the deployments [default: the config's].")
@click.option(
    "--pool", default=DEFAULT_POOL, show_default=True, help="Process work pool; made if missing."
)
@click.option("--base-url", metavar="URL", help="Address of the model server for the runs.")
@click.option(
    "--model-map",
    multiple=True,
    metavar="WANTED=USED",
    callback=parse_pairs,
    help="Use another model than the file names; repeatable.",
)
@json_option
def command(
    file: str,
    *,
    apply: bool,
    dry_run: bool,
    name: str | None,
    pool: str,
    base_url: str | None,
    model_map: dict[str, str],
    as_json: bool,
) -> int:
    """Deploy the flows of FILE: schedules, order, restarts; only what changed is touched.

    What would change is shown first. Without a terminal it is done at once, but deployments whose
    flows are gone retire only after a question or with --apply.
    """
    if apply and dry_run:
        raise click.UsageError("--apply and --dry-run exclude each other")
    config, changes = plan_changes(
        file, name=name, pool=pool, base_url=base_url, model_map=model_map
    )
    if not as_json:
        show_changes(changes)
    chosen = () if dry_run else _choose(changes, apply=apply)
    if chosen:
        from merganser.deployment.apply import apply_changes

        apply_changes(config, chosen)
    if as_json:
        print_json([_as_json(change, done=change in chosen) for change in changes])
    elif chosen:
        say(f"applied; a worker runs them: merganser worker --pool {pool}", err=True)
        if any(c.definition and c.definition.watches for c in changes):
            say(f"files are watched by: merganser serve {file}", err=True)
    return 0


def plan_changes(
    file: str,
    *,
    name: str | None = None,
    pool: str = DEFAULT_POOL,
    base_url: str | None = None,
    model_map: Mapping[str, str],
) -> tuple[Config, tuple[Change, ...]]:
    """Load a config, connect to the history and compare what is deployed with what should be.

    Raises:
        MerganserError: The config is wrong, there is no server, or a name is taken.
    """
    from merganser.humanize import without_credentials
    from merganser.planning.deployments import compare, define_deployments
    from merganser.services.prefect_server import connect_history

    if base_url and without_credentials(base_url) != base_url:
        raise click.UsageError(
            "Prefect stores and shows what a deployment is given, so --base-url must be without "
            "user and password; set MODEL_RUNNER_HOST where the worker runs"
        )
    config = load_shown(file, model_map)
    connect_history()
    from merganser.deployment.apply import read_deployed

    parameters = {"base_url": base_url} if base_url else {}
    wanted = define_deployments(
        config, name=name, pool=pool, parameters=parameters, models=model_map
    )
    return config, compare(wanted, read_deployed())


def show_changes(changes: Sequence[Change]) -> None:
    """Print what would change, a line a deployment."""
    for change in changes:
        when = change.definition.spec.schedule if change.definition else ""
        after = change.definition.spec.after if change.definition else ()
        notes = [when, *(f"after {one}" for one in after), *change.reasons]
        if change.action == "unchanged":
            notes = notes[: len(notes) - len(change.reasons)]
        text = "; ".join(note for note in notes if note)
        head = f"{_MARKS[change.action]} {change.action:9} {change.full_name}"
        say(f"{head}  {text}".rstrip())


def _choose(changes: Sequence[Change], *, apply: bool) -> tuple[Change, ...]:
    """Ask where somebody is there to answer."""
    work = tuple(c for c in changes if c.action in {"create", "update"})
    gone = tuple(c for c in changes if c.action == "retire")
    if apply:
        return work + gone
    if not sys.stdin.isatty():
        if gone:
            say(f"note: {len(gone)} deployments retire only with --apply", err=True)
        return work
    chosen = work if work and click.confirm("Apply?", err=True) else ()
    if gone and click.confirm("Delete the deployments of flows that are gone?", err=True):
        chosen += gone
    return chosen


def _as_json(change: Change, *, done: bool) -> dict[str, Any]:
    return {
        "action": change.action,
        "deployment": change.full_name,
        "reasons": list(change.reasons),
        "schedule": change.definition.spec.schedule if change.definition else None,
        "after": list(change.definition.spec.after) if change.definition else [],
        "done": done,
    }
