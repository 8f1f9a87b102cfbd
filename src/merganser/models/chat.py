"""A chat model of a server: its OpenAI endpoint with our connection and our errors.

Pydantic AI speaks the protocol; this module gives it a client without proxies, reads every answer
as a stream (so that a stalled engine is noticed between two tokens), and turns whatever fails into
the typed errors of ``merganser.errors``. Pydantic AI takes two seconds to import, so only those
who chat import it.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, cast

from merganser.errors import (
    ModelRunnerError,
    ProtocolError,
    RunnerUnavailableError,
    RunnerUnreachableError,
    TransientError,
)
from merganser.models.connection import PROVIDER
from merganser.models.server_errors import ServerMessage, error_for, message_of, read_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.settings import ModelSettings

    from merganser.models.address import Address
    from merganser.models.upkeep import Upkeep
    from merganser.models.wire import Timeouts


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
        try:
            async with (
                asyncio.timeout(limit) as patience,
                self.model.request_stream(messages, settings, parameters) as stream,
            ):
                async for event in stream:
                    limit = self._timeouts.token
                    patience.reschedule(loop.time() + limit)
                    if on_event is not None:
                        on_event(event)
                    if is_enough is not None and is_enough(stream.get()):
                        break
                return stream.get()
        except TimeoutError as error:
            message = f"{url}: {limit:g} s without a token of {self._name!r}"
            raise RunnerUnavailableError(message, url=url) from error
        except ModelAPIError as error:
            raise translate(error, url=url, model=self._name) from error
        except httpx2.TransportError as error:
            message = f"{url} dropped the connection: {error}"
            raise RunnerUnavailableError(message, url=url) from error
        except UnexpectedModelBehavior as error:
            raise ProtocolError(f"{url}: {error.message}", url=url) from error

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

    class ChatTransport(httpx2.AsyncHTTPTransport):
        """Has the configuration stand before a request goes over a new connection."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if upkeep is not None:
                request.extensions = {**request.extensions, "trace": upkeep.watch()}
            return await super().handle_async_request(request)

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
