"""Requests for embeddings and reranking, their answers checked for what could poison an index.

Rerank scores have no fixed scale: BERT-like rerankers give logits, Qwen3's gives a probability. A
sigmoid keeps the order of both, but over probabilities it squeezes everything into [0.5, 0.73], so
that a threshold means nothing; hence it is applied only where logits have been seen.
"""

from __future__ import annotations

import binascii
import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pybase64

from merganser.errors import ProtocolError, RequestRejectedError
from merganser.models.server_errors import error_for, error_in_success, read_message
from merganser.models.wire import EmbeddingBatch, RerankScore, as_count, as_list, as_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from merganser.models.connection import Connection
    from merganser.models.ref import ScoreNormalization
    from merganser.models.retry import RetryPolicy
    from merganser.models.upkeep import Upkeep

EncodingFormat: TypeAlias = Literal["base64", "float"]

# 8,192 numbers, each of them written out in 20 characters, and what goes around the vectors.
_MOST_VECTOR_BYTES = 160 << 10
_MOST_ENVELOPE_BYTES = 1 << 20

# Docker Model Runner answers below /engines on every address, also behind Docker Desktop's socket;
# vLLM and others have the other two. /v1/rerank does not exist at Docker Model Runner.
_MANAGED_PATHS = ("/engines/rerank",)
_OTHER_PATHS = ("/rerank", "/v1/rerank")


async def request_embeddings(
    connection: Connection,
    ref: str,
    texts: Sequence[str],
    *,
    name: str,
    encoding_format: EncodingFormat,
    retry: RetryPolicy | None = None,
    upkeep: Upkeep | None = None,
) -> EmbeddingBatch:
    """Embed texts in one request.

    Args:
        connection: To any server.
        ref: The model, for errors.
        texts: At least one; the server truncates nothing and one text that is too long fails all.
        name: The name that the server knows the model by.
        encoding_format: ``base64`` is a quarter of the bytes and half of the client's CPU time.
        retry: Instead of the connection's own policy.
        upkeep: The configuration that has to stand, or None for whatever the server has.

    Raises:
        InputTooLongError: A text exceeds the engine's batch or context, or all of them the body.
        ProtocolError: The answer has the wrong count, order, dimensions or values.
        ModelRunnerError: As for every request.
    """
    path = f"{connection.address.openai_prefix}/embeddings"
    asked = {"merganser.texts": len(texts), "gen_ai.request.encoding_formats": [encoding_format]}
    with connection.span("embeddings", name, asked) as span:
        document = await connection.json(
            "POST",
            path,
            body={"model": name, "input": list(texts), "encoding_format": encoding_format},
            model=ref,
            read_seconds=connection.patience(name, "embedding"),
            retry=retry,
            upkeep=upkeep,
            most_bytes=_MOST_ENVELOPE_BYTES + len(texts) * _MOST_VECTOR_BYTES,
        )
        connection.note_answer(name, "embedding")
        batch = parse_embeddings(document, expected=len(texts), url=connection.shown(path))
        span.set_attributes(
            {
                "gen_ai.usage.input_tokens": batch.prompt_tokens,
                "gen_ai.embeddings.dimension.count": batch.vectors.shape[1],
            }
        )
    return batch


def parse_embeddings(document: Any, *, expected: int, url: str = "") -> EmbeddingBatch:
    """Read an embeddings answer, whichever encoding the server chose.

    Args:
        document: The decoded JSON.
        expected: How many texts were sent.
        url: Who answered, for errors.

    Raises:
        ProtocolError: Not one vector per text, unequal dimensions, or a value that is no number.
    """
    answer = as_mapping(document)
    rows = as_list(answer.get("data"))
    if len(rows) != expected:
        message = f"{url}: expected {expected} embeddings, got {len(rows)}"
        raise ProtocolError(message, url=url)
    vectors: list[bytes | None] = [None] * expected
    for position, row in enumerate(map(as_mapping, rows)):
        index = row.get("index", position)
        if not isinstance(index, int) or not 0 <= index < expected or vectors[index] is not None:
            raise ProtocolError(f"{url}: embedding index {index!r} is out of place", url=url)
        vectors[index] = _float_bytes(row.get("embedding"), url)
    found = [vector for vector in vectors if vector is not None]
    sizes = {len(vector) // 4 for vector in found}
    if len(sizes) != 1 or 0 in sizes:
        raise ProtocolError(f"{url}: embeddings of unequal dimensions {sorted(sizes)}", url=url)
    # All bytes joined, then one array: an array for each text costs more than its decoding.
    matrix = np.frombuffer(b"".join(found), dtype="<f4").reshape(expected, -1)
    if not np.isfinite(matrix).all():
        bad = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        message = f"{url}: embedding {bad} holds a value that is no number or overflows 32 bits"
        raise ProtocolError(message, url=url)
    tokens = as_count(as_mapping(answer.get("usage")).get("prompt_tokens"))
    return EmbeddingBatch(matrix, tokens or 0)


def _float_bytes(value: Any, url: str) -> bytes:
    """Return one vector as little-endian 32-bit floats."""
    try:
        if not isinstance(value, str):
            numbers = [float("nan") if number is None else number for number in as_list(value)]
            if any(isinstance(number, list) for number in numbers):
                raise ProtocolError(
                    f"{url}: an embedding is a list of vectors, one a token, instead of one "
                    'vector for the text: set provider_opts.runtime_flags: ["--pooling", "mean"]',
                    url=url,
                )
            with np.errstate(over="ignore"):  # infinity, which is refused with all of the batch
                return np.asarray(numbers, dtype="<f4").tobytes()
        vector = pybase64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise ProtocolError(f"{url}: an embedding cannot be read: {exc}", url=url) from exc
    if len(vector) % 4:
        message = f"{url}: an embedding cannot be read: {len(vector)} bytes are no 32-bit floats"
        raise ProtocolError(message, url=url)
    return vector


async def request_rerank(
    connection: Connection,
    ref: str,
    query: str,
    documents: Sequence[str],
    *,
    name: str,
    managed: bool,
    upkeep: Upkeep | None = None,
) -> list[RerankScore]:
    """Score documents against a query in one request.

    Args:
        connection: To any server.
        ref: The model, for errors.
        query: The question.
        documents: At least one; each must fit the engine's batch together with the query.
        name: The name that the server knows the model by.
        managed: The server is a Docker Model Runner.
        upkeep: The configuration that has to stand, or None for whatever the server has.

    Returns:
        Raw scores, best first, ties by position.

    Raises:
        InputTooLongError: A document with the query exceeds the engine's batch.
        ProtocolError: Scores are missing, doubled or no numbers.
        RequestRejectedError: The server cannot rerank.
    """
    body: dict[str, Any] = {"model": name, "query": query, "documents": list(documents)}
    asked = {"merganser.texts": len(documents)}
    with connection.span("rerank", name, asked):
        scores = await _request_scores(
            connection, ref, body, name=name, managed=managed, upkeep=upkeep
        )
    return sorted(scores, key=lambda one: (-one.score, one.index))


async def _request_scores(
    connection: Connection,
    ref: str,
    body: dict[str, Any],
    *,
    name: str,
    managed: bool,
    upkeep: Upkeep | None,
) -> list[RerankScore]:
    path, response = "", None
    for path in _MANAGED_PATHS if managed else _OTHER_PATHS:
        response = await connection.request(
            "POST",
            path,
            body=body,
            model=ref,
            read_seconds=connection.patience(name, "reranking"),
            expected={HTTPStatus.NOT_FOUND},
            upkeep=upkeep,
        )
        if response.is_success:
            break
    assert response is not None, "there is at least one path"
    url = connection.shown(path)
    if not response.is_success:
        raise _cannot_rerank(response, ref, url=url)
    connection.note_answer(name, "reranking")
    document = connection.decode(response, path=path)
    if (error := error_in_success(document, url=url, model=ref)) is not None:
        raise error
    return parse_scores(document, expected=len(body["documents"]), url=url)


def _cannot_rerank(response: httpx.Response, ref: str, *, url: str) -> Exception:
    error = error_for(404, read_message(response.text), url=url, model=ref)
    if isinstance(error, RequestRejectedError):
        message = f"{error}; reranking needs Docker Model Runner v1.0.4 or newer"
        return RequestRejectedError(message, status=404, url=url)
    return error


def parse_scores(document: Any, *, expected: int, url: str = "") -> list[RerankScore]:
    """Read a rerank answer: llama.cpp's object, or the bare array of text-embeddings-inference.

    Args:
        document: The decoded JSON.
        expected: How many documents were sent.
        url: Who answered, for errors.

    Raises:
        ProtocolError: Scores are missing, doubled, out of range or no numbers.
    """
    rows = as_list(document if isinstance(document, list) else as_mapping(document).get("results"))
    scores: dict[int, float] = {}
    for row in map(as_mapping, rows):
        index, score = row.get("index"), row.get("relevance_score", row.get("score"))
        if not isinstance(index, int) or not 0 <= index < expected or index in scores:
            raise ProtocolError(f"{url}: rerank index {index!r} is out of place", url=url)
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise ProtocolError(f"{url}: rerank score {score!r} is no number", url=url)
        scores[index] = float(score)
    if len(scores) != expected:
        message = f"{url}: expected {expected} rerank scores, got {len(scores)}"
        raise ProtocolError(message, url=url)
    return [RerankScore(index, score) for index, score in scores.items()]


def looks_like_logits(raw: Sequence[float]) -> bool:
    """Return whether any score is outside [0, 1], which no probability is."""
    return any(not 0.0 <= score <= 1.0 for score in raw)


def normalize_scores(
    raw: Sequence[float], mode: ScoreNormalization, *, known_logits: bool = False
) -> list[float]:
    """Bring raw rerank scores to [0, 1] where that is possible; the order never changes.

    Args:
        raw: As the model gave them.
        mode: ``sigmoid``, ``none``, or ``auto``: a sigmoid iff the model gives logits.
        known_logits: The model has given a score outside [0, 1] before. One batch of logits can
            lie inside by chance, so the caller remembers it per model, as
            ``ModelRunner.normalise`` does.

    Returns:
        One score per raw score, in the same order.
    """
    apply = mode == "sigmoid" or (mode == "auto" and (known_logits or looks_like_logits(raw)))
    return [_sigmoid(score) for score in raw] if apply else list(raw)


def _sigmoid(x: float) -> float:
    # Two forms, so that neither overflows.
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))
