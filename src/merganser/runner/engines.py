"""What an engine is: it answers one model's requests in one mode, in llama.cpp's wire format.

The runner's other half (names, pulls, loading, errors in plain text) never looks inside an answer.
The contract of an implementation:

- ``answer`` returns exactly what llama.cpp's server would: status, JSON, error objects.
- It may be called concurrently. It never truncates, and one bad input fails its whole request.
- ``close`` is called once, when nothing is in flight, and frees the memory.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from merganser.errors import MerganserError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

Mode = Literal["completion", "embedding", "reranking", "image-generation"]
"""What an engine was started for; a model used in two modes has two engines."""

Operation = Literal["chat", "completions", "embeddings", "rerank"]

MODE_OF: Mapping[Operation, Mode] = {
    "chat": "completion",
    "completions": "completion",
    "embeddings": "embedding",
    "rerank": "reranking",
}
"""The path alone selects the mode."""


class EngineLoadError(MerganserError):
    """An engine could not be started; the message goes to the requester as it is."""


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request for an engine.

    Attributes:
        operation: What is asked.
        body: The JSON as it came.
        document: The same, parsed.
    """

    operation: Operation
    body: bytes
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EngineResponse:
    """An engine's answer.

    Attributes:
        body: All of it, or its pieces as they are made.
        status: HTTP status.
        content_type: MIME type of the body.
    """

    body: bytes | AsyncIterator[bytes]
    _: KW_ONLY
    status: int = 200
    content_type: str = "application/json; charset=utf-8"


class Engine(Protocol):
    """A running engine; see the module's docstring for the contract."""

    async def answer(self, request: EngineRequest) -> EngineResponse:
        """Answer one request."""
        ...

    async def close(self) -> None:
        """Free what it holds; nothing is in flight."""
        ...


class EngineRefusalError(Exception):
    """Carry an error object of llama.cpp's dialect out of nested code.

    Attributes:
        response: What the client gets.
    """

    def __init__(self, status: int, message: str, kind: str, **details: int) -> None:
        error = {"code": status, "message": message, "type": kind, **details}
        self.response = EngineResponse(encode_json({"error": error}), status=status)
        super().__init__(message)


def encode_json(value: object) -> bytes:
    """Encode as llama.cpp does: compact and in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def not_supported(what: str, fix: str) -> EngineRefusalError:
    """Return the error for an operation that the engine was not started for."""
    message = f"This server does not support {what}. {fix}"
    return EngineRefusalError(501, message, "not_supported_error")


class EncoderOnlyEngine:
    """Stands for an encoder that was loaded in a mode in which it cannot work.

    The contract preloads every configured model in completion mode, embedding models too. llama.cpp
    would load the weights a second time only to refuse; this refuses without loading them.
    """

    async def answer(self, request: EngineRequest) -> EngineResponse:
        """Refuse as llama.cpp does."""
        if request.operation == "rerank":
            fix = "Start it with `--reranking`"
            return not_supported("reranking", fix).response
        if request.operation == "embeddings":
            return not_supported("embeddings", "Start it with `--embeddings`").response
        message = "the current context does not support logits computation. skipping"
        return EngineRefusalError(500, message, "server_error").response

    async def close(self) -> None:
        """Hold nothing, free nothing."""
