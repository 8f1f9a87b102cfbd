"""``merganser eval``: how well the rags find what they should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from merganser.cli import EXIT_DEGRADED, EXIT_FAILED
from merganser.cli.options import (
    Reach,
    file_argument,
    json_option,
    print_json,
    reach_options,
)
from merganser.config.spec_evaluation import parse_metric, suggest_metric
from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.config.flow_definition import EvaluateFlow, FlowDefinition
    from merganser.config.load import Config
    from merganser.config.spec_evaluation import ThresholdSpec
    from merganser.evaluation.assess import Assessment

_REQUIRED = "merganser.required"
_MIN, _MAX_DROP = "--min-", "--max-drop-"


class _Required(NamedTuple):
    """What the command line requires of a metric."""

    metric: str
    key: str
    value: float


class _EvalCommand(click.Command):
    """A command with options that are named after metrics, such as ``--min-recall@5``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the options of metrics out, and leave the rest to click."""
        rest: list[str] = []
        required: list[_Required] = []
        words = iter(args)
        for word in words:
            prefix = next((p for p in (_MIN, _MAX_DROP) if word.startswith(p)), None)
            if prefix is None:
                rest.append(word)
                continue
            name, separator, value = word.removeprefix(prefix).partition("=")
            text = value if separator else next(words, "")
            key = prefix.strip("-").replace("-", "_")
            required.append(_Required(_metric(name, word, ctx), key, _number(text, word, ctx)))
        ctx.meta[_REQUIRED] = tuple(required)
        return super().parse_args(ctx, rest)


def _metric(name: str, word: str, ctx: click.Context) -> str:
    if parse_metric(name) is None:
        raise click.UsageError(f"{word}: {name!r} is no metric; {suggest_metric(name)}", ctx=ctx)
    return name


def _number(text: str, word: str, ctx: click.Context) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise click.UsageError(f"{word} takes a number from 0 to 1, got {text!r}", ctx=ctx)
    return value


@click.command(cls=_EvalCommand)
@file_argument
@click.argument("flow", required=False)
@click.option("--queries", metavar="JSONL", help="Queries and passages [default: the flow's].")
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: the flow's].")
@click.option("--snapshot", type=int, help="A kept snapshot, compared with the served one.")
@click.option("--per-query", is_flag=True, help="Show each query, what it missed and found.")
@click.option("--junit", metavar="FILE", help="Also write a JUnit report.")
@reach_options
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    file: str,
    flow: str | None,
    *,
    queries: str | None,
    rags: tuple[str, ...],
    snapshot: int | None,
    per_query: bool,
    junit: str | None,
    as_json: bool,
    reach: Reach,
) -> int:
    """Evaluate the retrieval of FILE: its evaluate flows, or else the gates of its index flows.

    FLOW names one of them; --queries evaluates other queries. What must be reached is given by
    options that are named after metrics, beside those of the file: --min-recall@5 0.8,
    --max-drop-mrr@10 0.02. Metrics: recall@k, precision@k, success@k, mrr@k, ndcg@k.

    Exits with 1 when something is not reached, with 3 when queries could not be searched.
    """
    config = reach.load(file)
    chosen = _choose(config, flow, queries, rags)
    chosen = [_require(one, ctx.meta[_REQUIRED]) for one in chosen]
    assessments = [
        assessment
        for one in chosen
        for assessment in _run(reach, config, one, snapshot=snapshot, quiet=as_json)
    ]
    _show(assessments, per_query=per_query, junit=junit, as_json=as_json)
    if not all(one.passed for one in assessments):
        return EXIT_FAILED
    return EXIT_DEGRADED if any(one.evaluation.failed for one in assessments) else 0


def _run(
    reach: Reach, config: Config, flow: EvaluateFlow, *, snapshot: int | None, quiet: bool
) -> tuple[Assessment, ...]:
    """Run a flow; missing a threshold fails the run, and the figures are shown all the same."""
    from merganser.cli.flow_runs import run_flow
    from merganser.errors import QualityError

    try:
        return run_flow(reach, config, flow, {"snapshot": snapshot}, quiet=quiet).assessments
    except QualityError as error:
        from merganser.flows.evaluate import EvaluationFailedError

        if not isinstance(error, EvaluationFailedError):
            raise
        return error.assessments


def _show(
    assessments: Sequence[Assessment], *, per_query: bool, junit: str | None, as_json: bool
) -> None:
    from merganser.evaluation import present

    if junit:
        Path(junit).write_text(present.junit(assessments), encoding="utf-8")
    if as_json:
        found = [present.assessment_as_json(one) for one in assessments]
        print_json({"passed": all(one.passed for one in assessments), "evaluations": found})
        return
    for one in assessments:
        for line in present.assessment_lines(one, per_query=per_query):
            click.echo(line)
        for line in present.failure_lines(one):
            click.echo(f"error: {line}" if not line.startswith(" ") else line, err=True)


def _choose(
    config: Config, name: str | None, queries: str | None, rags: Sequence[str]
) -> list[EvaluateFlow]:
    """Give what is to be evaluated, with what the command line replaces.

    Raises:
        PlanError: There is nothing to evaluate, or a name is not known.
    """
    from merganser.config.flow_definition import EvaluateFlow, resolve_flow, resolve_flows
    from merganser.config.rag_definition import resolve_rag
    from merganser.config.spec_evaluation import DEFAULT_METRICS

    for rag in rags:
        resolve_rag(config, rag)
    given = Path(queries).absolute() if queries else None
    if name is not None:
        flow = resolve_flow(config, name)
        found = [flow] if isinstance(flow, EvaluateFlow) else _gates_of(flow)
        if not found:
            raise PlanError(f"{name!r} of {config.path} neither evaluates nor has a gate")
    elif given is not None:
        wanted = tuple(config.spec.rag)
        found = [_flow("eval", wanted, given, DEFAULT_METRICS)]
    else:
        flows = resolve_flows(config)
        found = [flow for flow in flows if isinstance(flow, EvaluateFlow)]
        found = found or [gate for flow in flows for gate in _gates_of(flow)]
    chosen: list[EvaluateFlow] = []
    for one in found:
        kept = tuple(rag for rag in one.rags if not rags or rag in rags)
        if kept:
            chosen.append(replace(one, rags=kept, queries=given or one.queries))
    if not chosen:
        raise PlanError(
            f"{config.path} has nothing to evaluate{' for that rag' if rags else ''}; give "
            "--queries evals.jsonl, or write a flow of type evaluate or a gate"
        )
    return chosen


def _gates_of(flow: FlowDefinition) -> list[EvaluateFlow]:
    """Return the gates of an index flow as if each were an evaluate flow."""
    from merganser.config.flow_definition import IndexFlow

    if not isinstance(flow, IndexFlow):
        return []
    name = f"{flow.name}-gate"
    return [_flow(name, flow.rags, gate.queries, gate.thresholds) for gate in flow.gates]


def _flow(
    name: str, rags: tuple[str, ...], queries: Path, metrics: tuple[ThresholdSpec, ...]
) -> EvaluateFlow:
    from merganser.config.flow_definition import EvaluateFlow
    from merganser.config.spec_flows import EvaluateFlowSpec

    # Not validated: on the command line queries may be in a file of any ending.
    spec = EvaluateFlowSpec.model_construct(type="evaluate", queries=str(queries), metrics=metrics)
    return EvaluateFlow(name=name, spec=spec, rags=rags, queries=queries)


def _require(flow: EvaluateFlow, required: Sequence[_Required]) -> EvaluateFlow:
    """Put what the command line requires in place of what the flow requires of the same metric."""
    from merganser.config.spec_evaluation import ThresholdSpec

    thresholds = {one.metric: one for one in flow.spec.metrics}
    for name, key, value in required:
        metric = parse_metric(name)
        assert metric is not None, "the command line was checked"
        threshold = thresholds.get(metric) or ThresholdSpec(metric=metric)
        thresholds[metric] = threshold.model_copy(update={key: value})
    spec = flow.spec.model_copy(update={"metrics": tuple(thresholds.values())})
    return replace(flow, spec=spec)
