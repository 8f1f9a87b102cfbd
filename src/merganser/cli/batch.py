"""``merganser batch``: answer a file of questions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import EXIT_DEGRADED, EXIT_FAILED
from merganser.cli.common import file_argument, json_option, print_json, reach_options, take_reach
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.load import Config
    from merganser.resolve import BatchFlow


@click.command()
@file_argument
@click.argument("flow", required=False)
@click.option("--input", "questions", metavar="JSONL", help="Questions [default: the flow's].")
@click.option("--output", "answers", metavar="JSONL", help="Answers [default: the flow's].")
@click.option("-a", "--agent", help="Who answers [default: the flow's, root, or the first].")
@click.option("--concurrency", type=click.IntRange(min=1), help="Questions at a time.")
@reach_options
@json_option
def command(
    file: str,
    flow: str | None,
    *,
    questions: str | None,
    answers: str | None,
    agent: str | None,
    concurrency: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Answer the questions of a batch FLOW of FILE, or those of --input.

    Answers are in the questions' order. Run it again to ask only what is not answered yet. Exits
    with 3 when some questions failed, with 1 when all did.
    """
    from merganser.cli.flowing import run_flow

    reach = take_reach(options)
    config = reach.load(file)
    chosen = _choose(config, flow, questions, answers, agent)
    if concurrency is not None:
        chosen = replace(chosen, concurrency=concurrency)
    outcome = run_flow(reach, config, chosen, {}, quiet=as_json)
    report = outcome.batch
    assert report is not None, "a batch flow has a report"
    if as_json:
        counts = {"questions": report.questions, "answered": report.answered}
        work = {"asked": report.asked, "reused": report.reused}
        lists = {"failed": list(report.failed), "missing": list(report.missing)}
        print_json({**counts, **work, **lists, "output": str(chosen.output)})
    else:
        click.echo(
            f"{report.answered} of {report.questions} answered ({report.asked} asked now, "
            f"{report.reused} kept): {chosen.output}"
        )
        for name in report.failed:
            click.echo(f"  failed: {name}")
        for note in outcome.notes:
            click.echo(f"note: {note}", err=True)
    if report.answered == report.questions:
        return 0
    return EXIT_DEGRADED if report.answered else EXIT_FAILED


def _choose(
    config: Config,
    name: str | None,
    questions: str | None,
    answers: str | None,
    agent: str | None,
) -> BatchFlow:
    """Give the batch flow that is meant, with what the command line replaces.

    Raises:
        PlanError: It is not clear which one, or there is neither a flow nor --input.
    """
    from merganser.cli.flowing import choose_flows
    from merganser.resolve import BatchFlow, resolve_flows

    found = [flow for flow in resolve_flows(config) if isinstance(flow, BatchFlow)]
    if name is not None:
        found = [
            flow for flow in choose_flows(config, name, BatchFlow) if isinstance(flow, BatchFlow)
        ]
    if len(found) > 1:
        names = ", ".join(repr(flow.name) for flow in found)
        raise PlanError(f"{config.path} has several batch flows ({names}); name one")
    if not found and questions is None:
        raise PlanError(f"{config.path} has no batch flow; give --input questions.jsonl")
    given = Path(questions).absolute() if questions else found[0].input
    default = given.with_name(f"{given.stem}.answers.jsonl")
    output = Path(answers).absolute() if answers else (found[0].output if found else default)
    if found:
        return replace(found[0], input=given, output=output, agent=agent or found[0].agent)
    names = list(config.spec.agents)
    who = agent or ("root" if "root" in names else next(iter(names), ""))
    if who not in names:
        known = ", ".join(repr(known) for known in names) or "none"
        raise PlanError(f"{config.path} has no agent {who!r}; it has {known}")
    return BatchFlow(name=f"batch-{who}", agent=who, input=given, output=output)
