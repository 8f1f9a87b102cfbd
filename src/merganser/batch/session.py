"""What all turns of a batch share: one event loop, one client a server, indexes held in memory.

Shards are answered by threads; their turns all run on one loop in a thread of its own, so that the
places for questions, the connections and the resident indexes are common to them.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from anyio.from_thread import start_blocking_portal

from merganser.agent.agent_definition import describe_agent
from merganser.agent.turn import take_turn
from merganser.batch.judge import Judged, judge_answer, require_judge
from merganser.batch.selection import ANSWERED
from merganser.batch.shard import run_batch_shard
from merganser.models.client import ModelRunner, token_of
from merganser.retrieval.opening import open_retrievers

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from anyio.from_thread import BlockingPortal

    from merganser.batch.journal import AnswerJournal
    from merganser.batch.questions import Question
    from merganser.batch.selection import BatchShard
    from merganser.batch.shard import ShardReport
    from merganser.config.load import Config
    from merganser.models.ref import ModelRef
    from merganser.retrieval import Retriever
    from merganser.retrieval.hits import SearchResult
    from merganser.retrieval.opening import FindModel, ModelPlace
    from merganser.store.filters import Filter


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that judges answers.

    Attributes:
        model: As configured.
        place: Where it is served.
    """

    model: ModelRef
    place: ModelPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob:
    """What the turns of one batch need.

    Attributes:
        config: With the agent.
        agent: Who answers.
        rags: What it may search.
        place: Its chat model.
        find_model: The models of the rags.
        keys: The key of each question, by its id.
        concurrency: Questions answered at a time.
        judge: Judges the answers, or None.
    """

    config: Config
    agent: str
    rags: tuple[str, ...]
    place: ModelPlace
    find_model: FindModel
    keys: Mapping[str, str]
    concurrency: int
    judge: Judge | None = None


@dataclass(slots=True)
class _Asking:
    """A retriever as one question may use it; it remembers the passages that it gave."""

    retriever: Retriever
    where: Filter | None
    passages: list[str] = field(default_factory=list[str])

    async def search(self, question: str, /) -> SearchResult:
        found = await self.retriever.search(question, where=self.where)
        self.passages += [hit.text for hit in found.hits]
        return found


class BatchSession:
    """Answers shards; see ``open_session``.

    Args:
        job: What the turns need.
        portal: To the loop.
        retrievers: Open on it, by the name of their rag.
        runner: The chat model's client, open on it.
        judge: The judge's client, open on it, or None.
    """

    def __init__(
        self,
        job: BatchJob,
        portal: BlockingPortal,
        *,
        retrievers: Mapping[str, Retriever],
        runner: ModelRunner,
        judge: ModelRunner | None,
    ) -> None:
        self._job = job
        self._portal = portal
        self._retrievers = retrievers
        self._runner = runner
        self._judge = judge
        self._places = asyncio.Semaphore(max(job.concurrency, 1))

    def answer(self, shard: BatchShard, journal: AnswerJournal) -> ShardReport:
        """Answer a shard's questions; blocks the calling thread, not the loop.

        Raises:
            StoreError: An index cannot be read.
        """

        async def run() -> ShardReport:
            return await run_batch_shard(
                shard, self._answer, journal, keys=self._job.keys, places=self._places
            )

        return self._portal.call(run)

    def try_judge(self) -> None:
        """Hold the judge, if there is one, against its labelled examples.

        Raises:
            PlanError: It is no good.
            ModelRunnerError: Its server failed.
        """
        if self._judge is not None and self._job.judge is not None:
            self._portal.call(require_judge, self._judge, self._job.judge.model.model)

    async def _answer(self, question: Question) -> dict[str, Any]:
        sources = {
            name: _Asking(retriever, question.where) for name, retriever in self._retrievers.items()
        }
        answer = await take_turn(
            self._job.config,
            self._job.agent,
            question.question,
            retrievers=sources,
            runner=self._runner,
            turn_id=self._job.keys[question.id],
        )
        row = answer.to_json()
        if self._judge is not None and self._job.judge is not None and answer.outcome == ANSWERED:
            passages = tuple(p for source in sources.values() for p in source.passages)
            case = Judged(question.question, answer.text, passages)
            ref = self._job.judge.model.model
            row["verdicts"] = await judge_answer(self._judge, ref, case)
        return row


@contextmanager
def open_session(job: BatchJob) -> Generator[BatchSession]:
    """Open what a batch's turns share; leaving it by an error cancels the turns under way.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
        StoreError: An index cannot be read.
    """
    token = describe_agent(job.config, job.agent).token()
    with start_blocking_portal() as portal, ExitStack() as stack:
        opening = open_retrievers(job.config, job.rags, job.find_model, resident=True)
        retrievers = stack.enter_context(portal.wrap_async_context_manager(opening))
        client = ModelRunner(job.place.address, token=token)
        runner = stack.enter_context(portal.wrap_async_context_manager(client))
        judge = None
        if job.judge is not None:
            client = ModelRunner(job.judge.place.address, token=token_of(job.judge.model))
            judge = stack.enter_context(portal.wrap_async_context_manager(client))
        yield BatchSession(job, portal, retrievers=retrievers, runner=runner, judge=judge)
