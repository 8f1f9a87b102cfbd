"""Native reranking and what its scores mean.

Scores have no fixed scale: BERT-like rerankers give logits, Qwen3's gives a probability. A sigmoid
keeps the order of both, but over probabilities it squeezes everything into [0.5, 0.73], so that a
threshold means nothing; hence it is applied only where logits have been seen.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from merganser.errors import ProtocolError, RequestRejectedError
from merganser.models.server_errors import error_for, read_message
from merganser.models.wire import RerankScore, as_list, as_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    import httpx

    from merganser.models.connection import Connection
    from merganser.models.ref import ScoreNormalization


# Docker Model Runner answers below /engines on every address, also behind Docker Desktop's socket;
# vLLM and others have the other two. /v1/rerank does not exist at Docker Model Runner.
_MANAGED_PATHS = ("/engines/rerank",)
_OTHER_PATHS = ("/rerank", "/v1/rerank")


async def request_rerank(
    connection: Connection,
    ref: str,
    query: str,
    documents: Sequence[str],
    *,
    name: str,
    managed: bool,
    top_n: int | None = None,
) -> list[RerankScore]:
    """Score documents against a query in one request.

    Args:
        connection: To any server.
        ref: The model, for errors.
        query: The question.
        documents: At least one; each must fit the engine's batch together with the query.
        name: The name that the server knows the model by.
        managed: The server is a Docker Model Runner.
        top_n: Return only the best.

    Returns:
        Raw scores, best first, ties by position.

    Raises:
        InputTooLongError: A document with the query exceeds the engine's batch.
        ProtocolError: Scores are missing, doubled or no numbers.
        RequestRejectedError: The server cannot rerank.
    """
    body: dict[str, Any] = {"model": name, "query": query, "documents": list(documents)}
    if top_n is not None:
        body["top_n"] = top_n
    asked = {"merganser.texts": len(documents)}
    with connection.span("rerank", name, asked):
        scores = await _request_scores(connection, ref, body, name=name, managed=managed)
    return sorted(scores, key=lambda one: (-one.score, one.index))


async def _request_scores(
    connection: Connection, ref: str, body: dict[str, Any], *, name: str, managed: bool
) -> list[RerankScore]:
    documents = len(body["documents"])
    path, response = "", None
    for path in _MANAGED_PATHS if managed else _OTHER_PATHS:
        response = await connection.request(
            "POST",
            path,
            body=body,
            model=ref,
            read_seconds=connection.patience(name, "reranking"),
            expected={HTTPStatus.NOT_FOUND},
        )
        if response.is_success:
            break
    assert response is not None, "there is at least one path"
    url = connection.shown(path)
    if not response.is_success:
        raise _cannot_rerank(response, ref, url=url)
    connection.note_answer(name, "reranking")
    expected = min(body.get("top_n", documents), documents)
    return parse_scores(
        connection.decode(response, path=path), documents, expected=expected, url=url
    )


def _cannot_rerank(response: httpx.Response, ref: str, *, url: str) -> Exception:
    error = error_for(404, read_message(response.text), url=url, model=ref)
    if isinstance(error, RequestRejectedError):
        message = f"{error}; reranking needs Docker Model Runner v1.0.4 or newer"
        return RequestRejectedError(message, status=404, url=url)
    return error


def parse_scores(
    document: Any, documents: int, *, expected: int, url: str = ""
) -> list[RerankScore]:
    """Read a rerank answer: llama.cpp's object, or the bare array of text-embeddings-inference.

    Args:
        document: The decoded JSON.
        documents: How many documents were sent.
        expected: How many scores must come back.
        url: Who answered, for errors.

    Raises:
        ProtocolError: Scores are missing, doubled, out of range or no numbers.
    """
    rows = as_list(document if isinstance(document, list) else as_mapping(document).get("results"))
    scores: dict[int, float] = {}
    for row in map(as_mapping, rows):
        index, score = row.get("index"), row.get("relevance_score", row.get("score"))
        if not isinstance(index, int) or not 0 <= index < documents or index in scores:
            raise ProtocolError(f"{url}: rerank index {index!r} is out of place", url=url)
        if not isinstance(score, int | float) or not math.isfinite(score):
            raise ProtocolError(f"{url}: rerank score {score!r} is no number", url=url)
        scores[index] = float(score)
    if len(scores) != expected:
        message = f"{url}: expected {expected} rerank scores, got {len(scores)}"
        raise ProtocolError(message, url=url)
    return [RerankScore(index, score) for index, score in scores.items()]


def looks_like_logits(raw: Sequence[float]) -> bool:
    """Tell whether any score is outside [0, 1], which no probability is."""
    return any(not 0.0 <= score <= 1.0 for score in raw)


def normalise_scores(
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
