"""Small requests that show whether a model does what its role needs.

A server answers for models that cannot do the job: any model gives rerank scores, and a template
without tools drops them silently. A probe asks something with a known answer before the job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from merganser.errors import ProtocolError
from merganser.models.inference import looks_like_logits
from merganser.models.server_errors import ToolTemplateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.tools import ToolDefinition

    from merganser.models.wire import EmbeddingBatch, RerankScore

# Prose, code, another script: a server whose dimensions depend on the text is no use.
_EMBEDDED_TEXTS = (
    "How do I retry a failed task with exponential backoff?",
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "数据库的索引使查询更快,但会占用更多的磁盘空间。",
)
# The relevant document comes last, so that a server which scores all alike is not in order.
_RERANK_CASES: tuple[tuple[str, str, tuple[str, str]], ...] = (
    (
        "What is the capital of France?",
        "Paris is the capital and the largest city of France.",
        (
            "Bread dough has to rest for an hour before it is baked.",
            "A binary search needs a sorted array.",
        ),
    ),
    (
        "How do I sort a list in Python?",
        "Call sorted(values) for a new list, or values.sort() to sort a Python list in place.",
        (
            "The river freezes in January and thaws in March.",
            "Olive oil keeps best in a dark bottle.",
        ),
    ),
    (
        "Why is the sky blue?",
        "Air scatters blue light more than red light, so the sky looks blue.",
        (
            "The committee meets on the second Tuesday of the month.",
            "Set the environment variable before the server starts.",
        ),
    ),
)
# The one source that answers comes last, once among prose and once among code, so that a model
# which cites the first, or all of them, does not pass.
_CITATION_CASES: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (
        "When does the museum open on Sundays?",
        (
            ("museum/tickets.md:3-5", "A ticket costs nine euros. Children under six are free."),
            ("museum/history.md:1-2", "The museum was founded in 1871 in a former customs house."),
            ("museum/hours.md:8-9", "On Sundays the museum opens at eleven."),
        ),
    ),
    (
        "Which function closes the connection?",
        (
            ("pool/acquire.py:10-11", "def acquire(pool):\n    return pool.free.pop()"),
            ("pool/stats.py:4-5", "def count(pool):\n    return len(pool.free)"),
            ("pool/release.py:7-8", "def release(connection):\n    connection.close()"),
        ),
    ),
)
# Of an answer; thinking models think first.
_MOST_TOKENS = 1024
# A model that is no reranker gives noise: the same score for all, or about 1e-20.
_SMALLEST_MARGIN = 0.01
# Longer than what a model says before it calls; tags (reasoning, a call in text) are waited out.
_TALK_CHARACTERS = 200


class Embeds(Protocol):
    """What the probe of an embedding model needs of a client."""

    async def embed(self, ref: str, texts: Sequence[str]) -> EmbeddingBatch:
        """Embed texts in one request."""
        ...


class Reranks(Protocol):
    """What the probe of a reranker needs of a client."""

    async def rerank(self, ref: str, query: str, documents: Sequence[str]) -> list[RerankScore]:
        """Score documents against a query."""
        ...


class Chats(Protocol):
    """What the probes of a chat model need of a client."""

    async def chat(
        self,
        ref: str,
        prompt: str,
        *,
        max_tokens: int,
        tools: Sequence[ToolDefinition] = (),
        is_enough: Callable[[ModelResponse], bool] | None = None,
    ) -> ModelResponse:
        """Answer one prompt."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingProbe:
    """What an embedding model gives.

    Attributes:
        dimensions: Length of every vector.
        norm: Length of the raw vector that is farthest from 1, the length of llama.cpp's vectors.
    """

    dimensions: int
    norm: float


@dataclass(frozen=True, slots=True)
class RerankProbe:
    """What a reranker makes of three questions with one relevant document each.

    Attributes:
        ordered: The relevant document came first each time.
        margin: The smallest raw distance between it and the next best; may be negative.
        scale: ``logit`` when any raw score was outside [0, 1].
    """

    ordered: bool
    margin: float
    scale: Literal["probability", "logit"]

    @property
    def trusted(self) -> bool:
        """The model reranks: right order, by more than noise."""
        return self.ordered and self.margin >= _SMALLEST_MARGIN


async def probe_embedding(client: Embeds, ref: str) -> EmbeddingProbe:
    """Embed three texts, each alone.

    Raises:
        ProtocolError: A vector has no length, or dimensions differ.
        ModelRunnerError: As for every request.
    """
    rows = [(await client.embed(ref, [text])).vectors[0] for text in _EMBEDDED_TEXTS]
    if len({row.size for row in rows}) != 1:
        raise ProtocolError(f"{ref}: dimensions differ from text to text")
    norms = [float(np.linalg.norm(row)) for row in rows]
    if not all(norms):
        raise ProtocolError(f"{ref}: the embedding of a text is all zeros")
    return EmbeddingProbe(rows[0].size, max(norms, key=lambda norm: abs(norm - 1.0)))


async def probe_reranking(client: Reranks, ref: str) -> RerankProbe:
    """Ask a reranker three questions whose answer is known.

    Raises:
        ModelRunnerError: As for every request.
    """
    margins: list[float] = []
    raw: list[float] = []
    for query, relevant, others in _RERANK_CASES:
        answer = await client.rerank(ref, query, [*others, relevant])
        scores = {one.index: one.score for one in answer}
        margins.append(scores[len(others)] - max(scores[i] for i in range(len(others))))
        raw += scores.values()
    return RerankProbe(
        ordered=min(margins) > 0,
        margin=min(margins),
        scale="logit" if looks_like_logits(raw) else "probability",
    )


async def calls_tools(client: Chats, ref: str) -> bool:
    """Ask a model for something that only its tool can tell, and see whether it calls the tool.

    Raises:
        ModelRunnerError: As for every request; a template that cannot render tools is an answer.
    """
    from pydantic_ai.tools import ToolDefinition

    tool = ToolDefinition(
        name="get_weather",
        description="Get the present weather of a city.",
        parameters_json_schema={
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name."}},
            "required": ["city"],
        },
    )
    question = "What is the weather in Paris now? Use the tool get_weather to find out."
    try:
        answer = await client.chat(
            ref, question, max_tokens=_MOST_TOKENS, tools=[tool], is_enough=_talks
        )
    except ToolTemplateError:
        return False
    return any(
        call.tool_name == tool.name and "city" in call.args_as_dict() for call in answer.tool_calls
    )


def _talks(answer: ModelResponse) -> bool:
    """Return whether an answer has become prose: who talks about the weather calls no tool."""
    text = answer.text or ""
    return len(text) > _TALK_CHARACTERS and not text.lstrip().startswith("<")


async def cites_sources(client: Chats, ref: str) -> bool:
    """Ask what one of three numbered sources answers, and see whether the answer cites just it.

    Raises:
        ModelRunnerError: As for every request.
    """
    for question, sources in _CITATION_CASES:
        listed = "\n\n".join(
            f"[{n}] {place}\n```\n{text}\n```" for n, (place, text) in enumerate(sources, 1)
        )
        prompt = (
            f"Sources:\n\n{listed}\n\nQuestion: {question}\n\nAnswer from the sources and cite "
            "each one you use by its number, as [1]."
        )
        answer = await client.chat(ref, prompt, max_tokens=_MOST_TOKENS)
        if set(re.findall(r"\[(\d+)\]", answer.text or "")) != {str(len(sources))}:
            return False
    return True
