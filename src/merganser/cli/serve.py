"""``merganser serve``: run the schedules of configs in this process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from merganser.cli.options import (
    keep_models,
    parse_pairs,
    reach_models,
    runner_options,
    show_watch,
)
from merganser.cli.terminal import say
from merganser.cli.worker import job_variables_option
from merganser.planning.deployments import DEFAULT_POOL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.deployment.worker import Watched

_PATIENCE_SECONDS = 8.0
"""The server creates the scheduled runs of a new deployment every 5 s."""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option(
    "--pool", default=DEFAULT_POOL, show_default=True, help="Process work pool; made if missing."
)
@click.option(
    "--model-map",
    multiple=True,
    metavar="WANTED=USED",
    callback=parse_pairs,
    help="Use another model than the files name; repeatable.",
)
@job_variables_option
@runner_options
def command(
    *,
    files: tuple[str, ...],
    pool: str,
    model_map: dict[str, str],
    allowed: tuple[str, ...],
    base_url: str | None,
    embedded: bool,
) -> int:
    """Deploy FILES and run them here when they are due, until Ctrl-C; watch their files.

    Runs of other configs in the pool are left to others. The schedules stay active after the end:
    the next start runs the newest missed run.
    """
    from merganser.services.prefect_server import connect_history

    reach_models(base_url, embedded=embedded)
    history = connect_history()
    show_watch(history)
    watched, scheduled, queues = _deploy(files, pool, model_map)
    from merganser.deployment.worker import run_worker

    _show_scheduled_runs(scheduled)
    keep = keep_models if embedded and not base_url else None
    asyncio.run(
        run_worker(
            pool,
            queues=queues,
            watched=watched,
            allowed=allowed,
            keep_models=keep,
            say=_say,
        )
    )
    say("stopped; the schedules stay active on the server", err=True)
    return 0


def _deploy(
    files: tuple[str, ...], pool: str, model_map: Mapping[str, str]
) -> tuple[list[Watched], dict[str, str], list[str]]:
    """Deploy all files; give what is watched, the scheduled names by id, and the queues."""
    from merganser.cli.deploy import plan_changes, show_changes
    from merganser.config.flow_definition import rags_of_flow
    from merganser.deployment.apply import apply_changes
    from merganser.deployment.worker import Watched
    from merganser.planning.plan import distinct_indexes

    watched = list[Watched]()
    scheduled = dict[str, str]()
    queues = dict[str, None]()
    for file in files:
        config, changes = plan_changes(file, pool=pool, model_map=model_map)
        show_changes(changes)
        ids = apply_changes(config, [change for change in changes if change.action != "retire"])
        for change in changes:
            wanted = change.definition
            if wanted is None:
                _say(f"note: retire it with: merganser deploy {file} --apply")
                continue
            queues[wanted.queue] = None
            number = ids[change.full_name]
            if wanted.watches:
                indexes = tuple(distinct_indexes(config, rags_of_flow(config, wanted.flow)))
                watched.append(Watched(deployment_id=number, label=wanted.label, indexes=indexes))
            elif wanted.schedule:
                scheduled[number] = wanted.label
    return watched, scheduled, list(queues)


def _show_scheduled_runs(scheduled: Mapping[str, str]) -> None:
    from merganser.deployment.runs import next_scheduled_runs

    deadline = time.monotonic() + _PATIENCE_SECONDS
    due = next_scheduled_runs(scheduled)
    while len(due) < len(scheduled) and time.monotonic() < deadline:
        time.sleep(0.5)
        due = next_scheduled_runs(scheduled)
    for name, when in sorted(due.items(), key=lambda run: run[1]):
        say(f"next: {when}  {name}")


def _say(text: str) -> None:
    say(text, err=True)
