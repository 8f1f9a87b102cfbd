"""What all turns of a batch share: one event loop, one client a server, indexes held in memory.

Shards are answered by threads; their turns all run on one loop in a thread of its own, so that the
limit of concurrent turns, the connections and the resident indexes are common to them.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from anyio.from_thread import start_blocking_portal

from merganser.agent.agent_definition import describe_agent
from merganser.agent.events import Restarted
from merganser.agent.turn import take_turn
from merganser.batch.answer_rows import ANSWERED
from merganser.batch.journal import question_columns
from merganser.batch.judge import Judged, judge_answer, require_judge
from merganser.config.flow_definition import batch_concurrency
from merganser.errors import MerganserError, RunnerUnreachableError, ServerAwayError
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelUse, token_of
from merganser.progress import report
from merganser.retrieval.opening import open_retrievers
from merganser.retrieval.search import BoundedSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

    from anyio.from_thread import BlockingPortal

    from merganser.agent.events import EventSink, TurnEvent
    from merganser.batch.journal import AnswerJournal
    from merganser.batch.questions import Question
    from merganser.batch.selection import BatchShard
    from merganser.config.flow_definition import BatchFlow
    from merganser.config.load import Config
    from merganser.models.ref import ModelRef
    from merganser.retrieval.opening import FindModel
    from merganser.retrieval.search import Retriever

    AskQuestion: TypeAlias = Callable[[Question, EventSink], Awaitable[dict[str, Any]]]

ERROR = "error"
"""Outcome of a row whose turn raised."""


@dataclass(frozen=True, slots=True)
class ShardReport:
    """How the questions of one shard went.

    Attributes:
        number: The shard.
        answered: Rows with the outcome ``answered``.
        failed: Rows with any other outcome.
        seconds: Sum of the turns' wall times.
    """

    number: int
    answered: int
    failed: int
    seconds: float


async def answer_questions(
    shard: BatchShard,
    answer: AskQuestion,
    journal: AnswerJournal,
    *,
    keys: Mapping[str, str],
    concurrency: asyncio.Semaphore,
) -> ShardReport:
    """Answer the questions of one shard side by side; one that fails does not stop the others.

    What was answered already, before the shard was tried again, is not asked once more.

    Args:
        shard: What to ask.
        answer: Takes one turn and tells its events; returns the answer's part of the row.
        journal: Where rows go, open.
        keys: The key of each question, by its id.
        concurrency: Limits how many are asked at a time; shared by the shards.

    Returns:
        The counts; the rows are in the journal.

    Raises:
        ServerAwayError: The model server was waited for and did not come back; the questions under
            way have no row.
        RunnerUnreachableError: The same where nothing is waited for.
        StoreError: A row cannot be written.
        asyncio.CancelledError: The run was interrupted; rows written so far stay.
    """

    async def one(question: Question) -> dict[str, Any]:
        async with concurrency:
            given = await _row(question, answer, journal)
        row = {**question_columns(question), **given, "key": keys[question.id]}
        journal.add(row)
        report("answer questions", 1, journal.to_ask, unit="questions", advance=True)
        return row

    left = [q for q in shard.questions if not journal.has_answered(keys[q.id])]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in left]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # the others were given up for its sake
    rows = [task.result() for task in tasks]
    answered = sum(row["outcome"] == ANSWERED for row in rows)
    return ShardReport(
        shard.number, answered, len(rows) - answered, sum(row["seconds"] for row in rows)
    )


async def _row(question: Question, answer: AskQuestion, journal: AnswerJournal) -> dict[str, Any]:
    started = asyncio.get_running_loop().time()
    attempts = 1

    def count(event: TurnEvent) -> None:
        nonlocal attempts
        attempts += isinstance(event, Restarted)

    try:
        return {**await answer(question, count), "error": None, "attempts": attempts}
    except RunnerUnreachableError:
        raise
    except ServerAwayError as error:
        # A server that answers others all the while is not away: maybe its engine dies of this one.
        if not journal.answered_within(error.seconds / 2):
            raise
        message = str(error)
    except MerganserError as error:
        message = str(error)
    except Exception as error:  # noqa: BLE001 - a question that breaks must not stop the others
        message = f"{type(error).__name__}: {error}"
    seconds = round(asyncio.get_running_loop().time() - started, 3)
    return {
        "answer": None,
        "sources": [],
        "outcome": ERROR,
        "error": message,
        "seconds": seconds,
        "attempts": attempts,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSession:
    """Answers shards; see ``open_session``.

    Attributes:
        config: With the agent.
        flow: What to answer.
        keys: The key of each question, by its id.
        portal: Calls into the loop.
        retrievers: Open on the loop, by the name of their rag.
        runner: The chat model's client, open on the loop.
        judge: The judge's client, open on the loop; None when nothing is judged.
        concurrency: Limits how many questions are asked at a time.
    """

    config: Config
    flow: BatchFlow
    keys: Mapping[str, str]
    portal: BlockingPortal
    retrievers: Mapping[str, Retriever]
    runner: ModelRunner
    judge: ModelRunner | None
    concurrency: asyncio.Semaphore

    def answer(self, shard: BatchShard, journal: AnswerJournal) -> ShardReport:
        """Answer a shard's questions; blocks the calling thread, not the loop.

        Raises:
            ServerAwayError: The model server did not come back in time.
            StoreError: An index cannot be read.
        """

        async def run() -> ShardReport:
            return await answer_questions(
                shard, self._answer, journal, keys=self.keys, concurrency=self.concurrency
            )

        return self.portal.call(run)

    def try_judge(self) -> None:
        """Check the judge, if there is one, against its labelled examples.

        Raises:
            PlanError: It got too many of them wrong.
            ModelRunnerError: Its server failed.
        """
        if self.judge is not None and self.flow.judge is not None:
            self.portal.call(require_judge, self.judge, self.flow.judge.model)

    async def _answer(self, question: Question, on_event: EventSink) -> dict[str, Any]:
        sources = {
            name: BoundedSource(retriever, question.where)
            for name, retriever in self.retrievers.items()
        }
        answer = await take_turn(
            self.config,
            self.flow.agent,
            question.question,
            retrievers=sources,
            runner=self.runner,
            turn_id=self.keys[question.id],
            on_event=on_event,
        )
        row = answer.to_json()
        if self.judge is not None and self.flow.judge is not None and answer.outcome == ANSWERED:
            passages = tuple(p for source in sources.values() for p in source.passages)
            case = Judged(question.question, answer.text, passages)
            row["verdicts"] = await judge_answer(self.judge, self.flow.judge.model, case)
        return row


@contextmanager
def open_session(
    config: Config, flow: BatchFlow, keys: Mapping[str, str], find_model: FindModel
) -> Generator[BatchSession]:
    """Open what a batch's turns share; leaving it by an error cancels the turns under way.

    Args:
        config: With the agent.
        flow: What to answer; its chat models are ready.
        keys: The key of each question, by its id.
        find_model: Where models are.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
        StoreError: An index cannot be read.
    """
    agent = describe_agent(config, flow.agent)
    rags = [rag.name for rag in agent.rags]

    def connect(model: ModelRef) -> ModelRunner:
        place = find_model("chat", model)
        assert place is not None, "the plan makes the chat models ready"
        client = ModelRunner(place.address, token=token_of(model))
        use = ModelUse(model=model, role="chat", used_by=f"flows.{flow.name}")
        client.keep_configured(use, place.served)
        return stack.enter_context(portal.wrap_async_context_manager(client))

    with start_blocking_portal() as portal, ExitStack() as stack:
        opening = open_retrievers(config, rags, find_model, resident=True)
        yield BatchSession(
            config=config,
            flow=flow,
            keys=keys,
            portal=portal,
            retrievers=stack.enter_context(portal.wrap_async_context_manager(opening)),
            runner=connect(agent.model),
            judge=connect(flow.judge) if flow.judge else None,
            concurrency=asyncio.Semaphore(max(batch_concurrency(config, flow), 1)),
        )
