"""Run the flows of a config in this process, with their history on a Prefect server."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

import click

from merganser.cli.options import show_watch
from merganser.cli.progress import shown_progress
from merganser.cli.terminal import say, visible
from merganser.errors import PlanError
from merganser.prompt import prompting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from merganser.agent.events import EventSink
    from merganser.cli.options import Reach
    from merganser.config.flow_definition import FlowDefinition
    from merganser.config.load import Config
    from merganser.flows.execute import Outcome


_KEPT = (
    "note: the Prefect server was lost ({problem}); the record of this run is kept and sent by the"
    " next command that reaches it"
)


def run_flows(
    reach: Reach,
    file: str,
    name: str | None,
    *,
    kind: type[FlowDefinition],
    parameters: Mapping[str, Any],
    quiet: bool,
    adapt: Callable[[FlowDefinition], FlowDefinition] = lambda flow: flow,
) -> list[Outcome]:
    """Run one flow of a config, or all of a kind.

    Args:
        reach: How models and history are reached.
        file: The config.
        name: The flow; None runs all of the kind.
        kind: What the command runs.
        parameters: Parameters of the flows, besides those of ``reach``.
        quiet: Show no progress.
        adapt: Returns a flow with what the command line says of it.

    Returns:
        The outcomes, in the flows' order.

    Raises:
        PlanError: The config has no such flow.
        MerganserError: The run failed.
    """
    config = reach.load(file)
    chosen = choose_flows(config, name, kind)
    return [run_flow(reach, config, adapt(flow), parameters, quiet=quiet) for flow in chosen]


def choose_flows(
    config: Config, name: str | None, kind: type[FlowDefinition]
) -> list[FlowDefinition]:
    """Return the flow of that name, or all of the kind.

    Raises:
        PlanError: There is none, or it is of another kind; the message lists what there is.
    """
    from merganser.config.flow_definition import resolve_flow, resolve_flows

    if name is not None:
        flow = resolve_flow(config, name)
        if not isinstance(flow, kind):
            raise PlanError(f"{name!r} of {config.path} is no flow that this command runs")
        return [flow]
    found = [flow for flow in resolve_flows(config) if isinstance(flow, kind)]
    if not found:
        raise PlanError(f"{config.path} has nothing for this command to run")
    return found


def run_flow(
    reach: Reach,
    config: Config,
    flow: FlowDefinition,
    parameters: Mapping[str, Any],
    *,
    quiet: bool,
    on_event: EventSink | None = None,
) -> Outcome:
    """Run one flow."""
    from merganser.config.flow_definition import with_wait
    from merganser.humanize import without_credentials
    from merganser.services.prefect_server import connect_history

    base_url = reach.address()
    history = connect_history(ephemeral=reach.ephemeral)
    from merganser.deployment.runs import settle_dead_runs
    from merganser.flows.compile import compile_flow, event_sink, private_address
    from merganser.flows.recording import recorded

    if history.ui_url and (settled := settle_dead_runs()):
        say(f"note: {settled} earlier runs died and are marked Crashed", err=True)
    if not quiet and history.ui_url:
        show_watch(history, what=f"{flow.name}: ", page="/runs")
    # Prefect's half a million objects last as long as the command: no collection looks at them.
    # What is made from here on is mostly chunks, which are in no cycle.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    if reach.wait_for_server is not None:
        flow = with_wait(flow, reach.wait_for_server)
    run = compile_flow(config, flow)
    pull = "missing" if reach.pull == "ask" and not sys.stdin.isatty() else reach.pull
    event_sink.set(on_event)
    private_address.set(base_url)
    shown = without_credentials(base_url) if base_url else None
    recording = None
    try:
        with (
            recorded(history.api_url) as recording,
            shown_progress(quiet=quiet),
            prompting(ask_yes_no),
        ):
            # The type checker does not see through the overloads of Prefect's call.
            return run(**parameters, pull=pull, base_url=shown)
    finally:
        if recording is not None and recording.kept:
            say(_KEPT.format(problem=recording.problem), err=True)


def ask_yes_no(question: str) -> bool:
    """Ask at the terminal; only ``y`` and ``yes`` agree."""
    answer = click.prompt(
        f"{visible(question)} ([y]es/[n]o)", default="n", show_default=False, err=True
    )
    return str(answer).strip().lower() in {"y", "yes"}
