"""``merganser batch``: answer a table of questions."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import click

from merganser.cli import EXIT_DEGRADED, EXIT_FAILED, EXIT_STALE
from merganser.cli.options import (
    Reach,
    data_table,
    file_argument,
    fresh_option,
    json_option,
    kind_option,
    print_json,
    reach_options,
    wait_option,
)
from merganser.cli.terminal import say
from merganser.errors import PlanError

if TYPE_CHECKING:
    from merganser.batch.journal import BatchReport
    from merganser.batch.selection import BatchForecast
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.load import Config

_TABLE = "FILE[#TABLE]"


@click.command()
@file_argument
@click.argument("flow", required=False)
@click.option("--input", "questions", metavar=_TABLE, help="Questions [default: the flow's].")
@click.option("--output", "answers", metavar=_TABLE, help="Answers [default: the flow's].")
@click.option("-a", "--agent", help="Who answers [default: the flow's, root, or the first].")
@click.option("--concurrency", type=click.IntRange(min=1), help="Questions at a time.")
@click.option("--limit", type=click.IntRange(min=1), help="Ask only the first so many.")
@click.option("--sample", type=click.IntRange(min=1), help="Ask only so many, taken at random.")
@click.option(
    "--seed", type=int, default=0, help="The same seed takes the same sample.", show_default=True
)
@click.option("--overwrite", is_flag=True, help="Replace an output that is no answers of a batch.")
@click.option("--dry-run", is_flag=True, help="Say what would be asked and what it would cost.")
@kind_option
@fresh_option
@wait_option
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
    limit: int | None,
    sample: int | None,
    seed: int,
    overwrite: bool,
    dry_run: bool,
    kinds: tuple[str, ...],
    require_fresh: bool,
    as_json: bool,
    reach: Reach,
) -> int:
    """Answer the questions of a batch FLOW of FILE, or those of --input.

    Questions and answers are .jsonl, .csv or .parquet files, or a table of a DuckDB file as
    FILE.duckdb#TABLE. Answers are in the questions' order. Run it again to ask only what is not
    answered yet. Exits with 3 when some questions failed, with 1 when more did than the flow's
    max_failed allows, and with --require-fresh with 5 when an answer rests on what changed in its
    file since it was indexed.
    """
    config = reach.load(file)
    chosen = _choose(config, flow, questions, answers, agent)
    if concurrency is not None:
        chosen = replace(chosen, spec=chosen.spec.model_copy(update={"concurrency": concurrency}))
    if overwrite:
        chosen = replace(chosen, overwrite=True)
    if dry_run:
        from merganser.batch.selection import Selection, forecast_batch

        _print_forecast(
            forecast_batch(config, chosen, Selection(limit, sample, seed, kinds)), as_json
        )
        return 0
    from merganser.batch.journal import BatchFailedError
    from merganser.cli.flow_runs import run_flow

    parameters: dict[str, Any] = {"limit": limit, "sample": sample, "seed": seed}
    parameters["kinds"] = list(kinds) or None
    notes: tuple[str, ...] = ()
    try:
        outcome = run_flow(reach, config, chosen, parameters, quiet=as_json)
    except BatchFailedError as error:
        _print_report(error.report, chosen, as_json=as_json)
        say(f"error: {error}", err=True)
        return EXIT_FAILED
    report, notes = outcome.batch, outcome.notes
    assert report is not None, "a batch flow has a report"
    _print_report(report, chosen, as_json=as_json)
    if not as_json:
        for note in notes:
            say(f"note: {note}", err=True)
    return exit_code(report, require_fresh=require_fresh)


def exit_code(report: BatchReport, *, require_fresh: bool) -> int:
    """Return the code for a batch that its flow lets pass: failures come before freshness."""
    if report.failed or report.missing:
        return EXIT_DEGRADED
    return EXIT_STALE if require_fresh and report.stale else 0


def _print_report(report: BatchReport, flow: BatchFlow, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "questions": report.questions,
                "answered": report.answered,
                "asked": report.asked,
                "reused": report.reused,
                "left_out": report.left_out,
                "failed": list(report.failed),
                "missing": list(report.missing),
                "stale": list(report.stale),
                "tokens": {"input": report.tokens[0], "output": report.tokens[1]},
                "metrics": dict(report.metrics),
                "output": str(flow.output),
            }
        )
        return
    left = f", {report.left_out} left out" if report.left_out else ""
    say(
        f"{report.answered} of {report.questions} answered ({report.asked} asked now, "
        f"{report.reused} kept{left}): {flow.output}"
    )
    if report.metrics:
        means = ", ".join(f"{name} {value:.3f}" for name, value in report.metrics.items())
        say(f"  mean {means}")
    for name in report.failed:
        say(f"  failed: {name}")
    for name in report.stale:
        say(f"  rests on what changed since it was indexed: {name}")


def _print_forecast(forecast: BatchForecast, as_json: bool) -> None:  # noqa: FBT001 - one flag
    if as_json:
        print_json(asdict(forecast))
    else:
        say("\n".join(forecast.lines()))


def _choose(
    config: Config,
    name: str | None,
    questions: str | None,
    answers: str | None,
    agent: str | None,
) -> BatchFlow:
    """Return the batch flow that is meant, with what the command line replaces.

    Raises:
        PlanError: It is not clear which one, or there is neither a flow nor --input.
    """
    from merganser.cli.flow_runs import choose_flows
    from merganser.config.flow_definition import BatchFlow, DataTable, resolve_flows
    from merganser.config.spec_flows import BatchFlowSpec

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
    given = data_table(questions, "--input") if questions else found[0].input
    default = DataTable(given.path.with_name(f"{given.path.stem}.answers.jsonl"))
    output = data_table(answers, "--output") if answers else (found[0].output if found else default)
    if given == output:
        raise PlanError(f"{output} is the input too, and would be overwritten; name another output")
    if found:
        return replace(found[0], input=given, output=output, agent=agent or found[0].agent)
    names = list(config.spec.agents)
    who = agent or ("root" if "root" in names else next(iter(names), ""))
    if who not in names:
        known = ", ".join(repr(known) for known in names) or "none"
        raise PlanError(f"{config.path} has no agent {who!r}; it has {known}")
    spec = BatchFlowSpec(type="batch", input=str(given), output=str(output))
    return BatchFlow(name=f"batch-{who}", spec=spec, agent=who, input=given, output=output)
