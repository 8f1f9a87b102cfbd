"""The chat model of a turn: the server's OpenAI endpoint with our connection and our errors.

Pydantic AI speaks the protocol; this module gives it a client without proxies, reads every answer
as a stream (so that a stalled engine is noticed between two tokens), and turns whatever fails into
the typed errors of ``merganser.errors``, of which only the transient ones are retried.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from merganser.agent.events import ReasoningDelta, Restarted, TextDelta, ToolCalled
from merganser.errors import (
    AgentError,
    ModelRunnerError,
    ProtocolError,
    RunnerUnavailableError,
    RunnerUnreachableError,
)
from merganser.models.connection import PROVIDER
from merganser.models.retry import RetryPolicy, with_retries
from merganser.models.server_errors import ServerMessage, error_for, message_of, read_message
from merganser.models.wire import Timeouts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

    from merganser.agent.events import EventSink
    from merganser.models.address import Address
    from merganser.models.ref import ModelRef

MAX_IDENTICAL_CALLS = 5
"""Consecutive identical tool calls after which a turn is stopped, as in the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How chat requests behave.

    Attributes:
        timeouts: Of the connection and between tokens.
        retry: Short retries inside a request; an orchestrator that retries by itself turns
            them off, so that each attempt shows in its history.
        max_identical_calls: When the loop guard stops the turn.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_identical_calls: int = MAX_IDENTICAL_CALLS


def chat_settings(model: ModelRef, *, max_tokens: int | None) -> ModelSettings:
    """Give the sampling settings of a model as far as the config names them.

    Args:
        model: With its sampling keys.
        max_tokens: Sent in place of the model's own; None sends none.
    """
    settings: dict[str, Any] = {
        "temperature": model.temperature,
        "top_p": model.top_p,
        "frequency_penalty": model.frequency_penalty,
        "presence_penalty": model.presence_penalty,
        "max_tokens": max_tokens,
    }
    return cast("ModelSettings", {key: v for key, v in settings.items() if v is not None})


def chat_model(
    name: str,
    address: Address,
    *,
    on_event: EventSink,
    token: str | None = None,
    options: ChatOptions | None = None,
) -> Model:
    """Make the model that a turn asks.

    Args:
        name: As requests carry it.
        address: Where it is served.
        on_event: Told of text, reasoning and tool calls as they arrive.
        token: Sent as a bearer token, for servers that want one.
        options: Timeouts, retries and the loop guard.

    Returns:
        A Pydantic AI model; entering the agent's run opens and closes nothing of ours, so the
        caller closes the client with ``close_model``.
    """
    from pydantic_ai.models.wrapper import WrapperModel

    chosen = options or ChatOptions()
    url = f"{address.shown}{address.openai_prefix}/chat/completions"

    class RunnerChatModel(WrapperModel):
        """The endpoint's model, with streamed reading and typed errors."""

        async def request(
            self,
            messages: list[ModelMessage],
            model_settings: ModelSettings | None,
            model_request_parameters: ModelRequestParameters,
        ) -> ModelResponse:
            async def ask_once() -> ModelResponse:
                return await _ask(
                    self.wrapped,
                    (messages, model_settings, model_request_parameters),
                    name=name,
                    url=url,
                    timeouts=chosen.timeouts,
                    on_event=on_event,
                )

            response = await with_retries(
                ask_once,
                chosen.retry,
                on_transient=lambda error: on_event(Restarted(str(error))),
            )
            stop_loop(messages, response, limit=chosen.max_identical_calls)
            for call in response.tool_calls:
                on_event(ToolCalled(call.tool_name, call.args_as_dict()))
            return response

    return RunnerChatModel(_openai_model(name, address, token, chosen.timeouts))


async def close_model(model: Model) -> None:
    """Close the connections that ``chat_model`` opened."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.models.wrapper import WrapperModel

    inner = model.wrapped if isinstance(model, WrapperModel) else model
    if isinstance(inner, OpenAIChatModel):
        await inner.client.close()


def _openai_model(name: str, address: Address, token: str | None, timeouts: Timeouts) -> Model:
    import httpx2  # noqa: PLC0415 - openai's HTTP library, loaded with it
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import (
        OpenAICompatibleProvider,
    )

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
            transport=httpx2.AsyncHTTPTransport(
                uds=address.uds, verify=address.tls(), trust_env=False
            ),
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


async def _ask(
    model: Model,
    request: tuple[list[ModelMessage], ModelSettings | None, ModelRequestParameters],
    *,
    name: str,
    url: str,
    timeouts: Timeouts,
    on_event: EventSink,
) -> ModelResponse:
    import httpx2  # noqa: PLC0415 - openai's HTTP library, loaded with it
    from pydantic_ai.exceptions import (
        ModelAPIError,
        UnexpectedModelBehavior,
    )

    loop = asyncio.get_running_loop()
    try:
        # The first token may wait for the model to load; each later one only for the last.
        async with asyncio.timeout(timeouts.load) as patience:
            async with model.request_stream(*request) as stream:
                async for event in stream:
                    patience.reschedule(loop.time() + timeouts.token)
                    _tell(event, on_event)
            return stream.get()
    except TimeoutError as error:
        raise RunnerUnavailableError(
            f"{url} sent no token of {name!r} for {timeouts.token:.0f} s", url=url
        ) from error
    except ModelAPIError as error:
        raise translate(error, url=url, model=name) from error
    except httpx2.TransportError as error:
        raise RunnerUnavailableError(f"{url} dropped the connection: {error}", url=url) from error
    except UnexpectedModelBehavior as error:
        raise ProtocolError(f"{url}: {error.message}", url=url) from error


def _tell(event: ModelResponseStreamEvent, on_event: EventSink) -> None:
    from pydantic_ai.messages import (
        PartDeltaEvent,
        PartStartEvent,
        TextPart,
        TextPartDelta,
        ThinkingPart,
        ThinkingPartDelta,
    )

    match event:
        case (
            PartStartEvent(part=TextPart(content=text))
            | PartDeltaEvent(delta=TextPartDelta(content_delta=text))
        ) if text:
            on_event(TextDelta(text))
        case (
            PartStartEvent(part=ThinkingPart(content=text))
            | PartDeltaEvent(delta=ThinkingPartDelta(content_delta=text))
        ) if text:
            on_event(ReasoningDelta(text))
        case _:
            pass


def translate(error: Exception, *, url: str, model: str) -> ModelRunnerError:
    """Turn a failed model request into the typed error with the same meaning.

    Args:
        error: A ``ModelAPIError`` of Pydantic AI.
        url: What was asked.
        model: The model's name in the request.
    """
    from pydantic_ai.exceptions import (
        ModelAPIError,
        ModelConnectionError,
        ModelHTTPError,
    )

    if isinstance(error, ModelConnectionError):
        if error.phase == "connect":
            return RunnerUnreachableError(f"cannot connect to {url}: {error.message}", url=url)
        return RunnerUnavailableError(f"{url} broke off: {error.message}", url=url)
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


def stop_loop(messages: Sequence[ModelMessage], response: ModelResponse, *, limit: int) -> None:
    """Stop a model that asks for the same thing again and again.

    Raises:
        AgentError: The last ``limit`` tool calls, this response's included, are identical.
    """
    from pydantic_ai.messages import ModelResponse as Response

    if not response.tool_calls:
        return
    calls = [
        (call.tool_name, json.dumps(call.args_as_dict(), sort_keys=True))
        for message in (*messages, response)
        if isinstance(message, Response)
        for call in message.tool_calls
    ]
    if len(calls) >= limit and len(set(calls[-limit:])) == 1:
        name, arguments = calls[-1]
        raise AgentError(
            f"stopped: the model called {name!r} {limit} times in a row with the same arguments "
            f"{arguments[:200]}"
        )
