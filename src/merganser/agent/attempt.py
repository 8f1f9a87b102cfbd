"""One attempt at a turn: search, ask, collect what was shown, check the answer.

``turn`` decides the mode and the room, and what to do when an attempt fails. Pydantic AI runs the
loop of model requests and tool calls.

In context mode a model that cites is shown all passages with numbers. One that cannot cite is shown
one passage at a time, and its answer is compared with it. Small models lose track among numbered
passages: they copy the list, invent numbers, or cite them all (SmolLM2 with 135 million parameters
does each of these). Given a single passage they answer from it. So the best passage is shown alone;
what the answer says beyond the question must be in it, and then the turn, not the model, adds the
citation. An answer without that support is never shown; the next passage is tried instead.
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
from merganser.agent.events import EventSink, Noted, Reading, TextDelta
from merganser.agent.evidence import Evidence, fit_evidence, number_hits, render_evidence
from merganser.agent.instructions import compose_instructions, compose_prompt, compose_reading
from merganser.agent.model import ChatOptions, chat_settings, open_chat_model
from merganser.agent.tools import (
    TurnScope,
    evidence_of,
    filesystem_toolset,
    notes_of,
    rag_toolset,
    search_notes,
    successes,
)
from merganser.errors import AgentError
from merganser.retrieval.lexical import subject_terms
from merganser.store.tokens import query_terms
from merganser.telemetry import is_recording

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_ai import AgentRunResult, FunctionToolset
    from pydantic_ai.messages import ModelMessage

    from merganser.agent.agent_definition import AgentDefinition
    from merganser.agent.events import TurnEvent
    from merganser.agent.filesystem import Filesystem
    from merganser.models.address import Address
    from merganser.models.upkeep import Upkeep
    from merganser.retrieval.hits import Hit, SearchResult

MAX_REQUESTS = 50
"""Most model requests of one turn; a model that needs more makes no progress."""

MAX_READINGS = 3
"""Passages that are tried alone, best first; each costs a model request."""

LEAST_SUPPORT = 0.5
"""Share of an answer's own words that must be in its passage.

Measured with SmolLM2 on 28 questions about Prefect's source: 19 first answers reach it in the
passage they were made from (median 0.65), 1 in the next one found for that question (median 0.13).
"""

_STEM = 5
"""Letters by which words are compared, so that ``retried`` and ``retries`` are the same."""

_SHORTEST = 3
"""Letters of the shortest word that counts; digits and other scripts count at any length."""

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

    Attributes:
        agent: Who answers.
        question: As asked.
        turn_id: The same one resumes the turn.
        retrievers: By the rag's name.
        address: The model server's.
        upkeep: Keeps the model's configuration standing there; None where nothing has to.
        on_event: Called with what happens as it happens.
        hooks: What an orchestrator adds.
        files: What the filesystem tools may read; None without them.
        model_name: As requests carry it.
        context_tokens: The model's context.
        answer_tokens: Most tokens of an answer.
        mode: How retrieved text reaches the model.
        tools: Whether any tool is offered.
        cites: False for a model that would cite at random: it is shown one passage at a time.
        notes: What the reader should know so far.
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
    upkeep: Upkeep | None = None
    cites: bool = True
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> Turn:
        """Return the turn with a note more, and tell the note."""
        self.on_event(Noted(note))
        return replace(self, notes=(*self.notes, note))


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was said to a model and what it answered.

    Attributes:
        messages: Pydantic AI's, in order.
        output: The last text, with reasoning in tags if the server left it there; empty when the
            model used up its tokens without a text.
    """

    messages: tuple[ModelMessage, ...] = ()
    output: str = ""


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
    if turn.mode != "context":
        return _answer(turn, await _ask(turn, compose_prompt(turn.question, None), room))
    shown, notes = await _find_passages(turn, room)
    if shown and not turn.cites:
        return await _read_passages(turn, room, shown, notes)
    prompt = compose_prompt(turn.question, render_evidence(shown))
    return _answer(turn, await _ask(turn, prompt, room), shown, notes)


async def _read_passages(
    turn: Turn, room: int, shown: Sequence[Evidence], notes: Sequence[str]
) -> Answer:
    """Ask with one passage after the other until an answer is supported by its passage."""
    done, silent = Exchange(), replace(turn, on_event=_without_text(turn.on_event))
    for passage in shown[:MAX_READINGS]:
        turn.on_event(Reading(str(passage)))
        latest = await _ask(silent, compose_reading(turn.question, passage), room)
        done = replace(latest, messages=(*done.messages, *latest.messages))
        text, _ = split_reasoning(latest.output)
        if support(text, turn.question, passage.text) >= LEAST_SUPPORT:
            cited = f"{done.output.rstrip()} [{passage.id}]"
            turn.on_event(TextDelta(split_reasoning(cited)[0]))
            return _answer(turn, replace(done, output=cited), shown, notes)
    return _answer(turn, done, shown, notes, grounded=False)


def _without_text(sink: EventSink) -> EventSink:
    def take(event: TurnEvent) -> None:
        if not isinstance(event, TextDelta):
            sink(event)

    return take


def support(answer: str, question: str, passage: str) -> float:
    """Measure how much of what an answer adds to the question is in a passage.

    Args:
        answer: The model's.
        question: Its words prove nothing, because they are in the prompt.
        passage: What the model was given.

    Returns:
        From 0 to 1; 0 for an answer that says nothing beyond the question.
    """
    asked = {_stem(term) for term in query_terms(question)}
    known = {_stem(term) for term in query_terms(passage)}
    words = (term.base for term in subject_terms(answer) if not term.of)
    said = {_stem(word) for word in words if _says_something(word)} - asked
    return len(said & known) / len(said) if said else 0.0


def _stem(term: str) -> str:
    return term.rstrip("s")[:_STEM]


def _says_something(term: str) -> bool:
    return len(term) >= _SHORTEST or not term.isascii() or term.isdigit()


async def _find_passages(turn: Turn, room: int) -> tuple[list[Evidence], list[str]]:
    """Search every rag for the question and number the passages that fit, best of each first.

    Returns:
        The passages, and notes, which have been told as events.
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


async def _ask(turn: Turn, prompt: str, room: int) -> Exchange:
    """Put a prompt to the model and let it call tools until it answers."""
    async with open_chat_model(
        turn.model_name,
        turn.address,
        on_event=turn.on_event,
        token=turn.agent.token(),
        options=turn.hooks.chat,
        upkeep=turn.upkeep,
    ) as model:
        messages, result = await _run(turn, model, prompt, room)
    return Exchange(tuple(messages), result.output if result is not None else "")


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

    # On a terminal it would print a banner about itself into the answer.
    os.environ.setdefault("PYDANTIC_AI_NO_BANNER", "1")
    agent = Agent(
        model,
        name=turn.agent.name,
        instructions=compose_instructions(turn),
        deps_type=TurnScope,
        toolsets=_toolsets(turn),
        model_settings=chat_settings(turn.agent.model, max_tokens=turn.answer_tokens),
        capabilities=turn.hooks.capabilities,
    )
    if is_recording():
        from pydantic_ai.models.instrumented import InstrumentationSettings

        # Spans must not hold prompts, answers and what tools return.
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


def _answer(
    turn: Turn,
    exchange: Exchange,
    in_prompt: Sequence[Evidence] = (),
    notes: Sequence[str] = (),
    *,
    grounded: bool = True,
) -> Answer:
    """Check the text against what the model was shown, in the prompt or by its tools."""
    from pydantic_ai.messages import ModelResponse

    tools = {rag.tool_name: rag.name for rag in turn.agent.rags}
    shown = (*in_prompt, *evidence_of(exchange.messages, tools))
    responses = [message for message in exchange.messages if isinstance(message, ModelResponse)]
    finish = responses[-1].finish_reason if responses else None
    text, thought = split_reasoning(exchange.output)
    citations = check_citations(text, shown)
    said = [*turn.notes, *notes, *search_notes(exchange.messages)]
    if finish == "length":
        said.append(f"the answer was cut at max_tokens ({turn.answer_tokens})")
    if turn.mode != "none" and not citations.sources:
        said.append("the model answered without any retrieved text")
    if citations.invalid:
        said.append(f"cites what was never retrieved: {', '.join(citations.invalid)}")
    if not grounded:
        said.append("the answer does not rest on what was retrieved")
    if stale := [
        str(line) for line in citations.sources if line.cited and line.freshness != "fresh"
    ]:
        said.append(f"cites what changed or was removed since it was indexed: {', '.join(stale)}")
    worked = {part.tool_call_id for part in successes(exchange.messages)}
    return Answer(
        text=text,
        grounded=grounded,
        reasoning="\n\n".join(
            part for part in (*(response.thinking for response in responses), thought) if part
        ),
        sources=citations.sources,
        invalid_citations=citations.invalid,
        copied=only_copies(text, shown),
        tool_calls=tuple(
            ToolUse(
                call.tool_name,
                call.args_as_dict(),
                "success" if call.tool_call_id in worked else "failed",
            )
            for response in responses
            for call in response.tool_calls
        ),
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
    """Separate reasoning in tags from an answer, for servers that leave it in the text.

    Returns:
        The answer and the reasoning; with a tag that is never closed the answer is empty.
    """
    found = _THINKING.match(text)
    return (text[found.end() :], found["thought"].strip()) if found else (text, "")
