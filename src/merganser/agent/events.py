"""Events of a turn, as they happen.

They are for display only: an answer is complete without them, and a resumed turn does not repeat
the events of what was kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from merganser.agent.answer import RagMode  # noqa: TC001 - dataclass fields stay resolvable


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The mode is decided and the model is about to be asked."""

    agent: str
    model: str
    rag_mode: RagMode


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of the model's reasoning."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """The model asked for a tool."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolAnswered:
    """A tool returned its result, or told the model why it cannot."""

    name: str
    outcome: Literal["success", "failed"]
    summary: str


@dataclass(frozen=True, slots=True)
class Reading:
    """One passage is read alone; an answer that it supports follows as one piece."""

    place: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something a reader should know; it is also in the answer's notes."""

    note: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The model's stream broke off and is requested again: text shown so far is void."""

    reason: str


TurnEvent: TypeAlias = (
    TurnStarted
    | TextDelta
    | ReasoningDelta
    | ToolCalled
    | ToolAnswered
    | Reading
    | Noted
    | Restarted
)

EventSink: TypeAlias = Callable[[TurnEvent], None]


def ignore_event(event: TurnEvent) -> None:
    """Show nothing."""
    del event
