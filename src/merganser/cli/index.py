"""``merganser index``: bring the indexes of a config up to date."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, time, timedelta
from time import monotonic
from typing import TYPE_CHECKING

import click

from merganser.cli import EXIT_DEGRADED
from merganser.cli.options import (
    DURATION,
    Reach,
    file_argument,
    json_option,
    print_json,
    reach_options,
    wait_option,
)
from merganser.cli.terminal import say, say_folded
from merganser.documents.skipping import count_skipped, describe_skipped
from merganser.humanize import visible_name
from merganser.planning.contents import describe_contents

if TYPE_CHECKING:
    from merganser.config.flow_definition import FlowDefinition
    from merganser.indexing.run_report import IndexReport


def _read_time(ctx: click.Context, param: click.Parameter, value: str | None) -> timedelta | None:
    """Return how long it is until the next such time of the day; click's callback."""
    del ctx
    if value is None:
        return None
    try:
        wanted = time.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no time such as 06:00", param=param) from None
    now = datetime.now().astimezone()
    then = datetime.combine(now.date(), wanted.replace(tzinfo=None)).astimezone()
    if then <= now:
        tomorrow = now.date() + timedelta(days=1)
        then = datetime.combine(tomorrow, wanted.replace(tzinfo=None)).astimezone()
    return then - now


@click.command()
@file_argument
@click.argument("flow", required=False)
@click.option("--full", is_flag=True, help="Index everything anew; equal texts keep their vectors.")
@click.option("--max-time", type=DURATION, help="Stop embedding after this time, such as 2h.")
@click.option(
    "--until", metavar="HH:MM", callback=_read_time, help="Stop embedding at this time of the day."
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads for the run's own work, at most [default: the flow's, $MERGANSER_THREADS or "
    "as many as there are cores].",
)
@wait_option
@reach_options
@json_option
def command(
    file: str,
    flow: str | None,
    *,
    full: bool,
    max_time: timedelta | None,
    until: timedelta | None,
    threads: int | None,
    as_json: bool,
    reach: Reach,
) -> int:
    """Bring the indexes of FILE up to date: all of them, or those of one FLOW.

    A run that is stopped by --max-time or --until publishes nothing and exits with 3; what it has
    embedded is kept, and the next run goes on from there.
    """
    from merganser.cli.flow_runs import run_flows
    from merganser.config.flow_definition import IndexFlow

    began = monotonic()
    limit = min((one for one in (max_time, until) if one is not None), default=None)

    def limited(flow: FlowDefinition) -> FlowDefinition:
        assert isinstance(flow, IndexFlow), "run_flows runs the kind that is asked for"
        said: dict[str, object] = {"threads": threads} if threads else {}
        if limit is not None:
            left = limit - timedelta(seconds=monotonic() - began)
            said["max_time"] = max(timedelta(0), left)
        return replace(flow, spec=flow.spec.model_copy(update=said)) if said else flow

    outcomes = run_flows(
        reach,
        file,
        flow,
        kind=IndexFlow,
        parameters={"full": full},
        quiet=as_json,
        adapt=limited,
    )
    stopped = [text for outcome in outcomes for text in outcome.stopped]
    reports = [report for outcome in outcomes for report in outcome.reports]
    if as_json:
        seconds = sum(outcome.embed_seconds for outcome in outcomes)
        rows = [report.to_json() for report in reports]
        found: dict[str, object] = {"indexes": rows, "embed_seconds": round(seconds, 3)}
        print_json({**found, "stopped": stopped} if stopped else found)
    else:
        for report in reports:
            say_folded(describe_report(report))
        total = sum(report.seconds for report in reports)
        embedding = sum(outcome.embed_seconds for outcome in outcomes)
        if embedding:
            say(f"embedding took {embedding:.1f} s of {total:.1f} s")
        said = {note for report in reports for note in report.notes}
        for note in dict.fromkeys(note for outcome in outcomes for note in outcome.notes):
            if note not in said:
                say(f"note: {note}", err=True)
        for text in stopped:
            say(text)
    return EXIT_DEGRADED if stopped or any(report.failed for report in reports) else 0


def describe_report(report: IndexReport) -> str:
    """Say what a run did, in a few lines."""
    head = (
        f"{report.name}: snapshot {report.served} ({report.status}), {report.files:,} files, "
        f"{report.chunks:,} chunks"
    )
    changes = ", ".join(
        f"{count:,} {what}"
        for what, count in (
            ("added", report.added),
            ("changed", report.changed),
            ("moved", report.moved),
            ("removed", report.removed),
            ("unchanged", report.unchanged),
            ("failed", len(report.failed)),
            ("skipped", len(report.skipped)),
        )
        if count
    )
    work = f"{report.bytes:,} bytes read, {report.seconds:.1f} s"
    if report.embedding:
        embedded = f"{report.texts_embedded:,} texts embedded, {report.texts_reused:,} reused"
        work = f"{report.bytes:,} bytes read, {embedded}, {report.seconds:.1f} s"
    lines = [head, f"  {changes}", f"  {work}"]
    lines += [f"  everything again: {reason}" for reason in report.reasons]
    if not report.embedding:
        lines.append("  no embedding model: only words can be searched")
    lines += [f"  {note}" for note in report.notes]
    lines += [f"  failed: {visible_name(f.path)} ({f.reason}: {f.detail})" for f in report.failed]
    lines += (f"  {line}" for line in describe_contents(report.contents))
    if report.status == "unchanged" and not report.new_skips:
        counts = count_skipped(report.skipped)
        where = "`merganser files FILE --skipped` names them"
        lines += [f"  skipped as before: {counts}; {where}"] if counts else []
    else:
        lines += (f"  {line}" for line in describe_skipped(report.skipped, {*report.new_skips}))
    return "\n".join(lines)
