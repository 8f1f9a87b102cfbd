"""One turn: a question to an agent, with retrieval, tools, checked citations and typed failures.

This module decides how retrieved text reaches the model, keeps it within the context, and tries
once more with less when it was too much; ``attempt`` makes each attempt. An orchestrator adds what
it needs through ``Hooks``.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from merganser.agent.agent_definition import describe_agent
from merganser.agent.attempt import Hooks, Turn, attempt
from merganser.agent.events import TurnStarted, ignore_event
from merganser.agent.filesystem import Filesystem
from merganser.agent.instructions import compose_instructions
from merganser.errors import InputTooLongError, PlanError
from merganser.humanize import show_bytes
from merganser.models.server_errors import ToolTemplateError
from merganser.retrieval.budget import CHARACTERS_PER_TOKEN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.agent.agent_definition import AgentDefinition
    from merganser.agent.answer import Answer, HitSource, RagMode
    from merganser.agent.events import EventSink
    from merganser.config.load import Config
    from merganser.config.spec_agents import RequestedMode
    from merganser.models.address import Address
    from merganser.models.upkeep import Upkeep
    from merganser.models.wire import Mode, ServedModel

DEFAULT_CONTEXT_TOKENS = 4096
"""Context of a model that does not tell its own: the server's default."""

DEFAULT_ANSWER_TOKENS = 2048
"""Longest answer when the config sets no ``max_tokens``: small models may never stop."""

MOST_QUESTION_BYTES = 250_000
"""Of a question as JSON: no local model reads that much, and Prefect stores half a megabyte."""

_TEMPLATE_TOKENS = 256
"""Reserved for what the chat template adds: roles, tool definitions, separators."""

_LEAST_ROOM_CHARACTERS = 400
"""Room that retrieved text always gets; a shorter passage would say nothing."""

_SHRINK = 0.8
"""Margin when the context is shrunk after the server counted more tokens than fit."""


class TurnRunner(Protocol):
    """What a turn needs of the model server's client; ``ModelRunner`` has it."""

    @property
    def address(self) -> Address:
        """Where the server is."""
        ...

    async def model(self, ref: str) -> ServedModel | None:
        """Look the model up."""
        ...

    def upkeep(self, ref: str, mode: Mode) -> Upkeep | None:
        """Return what keeps the model's configuration standing, or None."""
        ...

    async def calls_tools(self, ref: str) -> bool:
        """Probe whether the model calls tools."""
        ...

    async def cites_sources(self, ref: str) -> bool:
        """Probe whether the model cites the right one of several sources."""
        ...


async def take_turn(
    config: Config,
    agent_name: str,
    question: str,
    *,
    retrievers: Mapping[str, HitSource],
    runner: TurnRunner,
    turn_id: str,
    on_event: EventSink | None = None,
    rag_mode: RequestedMode | None = None,
    working_directory: Path | None = None,
    hooks: Hooks | None = None,
) -> Answer:
    """Let an agent answer one question.

    Args:
        config: With the agent.
        agent_name: Its name in the config.
        question: Not empty.
        retrievers: One for each rag of the agent, by the rag's name.
        runner: The model server's client, open.
        turn_id: Part of every cache key; the same id resumes the turn, a new one reuses nothing.
        on_event: Called with what happens as it happens.
        rag_mode: Instead of the agent's own: ``tool`` lets the model search, ``context`` puts
            what was found into the prompt, ``auto`` probes whether the model calls tools.
        working_directory: A second root of the filesystem toolset, after the config's folder.
        hooks: What an orchestrator adds.

    Returns:
        The answer; look at ``outcome`` before relying on it.

    Raises:
        PlanError: The question is empty or too long, or a retriever of the agent is missing.
        ModelNotFoundError: The model is not local to the server.
        TransientError: The server failed in a way that may pass.
        ModelRunnerError: It refused for good.
        AgentError: The turn did not come to an end: a loop, too many requests, no text.
    """
    started = monotonic()
    require_question(question)
    turn = await _prepare(
        describe_agent(config, agent_name),
        question,
        retrievers=retrievers,
        runner=runner,
        turn_id=turn_id,
        on_event=on_event or ignore_event,
        rag_mode=rag_mode,
        roots=(config.directory, working_directory or Path.cwd()),
        hooks=hooks or Hooks(),
    )
    turn.on_event(TurnStarted(agent_name, turn.agent.model.model, turn.mode))
    answer = await _attempt_twice(turn)
    return replace(answer, seconds=monotonic() - started)


def require_question(question: str) -> None:
    """Refuse what is no question.

    Raises:
        PlanError: It is empty, or larger than can be sent and stored.
    """
    if not question.strip():
        raise PlanError("the question is empty")
    if len(json.dumps(question)) > MOST_QUESTION_BYTES:
        raise PlanError(
            f"the question is too long: {show_bytes(MOST_QUESTION_BYTES)} are the most (as JSON); "
            "shorten it, or index the text in it and ask about that"
        )


async def _prepare(
    agent: AgentDefinition,
    question: str,
    *,
    retrievers: Mapping[str, HitSource],
    runner: TurnRunner,
    turn_id: str,
    on_event: EventSink,
    rag_mode: RequestedMode | None,
    roots: tuple[Path, ...],
    hooks: Hooks,
) -> Turn:
    if missing := [rag.name for rag in agent.rags if rag.name not in retrievers]:
        raise PlanError(f"agent {agent.name!r} needs a retriever for {', '.join(missing)}")
    served = await runner.model(agent.model.model)
    context = agent.model.context_size or (served.context_size if served else None)
    context_tokens = context or DEFAULT_CONTEXT_TOKENS
    answer_tokens = agent.model.max_tokens or min(DEFAULT_ANSWER_TOKENS, context_tokens // 4)
    mode, tools, notes = await _choose_mode(agent, runner, rag_mode or agent.rag_mode)
    cites = mode != "context" or await runner.cites_sources(agent.model.model)
    if not cites:
        notes = (*notes, f"{agent.model.model} does not cite: it reads one passage at a time")
    turn = Turn(
        agent=agent,
        question=question,
        turn_id=turn_id,
        retrievers=retrievers,
        address=runner.address,
        upkeep=runner.upkeep(agent.model.model, "completion"),
        on_event=on_event,
        hooks=hooks,
        files=_open_files(agent, roots) if tools else None,
        model_name=_request_name(agent, served),
        context_tokens=context_tokens,
        answer_tokens=answer_tokens,
        mode=mode,
        tools=tools,
        cites=cites,
    )
    if served is not None and served.alias_of:
        notes = (f"{served.ref} is an alias: {served.alias_of} answers", *notes)
    for note in notes:
        turn = turn.noting(note)
    return turn


def _request_name(agent: AgentDefinition, served: ServedModel | None) -> str:
    """Return the name that requests carry: canonical where the server manages its models."""
    return served.canonical if served is not None and served.managed else agent.model.model


def _open_files(agent: AgentDefinition, roots: Sequence[Path]) -> Filesystem | None:
    if agent.filesystem is None:
        return None
    return Filesystem.at(
        *roots, ignore_vcs=agent.filesystem.ignore_vcs, selections=agent.selections
    )


async def _choose_mode(
    agent: AgentDefinition, runner: TurnRunner, requested: RequestedMode
) -> tuple[RagMode, bool, tuple[str, ...]]:
    """Return the mode, whether tools are offered, and what to note about it."""
    if not agent.rags and agent.filesystem is None:
        return "none", False, ()
    if requested == "auto":
        known = agent.model.supports_tools
        tools = known if known is not None else await runner.calls_tools(agent.model.model)
        reason = f"{agent.model.model} does not call tools"
    else:
        tools = requested == "tool"
        reason = "rag_mode is 'context'"
    if tools:
        return ("tool" if agent.rags else "none"), True, ()
    notes = (f"{reason}: its filesystem tools are not offered",) if agent.filesystem else ()
    return ("context" if agent.rags else "none"), False, notes


async def _attempt_twice(turn: Turn) -> Answer:
    """Run the turn; if it fails for its length or its tools, once more with less or without."""
    room = _room(turn)
    try:
        return await attempt(turn, room)
    except ToolTemplateError:
        turn = turn.noting("the model's chat template cannot render tools: context mode instead")
        turn = replace(turn, tools=False, files=None, mode="context" if turn.agent.rags else "none")
        return await attempt(turn, _room(turn))
    except InputTooLongError as error:
        ratio = error.limit / error.tokens if error.limit and error.tokens else 0.5
        smaller = max(int(room * min(ratio, 1.0) * _SHRINK), _LEAST_ROOM_CHARACTERS)
        if turn.mode == "none" and not turn.tools:
            raise
        turn = turn.noting(
            f"the context was too long ({error.tokens or '?'} of {error.limit or '?'} tokens): "
            f"retrieved text cut from {room:,} to {smaller:,} characters"
        )
        return await attempt(turn, smaller)


def _room(turn: Turn) -> int:
    """Estimate the characters that retrieved text may take in the prompt."""
    fixed = compose_instructions(turn) + turn.question
    reserved = min(turn.answer_tokens, turn.context_tokens // 2) + _TEMPLATE_TOKENS
    room = int((turn.context_tokens - reserved) * CHARACTERS_PER_TOKEN) - len(fixed)
    # A model that searches does so more than once.
    return max(room // 2 if turn.tools else room, _LEAST_ROOM_CHARACTERS)
