"""The client of a model server: Docker Model Runner, or anything that speaks OpenAI's API.

Docker Model Runner manages models (list, pull, configure, unload); a server without those calls is
found out once, and then those that have a meaning there fall back and the others say so.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Self

from merganser.errors import PullError, RequestRejectedError
from merganser.models import configure, listing, probes
from merganser.models.address import Address, parse_address
from merganser.models.chat import ChatModel
from merganser.models.configure import SetUp
from merganser.models.connection import Connection
from merganser.models.inference import (
    looks_like_logits,
    normalize_scores,
    request_embeddings,
    request_rerank,
)
from merganser.models.pull import PULL_RETRY, pull_model
from merganser.models.ref import canonical, is_hugging_face
from merganser.models.retry import RetryPolicy, with_retries
from merganser.models.server_errors import model_not_found
from merganser.models.upkeep import Upkeep
from merganser.models.wire import (
    DiskUsage,
    RemovedModel,
    RunnerStatus,
    Timeouts,
    as_count,
    as_list,
    as_mapping,
    as_text,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Any

    from pydantic_ai.messages import ModelResponse
    from pydantic_ai.tools import ToolDefinition

    from merganser.models.configure import ConfigureRequest
    from merganser.models.pull import ProgressCallback
    from merganser.models.ref import ModelRef, ModelUse, ScoreNormalization
    from merganser.models.wire import EmbeddingBatch, Mode, RerankScore, RunningModel, ServedModel

_DEFAULT_TIMEOUTS = Timeouts()
_DEFAULT_RETRY = RetryPolicy()


class ModelRunner:
    """A client of one model server; an async context manager.

    Args:
        address: From ``resolve_address``, or a URL.
        timeouts: How long each kind of call may take.
        retry: What each call does by itself about transient failures; ``NO_RETRY`` leaves all of
            them to the caller.
        pull_retry: The same for pulls.
        token: Sent as ``Authorization: Bearer``, for servers that want one.
        env: Where ``HF_TOKEN`` is looked up; the process's environment by default.
    """

    def __init__(
        self,
        address: Address | str,
        *,
        timeouts: Timeouts = _DEFAULT_TIMEOUTS,
        retry: RetryPolicy = _DEFAULT_RETRY,
        pull_retry: RetryPolicy = PULL_RETRY,
        token: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.address = parse_address(address) if isinstance(address, str) else address
        self.connection = Connection(self.address, timeouts=timeouts, retry=retry, token=token)
        self._pull_retry = pull_retry
        self._token = token
        self._env = os.environ if env is None else env
        self._managed: bool | None = None
        self._plain_floats: set[str] = set()
        self._chat_models: dict[str, ChatModel] = {}
        self._logit_models: set[str] = set()
        self._abilities: dict[tuple[str, str], bool] = {}
        self._upkeeps: dict[tuple[str, Mode], Upkeep] = {}
        self._probing = asyncio.Lock()  # whoever asks next waits and finds the answer

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for chat in self._chat_models.values():
            await chat.close()
        await self.connection.__aexit__(*exc)

    @property
    def retry(self) -> RetryPolicy:
        """What each call does by itself about transient failures."""
        return self.connection.retry

    async def managed(self) -> bool:
        """Return whether the server manages models, as Docker Model Runner does."""
        if self._managed is None:
            self._managed = await listing.manages_models(self.connection)
        return self._managed

    async def version(self) -> str | None:
        """Return the server's version, or None when it is older than v1.0.30 or of another kind."""
        response = await self.connection.request("GET", "/version", expected=listing.NOT_THERE)
        if not response.is_success:
            return None
        try:
            return as_text(as_mapping(response.json()).get("version"))
        except (ValueError, RecursionError):
            return None

    async def status(self) -> RunnerStatus:
        """Return what ``docker model status`` shows."""
        running = await self.managed()
        engines: dict[str, object] = {}
        if running:
            engines = as_mapping(await self.connection.json("GET", "/engines/status"))
        return RunnerStatus(
            running, await self.version(), tuple((k, str(v)) for k, v in engines.items())
        )

    async def list_models(self) -> tuple[ServedModel, ...]:
        """List the local models, as ``docker model list`` does."""
        return await listing.list_models(self.connection, managed=await self.managed())

    async def model(self, ref: str) -> ServedModel | None:
        """Look a model up; None when it is not local.

        A server that manages no models and does not list any is believed to have it.
        """
        return await listing.find_model(self.connection, ref, managed=await self.managed())

    async def pull(self, ref: str, *, on_progress: ProgressCallback | None = None) -> ServedModel:
        """Pull a model, look it up and return it.

        Args:
            ref: The model; from Hugging Face it is pulled with the token in ``HF_TOKEN``, if any.
            on_progress: Told after every line of the stream.

        Raises:
            PullError: The pull failed for good, or reported success without leaving the model.
            PullInterruptedError: It broke off for a reason that may pass.
            RequestRejectedError: The server manages no models.
        """
        await self._require_management("pull models")
        token = (self._env.get("HF_TOKEN") or None) if is_hugging_face(ref) else None
        await pull_model(
            self.connection, ref, token=token, on_progress=on_progress, retry=self._pull_retry
        )
        served = await self.model(ref)
        if served is None:
            where = self.address.shown
            raise PullError(
                f"the pull of {ref!r} at {where} reported success, but the model is not there; "
                "`docker model list` shows what is",
                url=where,
            )
        return served

    async def remove(self, ref: str, *, force: bool = False) -> RemovedModel:
        """Remove a model's name, with the last one the model, after stopping its idle engines.

        Args:
            ref: The model.
            force: Also remove a model by id that has several names.

        Raises:
            ModelNotFoundError: It is not local.
            RequestRejectedError: It has several names, or the server manages no models.
        """
        await self._require_management("remove models")
        if await self.model(ref) is None:  # a bare name must not remove another organisation's
            raise model_not_found(ref, where=self.address.shown, reason="nothing was removed")
        stopped = await configure.unload(self.connection, ref)
        rows = await self.connection.json(
            "DELETE",
            f"/models/{canonical(ref)}",
            params={"force": "true"} if force else None,
            model=ref,
        )
        actions = [action for row in as_list(rows) for action in as_mapping(row).items()]
        untagged, deleted = (
            tuple(str(name) for kind, name in actions if kind == wanted)
            for wanted in ("Untagged", "Deleted")
        )
        return RemovedModel(untagged, deleted, stopped)

    async def configure(self, ref: str, request: ConfigureRequest) -> bool:
        """Configure one mode of a model; False when it was so already.

        Raises:
            RunnerUnavailableError: The model stayed busy.
            RequestRejectedError: A flag is not allowed, or the server manages no models.
        """
        await self._require_management("configure models")
        return await configure.configure(self.connection, ref, request)

    def keep_configured(self, use: ModelUse, served: ServedModel) -> None:
        """Have the configuration of a model stand whenever this client asks it; see ``upkeep``.

        Nothing is sent before the first request to the model, which fails where the configuration
        cannot be set.

        Args:
            use: The model and what it is for.
            served: What the server has under that name.
        """
        request = configure.configure_request(use, served)
        if request is not None and served.managed:
            key = canonical(use.model.model), request.mode
            self._upkeeps[key] = Upkeep(self.connection, use, served)

    def upkeep(self, ref: str, mode: Mode) -> Upkeep | None:
        """Return what keeps a model's configuration, or None when nothing has to stand."""
        return self._upkeeps.get((canonical(ref), mode))

    async def as_configured(self, model: ModelRef, mode: Mode) -> ModelRef:
        """Return a model without the flags that its server refuses.

        The configuration is set for that where a flag could be refused; see ``keep_configured``.

        Raises:
            ModelRunnerError: It cannot be set.
        """
        upkeep = self.upkeep(model.model, mode)
        if upkeep is None or not model.runtime_flags:
            return model
        await upkeep.ensure()
        return upkeep.use.model

    async def set_up(self, use: ModelUse, served: ServedModel) -> SetUp:
        """Configure a model for a use and load it, without the flags that are refused.

        Raises:
            RunnerUnavailableError: The model stayed busy.
            RequestRejectedError: The configuration is refused, or the model cannot be loaded.
        """
        mode = configure.mode_of(use)
        if mode is not None and served.managed:
            return await configure.set_up(self.connection, use, served, always_load=True)
        if mode is not None:
            await self.preload(use.model.model, mode)
        return SetUp(use, is_new=False, left_out=())

    async def configurations(self, ref: str) -> list[tuple[str, dict[str, Any]]] | None:
        """Return modes and settings of a model, or None when the server cannot say."""
        if not await self.managed():
            return None
        return await configure.read_configurations(self.connection, ref)

    async def preload(self, ref: str, mode: Mode) -> None:
        """Load a model in one mode and wait for it, for up to six minutes.

        Raises:
            ModelNotFoundError: It is not local.
            RequestRejectedError: It cannot be loaded.
        """
        if await self.managed():
            await configure.load_for(self.connection, ref, mode)
        elif mode != "reranking":
            await configure.preload(self.connection, ref, mode, name=ref)

    async def ps(self) -> tuple[RunningModel, ...]:
        """List the engines that run; none on a server that cannot say."""
        return await configure.running(self.connection) if await self.managed() else ()

    async def df(self) -> DiskUsage | None:
        """Return the disk usage, or None when the server cannot say."""
        if not await self.managed():
            return None
        response = await self.connection.request("GET", "/engines/df", expected={404, 500})
        if not response.is_success:
            return None
        sizes = as_mapping(self.connection.decode(response, path="/engines/df"))
        return DiskUsage(
            as_count(sizes.get("models_disk_usage")) or 0,
            as_count(sizes.get("default_backend_disk_usage")) or 0,
        )

    async def logs(self) -> str | None:
        """Return the server's log, or None when it is older than v1.1.29 or keeps none."""
        response = await self.connection.request("GET", "/logs", expected=listing.NOT_THERE)
        return response.text if response.is_success else None

    async def embed(
        self, ref: str, texts: Sequence[str], *, retry: RetryPolicy | None = None
    ) -> EmbeddingBatch:
        """Embed texts in one request.

        Args:
            ref: The model.
            texts: At least one.
            retry: Instead of the client's own policy.

        Raises:
            InputTooLongError: A text exceeds the engine's batch or context.
            ProtocolError: The answer has the wrong count, order, dimensions or values.
        """
        plain = ref in self._plain_floats
        try:
            return await request_embeddings(
                self.connection,
                ref,
                texts,
                name=await self._name(ref),
                encoding_format="float" if plain else "base64",
                retry=retry,
                upkeep=self.upkeep(ref, "embedding"),
            )
        except RequestRejectedError as error:
            if plain or "encoding_format" not in str(error):
                raise
            self._plain_floats.add(ref)
        return await self.embed(ref, texts, retry=retry)

    async def rerank(self, ref: str, query: str, documents: Sequence[str]) -> list[RerankScore]:
        """Score documents against a query; raw scores, best first.

        Raises:
            InputTooLongError: A document with the query exceeds the engine's batch.
            ProtocolError: Scores are missing, doubled or no numbers.
            RequestRejectedError: The server cannot rerank.
        """
        scores = await request_rerank(
            self.connection,
            ref,
            query,
            documents,
            name=await self._name(ref),
            managed=await self.managed(),
            upkeep=self.upkeep(ref, "reranking"),
        )
        self._learn_scale(ref, [one.score for one in scores])
        return scores

    def normalize(self, ref: str, raw: Sequence[float], mode: ScoreNormalization) -> list[float]:
        """Normalise scores of a model, remembering what its scale has been seen to be."""
        self._learn_scale(ref, raw)
        return normalize_scores(raw, mode, known_logits=canonical(ref) in self._logit_models)

    async def chat(
        self,
        ref: str,
        prompt: str,
        *,
        max_tokens: int,
        tools: Sequence[ToolDefinition] = (),
        response_format: Mapping[str, Any] | None = None,
        is_enough: Callable[[ModelResponse], bool] | None = None,
    ) -> ModelResponse:
        """Answer one prompt at temperature 0, for probes and judges; turns have their own model.

        Args:
            ref: The model.
            prompt: From the user.
            max_tokens: Most tokens of the answer.
            tools: What the model may call.
            response_format: OpenAI's key of that name; an answer that is cut is cut JSON.
            is_enough: Given what has come so far; once it returns true the rest is not awaited.

        Raises:
            ModelRunnerError: The typed error of a refusal, also of one inside the stream.
        """
        from pydantic_ai.messages import ModelRequest
        from pydantic_ai.models import ModelRequestParameters
        from pydantic_ai.settings import ModelSettings

        name = await self._name(ref)
        if name not in self._chat_models:
            self._chat_models[name] = ChatModel(
                name,
                self.address,
                token=self._token,
                timeouts=self.connection.timeouts,
                upkeep=self.upkeep(ref, "completion"),
            )
        chat = self._chat_models[name]
        settings = ModelSettings(temperature=0.0, max_tokens=max_tokens)
        if tools:
            settings["parallel_tool_calls"] = False
        if response_format is not None:
            settings["extra_body"] = {"response_format": response_format}
        parameters = ModelRequestParameters(function_tools=list(tools))

        async def ask() -> ModelResponse:
            return await chat.answer(
                [ModelRequest.user_text_prompt(prompt)], settings, parameters, is_enough=is_enough
            )

        with self.connection.span("chat", name, {"gen_ai.request.stream": True}) as span:
            answer = await with_retries(ask, self.retry)
            span.set_attributes(
                {
                    "gen_ai.response.finish_reasons": [answer.finish_reason or ""],
                    "gen_ai.usage.input_tokens": answer.usage.input_tokens,
                    "gen_ai.usage.output_tokens": answer.usage.output_tokens,
                }
            )
        return answer

    async def probe_reranking(self, ref: str) -> probes.RerankProbe:
        """See whether a model reranks; see ``probes``."""
        return await probes.probe_reranking(self, ref)

    async def calls_tools(self, ref: str) -> bool:
        """Return whether a model calls tools; it is probed once a client."""
        return await self._probed(ref, probes.calls_tools)

    async def cites_sources(self, ref: str) -> bool:
        """Return whether a model cites its sources; it is probed once a client."""
        return await self._probed(ref, probes.cites_sources)

    async def _probed(self, ref: str, probe: Callable[[ModelRunner, str], Awaitable[bool]]) -> bool:
        async with self._probing:
            key = (ref, probe.__name__)
            if key not in self._abilities:
                self._abilities[key] = await probe(self, ref)
        return self._abilities[key]

    def _learn_scale(self, ref: str, raw: Sequence[float]) -> None:
        if looks_like_logits(raw):
            self._logit_models.add(canonical(ref))

    async def _name(self, ref: str) -> str:
        """Return the name that the server knows a model by."""
        return canonical(ref) if await self.managed() else ref

    async def _require_management(self, what: str) -> None:
        if not await self.managed():
            where = self.address.shown
            raise RequestRejectedError(
                f"{where} is no Docker Model Runner and cannot {what}: use its own means",
                url=where,
            )
