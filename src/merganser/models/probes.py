"""Small requests that show whether a model does what its role needs.

A server answers for models that cannot do the job: any model gives rerank scores, and a template
without tools drops them silently. A probe asks something with a known answer before the job.
"""

from __future__ import annotations

import json
import re
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from merganser.errors import ProtocolError
from merganser.models.chat import ChatOptions, collect
from merganser.models.rerank import looks_like_logits
from merganser.models.server_errors import ToolTemplateError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from merganser.models.chat import ChatDelta
    from merganser.models.client import ModelRunner

# Fixed for ever: snapshots keep their vectors and later runs compare with them. Prose, code,
# another script, a short and a long text, because a changed tokeniser or template shows in one.
PROBE_TEXTS: tuple[str, ...] = (
    "merganser",
    "How do I retry a failed task with exponential backoff?",
    "The quick brown fox jumps over the lazy dog.",
    "def fibonacci(n: int) -> int:\n    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)",
    "SELECT path, count(*) FROM chunks GROUP BY path ORDER BY 2 DESC LIMIT 10;",
    "Der Entenvogel taucht und kommt mit einem Fisch im Schnabel wieder an die Oberfläche.",
    "数据库的索引使查询更快,但会占用更多的磁盘空间。",
    (
        "An index is built beside the one that is being served, checked, and then put in its place "
        "in a single step, so that a reader never waits and never sees half of it; when the check "
        "fails, the old index stays, and the report says which part was at fault."
    ),
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
_CITATION_TOKENS = 1024
# A model that is no reranker gives noise: the same score for all, or about 1e-20.
_SMALLEST_MARGIN = 0.01
# Thinking models think first; the call itself is about 30 tokens.
_TOOL_TOKENS = 1024
# Longer than what a model says before it calls; tags (reasoning, a call in text) are waited out.
_TALK_CHARACTERS = 200
_WEATHER_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the present weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city's name."}},
            "required": ["city"],
        },
    },
}


@dataclass(frozen=True, slots=True)
class EmbeddingProbe:
    """What an embedding model gives for ``PROBE_TEXTS``.

    Attributes:
        dimensions: Of every vector.
        norm: Of the raw vector that is farthest from 1, which llama.cpp's all are.
        vectors: (8, dimensions) float32, rows L2-normalised.
    """

    dimensions: int
    norm: float
    _: KW_ONLY
    vectors: NDArray[np.float32]

    def closeness(self, others: NDArray[np.float32]) -> float:
        """Give the lowest cosine between these vectors and earlier ones, or -1 for other shapes.

        Args:
            others: (8, dimensions) float32, rows L2-normalised.
        """
        if self.vectors.shape != others.shape:
            return -1.0
        return float(np.min(np.sum(self.vectors * others, axis=1)))


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


async def probe_embedding(runner: ModelRunner, ref: str) -> EmbeddingProbe:
    """Embed ``PROBE_TEXTS``, each alone, so that batching cannot change the vectors.

    Raises:
        ProtocolError: A vector has no length, or dimensions differ.
        ModelRunnerError: As for every request.
    """
    rows = [(await runner.embed(ref, [text])).vectors[0] for text in PROBE_TEXTS]
    if len({row.size for row in rows}) != 1:
        raise ProtocolError(f"{ref}: dimensions differ from text to text")
    matrix = np.stack(rows)
    norms = np.linalg.norm(matrix, axis=1)
    if not norms.all():
        raise ProtocolError(f"{ref}: the embedding of a probe text is all zeros")
    farthest = float(norms[np.argmax(np.abs(norms - 1.0))])
    vectors = (matrix / norms[:, None]).astype(np.float32)
    return EmbeddingProbe(matrix.shape[1], farthest, vectors=vectors)


async def probe_reranking(runner: ModelRunner, ref: str) -> RerankProbe:
    """Ask a reranker three questions whose answer is known.

    Raises:
        ModelRunnerError: As for every request.
    """
    margins: list[float] = []
    raw: list[float] = []
    for query, relevant, others in _RERANK_CASES:
        answer = await runner.rerank(ref, query, [*others, relevant])
        scores = {one.index: one.score for one in answer}
        margins.append(scores[len(others)] - max(scores[i] for i in range(len(others))))
        raw += scores.values()
    return RerankProbe(
        ordered=min(margins) > 0,
        margin=min(margins),
        scale="logit" if looks_like_logits(raw) else "probability",
    )


async def calls_tools(runner: ModelRunner, ref: str) -> bool:
    """Ask a model for something that only its tool can tell, and see whether it calls the tool.

    Raises:
        ModelRunnerError: As for every request; a template that cannot render tools is an answer.
    """
    question = "What is the weather in Paris now? Use the tool get_weather to find out."
    options = ChatOptions(temperature=0.0, max_tokens=_TOOL_TOKENS, tools=(_WEATHER_TOOL,))
    messages = [{"role": "user", "content": question}]
    try:
        async with aclosing(runner.chat_stream(ref, messages, options)) as deltas:
            answer = await collect(_until_it_talks(deltas))
    except ToolTemplateError:
        return False
    return any(
        call.name == "get_weather" and _names_city(call.arguments) for call in answer.tool_calls
    )


async def _until_it_talks(deltas: AsyncIterator[ChatDelta]) -> AsyncIterator[ChatDelta]:
    """End an answer in prose early: a model that talks about the weather calls no tool."""
    text = ""
    async for delta in deltas:
        yield delta
        text += delta.content
        if len(text) > _TALK_CHARACTERS and not text.lstrip().startswith("<"):
            return


def _names_city(arguments: str) -> bool:
    try:
        decoded = json.loads(arguments)
    except ValueError:
        return False
    return isinstance(decoded, dict) and "city" in decoded


async def cites_sources(runner: ModelRunner, ref: str) -> bool:
    """Ask what one of three numbered sources answers, and see whether the answer cites just it.

    Raises:
        ModelRunnerError: As for every request.
    """
    options = ChatOptions(temperature=0.0, max_tokens=_CITATION_TOKENS)
    for question, sources in _CITATION_CASES:
        listed = "\n\n".join(
            f"[{n}] {place}\n```\n{text}\n```" for n, (place, text) in enumerate(sources, 1)
        )
        prompt = (
            f"Sources:\n\n{listed}\n\nQuestion: {question}\n\nAnswer from the sources and cite "
            "each one you use by its number, as [1]."
        )
        answer = await runner.chat(ref, [{"role": "user", "content": prompt}], options)
        if set(re.findall(r"\[(\d+)\]", answer.content)) != {str(len(sources))}:
            return False
    return True
