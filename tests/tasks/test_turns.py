import asyncio
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.context import FlowRunContext

from merganser.agent.answer import Answer, SourceLine, TurnUsage
from merganser.agent.resume import keep_turn
from merganser.agent.turn import take_turn
from merganser.config.load import Config, load_config
from merganser.errors import RequestRejectedError
from merganser.models.client import ModelRunner
from merganser.retrieval.hits import Hit, SearchResult
from merganser.tasks.options import MODEL_TASK
from merganser.tasks.turns import answer_markdown, durable_hooks, turn_cache_policy
from tests.doubles import FaultyRunner, ScriptedAnswer, ScriptedCall

CONFIG = """
models:
  small: {provider: dmr, model: ai/smollm2}
agents:
  root: {model: small, rag_mode: tool, rag: [birds]}
rag:
  birds: {docs: [.], strategies: [{type: bm25}]}
"""

SEARCH = ScriptedAnswer(tool_calls=(ScriptedCall("birds", {"query": "food"}),))


class Birds:
    def __init__(self) -> None:
        self.searches = 0

    async def search(self, question: str) -> SearchResult:
        self.searches += 1
        return SearchResult(query=question, hits=(Hit("ducks.md", 1, 1, "Fish.\n", 1.0),))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "birds.yaml"
    path.write_text(CONFIG)
    return load_config(path)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODEL_TASK, "retry_delay_seconds", [0.05, 0.05, 0.05])


@pytest.fixture
def run_turn(
    runner: FaultyRunner, config: Config, prefect_server: None, no_waiting: None
) -> Callable[..., tuple[Answer, str]]:
    """Take a turn inside a flow run of its own; gives the answer and the flow run's id."""

    def run(birds: Birds, turn_id: str, **options: Any) -> tuple[Answer, str]:
        async def take() -> Answer:
            async with ModelRunner(runner.url) as client:
                return await take_turn(
                    config,
                    "root",
                    "What do ducks eat?",
                    retrievers={"birds": birds},
                    runner=client,
                    turn_id=turn_id,
                    hooks=durable_hooks(turn_id, keep_turn(turn_id, [])),
                    **options,
                )

        @flow(name="ask", persist_result=False)
        def ask() -> None:
            context = FlowRunContext.get()
            assert context is not None
            assert context.flow_run is not None
            seen.append(str(context.flow_run.id))
            answers.append(asyncio.run(take()))

        seen: list[str] = []
        answers: list[Answer] = []
        ask()
        return answers[0], seen[0]

    return run


def task_runs(flow_run: str, *, at_least: int) -> list[TaskRun]:
    """Read a flow run's task runs; they are recorded a moment after they end."""
    found: list[TaskRun] = []
    for _ in range(100):
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))  # pyright: ignore[reportArgumentType] - takes ids as text
            )
        if len(found) >= at_least and all(run.state and run.state.is_final() for run in found):
            return found
        time.sleep(0.1)
    raise AssertionError(f"only {[run.name for run in found]} were recorded")


def names(runs: list[TaskRun]) -> Counter[str]:
    return Counter(run.name.rsplit("-", 1)[0] for run in runs)


def test_each_model_request_and_tool_call_is_a_task_run(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    runner.faults.script_chat([SEARCH, "Fish [1]."])

    answer, flow_run = run_turn(Birds(), uuid4().hex)

    assert answer.text == "Fish [1]."
    runs = task_runs(flow_run, at_least=3)
    assert names(runs) == {"Model Request: ai/smollm2:latest": 2, "Call Tool: birds": 1}


def test_the_same_turn_resumes_and_another_turn_never_reuses(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    birds, turn_id = Birds(), uuid4().hex
    runner.faults.script_chat([SEARCH, "Fish [1]."])
    first, _ = run_turn(birds, turn_id)

    again, flow_run = run_turn(birds, turn_id)

    assert (first.text, first.sources) == (again.text, again.sources)
    assert (birds.searches, len(runner.faults.scripted_requests)) == (1, 2)
    states = {run.state.name for run in task_runs(flow_run, at_least=3) if run.state}
    assert states == {"Cached"}

    runner.faults.script_chat(["Grass."])
    other, _ = run_turn(birds, uuid4().hex)

    assert other.text == "Grass."


def test_a_turn_that_broke_off_takes_over_what_was_answered(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    birds, turn_id = Birds(), uuid4().hex
    runner.faults.script_chat([SEARCH])
    runner.faults.inject("status", route="chat", skip=1, status=400, message="gone")
    with pytest.raises(RequestRejectedError, match="gone"):
        run_turn(birds, turn_id)

    runner.faults.script_chat(["Fish [1]."])
    answer, _ = run_turn(birds, turn_id)

    assert answer.text == "Fish [1]."
    assert [line.id for line in answer.sources] == [1]
    assert birds.searches == 1


def test_a_fault_that_passes_is_retried_in_sight(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    runner.faults.inject("status", route="chat", status=503)
    runner.faults.script_chat(["Fish."])

    answer, flow_run = run_turn(Birds(), uuid4().hex)

    assert answer.text == "Fish."
    (run,) = task_runs(flow_run, at_least=1)
    assert run.run_count == 2


def test_a_fault_that_stays_is_tried_once(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    runner.faults.inject("status", route="chat", status=400, times=5)

    with pytest.raises(RequestRejectedError):
        run_turn(Birds(), uuid4().hex)

    assert [fault.times for fault in runner.faults.pending] == [4]


@pytest.mark.usefixtures("citing_model")
def test_context_mode_searches_in_a_task(
    runner: FaultyRunner, run_turn: Callable[..., tuple[Answer, str]]
):
    runner.faults.script_chat(["Fish [1]."])

    answer, flow_run = run_turn(Birds(), uuid4().hex, rag_mode="context")

    assert answer.rag_mode == "context"
    runs = task_runs(flow_run, at_least=2)
    assert {run.name for run in runs} >= {"search birds"}
    assert len(runs) == 2


def test_the_turn_stands_where_the_flow_run_stood():
    policy: Any = turn_cache_policy("turn-1")

    assert not any("RunId" in type(part).__name__ for part in policy.policies)
    assert len(policy.policies) == 3


def test_an_answer_reads_well_as_markdown():
    answer = Answer(
        text="Fish [1].",
        sources=(SourceLine("ducks.md", 1, 3, id=1, cited=True), SourceLine("b.md", 2, 2)),
        usage=TurnUsage(2, 10, 3),
        rag_mode="tool",
        notes=("a note",),
        model="ai/smollm2",
    )

    assert answer_markdown("What?\nAnd why?", answer) == (
        "> What?\n> And why?\n\nFish [1].\n\n**answered**\n\n"
        "- `[1] ducks.md:1-3 (cited)`\n- `b.md:2-2 (retrieved, not cited)`\n\n- note: a note\n\n"
        "ai/smollm2, rag mode tool, 2 requests, 10 + 3 tokens, 0.0 s"
    )
