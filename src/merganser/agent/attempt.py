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
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeAlias

from merganser.agent.answer import HELPFUL, Answer, HitSource, RagMode, ToolUse, TurnUsage
from merganser.agent.citations import INVENTED, check_citations, only_copies
from merganser.agent.claims import Asked, refuse
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
from merganser.agent.verdict import Verdict, judge_text
from merganser.errors import AgentError
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

_RANKS = {"answered": 0, "partly": 1, "quoted": 2, "unsupported": 3, "no answer": 4}
"""Which of several readings of passages is kept, the lowest first."""

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
    """Ask with one passage after the other until every claim of an answer stands in its passage.

    Passages that do not bear on the question are not read. What holds in part is kept for the case
    that nothing better comes; where nothing holds the passages are quoted.
    """
    asked = Asked.of(turn.question, shown)
    silent = replace(turn, on_event=_without_text(turn.on_event))
    done, best = Exchange(), None
    for passage in [item for item in shown if asked.bears_on(item)][:MAX_READINGS]:
        turn.on_event(Reading(str(passage)))
        latest = await _ask(silent, compose_reading(turn.question, passage), room)
        done = Exchange((*done.messages, *latest.messages), latest.output)
        text, _ = split_reasoning(latest.output)
        verdict = _judge_reading(turn, latest, text, passage, shown)
        if best is None or _RANKS[verdict.outcome] < _RANKS[best.outcome]:
            best = verdict
        if best.outcome == "answered":
            break
    best = best or Verdict("no answer", "", reason="no passage bears on the question")
    if best.outcome not in HELPFUL:  # a text that nothing holds is not shown
        best = replace(best, text="")
    if best.text:
        turn.on_event(TextDelta(best.text))
    return _answer(turn, done, shown, notes, verdict=best)


def _judge_reading(
    turn: Turn, exchange: Exchange, text: str, passage: Evidence, shown: Sequence[Evidence]
) -> Verdict:
    """Hold an answer against the one passage it was made from, and add the citation."""
    # What the model seems to cite was never offered to it: one passage has no number.
    bare = INVENTED.sub("", text).strip()
    verdict = judge_text(
        bare,
        turn.question,
        [passage],
        quotable=shown,
        finish_reason=_finish_reason(exchange),
        copied=only_copies(bare, [passage]),
    )
    if verdict.outcome in {"answered", "partly"}:
        verdict = replace(verdict, text=f"{verdict.text} [{passage.id}]")
    return verdict


def _without_text(sink: EventSink) -> EventSink:
    def take(event: TurnEvent) -> None:
        if not isinstance(event, TextDelta):
            sink(event)

    return take


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
    verdict: Verdict | None = None,
) -> Answer:
    """Check the text against what the model was shown, in the prompt or by its tools.

    Args:
        turn: Of which it is.
        exchange: What was said.
        in_prompt: Passages that the prompt had.
        notes: Of the searches.
        verdict: Of a text that was checked before.
    """
    from pydantic_ai.messages import ModelResponse

    tools = {rag.tool_name: rag.name for rag in turn.agent.rags}
    shown = (*in_prompt, *evidence_of(exchange.messages, tools))
    responses = [message for message in exchange.messages if isinstance(message, ModelResponse)]
    finish = _finish_reason(exchange)
    output, thought = split_reasoning(exchange.output)
    verdict = verdict or _judge(turn, exchange, output, shown)
    text = verdict.text
    citations = check_citations(text, shown)
    said = [*turn.notes, *notes, *search_notes(exchange.messages)]
    if finish == "length":
        said.append(f"the answer was cut at max_tokens ({turn.answer_tokens})")
    if turn.mode != "none" and not citations.sources:
        said.append("the model answered without any retrieved text")
    if citations.invalid:
        said.append(f"cites what was never retrieved: {', '.join(citations.invalid)}")
    if stale := [
        str(line) for line in citations.sources if line.cited and line.freshness != "fresh"
    ]:
        said.append(f"cites what changed or was removed since it was indexed: {', '.join(stale)}")
    if verdict.reason:
        said.append(f"the model's text does not stand: {verdict.reason}")
    if verdict.outcome == "partly":
        said += [
            f"no source holds {shorten(claim.text, 200)!r}: {claim.reason}"
            for claim in verdict.claims
            if not claim.holds
        ]
    worked = {part.tool_call_id for part in successes(exchange.messages)}
    return Answer(
        text=text,
        outcome=verdict.outcome,
        claims=verdict.claims,
        reasoning="\n\n".join(
            part for part in (*(response.thinking for response in responses), thought) if part
        ),
        sources=citations.sources,
        invalid_citations=citations.invalid,
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


def _finish_reason(exchange: Exchange) -> str | None:
    from pydantic_ai.messages import ModelResponse

    responses = [message for message in exchange.messages if isinstance(message, ModelResponse)]
    return responses[-1].finish_reason if responses else None


def _judge(turn: Turn, exchange: Exchange, text: str, shown: Sequence[Evidence]) -> Verdict:
    """Hold a text against all that the model was shown, if it was to rest on anything."""
    if turn.mode == "none" and successes(exchange.messages):
        finish = _finish_reason(exchange)
        reason = refuse(text, finish_reason=finish)
        return Verdict("no answer" if reason else "answered", text, reason=reason)
    numbered = [item for item in shown if item.id is not None]
    return judge_text(
        text,
        turn.question,
        shown,
        quotable=numbered,
        finish_reason=_finish_reason(exchange),
        invalid=bool(check_citations(text, shown).invalid),
        copied=only_copies(text, numbered),
    )


def split_reasoning(text: str) -> tuple[str, str]:
    """Separate reasoning in tags from an answer, for servers that leave it in the text.

    Returns:
        The answer and the reasoning; with a tag that is never closed the answer is empty.
    """
    found = _THINKING.match(text)
    return (text[found.end() :], found["thought"].strip()) if found else (text, "")
