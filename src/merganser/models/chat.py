"""A chat model of a server: its OpenAI endpoint with our connection and our errors.

Pydantic AI speaks the protocol; this module gives it a client without proxies, reads every answer
as a stream (so that a stalled engine is noticed between two tokens), and turns whatever fails into
the typed errors of ``merganser.errors``. Pydantic AI takes two seconds to import, so only those
who chat import it.
"""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import httpx

from merganser.errors import (
    ModelRunnerError,
    ProtocolError,
    RunnerUnavailableError,
    RunnerUnreachableError,
    TransientError,
)
from merganser.models.connection import PROVIDER
from merganser.models.response_limits import MOST_REDIRECTS, bounded, redirect_target
from merganser.models.server_errors import (
    ServerMessage,
    error_for,
    error_in_success,
    message_of,
    read_message,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import httpx2
    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.settings import ModelSettings

    from merganser.models.address import Address
    from merganser.models.upkeep import Upkeep
    from merganser.models.wire import Timeouts


MOST_ANSWER_BYTES = 32 << 20
"""Of a streamed answer, decompressed: a hundred thousand tokens, each in an event of its own."""

_TOKEN_SECONDS = 2.0
_TOKEN_CHARACTERS = 64
_SLACK_CHARACTERS = 10_000
_HEAD_BYTES = 2000

_head: ContextVar[bytearray] = ContextVar("_head")
"""How the answer under way begins, to be shown when it is no stream."""


class EndlessAnswerError(ProtocolError):
    """An answer that was given up for its size or its time; another one would be like it."""


class ChatModel:
    """A chat model of one server; ``close`` ends its connections.

    Args:
        name: As requests carry it.
        address: Where it is served.
        token: Sent as a bearer token, for servers that want one.
        timeouts: How long to wait for the connection, the first token and each later one.
        upkeep: The configuration that has to stand where this is answered.

    Attributes:
        model: For Pydantic AI's agents; it raises Pydantic AI's errors.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        token: str | None,
        timeouts: Timeouts,
        upkeep: Upkeep | None = None,
    ) -> None:
        self.model = _openai_model(name, address, token, timeouts, upkeep)
        self._upkeep = upkeep
        self._name = name
        self._url = f"{address.shown}{address.openai_prefix}/chat/completions"
        self._timeouts = timeouts

    async def answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        *,
        on_event: Callable[[ModelResponseStreamEvent], None] | None = None,
        is_enough: Callable[[ModelResponse], bool] | None = None,
    ) -> ModelResponse:
        """Have the configuration stand, ask once and read the answer as it comes.

        Args:
            messages: The conversation.
            settings: How to sample, or None for the model's own.
            parameters: The tools.
            on_event: Told of each piece of the answer.
            is_enough: Given what has come so far; once it returns true the rest is not awaited.

        Raises:
            EndlessAnswerError: The answer is too long, in bytes, in characters or in time.
            RunnerUnavailableError: The answer broke off or a token took too long.
            ModelRunnerError: The server refused, also inside the stream.
        """
        if self._upkeep is None:
            return await self._answer(messages, settings, parameters, on_event, is_enough)
        await self._upkeep.ensure()
        try:
            return await self._answer(messages, settings, parameters, on_event, is_enough)
        except TransientError:
            self._upkeep.doubt()
            raise

    async def _answer(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
        on_event: Callable[[ModelResponseStreamEvent], None] | None,
        is_enough: Callable[[ModelResponse], bool] | None,
    ) -> ModelResponse:
        import httpx2  # noqa: PLC0415 - openai's HTTP library, loaded with it
        from pydantic_ai.exceptions import ModelAPIError, UnexpectedModelBehavior

        url, loop = self._url, asyncio.get_running_loop()
        limit = self._timeouts.load  # the first token may wait for the model to load
        most_tokens = (settings or {}).get("max_tokens")
        whole = max(self._timeouts.answer, _TOKEN_SECONDS * (most_tokens or 0))
        end, size = loop.time() + limit + whole, 0
        _head.set(bytearray())
        try:
            async with (
                asyncio.timeout(limit) as patience,
                self.model.request_stream(messages, settings, parameters) as stream,
            ):
                async for event in stream:
                    limit = self._timeouts.token
                    patience.reschedule(min(loop.time() + limit, end))
                    size += max(_characters(event), 1)
                    if most_tokens and size > most_tokens * _TOKEN_CHARACTERS + _SLACK_CHARACTERS:
                        message = (
                            f"{url}: {size:,} characters and no end, for max_tokens {most_tokens}"
                        )
                        raise EndlessAnswerError(message, url=url)
                    if on_event is not None:
                        on_event(event)
                    if is_enough is not None and is_enough(stream.get()):
                        break
                return stream.get()
        except TimeoutError as error:
            if loop.time() >= end:
                message = f"{url} did not end its answer within {whole:g} s"
                raise EndlessAnswerError(message, url=url) from error
            message = f"{url}: {limit:g} s without a token of {self._name!r}"
            raise RunnerUnavailableError(message, url=url) from error
        except ModelAPIError as error:
            raise translate(error, url=url, model=self._name) from error
        except httpx2.TransportError as error:
            message = f"{url} dropped the connection: {error}"
            raise RunnerUnavailableError(message, url=url) from error
        except RecursionError as error:
            raise ProtocolError(f"{url}: an event is nested too deeply", url=url) from error
        except UnexpectedModelBehavior as error:
            raise self._no_answer(error.message) from error

    def _no_answer(self, why: str) -> ModelRunnerError:
        """Return the error for an answer of 200 that is none, with the server's own words."""
        text = _head.get().decode(errors="replace").strip()
        try:
            said = error_in_success(json.loads(text), url=self._url, model=self._name)
        except (ValueError, RecursionError):
            said = None
        if said is not None and not isinstance(said, TransientError):
            return said
        words = str(said) if said else f"{self._url}: {why}"
        shown = f": {text[:200]!r}" if text and not said and not text.startswith("data:") else ""
        return ProtocolError(words + shown, url=self._url)

    async def close(self) -> None:
        """Close the connections."""
        await self.model.client.close()


def _openai_model(
    name: str, address: Address, token: str | None, timeouts: Timeouts, upkeep: Upkeep | None
) -> OpenAIChatModel:
    import httpx2  # noqa: PLC0415 - openai's HTTP library, loaded with it
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import (
        OpenAICompatibleProvider,
    )

    url = f"{address.shown}{address.openai_prefix}/chat/completions"

    class BoundedStream(httpx2.AsyncByteStream):
        """The body of an answer, decompressed and not too large."""

        def __init__(self, response: httpx2.Response) -> None:
            self._response = response

        async def __aiter__(self) -> AsyncGenerator[bytes]:
            response, head = self._response, _head.get(bytearray())
            pieces = bounded(
                response.headers,
                response.aiter_bytes(),
                most_bytes=MOST_ANSWER_BYTES,
                is_error=response.is_error,
                url=url,
            )
            try:
                async for piece in pieces:
                    head += piece[: max(_HEAD_BYTES - len(head), 0)]
                    yield piece
            except ProtocolError as error:
                raise EndlessAnswerError(str(error), url=url) from error

        async def aclose(self) -> None:
            await self._response.aclose()

    class ChatTransport(httpx2.AsyncHTTPTransport):
        """Lets a configuration stand, a lawful redirect be followed and no answer be too large."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            content = await request.aread()
            for _ in range(MOST_REDIRECTS + 1):
                if upkeep is not None:
                    request.extensions = {**request.extensions, "trace": upkeep.watch()}
                response = await super().handle_async_request(request)
                target = redirect_target(
                    request.method,
                    httpx.URL(str(request.url)),
                    response.status_code,
                    response.headers.get("Location"),
                    url,
                )
                if target is None:
                    return _unpacked(response, BoundedStream(response))
                await response.aclose()
                request = httpx2.Request(
                    request.method,
                    str(target),
                    headers=request.headers,
                    content=content,
                    extensions=request.extensions,
                )
            raise ProtocolError(f"{url}: more than {MOST_REDIRECTS} redirects", url=url)

    timeout = httpx2.Timeout(timeouts.admin, connect=timeouts.connect, read=timeouts.load)
    client = AsyncOpenAI(
        base_url=address.openai_base,
        api_key=token or "none",  # the SDK insists on one; local servers ignore it
        max_retries=0,
        timeout=timeout,
        http_client=httpx2.AsyncClient(
            # A proxy from the environment would take loopback requests to another machine.
            trust_env=False,
            timeout=timeout,
            headers={"Accept-Encoding": "gzip, deflate"},
            # As everywhere in HTTP, a login in the address comes before a token.
            auth=address.login,
            transport=ChatTransport(uds=address.uds, verify=address.tls(), trust_env=False),
        ),
    )
    profile = OpenAIModelProfile(
        # llama.cpp knows `max_tokens`; strict schemas and several system messages it does not.
        openai_chat_supports_max_completion_tokens=False,
        openai_supports_strict_tool_definition=False,
        openai_chat_supports_multiple_system_messages=False,
        # A stream that ends without a finish reason was cut off.
        openai_chat_streaming_requires_finish_reason=True,
        # Some templates cannot render the `additionalProperties` that the default puts in.
        json_schema_transformer=None,
        # Tags are found only where a stream's pieces end at them, else all is taken for reasoning:
        # the loop splits the whole text instead. No model writes these.
        thinking_tags=("\x00think", "\x00/think"),
        # Chat templates drop old reasoning; sending it back costs context.
        openai_chat_send_back_thinking_parts=False,
    )
    provider = OpenAICompatibleProvider(PROVIDER, openai_client=client)
    return OpenAIChatModel(name, provider=provider, profile=profile)


def _unpacked(response: httpx2.Response, stream: httpx2.AsyncByteStream) -> httpx2.Response:
    """Return an answer with its body decompressed."""
    import httpx2  # noqa: PLC0415 - openai's HTTP library, loaded with it

    left_out = {"content-encoding", "content-length", "transfer-encoding"}
    headers = [(k, v) for k, v in response.headers.multi_items() if k.lower() not in left_out]
    return httpx2.Response(
        response.status_code, headers=headers, stream=stream, extensions=response.extensions
    )


def _characters(event: ModelResponseStreamEvent) -> int:
    """Return how many characters a piece of an answer has: of text, reasoning or arguments."""
    part = getattr(event, "part", None) or getattr(event, "delta", None)
    texts = (
        getattr(part, name, None) for name in ("content", "content_delta", "args", "args_delta")
    )
    return sum(len(text) for text in texts if isinstance(text, str))


def translate(error: Exception, *, url: str, model: str) -> ModelRunnerError:
    """Turn a failed model request into the typed error with the same meaning.

    Args:
        error: A ``ModelAPIError`` of Pydantic AI.
        url: What was asked.
        model: The model's name in the request.
    """
    from pydantic_ai.exceptions import ModelAPIError, ModelConnectionError, ModelHTTPError

    if isinstance(error, ModelConnectionError):
        if error.phase == "connect":
            return RunnerUnreachableError(f"cannot connect to {url}: {error.message}", url=url)
        return RunnerUnavailableError(f"{url} broke off: {error.message}", url=url)
    if isinstance(error.__cause__, json.JSONDecodeError):
        return ProtocolError(f"{url}: an event is no JSON: {error.__cause__}", url=url)
    message = _server_message(getattr(error, "body", None))
    if isinstance(error, ModelHTTPError):
        return error_for(
            error.status_code,
            message,
            url=url,
            model=model,
            retry_after=(error.headers or {}).get("retry-after"),
        )
    if isinstance(error, ModelAPIError) and error.in_stream:
        # The stream began with 200; what broke it is the engine's own error.
        return error_for(message.code or 500, message, url=url, model=model)
    return RunnerUnavailableError(f"{url} broke off: {error}", url=url)


def _server_message(body: object) -> ServerMessage:
    """Read an error body as the SDK hands it over: an object without its envelope, or text."""
    if isinstance(body, dict):
        document = cast("dict[str, Any]", body)
        found = message_of(document if "error" in document else {"error": document})
        return found or ServerMessage(json.dumps(document))
    return read_message(str(body or ""))
