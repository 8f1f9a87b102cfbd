"""The last stages of an ask or a batch flow: let an agent answer, and show what it said."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from prefect.utilities.annotations import quote

from merganser.agent.batch import AnswerJournal, earlier_rows, plan_batch
from merganser.agent.definition import describe_agent
from merganser.agent.questions import read_questions
from merganser.agent.retrievers import open_retrievers
from merganser.agent.turn import take_turn
from merganser.errors import PlanError
from merganser.flows.submission import submit
from merganser.model_runner import ModelRunner
from merganser.resolve import resolve_rag
from merganser.store import open_snapshot
from merganser.tasks.indexing import artifact_key
from merganser.tasks.turns import BatchJob, answer_shard, durable_hooks, publish_answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.agent.answers import Answer
    from merganser.agent.batch import BatchReport
    from merganser.agent.definition import RequestedMode
    from merganser.agent.events import EventSink
    from merganser.agent.retrievers import ModelPlace
    from merganser.flows.models import ModelStages
    from merganser.load import Config
    from merganser.resolve import BatchFlow, ModelRef


class AnswerStages:
    """Lets agents answer within a flow run.

    Args:
        config: With the agents.
        models: What the earlier stages made ready.
    """

    def __init__(self, config: Config, models: ModelStages) -> None:
        self._config = config
        self._models = models

    def take_turn(
        self,
        agent: str,
        question: str,
        *,
        turn_id: str,
        rag_mode: RequestedMode | None = None,
        on_event: EventSink | None = None,
    ) -> Answer:
        """Answer one question; each model request and tool call is a task run.

        Args:
            agent: Who answers.
            question: Not empty.
            turn_id: Stored before the flow run began, for example as its parameter; the same one
                resumes the turn.
            rag_mode: Instead of the agent's own.
            on_event: Told what happens, in this process.

        Raises:
            MerganserError: As for ``merganser.agent.turn.take_turn``.
        """
        definition = describe_agent(self._config, agent)
        place = self._chat_model(definition.model)
        rags = tuple(rag.name for rag in definition.rags)

        async def take() -> Answer:
            async with (
                open_retrievers(self._config, rags, self._models.find) as retrievers,
                ModelRunner(place.address, token=definition.token()) as runner,
            ):
                return await take_turn(
                    self._config,
                    agent,
                    question,
                    retrievers=retrievers,
                    runner=runner,
                    turn_id=turn_id,
                    rag_mode=rag_mode,
                    on_event=on_event,
                    hooks=durable_hooks(turn_id),
                )

        answer = asyncio.run(take())
        submit(publish_answer, question, quote(answer), artifact_key("answer", agent)).wait()
        return answer

    def answer_questions(self, flow: BatchFlow) -> BatchReport:
        """Answer a file of questions, a shard a task run.

        Raises:
            SpecErrors: The questions cannot be read.
            PlanError: Another run writes the answers.
            MerganserError: The model or an index is not there.
        """
        definition = describe_agent(self._config, flow.agent)
        rags = tuple(rag.name for rag in definition.rags)
        plan = plan_batch(
            read_questions(flow.input),
            earlier_rows(flow.output),
            config=self._config.fingerprint,
            snapshot=snapshots_of(self._config, rags),
        )
        job = BatchJob(
            config=self._config,
            agent=flow.agent,
            rags=rags,
            place=self._chat_model(definition.model),
            find_model=self._models.find,
            keys=plan.keys,
        )
        with AnswerJournal(flow.output, plan) as journal:
            shards = [
                submit(answer_shard, shard, quote(job), quote(journal), flow.concurrency)
                for shard in plan.shards
            ]
            for shard in shards:
                shard.wait()
            for shard in shards:
                shard.result()
        return journal.report()

    def _chat_model(self, model: ModelRef) -> ModelPlace:
        place = self._models.find("chat", model)
        if place is None:
            raise PlanError(f"the plan has no stage that makes the chat model {model.name!r} ready")
        return place


def snapshots_of(config: Config, rags: Sequence[str]) -> str:
    """Identify the served snapshots of rags: equal while no index is published anew.

    Raises:
        NoSnapshotError: A rag has not been indexed yet.
    """
    parts: list[str] = []
    for rag in rags:
        for index in resolve_rag(config, rag).indexes:
            with open_snapshot(index.folder) as snapshot:
                parts.append(f"{rag}:{index.name}:{sorted(snapshot.meta.items())!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
