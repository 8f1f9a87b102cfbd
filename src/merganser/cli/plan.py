"""``merganser plan``: what a run would do, without doing it."""

from __future__ import annotations

import asyncio

import click

from merganser.cli import EXIT_FAILED
from merganser.cli.options import (
    Reach,
    file_argument,
    json_option,
    print_json,
    reach_options,
)
from merganser.cli.terminal import say_folded


@click.command()
@file_argument
@click.argument("flow", required=False)
@click.option("--full", is_flag=True, help="As if everything were indexed anew.")
@reach_options
@json_option
def command(file: str, flow: str | None, *, full: bool, as_json: bool, reach: Reach) -> int:
    """Show what the flows of FILE would do: models, files, chunks, embeddings, time.

    What is left out is named, by reason and with the way to take it in. Models need not be there.
    Exits with 1 where a run would fail: at its sources or at its index.
    """
    from merganser.config.flow_definition import resolve_flow, resolve_flows
    from merganser.indexing.forecast import forecast_plans
    from merganser.planning.explain import explain_plan, plan_as_json
    from merganser.planning.plan import build_plan

    config = reach.load(file)
    flows = [resolve_flow(config, flow)] if flow else list(resolve_flows(config))
    plans = [build_plan(config, one) for one in flows]
    state = asyncio.run(forecast_plans(plans, base_url=reach.address(), full=full))
    if as_json:
        print_json({"plans": [plan_as_json(plan, state) for plan in plans]})
    else:
        say_folded("\n\n".join(explain_plan(plan, state) for plan in plans))
    return EXIT_FAILED if any(work.problem for work in state.indexes.values()) else 0
