"""Turns as Prefect sees them: each model request and tool call is a task run of the flow.

Pydantic AI's durability makes the tasks; here they get the turn's id in their cache keys. It
replaces the flow run's id: a run that resumes the same turn takes over what was answered, and a new
turn, with an id of its own, never does. A tool call that was cut in the middle runs
again, so tools must bear that; all of ours only read.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, cast

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import CacheKeyFnPolicy, CachePolicy, CompoundCachePolicy, RunId
from prefect.runtime import task_run

from merganser.agent.answer import describe_source
from merganser.agent.attempt import Hooks
from merganser.agent.model import ChatOptions
from merganser.errors import TransientError
from merganser.humanize import harmless
from merganser.models.retry import NO_RETRY
from merganser.tasks.artifacts import code, one_line, quoted
from merganser.tasks.options import LOCAL_TASK, MODEL_TASK, TaskOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from uuid import UUID

    from pydantic_ai.durable_exec.prefect import TaskConfig

    from merganser.agent.answer import Answer, HitSource
    from merganser.retrieval.hits import SearchResult


def turn_cache_policy(turn_id: str) -> CachePolicy:
    """Return Pydantic AI's cache policy with the turn's id in place of the flow run's.

    Args:
        turn_id: Stored before the turn begins, so that a crash in it can be resumed.
    """
    from pydantic_ai.durable_exec.prefect import DEFAULT_PYDANTIC_AI_CACHE_POLICY  # noqa: PLC0415 - a second

    standard = DEFAULT_PYDANTIC_AI_CACHE_POLICY
    assert isinstance(standard, CompoundCachePolicy)
    kept = [policy for policy in standard.policies if not isinstance(policy, RunId)]
    assert len(kept) == len(standard.policies) - 1, "the standard policy has changed"
    turn = CacheKeyFnPolicy(cache_key_fn=lambda _context, _parameters: turn_id)
    return CompoundCachePolicy(policies=[*kept, turn])


def durable_hooks(turn_id: str, results: Path, trail: list[Any] | None = None) -> Hooks:
    """Return what a flow adds to a turn: durability, searches as tasks, retries by Prefect alone.

    Args:
        turn_id: The turn; the same id resumes.
        results: Folder for what is kept of it, see ``merganser.agent.resume``.
        trail: Futures and states of the tasks before the turn, for edges of the run's graph; the
            states of the turn's own tasks are added as they complete.

    Returns:
        Hooks for ``take_turn``, to be used inside a flow run.
    """
    from pydantic_ai.durable_exec.prefect import PrefectDurability  # noqa: PLC0415 - a second

    policy = turn_cache_policy(turn_id)
    before = [] if trail is None else trail

    def leave_state(_task: Any, _task_run: Any, state: Any) -> None:
        before.append(state)

    def turn_task() -> TaskConfig:
        return _turn_task(policy, results, leave_state)

    async def search_as_task(rag: str, retriever: HitSource, question: str) -> SearchResult:
        return await _search_as_task(rag, retriever, question, before)

    return Hooks(
        capabilities=(
            PrefectDurability(
                model_task_config=turn_task(),
                # Our tools fail for good by telling the model; what they raise may pass.
                tool_task_config=turn_task(),
            ),
        ),
        search=search_as_task,
        chat=ChatOptions(retry=NO_RETRY),
    )


def _turn_task(policy: CachePolicy, results: Path, on_completion: Any) -> TaskConfig:
    options: dict[str, Any] = {
        # The task's name says what is asked of whom; Prefect would add a number to it.
        "task_run_name": lambda: task_run.task_name,
        "on_completion": [on_completion],
        "retries": MODEL_TASK["retries"],
        "retry_delay_seconds": MODEL_TASK["retry_delay_seconds"],
        "retry_condition_fn": may_pass,
        "cache_policy": policy,
        # The result is what a resumed turn takes over.
        "persist_result": True,
        "result_storage": results,
    }
    # Pydantic AI gives all of them to ``Task.with_options``, also what its type does not list.
    return cast("TaskConfig", options)


async def may_pass(task: Any, task_run: Any, state: Any) -> bool:
    """Retry only what may vanish by itself, as ``retry_condition`` does for tasks that block.

    In a coroutine a state gives its result as an awaitable.
    """
    del task, task_run
    result = state.result(raise_on_failure=False)
    if inspect.isawaitable(result):
        result = await result
    return isinstance(result, TransientError)


async def _search_as_task(
    rag: str, retriever: HitSource, question: str, before: Sequence[Any]
) -> SearchResult:
    options: TaskOptions = {**MODEL_TASK, "retry_condition_fn": may_pass}

    @task(**options, name="search", task_run_name=f"search {rag}")
    async def search(question: str) -> SearchResult:
        return await retriever.search(question)

    return await search(question, wait_for=list(before))


@task(**LOCAL_TASK, task_run_name="show answer")
def publish_answer(question: str, answer: Answer, key: str) -> UUID:
    """Show an answer with its sources as an artifact of the run.

    Args:
        question: As asked.
        answer: Its answer.
        key: The artifact's key: lower-case letters, digits and dashes.

    Returns:
        The artifact's id.
    """
    created: Any = create_markdown_artifact(
        answer_markdown(question, answer), key=key, description=one_line(question[:200])
    )
    return created


def answer_markdown(question: str, answer: Answer) -> str:
    """Write an answer: the text, the sources, what it cost."""
    text = "\n".join(map(harmless, answer.text.strip().splitlines()))
    lines = [quoted(question), "", text or "*(no text)*", "", f"**{answer.outcome}**", ""]
    lines += [f"- {code(describe_source(line))}" for line in answer.sources]
    lines += ["", *(f"- note: {one_line(note)}" for note in answer.notes)]
    cost = (
        f"{answer.model}, rag mode {answer.rag_mode}, {answer.usage.requests} requests, "
        f"{answer.usage.input_tokens} + {answer.usage.output_tokens} tokens, "
        f"{answer.seconds:.1f} s"
    )
    lines += ["", cost]
    return "\n".join(lines)
