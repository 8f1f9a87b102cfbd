"""Chat, rerank and GGUF embeddings by llama.cpp in the process, through ``xllamacpp``.

The library opens llama.cpp's own HTTP server on a loopback port. Requests are passed to it as they
are and its answers back as they are, so status codes, error objects and streams are the real ones.
A random key that only this process knows keeps other programs and browsers off that port.

Loading holds the interpreter (the library does not release it): about half a second for the
packaged chat model, more for larger ones.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from typing import TYPE_CHECKING, Any, Final

import httpx

from merganser.runner.engines import (
    EngineLoadError,
    EngineRequest,
    EngineResponse,
    Mode,
    Operation,
)
from merganser.runner.libraries import load_library

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from merganser.runner.artifacts import GgufFile
    from merganser.runner.settings import EngineSettings

DEFAULT_THREADS: Final = 1
"""With passive waiting a second thread halves the speed of generation (117 to 33 tokens/s)."""

DEFAULT_SLOTS: Final = 4
"""Requests decoded together; they share one context."""

MAX_DEFAULT_CONTEXT: Final = 8192
"""Context when none is configured; the cache of a long one would take gigabytes."""

_PATHS: Final[Mapping[Operation, str]] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "rerank": "/v1/rerank",
}
_QUIET: Final = 1  # errors only


class LlamaEngine:
    """One GGUF model in one mode.

    Args:
        model: The GGUF file and the context that it was trained with.
        alias: The model's name in answers.
        mode: What it is started for.
        settings: Context, flags and draft model.
        draft: GGUF file of the draft model, or None.

    Raises:
        MissingExtraError: The extra ``embedded-chat`` is not installed.
        EngineLoadError: llama.cpp does not take the file or the settings.
    """

    def __init__(
        self,
        model: GgufFile,
        alias: str,
        mode: Mode,
        settings: EngineSettings,
        *,
        draft: Path | None = None,
    ) -> None:
        # Read once, when OpenMP starts: spinning threads of two engines collapse on few cores.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        library = load_library("xllamacpp")
        key = secrets.token_hex(16)
        parameters = library.CommonParams()
        parameters.model.path = str(model.path)
        parameters.model_alias = {alias}
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.api_keys = [key]
        parameters.verbosity = _QUIET
        parameters.fit_params = False  # memory is fitted by loading twice; we have no GPU to fill
        _apply_mode(parameters, mode, library)
        _apply_settings(parameters, settings, library, model.context_tokens)
        if draft is not None and settings.draft is not None:
            speculative = parameters.speculative.draft
            speculative.mparams.path = str(draft)
            speculative.n_max = settings.draft.num_tokens or 16
            speculative.p_min = settings.draft.min_acceptance_rate
        try:
            self._server: Any = library.Server(parameters)
        except (RuntimeError, ValueError) as error:
            raise EngineLoadError(
                f"llama.cpp terminated unexpectedly: llama.cpp failed: {error}"
            ) from error
        self._client = httpx.AsyncClient(
            base_url=self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
            timeout=None,  # noqa: S113 - the requester's patience is the limit, as with llama.cpp
            # llama.cpp closes a connection that was idle for seconds, maybe just as it is used.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            trust_env=False,
        )

    async def answer(self, request: EngineRequest) -> EngineResponse:
        """Pass the request on and its answer back, streamed if it is a stream."""
        sent = self._client.build_request(
            "POST",
            _PATHS[request.operation],
            content=request.body,
            headers={"Content-Type": "application/json"},
        )
        response = await self._client.send(sent, stream=True)
        content_type = response.headers.get("content-type", "application/json; charset=utf-8")
        if content_type.startswith("text/event-stream"):
            body: bytes | AsyncIterator[bytes] = _pieces(response)
        else:
            body = await response.aread()
            await response.aclose()
        return EngineResponse(body, status=response.status_code, content_type=content_type)

    async def close(self) -> None:
        """End llama.cpp and free the model."""
        await self._client.aclose()
        server, self._server = self._server, None
        await asyncio.to_thread(_release, [server])


def _release(holder: list[Any]) -> None:
    holder.clear()  # the last reference: the library ends its server in the destructor


async def _pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in response.aiter_raw():
            yield piece
    finally:
        await response.aclose()


def _apply_mode(parameters: Any, mode: Mode, library: Any) -> None:
    if mode == "embedding":
        parameters.embedding = True
    elif mode == "reranking":
        parameters.embedding = True
        parameters.pooling_type = library.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    else:
        parameters.use_jinja = True


def _apply_settings(
    parameters: Any, settings: EngineSettings, library: Any, trained_context: int | None
) -> None:
    """Set what the runner's flags say; flags without meaning on a CPU are accepted and unused."""
    threads = settings.number("--threads", DEFAULT_THREADS)
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = settings.number("--threads-batch", threads)
    parameters.n_parallel = settings.number("--parallel", DEFAULT_SLOTS)
    parameters.kv_unified = True
    default_context = min(trained_context or MAX_DEFAULT_CONTEXT, MAX_DEFAULT_CONTEXT)
    parameters.n_ctx = settings.context_tokens or settings.number("--ctx-size", default_context)
    parameters.n_ubatch = settings.ubatch_tokens
    # llama.cpp cannot split an embedding input, so both batches are the physical one.
    parameters.n_batch = (
        settings.ubatch_tokens
        if parameters.embedding
        else max(settings.ubatch_tokens, settings.number("--batch-size", 2048))
    )
    if "--pooling" in settings.flags:
        name = f"LLAMA_POOLING_TYPE_{settings.flags['--pooling'].upper()}"
        parameters.pooling_type = getattr(library.llama_pooling_type, name)
    if "--chat-template" in settings.flags:
        parameters.chat_template = settings.flags["--chat-template"]
    sampling = parameters.sampling
    for flag, name, kind in _SAMPLING:
        if flag in settings.flags:
            setattr(sampling, name, kind(settings.flags[flag]))


_SAMPLING: Final = (
    ("--temp", "temp", float),
    ("--seed", "seed", int),
    ("--top-k", "top_k", int),
    ("--top-p", "top_p", float),
    ("--min-p", "min_p", float),
    ("--repeat-penalty", "penalty_repeat", float),
)
"""Runtime flag, field of llama.cpp's sampling parameters, type."""
