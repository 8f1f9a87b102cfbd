"""Embeddings and reranking by onnxruntime, with llama.cpp's answers and errors.

They are those of docs/model-runner.md, section 4, and are tested against llama.cpp itself.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, cast

from merganser.runner.encoder import EncoderPool, OnnxEncoder, Tokens
from merganser.runner.engines import (
    EngineRefusalError,
    EngineRequest,
    EngineResponse,
    encode_json,
    not_supported,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from merganser.runner.artifacts import OnnxFiles
    from merganser.runner.encoder import Vectors
    from merganser.runner.settings import EngineSettings

_INVALID = "invalid_request_error"
_WRONG_TYPE = (
    '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt '
    "string, or a list of mixed strings & tokens."
)
_JSON_TYPES: dict[type[object], str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    list: "array",
    dict: "object",
}


class OnnxEngine:
    """Answers ``/v1/embeddings`` for one ONNX model, or ``/rerank`` when it is a cross-encoder.

    Args:
        files: The model.
        settings: Batch and context limits, enforced as llama.cpp enforces them.
        workers: Encoder threads; None means one a core.
    """

    def __init__(
        self, files: OnnxFiles, settings: EngineSettings, *, workers: int | None = None
    ) -> None:
        self._encoder = OnnxEncoder(files.model, files.tokenizer, max_tokens=files.max_tokens)
        self._pool = EncoderPool(self._encoder.encode, self._encoder.dimensions, workers=workers)
        self._ubatch = settings.ubatch_tokens
        # A context beyond the trained positions would read vectors that do not exist.
        self._context = min(settings.context_tokens or files.max_tokens, files.max_tokens)

    async def answer(self, request: EngineRequest) -> EngineResponse:
        """Embed or score all inputs of the request, or refuse all of them."""
        try:
            match request.operation:
                case "embeddings":
                    return await self._embed(request.document)
                case "rerank":
                    return await self._rerank(request.document)
                case "chat" | "completions":
                    raise not_supported(
                        "completions", "Start it without `--embeddings` or `--reranking`"
                    )
        except EngineRefusalError as refusal:
            return refusal.response

    async def close(self) -> None:
        """End the workers."""
        await asyncio.to_thread(self._pool.close)

    async def _embed(self, document: Mapping[str, Any]) -> EngineResponse:
        inputs = _read_inputs(document)
        as_base64 = _wants_base64(document)
        tokens = await asyncio.to_thread(self._tokenize, inputs)
        for one in tokens:
            if not self._encoder.knows(one.ids):
                raise EngineRefusalError(400, "Prompt contains invalid tokens", _INVALID)
            self._check_length(len(one.ids))
        vectors = await asyncio.wrap_future(self._pool.submit(tokens))
        if "input" not in document:
            return EngineResponse(_encode_plain_answer(vectors))
        body = await asyncio.to_thread(
            _encode_answer,
            vectors,
            model=document.get("model", ""),
            tokens=sum(len(one.ids) for one in tokens),
            as_base64=as_base64,
        )
        return EngineResponse(body)

    async def _rerank(self, document: Mapping[str, Any]) -> EngineResponse:
        query, passages = _read_pairs(document)
        pairs = await asyncio.to_thread(self._encoder.tokenize_pairs, query, passages)
        for pair in pairs:
            self._check_length(len(pair.ids))
        scores = (await asyncio.wrap_future(self._pool.submit(pairs)))[:, 0].tolist()
        best = sorted(range(len(scores)), key=lambda index: -scores[index])
        wanted: object = document.get("top_n", len(best))
        results = [
            {"index": index, "relevance_score": scores[index]}
            for index in best[: wanted if isinstance(wanted, int) and wanted >= 0 else len(best)]
        ]
        tokens = sum(len(pair.ids) for pair in pairs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        answer = {"model": document.get("model", ""), "object": "list", "usage": usage}
        return EngineResponse(encode_json({**answer, "results": results}))

    def _tokenize(self, inputs: Sequence[str | list[int]]) -> list[Tokens]:
        texts = [item for item in inputs if isinstance(item, str)]
        encoded = iter(self._encoder.tokenize(texts))
        return [Tokens(next(encoded) if isinstance(item, str) else item) for item in inputs]

    def _check_length(self, tokens: int) -> None:
        """Refuse an input that llama.cpp would refuse, in its words.

        Raises:
            EngineRefusalError: Longer than the physical batch (500) or the context (400).
        """
        if not tokens:
            raise EngineRefusalError(400, "Input content cannot be empty", _INVALID)
        if tokens > self._ubatch:
            raise EngineRefusalError(
                500,
                f"input ({tokens} tokens) is too large to process. increase the physical batch "
                f"size (current batch size: {self._ubatch})",
                "server_error",
            )
        if tokens > self._context:
            raise EngineRefusalError(
                400,
                f"input ({tokens} tokens) is larger than the max context size "
                f"({self._context} tokens). skipping",
                "exceed_context_size_error",
                n_prompt_tokens=tokens,
                n_ctx=self._context,
            )


def _read_inputs(document: Mapping[str, Any]) -> list[str | list[int]]:
    """Accept a string, a list of token ids, or a list of either.

    Raises:
        EngineRefusalError: None, an empty list, or other types.
    """
    if "input" not in document and "content" not in document:
        raise EngineRefusalError(400, '"input" or "content" must be provided', _INVALID)
    given: object = document["input"] if "input" in document else document["content"]
    items = _as_items(given)
    if items is None:
        raise EngineRefusalError(400, _WRONG_TYPE, _INVALID)
    if not items:
        raise EngineRefusalError(400, '"input" must not be empty', _INVALID)
    return items


def _read_pairs(document: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the query and the passages of a request to rerank.

    Raises:
        EngineRefusalError: One of them is missing or of another type.
    """
    if "query" not in document:
        raise EngineRefusalError(400, '"query" must be provided', _INVALID)
    query: object = document["query"]
    if not isinstance(query, str):
        raise EngineRefusalError(400, '"query" must be a string', _INVALID)
    given: object = document.get("documents")
    passages = cast("list[object]", given) if isinstance(given, list) else []
    texts = [passage for passage in passages if isinstance(passage, str)]
    if not texts or len(texts) < len(passages):
        raise EngineRefusalError(400, '"documents" must be a non-empty string array', _INVALID)
    return query, texts


def _as_items(given: object) -> list[str | list[int]] | None:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        return None
    values = cast("list[object]", given)
    if values and _are_tokens(values):
        return [cast("list[int]", values)]
    items = list[str | list[int]]()
    for value in values:
        if isinstance(value, str):
            items.append(value)
        elif isinstance(value, list) and _are_tokens(cast("list[object]", value)):
            items.append(cast("list[int]", value))
        else:
            return None
    return items


def _are_tokens(values: Sequence[object]) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) for value in values)


def _wants_base64(document: Mapping[str, Any]) -> bool:
    """Read ``encoding_format``; ``dimensions`` is ignored, as llama.cpp ignores it.

    Raises:
        EngineRefusalError: Neither ``float`` nor ``base64``, or vectors not to be normalized.
    """
    wanted: object = document.get("encoding_format", "float")
    if not isinstance(wanted, str):
        found = _JSON_TYPES.get(type(wanted), "null")
        message = f"[json.exception.type_error.302] type must be string, but is {found}"
        raise EngineRefusalError(400, message, _INVALID)
    if wanted not in {"float", "base64"}:
        message = "The format to return the embeddings in. Can be either float or base64"
        raise EngineRefusalError(400, message, _INVALID)
    if document.get("embd_normalize", 2) != 2:
        message = "embd_normalize: the vectors of this engine are L2-normalized (2) in the graph"
        raise EngineRefusalError(400, message, _INVALID)
    return wanted == "base64"


def _encode_plain_answer(vectors: Vectors) -> bytes:
    """Write llama.cpp's own form, which it uses when the texts came as ``content``."""
    return encode_json(
        [{"index": index, "embedding": [row.tolist()]} for index, row in enumerate(vectors)]
    )


def _encode_answer(vectors: Vectors, *, model: object, tokens: int, as_base64: bool) -> bytes:
    """Write the answer; base64 is of little-endian float32."""
    rows = vectors.astype("<f4", copy=False)
    data = list[dict[str, object]]()
    for index, row in enumerate(rows):
        if as_base64:
            text = base64.b64encode(row.tobytes()).decode("ascii")
            entry = {"embedding": text, "index": index, "object": "embedding"}
            data.append({**entry, "encoding_format": "base64"})
        else:
            data.append({"embedding": row.tolist(), "index": index, "object": "embedding"})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return encode_json({"model": model, "object": "list", "usage": usage, "data": data})
