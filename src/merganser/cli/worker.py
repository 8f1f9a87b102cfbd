"""``merganser worker``: run what is deployed to a work pool."""

from __future__ import annotations

import asyncio

import click

from merganser.cli.options import keep_models, reach_models, runner_options, show_watch
from merganser.cli.terminal import say
from merganser.deployment.foreign_runs import JOB_VARIABLES
from merganser.planning.deployments import DEFAULT_POOL

job_variables_option = click.option(
    "--allow-job-variables",
    "allowed",
    multiple=True,
    metavar="NAME",
    type=click.Choice(JOB_VARIABLES),
    help=f"Run what comes with another {', '.join(JOB_VARIABLES)} than ours; repeatable.",
)


@click.command()
@click.option(
    "--pool", default=DEFAULT_POOL, show_default=True, help="Process work pool; made if missing."
)
@click.option("--queue", "queues", multiple=True, help="Only this queue, a config's name.")
@click.option("--limit", type=click.IntRange(min=1), help="Runs at a time [default: any number].")
@job_variables_option
@runner_options
def command(
    *,
    pool: str,
    queues: tuple[str, ...],
    limit: int | None,
    allowed: tuple[str, ...],
    base_url: str | None,
    embedded: bool,
) -> int:
    """Run what is deployed to a work pool, here, until Ctrl-C.

    Configs are looked for where they were deployed from, then in MERGANSER_CONFIG_PATH.
    """
    from merganser.services.prefect_server import connect_history

    reach_models(base_url, embedded=embedded)
    history = connect_history()
    from merganser.deployment.apply import ensure_pool
    from merganser.deployment.worker import run_worker

    ensure_pool(pool)
    show_watch(history, what=f"working for {pool}; ")
    keep = keep_models if embedded and not base_url else None
    asyncio.run(
        run_worker(pool, queues=queues, limit=limit, allowed=allowed, keep_models=keep, say=_say)
    )
    say("stopped", err=True)
    return 0


def _say(text: str) -> None:
    say(text, err=True)
