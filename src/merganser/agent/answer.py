"""What a turn returns: the answer, its sources, what it cost, and the tools it used.

All values are plain data that survive JSON, because batch rows, artifacts and the run history hold
them. How citations are found and checked is in ``citations``.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from merganser.chunking.places import name_passage
from merganser.retrieval.hits import describe_freshness

if TYPE_CHECKING:
    from merganser.retrieval.hits import Freshness, SearchResult

RagMode = Literal["tool", "context", "none"]
"""How retrieved text reached the model: by its own tool calls, in the prompt, or not at all."""

Outcome = Literal[
    "answered",
    "failed: cites unknown source",
    "failed: no text",
    "failed: only copies its sources",
    "failed: rests on no source",
]
"""``answered``, or the first reason why the answer must not be relied on."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """One retrieved passage and whether the answer names it.

    Attributes:
        path: As indexed: posix and relative to the config's folder.
        start_line: First line, from 1.
        end_line: Last line, inclusive.
        id: The number that the model may cite as ``[id]``; None for a file read by a tool.
        cited: True when the answer names it by id, by lines or by path; otherwise it was only
            retrieved.
        source: The rag or the tool that returned it.
        score: The retriever's score, higher is better; None for a file read by a tool.
        place: Where it stands in its file, such as ``slides 3-4``; empty where that is its lines.
        commit: The commit that has its file as it was indexed; "" when it was in none.
        url: Page of a forge with the passage at that commit; "" for none.
        freshness: Whether it stood in its file when it was found; what a tool read does.
    """

    path: str
    start_line: int
    end_line: int
    _: KW_ONLY
    id: int | None = None
    cited: bool = False
    source: str = ""
    score: float | None = None
    place: str = ""
    commit: str = ""
    url: str = ""
    freshness: Freshness = "fresh"

    def __str__(self) -> str:
        """Return ``path:start-end``, which editors can jump to, or ``path (place)``."""
        return name_passage(self.path, f"{self.start_line}-{self.end_line}", self.place)


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One tool call of the turn.

    Attributes:
        name: The tool.
        arguments: As the model wrote them.
        outcome: ``success``, or ``failed`` when the model was told of an error.
    """

    name: str
    arguments: dict[str, Any]
    outcome: Literal["success", "failed"] = "success"


@dataclass(frozen=True, slots=True)
class TurnUsage:
    """What the model requests of a turn cost, as the server counted it.

    Attributes:
        requests: Answered model requests.
        input_tokens: Prompt tokens of all requests, cached ones included.
        output_tokens: Generated tokens, reasoning included.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The result of one turn.

    Attributes:
        text: The answer's text, without reasoning.
        reasoning: The model's reasoning, if any; never part of ``text``.
        sources: Everything that was retrieved or read, cited ones first.
        invalid_citations: Citations of what was never retrieved, as written in the text.
        copied: The text is nothing but lines and places of its sources.
        grounded: False when the text was compared with its source, which does not support it.
        tool_calls: In order.
        usage: Tokens and requests.
        seconds: Wall time of the turn.
        rag_mode: The mode that was used, which ``auto`` decided.
        notes: What the reader should know: a shrunk context, a cut answer, a skipped reranking.
        finish_reason: Of the last model response: ``stop``, ``length``, ...; None when unknown.
        model: The reference of the model that answered.
        turn_id: The id that the turn was started with.
    """

    text: str
    reasoning: str = ""
    sources: tuple[SourceLine, ...] = ()
    invalid_citations: tuple[str, ...] = ()
    copied: bool = False
    grounded: bool = True
    tool_calls: tuple[ToolUse, ...] = ()
    usage: TurnUsage = TurnUsage()
    seconds: float = 0.0
    rag_mode: RagMode = "none"
    notes: tuple[str, ...] = ()
    finish_reason: str | None = None
    model: str = ""
    turn_id: str = ""

    @property
    def outcome(self) -> Outcome:
        """Whether the answer can be relied on as far as a machine can tell."""
        if not self.text.strip():
            return "failed: no text"
        if self.invalid_citations:
            return "failed: cites unknown source"
        if self.copied:
            return "failed: only copies its sources"
        if not self.grounded:
            return "failed: rests on no source"
        return "answered"

    @property
    def stale(self) -> tuple[SourceLine, ...]:
        """The sources it rests on that are not what stands in their files: cited ones, or any."""
        used = [line for line in self.sources if line.cited] or self.sources
        return tuple(line for line in used if line.freshness != "fresh")

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON values, with the keys that ``--json`` and batch rows share."""
        return {
            "answer": self.text,
            "reasoning": self.reasoning,
            "outcome": self.outcome,
            "sources": [
                {
                    "id": line.id,
                    "path": line.path,
                    "lines": f"{line.start_line}-{line.end_line}",
                    "place": line.place,
                    "cited": line.cited,
                    "source": line.source,
                    "score": line.score,
                    "commit": line.commit or None,
                    "url": line.url or None,
                    "freshness": line.freshness,
                }
                for line in self.sources
            ],
            "invalid_citations": list(self.invalid_citations),
            "tool_calls": [asdict(use) for use in self.tool_calls],
            "tokens": {"input": self.usage.input_tokens, "output": self.usage.output_tokens},
            "requests": self.usage.requests,
            "seconds": round(self.seconds, 3),
            "rag_mode": self.rag_mode,
            "notes": list(self.notes),
            "finish_reason": self.finish_reason,
            "model": self.model,
            "turn_id": self.turn_id,
        }


def describe_source(line: SourceLine) -> str:
    """Return where a passage is and whether the answer names it, for one line of a terminal."""
    label = f"[{line.id}] " if line.id is not None else ""
    link = f" {line.url}" if line.url else ""
    said = describe_freshness(line.freshness)
    about = ("cited" if line.cited else "retrieved, not cited") + (said and f", {said}")
    return f"{label}{line} ({about}){link}"


class HitSource(Protocol):
    """What the agent needs of a retriever; ``merganser.retrieval.Retriever`` is one."""

    async def search(self, question: str, /) -> SearchResult:
        """Find the passages for a question, best first."""
        ...
