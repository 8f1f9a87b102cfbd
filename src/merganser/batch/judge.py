"""Let a local model judge answers, after it has shown on labelled examples that it can.

Small models call nearly everything grounded, and a figure from such a judge is worse than none. So
a judge first decides eight labelled pairs; one that gets more than one of them wrong is refused.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from merganser.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_ai.messages import ModelResponse

Aspect = Literal["grounded", "relevant"]

LEAST_RIGHT = 7
"""Right verdicts that it needs of the eight. A judge that guesses has them in 9 of 256 tries."""

_MOST_EVIDENCE_CHARACTERS = 6000
_QUESTIONS: Mapping[Aspect, str] = {
    "grounded": "Is every statement of the answer supported by the passages?",
    "relevant": "Does the answer answer the question?",
}
_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "verdict",
        "schema": {
            "type": "object",
            "properties": {"verdict": {"type": "string", "enum": ["yes", "no"]}},
            "required": ["verdict"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge looks at.

    Attributes:
        question: As asked.
        answer: The text.
        passages: What was retrieved for it.
    """

    question: str
    answer: str
    passages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A pair with its right verdict."""

    aspect: Aspect
    case: Judged
    verdict: bool


_TIDES = ("High water at the pier comes at 06:10 and at 18:35.",)
_ORDERS = ("Orders above 50 euros are delivered free. Others cost 4.90 euros.",)
EXAMPLES: tuple[Example, ...] = (
    Example("grounded", Judged("When is high water?", "At 06:10 and 18:35.", _TIDES), True),
    Example("grounded", Judged("When is high water?", "At 09:00 and 21:20.", _TIDES), False),
    Example("grounded", Judged("What does delivery cost?", "4.90 euros up to 50.", _ORDERS), True),
    Example("grounded", Judged("Who delivers?", "A courier called Swift Bird.", _ORDERS), False),
    Example("relevant", Judged("Which port does it use?", "It listens on port 8123."), True),
    Example("relevant", Judged("Which port does it use?", "The cache keeps 100 rows."), False),
    Example("relevant", Judged("Who may read the file?", "Only its owner may."), True),
    Example("relevant", Judged("Who may read the file?", "It is written in YAML."), False),
)


class Chats(Protocol):
    """What a judge needs of the model server's client; ``ModelRunner`` has it."""

    async def chat(
        self, ref: str, prompt: str, *, max_tokens: int, response_format: Mapping[str, Any]
    ) -> ModelResponse:
        """Answer one prompt."""
        ...


async def require_judge(runner: Chats, ref: str) -> None:
    """Let a model judge the labelled examples.

    Args:
        runner: The model server's client, open.
        ref: The judge.

    Raises:
        PlanError: It got more than one of them wrong.
        ModelRunnerError: The server failed.
    """
    verdicts = await asyncio.gather(*(judge(runner, ref, e.aspect, e.case) for e in EXAMPLES))
    right = sum(given == example.verdict for given, example in zip(verdicts, EXAMPLES, strict=True))
    if right < LEAST_RIGHT:
        raise PlanError(
            f"the judge {ref!r} got {right} of {len(EXAMPLES)} labelled examples right and needs "
            f"{LEAST_RIGHT}: its verdicts would mean nothing; name a larger model as judge, or "
            "leave judge out"
        )


async def judge_answer(runner: Chats, ref: str, case: Judged) -> dict[str, float]:
    """Return ``grounded`` and ``relevant`` as 0 or 1; an aspect without a verdict is left out.

    Raises:
        ModelRunnerError: The server failed.
    """
    aspects: tuple[Aspect, ...] = ("grounded", "relevant")
    verdicts = await asyncio.gather(*(judge(runner, ref, aspect, case) for aspect in aspects))
    return {
        aspect: float(verdict)
        for aspect, verdict in zip(aspects, verdicts, strict=True)
        if verdict is not None
    }


async def judge(runner: Chats, ref: str, aspect: Aspect, case: Judged) -> bool | None:
    """Ask for one verdict; None when the model gave none."""
    passages = "\n\n".join(case.passages)[:_MOST_EVIDENCE_CHARACTERS]
    evidence = f"Passages:\n{passages}\n\n" if aspect == "grounded" else ""
    prompt = (
        f"{evidence}Question: {case.question}\nAnswer: {case.answer}\n\n{_QUESTIONS[aspect]} "
        'Reply with {"verdict": "yes"} or {"verdict": "no"}.'
    )
    answer = await runner.chat(ref, prompt, max_tokens=16, response_format=_FORMAT)
    try:
        verdict = json.loads(answer.text or "")["verdict"]
    except (ValueError, KeyError, TypeError):
        return None
    return {"yes": True, "no": False}.get(verdict)
