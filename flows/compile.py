"""Compile a config's flow into a Prefect flow with a typed parameter form.

A compiled flow is a closure over the config and its plan. Its name, version and parameters are what
the Prefect UI shows; its module and name are where any process finds it again, see ``pipelines``.
"""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast
from uuid import uuid4

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner

from merganser.batch.selection import SHARD_QUESTIONS, Selection
from merganser.config.flow_definition import (
    AskFlow,
    BatchFlow,
    EvaluateFlow,
    IndexFlow,
    batch_concurrency,
    wait_of_flow,
)
from merganser.config.spec_flows import RetriesSpec
from merganser.documents.kinds import Kind  # noqa: TC001 - Prefect reads the annotation
from merganser.ending import what_ended
from merganser.flows.console import show_controls
from merganser.flows.execute import Execution, Outcome, Question
from merganser.flows.index import DEFAULT_WORKERS, shard_workers
from merganser.flows.models import ModelPolicy
from merganser.humanize import without_credentials
from merganser.models.ref import PullPolicy  # noqa: TC001 - Prefect reads the annotation
from merganser.planning.deployments import flow_label
from merganser.planning.explain import describe_plan
from merganser.planning.plan import build_plan
from merganser.services.prefect_server import NO_SERVER
from merganser.services.run_marks import marked_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from merganser.agent.events import EventSink
    from merganser.config.flow_definition import FlowDefinition
    from merganser.config.load import Config
    from merganser.planning.plan import Plan

    Run = Callable[..., Outcome]

MODULE = "merganser.flows.pipelines"

event_sink: ContextVar[EventSink | None] = ContextVar("event_sink", default=None)
"""Who is told what happens during a turn in this process; a flow's parameters are only data."""

private_address: ContextVar[str | None] = ContextVar("private_address", default=None)
"""The model server's address with its credentials, in this process; a flow's parameters are stored
and shown, so they hold the address without."""


class CompiledFlow(Flow[..., Outcome]):
    """A Prefect flow whose parameters are JSON values, as those of all our flows are."""

    def serialize_parameters(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters as they are.

        Prefect's own method imports FastAPI, which costs every command a quarter of a CPU second.
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
    show_controls()
    plan = build_plan(config, definition)
    body = _body(config, plan)
    body.__module__ = MODULE
    body.__name__ = body.__qualname__ = attribute_name(config.path.stem, definition.name)
    label = flow_label(config, definition)
    retries = RetriesSpec() if isinstance(definition, AskFlow) else definition.spec.retries
    return CompiledFlow(
        body,
        name=label,
        version=plan.fingerprint[:12],
        description=describe_plan(plan),
        flow_run_name=lambda: f"{label} {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}",
        task_runner=cast("Any", ThreadPoolTaskRunner(max_workers=_workers(config, definition))),
        retries=retries.count,
        retry_delay_seconds=retries.delay.total_seconds(),
        persist_result=False,
        validate_parameters=True,
    )


def attribute_name(config: str, flow: str) -> str:
    """Return the name under which ``pipelines`` finds a flow of a config."""
    return f"{spell(config)}__{spell(flow)}"


def spell(name: str) -> str:
    """Spell a name as a Python identifier, with no double underscore of its own."""
    return re.sub(r"\W|_+", "_", name)


def _workers(config: Config, definition: FlowDefinition) -> int:
    """Return how many tasks of a flow run at a time."""
    match definition:
        case IndexFlow():
            return shard_workers(definition.spec)
        case BatchFlow():
            # So many shards that questions are left to ask while one of them comes to its end.
            return batch_concurrency(config, definition) // SHARD_QUESTIONS + 2
        case AskFlow() | EvaluateFlow():
            return DEFAULT_WORKERS
        case _:
            assert_never(definition)


def _body(config: Config, plan: Plan) -> Run:
    """Return the function that Prefect runs; its signature and docstring make the UI's form."""

    def run(pull: PullPolicy, base_url: str | None, **inputs: Any) -> Outcome:
        policy = ModelPolicy(_with_credentials(base_url), pull, wait_of_flow(plan.flow))
        try:
            with _marked():
                return _named(Execution(config, plan, policy, **inputs).run())
        except (KeyboardInterrupt, TerminationSignal):
            if _is_deployed():
                raise
            return _stopped()

    match plan.flow:
        case IndexFlow():
            return _index_body(run)
        case AskFlow():
            return _ask_body(run)
        case BatchFlow():
            return _batch_body(run)
        case EvaluateFlow():
            return _evaluate_body(run)
        case _:
            assert_never(plan.flow)


def _index_body(run: Run) -> Run:
    def index(
        full: bool = False,  # noqa: FBT001, FBT002 - a field of the UI's form
        repair: bool = False,  # noqa: FBT001, FBT002 - as above
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Bring the indexes up to date.

        Args:
            full: Index everything anew; vectors of equal texts are still reused.
            repair: Read all of the index, and do anew what is damaged.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        return run(pull, base_url, full=full, repair=repair)

    return index


def _ask_body(run: Run) -> Run:
    def ask(
        question: str,
        turn_id: str | None = None,
        rag_mode: Literal["auto", "tool", "context"] | None = None,
        *,
        kinds: list[Kind] | None = None,
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Ask the agent one question.

        Args:
            question: What to ask.
            turn_id: Resumes the turn of that id; empty starts a new one.
            rag_mode: How retrieved text reaches the model; empty takes the agent's own.
            kinds: The only kinds of documents that are searched; empty searches all.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        asked = Question(
            question,
            turn_id or uuid4().hex,
            rag_mode,
            event_sink.get(),
            kinds=tuple(kinds or ()),
        )
        return run(pull, base_url, question=asked)

    return ask


def _batch_body(run: Run) -> Run:
    def batch(
        limit: int | None = None,
        sample: int | None = None,
        seed: int = 0,
        *,
        kinds: list[Kind] | None = None,
        pull: PullPolicy = "missing",
        base_url: str | None = None,
    ) -> Outcome:
        """Answer the table of questions; answered rows of earlier runs are kept.

        Args:
            limit: Ask only the first so many; empty asks all.
            sample: Ask only so many of them, taken at random; empty asks all.
            seed: The same seed takes the same sample.
            kinds: The only kinds of documents that are searched, for questions whose own filters
                name none; empty searches all.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        return run(pull, base_url, selection=Selection(limit, sample, seed, tuple(kinds or ())))

    return batch


def _evaluate_body(run: Run) -> Run:
    def evaluate(
        snapshot: int | None = None, pull: PullPolicy = "missing", base_url: str | None = None
    ) -> Outcome:
        """Measure how well the rags find what they should; fails when a threshold is missed.

        Args:
            snapshot: Number of a kept snapshot to look at; empty takes the served one.
            pull: What to do about models that are not local.
            base_url: Address of the model server; empty looks for one.
        """
        return run(pull, base_url, generation=snapshot)

    return evaluate


def _with_credentials(base_url: str | None) -> str | None:
    """Return the model server's address with the credentials that the parameter must not have."""
    private = private_address.get()
    is_same = private is not None and without_credentials(private) == base_url
    return private if is_same else base_url


def _marked() -> AbstractContextManager[None]:
    """Mark the current flow run as alive in this process."""
    context = FlowRunContext.get()
    server = os.environ.get("PREFECT_API_URL", "")
    if context is None or context.flow_run is None or server == NO_SERVER:
        return nullcontext()
    return marked_run(context.flow_run.id, server)


def _is_deployed() -> bool:
    """Whether a worker runs this: when it ends, its runs are to crash and be started again."""
    context = FlowRunContext.get()
    return context is None or context.flow_run is None or bool(context.flow_run.deployment_id)


def _stopped() -> Outcome:
    """End a run that a person stopped as Cancelled."""
    message = f"Stopped by {what_ended()}; what was finished is kept."
    return cast("Outcome", Cancelled(message=message))


def _named(outcome: Outcome) -> Outcome:
    """Name the end of a run in which parts failed ``Degraded``, so that it is not taken for whole.

    The type of the state stays Completed: what comes ``after`` goes on with the parts that are.
    """
    if not outcome.problems:
        return outcome
    state = Completed(name="Degraded", message="; ".join(outcome.problems), data=outcome)
    # Prefect takes a returned state as the run's end, and its data as the result.
    return cast("Outcome", state)
