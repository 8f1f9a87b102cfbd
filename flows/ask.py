"""The last stage of an ask flow: let an agent answer, and show what it said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from merganser.agent.agent_definition import describe_agent
from merganser.agent.resume import index_folders, keep_turn
from merganser.agent.turn import take_turn
from merganser.models.client import ModelRunner
from merganser.models.ref import ModelUse
from merganser.retrieval.opening import open_retrievers
from merganser.retrieval.search import BoundedSource
from merganser.store.filters import Filter
from merganser.tasks.artifacts import artifact_key
from merganser.tasks.options import submit
from merganser.tasks.turns import durable_hooks, publish_answer

if TYPE_CHECKING:
    from merganser.agent.answer import Answer
    from merganser.agent.events import EventSink
    from merganser.config.load import Config
    from merganser.config.spec_agents import RequestedMode
    from merganser.flows.models import ModelStages


def answer_question(
    config: Config,
    models: ModelStages,
    agent: str,
    question: str,
    *,
    turn_id: str,
    rag_mode: RequestedMode | None = None,
    kinds: tuple[str, ...] = (),
    on_event: EventSink | None = None,
) -> Answer:
    """Answer one question; each model request and tool call is a task run.

    Args:
        config: With the agent.
        models: What the earlier stages made ready.
        agent: Who answers.
        question: Not empty.
        turn_id: Stored before the flow run began, for example as its parameter; the same one
            resumes the turn.
        rag_mode: Instead of the agent's own.
        kinds: The only kinds of documents that are searched; empty for all.
        on_event: Told what happens, in this process.

    Raises:
        MerganserError: As for ``merganser.agent.turn.take_turn``.
    """
    definition = describe_agent(config, agent)
    place = models.place("chat", definition.model)
    rags = tuple(rag.name for rag in definition.rags)
    trail: list[Any] = [*models.last]
    results = keep_turn(turn_id, index_folders(config, rags))

    async def take() -> Answer:
        async with (
            open_retrievers(config, rags, models.find) as retrievers,
            ModelRunner(place.address, token=definition.token()) as runner,
        ):
            use = ModelUse(model=definition.model, role="chat", used_by=f"agents.{agent}")
            runner.keep_configured(use, place.served)
            return await take_turn(
                config,
                agent,
                question,
                retrievers={
                    name: BoundedSource(retriever, Filter(kinds=kinds))
                    for name, retriever in retrievers.items()
                },
                runner=runner,
                turn_id=turn_id,
                rag_mode=rag_mode,
                on_event=on_event,
                hooks=durable_hooks(turn_id, results, trail),
            )

    answer = asyncio.run(take())
    key = artifact_key("answer", agent)
    submit(publish_answer, question, answer, key, after=trail[-1:]).wait()
    return answer
