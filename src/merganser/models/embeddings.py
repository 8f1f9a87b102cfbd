"""Embeddings: one request, its answer checked for everything that could poison an index."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pybase64

from merganser.errors import ProtocolError
from merganser.models.wire import EmbeddingBatch, as_count, as_list, as_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from merganser.models.connection import Connection
    from merganser.models.retry import RetryPolicy

EncodingFormat: TypeAlias = Literal["base64", "float"]


async def request_embeddings(
    connection: Connection,
    ref: str,
    texts: Sequence[str],
    *,
    name: str,
    encoding_format: EncodingFormat,
    retry: RetryPolicy | None = None,
) -> EmbeddingBatch:
    """Embed texts in one request.

    Args:
        connection: To any server.
        ref: The model, for errors.
        texts: At least one; the server truncates nothing and one text that is too long fails all.
        name: The name that the server knows the model by.
        encoding_format: ``base64`` is a quarter of the bytes and half of the client's CPU time.
        retry: Instead of the connection's own policy.

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
        raise ProtocolError(f"{url}: embedding {bad} holds a value that is no number", url=url)
    tokens = as_count(as_mapping(answer.get("usage")).get("prompt_tokens"))
    return EmbeddingBatch(matrix, tokens or 0)


def _float_bytes(value: Any, url: str) -> bytes:
    """Give one vector as little-endian 32-bit floats."""
    try:
        if not isinstance(value, str):
            numbers = [float("nan") if number is None else number for number in as_list(value)]
            return np.asarray(numbers, dtype="<f4").tobytes()
        vector = pybase64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError) as exc:
        raise ProtocolError(f"{url}: an embedding cannot be read: {exc}", url=url) from exc
    if len(vector) % 4:
        message = f"{url}: an embedding cannot be read: {len(vector)} bytes are no 32-bit floats"
        raise ProtocolError(message, url=url)
    return vector
