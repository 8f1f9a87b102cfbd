"""The chat model of a turn: what a server's model adds to be asked by an agent.

It retries what is transient, tells what arrives while it arrives, and stops a model that asks for
the same thing again and again.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from merganser.agent.events import ReasoningDelta, Restarted, TextDelta, ToolCalled
from merganser.errors import AgentError, ModelRunnerError, ProtocolError, RunnerUnavailableError
from merganser.models.chat import ChatModel, EndlessAnswerError
from merganser.models.retry import RetryPolicy, with_retries
from merganser.models.wire import Timeouts

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponseStreamEvent
    from pydantic_ai.models import Model, ModelRequestParameters
    from pydantic_ai.settings import ModelSettings

    from merganser.agent.events import EventSink
    from merganser.models.address import Address
    from merganser.models.ref import ModelRef
    from merganser.models.upkeep import Upkeep

MAX_IDENTICAL_CALLS = 5
"""Consecutive identical tool calls after which a turn is stopped, as in docker-agent."""


MOST_BROKEN_ANSWERS = 5
"""Answers of one request that broke off or made no sense: the next one ends the turn. Requests that
met no answer are not counted, they wait for the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How chat requests behave.

    Attributes:
        timeouts: How long to wait for the connection, the first token and each later one.
        retry: Short retries inside a request; an orchestrator that retries by itself turns
            them off, so that each attempt shows in its history.
        max_identical_calls: When the loop guard stops the turn.
    """

    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_identical_calls: int = MAX_IDENTICAL_CALLS


def chat_settings(model: ModelRef, *, max_tokens: int | None) -> ModelSettings:
    """Return the sampling settings of a model as far as the config names them.

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


@asynccontextmanager
async def open_chat_model(
    name: str,
    address: Address,
    *,
    on_event: EventSink,
    token: str | None = None,
    options: ChatOptions | None = None,
    upkeep: Upkeep | None = None,
) -> AsyncGenerator[Model]:
    """Open the model that a turn asks, for Pydantic AI's agents.

    Args:
        name: As requests carry it.
        address: Where it is served.
        on_event: Told of text, reasoning and tool calls as they arrive.
        token: Sent as a bearer token, for servers that want one.
        options: Timeouts, retries and the loop guard.
        upkeep: The configuration that has to stand when it answers.
    """
    from pydantic_ai.models.wrapper import WrapperModel

    chosen = options or ChatOptions()
    chat = ChatModel(name, address, token=token, timeouts=chosen.timeouts, upkeep=upkeep)

    class TurnModel(WrapperModel):
        """The endpoint's model, with streamed reading, retries and typed errors."""

        async def request(
            self,
            messages: list[ModelMessage],
            model_settings: ModelSettings | None,
            model_request_parameters: ModelRequestParameters,
        ) -> ModelResponse:
            broken = 0

            async def ask_once() -> ModelResponse:
                nonlocal broken
                has_begun = False

                def take(event: ModelResponseStreamEvent) -> None:
                    nonlocal has_begun
                    has_begun = True
                    _tell(event, on_event)

                try:
                    return await chat.answer(
                        messages, model_settings, model_request_parameters, on_event=take
                    )
                except EndlessAnswerError:
                    raise
                except (RunnerUnavailableError, ProtocolError) as error:
                    if isinstance(error, ProtocolError) or has_begun:
                        broken += 1
                        raise _broken(error, broken) from error
                    raise

            response = await with_retries(
                ask_once,
                chosen.retry,
                on_transient=lambda error: on_event(Restarted(str(error))),
            )
            stop_loop(messages, response, limit=chosen.max_identical_calls)
            for call in response.tool_calls:
                on_event(ToolCalled(call.tool_name, call.args_as_dict()))
            return response

    try:
        yield TurnModel(chat.model)
    finally:
        await chat.close()


def _broken(error: ModelRunnerError, times: int) -> ModelRunnerError:
    """Return what a broken answer is for whoever may ask again: passing, but not for ever."""
    if times < MOST_BROKEN_ANSWERS:
        return RunnerUnavailableError(str(error), status=error.status, url=error.url)
    return ProtocolError(f"{error} (in {times} answers)", status=error.status, url=error.url)


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
