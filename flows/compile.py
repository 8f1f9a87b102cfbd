"""Compile a config's flow into a Prefect flow with a typed parameter form.

A compiled flow is a closure over the config and its plan. Its name, version and parameters are what
the Prefect UI shows; its module and name are where any process finds it again, see ``pipelines``.
"""

from __future__ import annotations

import re
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast
from uuid import uuid4

from prefect import Flow
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from merganser.batch.selection import SHARD_QUESTIONS, Selection
from merganser.config.definitions import AskFlow, BatchFlow, EvaluateFlow, IndexFlow
from merganser.config.resolve import batch_places
from merganser.flows.execute import Execution, Outcome, Question
from merganser.flows.lifecycle import registered_run
from merganser.flows.models import ModelPolicy
from merganser.flows.task_batches import DEFAULT_WORKERS
from merganser.humanize import without_credentials
from merganser.planning.deployments import flow_label
from merganser.planning.explain import describe_plan
from merganser.planning.plan import build_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    from merganser.agent.events import EventSink
    from merganser.config.definitions import FlowDefinition
    from merganser.config.load import Config
    from merganser.models.ensure import PullPolicy
    from merganser.planning.plan import Plan

MODULE = "merganser.flows.pipelines"


event_sink: ContextVar[EventSink | None] = ContextVar("event_sink", default=None)
"""Who is told what happens during a turn in this process; a flow's parameters are only data."""

private_address: ContextVar[str | None] = ContextVar("private_address", default=None)
"""The model server's address with its credentials, in this process; a flow's parameters are stored
and shown, so they hold the address without."""


class CompiledFlow(Flow[..., Outcome]):
    """A Prefect flow whose parameters are text, numbers and nothing else, as all of ours are."""

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Give the parameters as they are: they are JSON already.

        Prefect's own would import FastAPI for it, a quarter of a CPU second of every command.
        """
        return parameters


def compile_flow(config: Config, definition: FlowDefinition) -> Flow[..., Outcome]:
    """Make the Prefect flow of one flow of a config.

    Args:
        config: The loaded config.
        definition: One of ``resolve_flows(config)``.

    Returns:
        A flow that blocks until the run is over.
    """
    plan = build_plan(config, definition)
    body = _body(config, plan)
    body.__module__ = MODULE
    body.__name__ = body.__qualname__ = attribute_name(config.path.stem, definition.name)
    label = flow_label(config, definition)
    retries = None if isinstance(definition, AskFlow) else definition.retries
    return CompiledFlow(
        body,
        name=label,
        version=plan.fingerprint[:12],
        description=describe_plan(plan),
        flow_run_name=lambda: f"{label} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}",
        task_runner=cast("Any", ThreadPoolTaskRunner(max_workers=_workers(config, definition))),
        retries=retries.count if retries else 0,
        retry_delay_seconds=retries.delay.total_seconds() if retries else 0,
        persist_result=False,
        validate_parameters=True,
    )


def attribute_name(config: str, flow: str) -> str:
    """Give the name under which ``pipelines`` finds a flow of a config."""
    return f"{spell(config)}__{spell(flow)}"


def spell(name: str) -> str:
    """Spell a name as a Python identifier, with no double underscore of its own."""
    return re.sub(r"\W|_+", "_", name)


def _workers(config: Config, definition: FlowDefinition) -> int:
    match definition:
        case IndexFlow():
            return definition.concurrency or DEFAULT_WORKERS
        case BatchFlow():
            # Enough shards that no place for a question is empty while one comes to its end.
            return batch_places(config, definition) // SHARD_QUESTIONS + 2
        case AskFlow() | EvaluateFlow():
            return DEFAULT_WORKERS
        case _:
            assert_never(definition)


def _body(config: Config, plan: Plan) -> Callable[..., Outcome]:
    match plan.flow:
        case IndexFlow():
            return _index_body(config, plan)
        case AskFlow():
            return _ask_body(config, plan)
        case BatchFlow():
            return _batch_body(config, plan)
        case EvaluateFlow():
            return _evaluate_body(config, plan)
        case _:
            assert_never(plan.flow)


def _index_body(config: Config, plan: Plan) -> Callable[..., Outcome]:
    def index(
        full: bool = False,  # noqa: FBT001, FBT002 - a field of the UI's form
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Bring the indexes up to date.

        Args:
            full: Index everything anew; vectors of equal texts are still reused.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        with registered_run():
            return _settled(Execution(config, _policy(base_url, pull), full=full).run(plan))

    return index


def _ask_body(config: Config, plan: Plan) -> Callable[..., Outcome]:
    def ask(
        question: str,
        turn_id: str | None = None,
        rag_mode: Literal["auto", "tool", "context"] | None = None,
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Ask the agent one question.

        Args:
            question: What to ask.
            turn_id: Resumes the turn of that id; empty starts a new one.
            rag_mode: How retrieved text reaches the model; empty takes the agent's own.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        asked = Question(question, turn_id or uuid4().hex, rag_mode, event_sink.get())
        with registered_run():
            return Execution(config, _policy(base_url, pull), question=asked).run(plan)

    return ask


def _batch_body(config: Config, plan: Plan) -> Callable[..., Outcome]:
    def batch(
        limit: int | None = None,
        sample: int | None = None,
        seed: int = 0,
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Answer the table of questions; answered rows of earlier runs are kept.

        Args:
            limit: Ask only the first so many; empty asks all.
            sample: Ask only so many of them, taken at random; empty asks all.
            seed: Of the sample.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        policy, selection = _policy(base_url, pull), Selection(limit, sample, seed)
        with registered_run():
            return _settled(Execution(config, policy, selection=selection).run(plan))

    return batch


def _evaluate_body(config: Config, plan: Plan) -> Callable[..., Outcome]:
    def evaluate(
        snapshot: int | None = None, pull: PullPolicy = "missing", base_url: str | None = None
    ) -> Outcome:
        """Measure how well the rags find what they should; fails when a threshold is missed.

        Args:
            snapshot: Number of a kept snapshot to look at; empty takes the served one.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        with registered_run():
            return Execution(config, _policy(base_url, pull), generation=snapshot).run(plan)

    return evaluate


def _policy(base_url: str | None, pull: PullPolicy) -> ModelPolicy:
    """Say how models are had, with the credentials that the parameter must not have."""
    private = private_address.get()
    is_same = private is not None and without_credentials(private) == base_url
    return ModelPolicy(private if is_same else base_url, pull)


def _settled(outcome: Outcome) -> Outcome:
    """Name the end of a run in which parts failed ``Degraded``, so that nobody takes it for whole.

    The type of the state stays Completed: what comes ``after`` goes on with the parts that are.
    """
    if not outcome.problems:
        return outcome
    state = Completed(name="Degraded", message="; ".join(outcome.problems), data=outcome)
    # Prefect takes a returned state as the run's end, and its data as the result.
    return cast("Outcome", state)
