"""``merganser eval``: how well the rags find what they should."""

from __future__ import annotations

import re
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
    wait_option,
)
from merganser.cli.terminal import say
from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.config.flow_definition import EvaluateFlow, FlowDefinition
    from merganser.config.load import Config
    from merganser.config.spec_evaluation import Metric, ThresholdSpec
    from merganser.evaluation.assess import Assessment

_REQUIREMENT = re.compile(r"(?P<metric>[^<>=\s]+)\s*(?P<bound>>=|drop\s*<=)\s*(?P<value>.*)")
_OLD_OPTION = re.compile(r"--(?P<kind>min|max-drop)-(?P<metric>[^=]+)(?:=(?P<value>.*))?")


class _Required(NamedTuple):
    """What the command line requires of a metric: ``min`` or ``max_drop`` with its value."""

    metric: Metric
    key: str
    value: float


class _Requirement(click.ParamType[_Required]):
    """Type of ``--require``."""

    name = "requirement"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> _Required:
        """Read ``recall@5>=0.8`` or ``mrr@10 drop<=0.02``.

        Raises:
            click.BadParameter: It has another form, no metric, or a number beyond 0 to 1.
        """
        from merganser.config.spec_evaluation import parse_metric, suggest_metric

        found = _REQUIREMENT.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r}: write recall@5>=0.8 or 'mrr@10 drop<=0.02'", param, ctx)
        name, bound, text = found.groups()
        metric = parse_metric(name)
        if metric is None:
            self.fail(f"{name!r} is no metric; {suggest_metric(name)}", param, ctx)
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0.0 <= number <= 1.0:
            self.fail(f"{metric} takes a number from 0 to 1, got {text!r}", param, ctx)
        return _Required(metric, "min" if bound == ">=" else "max_drop", number)


class _EvalCommand(click.Command):
    """Takes ``--min-recall@5 0.8`` and ``--max-drop-recall@5 0.1`` as ``--require`` too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite those options, and leave the rest to click."""
        words = iter(args)
        rest: list[str] = []
        for word in words:
            if old := _OLD_OPTION.fullmatch(word):
                bound = ">=" if old["kind"] == "min" else " drop<="
                value = next(words, "") if old["value"] is None else old["value"]
                _check_old_option(word, old["metric"], ctx)
                rest.append(f"--require={old['metric']}{bound}{value}")
            else:
                rest.append(word)
        return super().parse_args(ctx, rest)


def _check_old_option(word: str, metric: str, ctx: click.Context) -> None:
    """Blame the option as it was written, not the one it stands for."""
    from merganser.config.spec_evaluation import parse_metric, suggest_metric

    if parse_metric(metric) is None:
        option = word.partition("=")[0]
        raise click.UsageError(f"{option}: {metric!r} is no metric; {suggest_metric(metric)}", ctx)


@click.command(cls=_EvalCommand)
@file_argument
@click.argument("flow", required=False)
@click.option("--queries", metavar="JSONL", help="Queries and passages [default: the flow's].")
@click.option("--rag", "rags", multiple=True, help="Which rag; repeatable [default: the flow's].")
@click.option("--snapshot", type=int, help="A kept snapshot, compared with the served one.")
@click.option("--per-query", is_flag=True, help="Show each query, what it missed and found.")
@click.option("--junit", metavar="FILE", help="Also write a JUnit report.")
@click.option(
    "--require",
    "required",
    type=_Requirement(),
    multiple=True,
    metavar="METRIC>=VALUE",
    help="What must be reached, 'recall@5>=0.8', or may be lost, 'mrr@10 drop<=0.02'; repeatable.",
)
@wait_option
@reach_options
@json_option
def command(
    file: str,
    flow: str | None,
    *,
    queries: str | None,
    rags: tuple[str, ...],
    snapshot: int | None,
    per_query: bool,
    junit: str | None,
    required: tuple[_Required, ...],
    as_json: bool,
    reach: Reach,
) -> int:
    """Evaluate the retrieval of FILE: its evaluate flows, or else the gates of its index flows.

    FLOW names one of them; --queries evaluates other queries. --require adds to what the file
    requires. Metrics: recall@k, precision@k, success@k, mrr@k, ndcg@k.

    Exits with 1 when something is not reached, with 3 when queries could not be searched.
    """
    config = reach.load(file)
    chosen = _choose(config, flow, queries, rags)
    chosen = [_require(one, required) for one in chosen]
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
            say(line)
        for line in present.failure_lines(one):
            say(f"error: {line}" if not line.startswith(" ") else line, err=True)


def _choose(
    config: Config, name: str | None, queries: str | None, rags: Sequence[str]
) -> list[EvaluateFlow]:
    """Return what is to be evaluated, with what the command line replaces.

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
            raise PlanError(
                f"{name!r} of {config.path} neither evaluates nor has a gate with queries"
            )
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
            "--queries evals.jsonl, or write a flow of type evaluate or a gate with queries"
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
    for metric, key, value in required:
        threshold = thresholds.get(metric) or ThresholdSpec(metric=metric)
        thresholds[metric] = threshold.model_copy(update={key: value})
    spec = flow.spec.model_copy(update={"metrics": tuple(thresholds.values())})
    return replace(flow, spec=spec)
