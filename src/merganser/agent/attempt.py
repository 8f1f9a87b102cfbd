"""One attempt at a turn: search, ask, collect what was shown, judge the answer.

``turn`` decides the mode and the room, and what to do when an attempt fails; here the attempt is
made. Pydantic AI runs the loop of model requests and tool calls.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from merganser.agent.answer import Answer, HitSource, RagMode, ToolUse, TurnUsage
from merganser.agent.citations import check_citations, only_copies
from merganser.agent.events import EventSink, Noted
from merganser.agent.evidence import Evidence, fit_evidence, number_hits, render_evidence
from merganser.agent.instructions import compose_instructions, compose_prompt
from merganser.agent.model import ChatOptions, chat_model, chat_settings, close_model
from merganser.agent.tools import (
    FILESYSTEM_INSTRUCTION,
    TurnScope,
    evidence_of,
    filesystem_toolset,
    notes_of,
    rag_toolset,
    search_notes,
)
from merganser.errors import AgentError
from merganser.telemetry import is_recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_ai import AgentRunResult, FunctionToolset
    from pydantic_ai.messages import ModelMessage

    from merganser.agent.agent_definition import AgentDefinition
    from merganser.agent.filesystem import Filesystem
    from merganser.models.address import Address
    from merganser.retrieval.hits import Hit, SearchResult

MAX_REQUESTS = 50
"""Most model requests of one turn; a model that needs more is going round in circles."""

_THINKING = re.compile(r"\s*<think>(?P<thought>.*?)(?:</think>\s*|\Z)", re.DOTALL)

Search: TypeAlias = Callable[[str, HitSource, str], "Awaitable[SearchResult]"]
"""How context mode searches: the rag's name, its retriever, the question."""


async def _search(rag: str, retriever: HitSource, question: str) -> SearchResult:
    del rag
    return await retriever.search(question)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What an orchestrator adds to a turn.

    Attributes:
        capabilities: Given to the Pydantic AI agent, for example its durability.
        search: Runs the searches of context mode, for example as tasks.
        chat: Timeouts, retries and the loop guard of chat requests.
    """

    capabilities: tuple[Any, ...] = ()
    search: Search = _search
    chat: ChatOptions = field(default_factory=ChatOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Everything that stays the same between the attempts of one turn.

    ``cites`` is false for a model that would cite at random: then ``reading`` makes the attempts.
    """

    agent: AgentDefinition
    question: str
    turn_id: str
    retrievers: Mapping[str, HitSource]
    address: Address
    on_event: EventSink
    hooks: Hooks
    files: Filesystem | None
    model_name: str
    context_tokens: int
    answer_tokens: int
    mode: RagMode
    tools: bool
    cites: bool = True
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> Turn:
        """Add a note and tell it."""
        self.on_event(Noted(note))
        return replace(self, notes=(*self.notes, note))


def instructions_of(turn: Turn) -> str:
    """Write the turn's system message."""
    agent = turn.agent
    toolsets = [rag.instruction for rag in agent.rags] if turn.mode == "tool" else []
    if turn.files is not None and agent.filesystem is not None:
        toolsets.append(agent.filesystem.instruction or FILESYSTEM_INSTRUCTION)
    return compose_instructions(agent.instruction, toolsets, rag_mode=turn.mode, tools=turn.tools)


async def attempt(turn: Turn, room: int) -> Answer:
    """Make one attempt at the turn.

    Args:
        turn: What does not change between attempts.
        room: Characters that retrieved text may take, in the prompt or in one tool's result.

    Raises:
        InputTooLongError: Prompt and history exceed the model's context.
        ToolTemplateError: The model's chat template cannot render tools.
        ModelRunnerError: The server failed in another way.
        AgentError: The turn did not come to an end.
    """
    shown: list[Evidence] = []
    notes: list[str] = []
    if turn.mode == "context":
        shown, notes = await find_passages(turn, room)
    sources = render_evidence(shown) if turn.mode == "context" else None
    made = await ask(turn, compose_prompt(turn.question, sources), room)
    return made.answer(turn, shown, notes)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was said to a model and what it answered.

    Attributes:
        messages: Of Pydantic AI, in order.
        output: The last text, with reasoning in tags if the server left it there; empty when the
            model used up its tokens without one.
    """

    messages: tuple[ModelMessage, ...] = ()
    output: str = ""

    def answer(
        self,
        turn: Turn,
        shown: Sequence[Evidence],
        notes: Sequence[str],
        *,
        grounded: bool = True,
    ) -> Answer:
        """Judge the text against what the model was shown, by the prompt or by its tools."""
        tools = {rag.tool_name: rag.name for rag in turn.agent.rags}
        return _judge(
            turn, self, (*shown, *evidence_of(self.messages, tools)), notes, grounded=grounded
        )


async def ask(turn: Turn, prompt: str, room: int) -> Exchange:
    """Put a prompt to the model and let it call tools until it answers.

    Raises:
        ModelRunnerError: The server failed.
        AgentError: The turn did not come to an end.
    """
    model = chat_model(
        turn.model_name,
        turn.address,
        on_event=turn.on_event,
        token=turn.agent.token(),
        options=turn.hooks.chat,
    )
    try:
        messages, result = await _run(turn, model, prompt, room)
    finally:
        await close_model(model)
    return Exchange(tuple(messages), result.output if result is not None else "")


async def find_passages(turn: Turn, room: int) -> tuple[list[Evidence], list[str]]:
    """Search every rag for the question and number what fits, best of each first.

    Returns:
        The passages, and notes that were told already.
    """
    names = [rag.name for rag in turn.agent.rags]
    results = await asyncio.gather(
        *(turn.hooks.search(name, turn.retrievers[name], turn.question) for name in names)
    )
    ranked: list[tuple[int, str, Hit]] = [
        (rank, name, hit)
        for name, result in zip(names, results, strict=True)
        for rank, hit in enumerate(result.hits)
    ]
    ranked.sort(key=lambda item: item[0])
    numbered: list[Evidence] = []
    for _, name, hit in ranked:
        numbered += number_hits([hit], source=name, first=len(numbered) + 1)
    notes = [
        note for name, result in zip(names, results, strict=True) for note in notes_of(name, result)
    ]
    kept, left_out = fit_evidence(numbered, room)
    if left_out:
        notes.append(
            f"{left_out} of {len(numbered)} passages were cut or left out to fit the context"
        )
    for note in notes:
        turn.on_event(Noted(note))
    return kept, notes


async def _run(
    turn: Turn, model: Any, prompt: str, room: int
) -> tuple[list[ModelMessage], AgentRunResult[str] | None]:
    """Run the loop; the result is None when the model used up its tokens without a text."""
    from pydantic_ai import Agent, capture_run_messages
    from pydantic_ai.exceptions import (
        OutputTokenLimitExceeded,
        UnexpectedModelBehavior,
        UsageLimitExceeded,
    )
    from pydantic_ai.usage import UsageLimits

    # On a terminal it prints a banner about itself into the answer.
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")
    agent = Agent(
        model,
        name=turn.agent.name,
        instructions=instructions_of(turn),
        deps_type=TurnScope,
        toolsets=_toolsets(turn),
        model_settings=chat_settings(turn.agent.model, max_tokens=turn.answer_tokens),
        capabilities=turn.hooks.capabilities,
    )
    if is_recording():
        from pydantic_ai.models.instrumented import InstrumentationSettings

        # Prompts, answers and what tools give back are nobody else's.
        agent.instrument = InstrumentationSettings(
            include_content=False,
            include_binary_content=False,
            include_model_request_parameters=False,
        )
    with capture_run_messages() as messages:
        try:
            result = await agent.run(
                prompt,
                deps=TurnScope(turn.turn_id, room),
                usage_limits=UsageLimits(request_limit=MAX_REQUESTS),
            )
        except UsageLimitExceeded as error:
            raise AgentError(
                f"stopped after {MAX_REQUESTS} model requests without an answer"
            ) from error
        except OutputTokenLimitExceeded:
            return messages, None
        except UnexpectedModelBehavior as error:
            raise AgentError(f"{turn.agent.model.model}: {error.message}") from error
    return messages, result


def _toolsets(turn: Turn) -> list[FunctionToolset[TurnScope]]:
    toolsets: list[FunctionToolset[TurnScope]] = []
    if turn.mode == "tool":
        toolsets.append(rag_toolset(turn.agent.rags, turn.retrievers, turn.on_event))
    if turn.files is not None:
        toolsets.append(filesystem_toolset(turn.files, turn.on_event))
    return toolsets


def _judge(
    turn: Turn,
    made: Exchange,
    shown: Sequence[Evidence],
    notes: Sequence[str],
    *,
    grounded: bool,
) -> Answer:
    from pydantic_ai.messages import ModelResponse

    responses = [message for message in made.messages if isinstance(message, ModelResponse)]
    finish = responses[-1].finish_reason if responses else None
    text, thought = split_reasoning(made.output)
    citations = check_citations(text, shown)
    said = [*turn.notes, *notes, *search_notes(made.messages)]
    if finish == "length":
        said.append(f"the answer was cut at max_tokens ({turn.answer_tokens})")
    if turn.mode != "none" and not citations.sources:
        said.append("the model answered without any retrieved text")
    if citations.invalid:
        said.append(f"cites what was never retrieved: {', '.join(citations.invalid)}")
    if not grounded:
        said.append("the answer does not rest on what was retrieved")
    return Answer(
        text=text,
        grounded=grounded,
        reasoning="\n\n".join(
            part for part in (*(response.thinking for response in responses), thought) if part
        ),
        sources=citations.sources,
        invalid_citations=citations.invalid,
        copied=only_copies(text, shown),
        tool_calls=_tool_uses(made.messages),
        usage=TurnUsage(
            requests=len(responses),
            input_tokens=sum(r.usage.input_tokens for r in responses),
            output_tokens=sum(r.usage.output_tokens for r in responses),
        ),
        rag_mode=turn.mode,
        notes=tuple(said),
        finish_reason=finish,
        model=turn.agent.model.model,
        turn_id=turn.turn_id,
    )


def split_reasoning(text: str) -> tuple[str, str]:
    """Take reasoning in tags off an answer, for servers that leave it in the text.

    Returns:
        The answer and the reasoning; a tag that is never closed leaves no answer.
    """
    found = _THINKING.match(text)
    return (text[found.end() :], found["thought"].strip()) if found else (text, "")


def _tool_uses(messages: Sequence[ModelMessage]) -> tuple[ToolUse, ...]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, ToolReturnPart

    worked = {
        part.tool_call_id
        for message in messages
        if isinstance(message, ModelRequest)
        for part in message.parts
        if isinstance(part, ToolReturnPart) and part.outcome == "success"
    }
    return tuple(
        ToolUse(
            call.tool_name,
            call.args_as_dict(),
            "success" if call.tool_call_id in worked else "failed",
        )
        for message in messages
        if isinstance(message, ModelResponse)
        for call in message.tool_calls
    )
