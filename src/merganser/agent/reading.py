"""A model that cannot cite reads one passage at a time, and its answer is held against it.

Small models lose the thread among numbered passages: they copy the list, invent numbers, or cite
them all (SmolLM2 with 135 million parameters does each of it). Given a single passage they answer
from it. So the best passage is shown alone; what the answer says beyond the question must stand in
it, and then the turn, not the model, puts the citation behind the answer. An answer that does not
rest on its passage is asked for again with the next one, and is never shown.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from merganser.agent.attempt import Exchange, ask, find_passages, split_reasoning
from merganser.agent.events import Reading, TextDelta
from merganser.agent.instructions import compose_prompt, compose_reading
from merganser.retrieval.lexical import subject_terms
from merganser.store.tokens import query_terms

if TYPE_CHECKING:
    from merganser.agent.answer import Answer
    from merganser.agent.attempt import Turn
    from merganser.agent.events import EventSink, TurnEvent

MAX_READINGS = 3
"""Passages that are tried, best first; each costs a model request."""

LEAST_SUPPORT = 0.5
"""Share of an answer's own words that must stand in its passage.

Measured with SmolLM2 on 28 questions about Prefect's source: 19 first answers reach it in the
passage they were made from (median 0.65), 1 in the next one found for that question (median 0.13).
"""

_STEM = 5
"""Letters by which words are compared, so that ``retried`` and ``retries`` are the same."""

_SHORTEST = 3
"""Letters of the shortest word that says anything; digits and other scripts count at any length."""


async def read_passages(turn: Turn, room: int) -> Answer:
    """Make one attempt at the turn, one passage after the other.

    Args:
        turn: In context mode.
        room: Characters that the passage may take.

    Raises:
        InputTooLongError: Prompt and passage exceed the model's context.
        ModelRunnerError: The server failed in another way.
        AgentError: The turn did not come to an end.
    """
    shown, notes = await find_passages(turn, room)
    if not shown:
        return (await ask(turn, compose_prompt(turn.question, ""), room)).answer(turn, (), notes)
    done, unheard = Exchange(), replace(turn, on_event=_without_text(turn.on_event))
    for passage in shown[:MAX_READINGS]:
        turn.on_event(Reading(f"{passage.path}:{passage.start_line}-{passage.end_line}"))
        latest = await ask(unheard, compose_reading(turn.question, passage), room)
        done = replace(latest, messages=(*done.messages, *latest.messages))
        text, _ = split_reasoning(latest.output)
        if support(text, turn.question, passage.text) >= LEAST_SUPPORT:
            cited = f"{done.output.rstrip()} [{passage.id}]"
            turn.on_event(TextDelta(split_reasoning(cited)[0]))
            return replace(done, output=cited).answer(turn, shown, notes)
    return done.answer(turn, shown, notes, grounded=False)


def _without_text(sink: EventSink) -> EventSink:
    def take(event: TurnEvent) -> None:
        if not isinstance(event, TextDelta):
            sink(event)

    return take


def support(answer: str, question: str, passage: str) -> float:
    """Measure how much of what an answer adds to the question stands in a passage.

    Args:
        answer: The model's.
        question: Words of it prove nothing, as they are in the prompt.
        passage: What the model was given.

    Returns:
        From 0 to 1; 0 for an answer that says nothing beyond the question.
    """
    asked = {_stem(term) for term in query_terms(question)}
    known = {_stem(term) for term in query_terms(passage)}
    said = {_stem(term) for term in subject_terms(answer) if _says_something(term)} - asked
    return len(said & known) / len(said) if said else 0.0


def _stem(term: str) -> str:
    return term.rstrip("s")[:_STEM]


def _says_something(term: str) -> bool:
    return len(term) >= _SHORTEST or not term.isascii() or term.isdigit()
