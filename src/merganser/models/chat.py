"""Chat: shape a request so that local templates accept it, and read the answer's stream.

Local chat templates are stricter than hosted models: several refuse two system or user messages in
a row, tools without a description, and schemas with ``additionalProperties``.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from merganser.errors import ProtocolError, RunnerUnavailableError
from merganser.models.server_errors import ServerMessage, error_for, message_of, read_message
from merganser.models.wire import as_list, as_mapping, as_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    import httpx

    from merganser.models.connection import Connection
    from merganser.telemetry import Attributes

JsonObject: TypeAlias = "Mapping[str, Any]"
_MERGED_ROLES = frozenset({"system", "user"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How to answer; None leaves it to the server.

    Attributes:
        tools: OpenAI function tools.
        tool_choice: ``auto``, ``none``, ``required`` or an object.
        response_format: For example a ``json_schema``; enforced, but a cut answer is cut JSON.
        stop: Texts that end the answer.
        extra: More keys of the body, for example ``chat_template_kwargs``.
    """

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    tools: Sequence[JsonObject] = ()
    tool_choice: str | JsonObject | None = None
    parallel_tool_calls: bool = False
    response_format: JsonObject | None = None
    stop: Sequence[str] = ()
    extra: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, as the server counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call; pieces with the same index belong together."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class ChatDelta:
    """A piece of an answer.

    Attributes:
        content: Text to append; often empty.
        reasoning: Text of the model's reasoning to append.
        tool_calls: Pieces of tool calls.
        finish_reason: On the last piece with content: ``stop``, ``length`` or ``tool_calls``.
        usage: On the very last piece, when the server counts.
    """

    content: str = ""
    _: KW_ONLY
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    finish_reason: str | None = None
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of a whole answer; the arguments are JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """A whole answer."""

    content: str
    _: KW_ONLY
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)


def merge_messages(messages: Sequence[JsonObject]) -> list[dict[str, Any]]:
    """Join consecutive system messages, and consecutive user messages, with a newline.

    Args:
        messages: In OpenAI's form; contents are texts or lists of parts.
    """
    merged: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if merged and role in _MERGED_ROLES and merged[-1].get("role") == role:
            merged[-1]["content"] = _join(merged[-1].get("content"), message.get("content"))
        else:
            merged.append(dict(message))
    return merged


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else as_list(content)


def plain_tools(tools: Sequence[JsonObject]) -> list[dict[str, Any]]:
    """Give each tool a description and drop ``additionalProperties`` from its parameters."""
    plain: list[dict[str, Any]] = []
    for tool in tools:
        function = dict(as_mapping(tool.get("function")))
        function["description"] = function.get("description") or f"Function {function.get('name')}"
        if "parameters" in function:
            function["parameters"] = _without_additional(function["parameters"])
        plain.append({**tool, "function": function})
    return plain


def _without_additional(schema: Any) -> Any:
    """Drop the keyword at every level, but not a property that is called so."""
    if isinstance(schema, list):
        return [_without_additional(item) for item in as_list(schema)]
    if not isinstance(schema, dict):
        return schema
    cleaned: dict[str, Any] = {}
    for key, value in as_mapping(schema).items():
        if key in {"properties", "$defs", "definitions"}:
            cleaned[key] = {k: _without_additional(v) for k, v in as_mapping(value).items()}
        elif key != "additionalProperties":
            cleaned[key] = _without_additional(value)
    return cleaned


def request_body(
    name: str, messages: Sequence[JsonObject], options: ChatOptions, *, stream: bool
) -> dict[str, Any]:
    """Build the JSON of a chat request."""
    body: dict[str, Any] = {"model": name, "messages": merge_messages(messages), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    for key in (
        "temperature",
        "top_p",
        "max_tokens",
        "frequency_penalty",
        "presence_penalty",
        "seed",
        "response_format",
    ):
        if (value := getattr(options, key)) is not None:
            body[key] = value
    if options.stop:
        body["stop"] = list(options.stop)
    if options.tools:
        body["tools"] = plain_tools(options.tools)
        body["parallel_tool_calls"] = options.parallel_tool_calls
        if options.tool_choice is not None:
            body["tool_choice"] = options.tool_choice
    return body | dict(options.extra or {})


async def stream_chat(
    connection: Connection, ref: str, body: JsonObject, *, name: str
) -> AsyncGenerator[ChatDelta]:
    """Send a chat request and give the answer piece by piece.

    Args:
        connection: To any server.
        ref: The model, for errors.
        body: From ``request_body`` with ``stream=True``.
        name: The name that the server knows the model by.

    Raises:
        ModelRunnerError: The typed error of a refusal, also of one inside the stream.
        RunnerUnavailableError: The stream broke off, fell silent, or ended unfinished.
    """
    with connection.span("chat", name, {"gen_ai.request.stream": True}) as span:
        async with aclosing(_stream_chat(connection, ref, body, name)) as deltas:
            async for delta in deltas:
                span.set_attributes(_counted(delta))
                yield delta


async def _stream_chat(
    connection: Connection, ref: str, body: JsonObject, name: str
) -> AsyncGenerator[ChatDelta]:
    path = f"{connection.address.openai_prefix}/chat/completions"
    async with connection.stream(
        path, body=body, model=ref, read_seconds=connection.patience(name, "completion")
    ) as response:
        connection.note_answer(name, "completion")
        if "json" in response.headers.get("Content-Type", ""):
            await response.aread()
            yield _whole_as_delta(connection, connection.decode(response, path=path), path)
            return
        finished = False
        async with aclosing(_events(response, connection, path)) as events:
            async for event in events:
                if event is None:
                    finished = True
                    break
                delta = parse_delta(event)
                finished = finished or delta.finish_reason is not None
                yield delta
        if not finished:
            url = connection.shown(path)
            raise RunnerUnavailableError(f"{url}: the answer broke off unfinished", url=url)


def _counted(delta: ChatDelta) -> Attributes:
    """Give what a span says of a piece: nothing but for the last ones."""
    reason = (
        {"gen_ai.response.finish_reasons": [delta.finish_reason]} if delta.finish_reason else {}
    )
    if delta.usage is None:
        return reason
    return {
        **reason,
        "gen_ai.usage.input_tokens": delta.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": delta.usage.completion_tokens,
    }


async def _events(
    response: httpx.Response, connection: Connection, path: str
) -> AsyncGenerator[dict[str, Any] | None, None]:
    """Give the decoded events of a stream, and None for its ``[DONE]``; raise on an error in it."""
    url = connection.shown(path)
    lines = response.aiter_lines()
    while True:
        try:
            async with asyncio.timeout(connection.timeouts.token):
                line = (await anext(lines)).strip()
        except StopAsyncIteration:
            return
        except TimeoutError:
            silence = f"{connection.timeouts.token:g} s without a token"
            raise RunnerUnavailableError(f"{url}: {silence}", url=url) from None
        kind, _, data = line.partition(":")
        data = data.strip()
        if kind == "error" and data:
            raise _stream_error(read_message(data), url)
        if kind != "data":
            continue  # comments, event names and the empty lines between events
        if data == "[DONE]":
            yield None
            return
        try:
            event = as_mapping(json.loads(data))
        except ValueError as exc:
            raise ProtocolError(f"{url}: an event is no JSON: {data[:200]!r}", url=url) from exc
        if (message := message_of(event)) is not None:
            raise _stream_error(message, url)
        yield event


def _stream_error(message: ServerMessage, url: str) -> Exception:
    return error_for(message.code or 500, message, url=url)


def parse_delta(event: JsonObject) -> ChatDelta:
    """Read one event; the first one's content is null, the one with the usage has no choice."""
    choice = as_mapping(next(iter(as_list(event.get("choices"))), None))
    delta = as_mapping(choice.get("delta"))
    return ChatDelta(
        content=as_text(delta.get("content")) or "",
        reasoning=_reasoning(delta),
        tool_calls=tuple(_tool_deltas(delta)),
        finish_reason=as_text(choice.get("finish_reason")),
        usage=_usage(event),
    )


def _tool_deltas(delta: JsonObject) -> list[ToolCallDelta]:
    calls: list[ToolCallDelta] = []
    for position, call in enumerate(map(as_mapping, as_list(delta.get("tool_calls")))):
        function = as_mapping(call.get("function"))
        index = call.get("index")
        arguments = function.get("arguments")
        calls.append(
            ToolCallDelta(
                index if isinstance(index, int) else position,
                as_text(call.get("id")) or "",
                as_text(function.get("name")) or "",
                # Text by contract; some servers send the object itself.
                json.dumps(arguments) if isinstance(arguments, dict) else as_text(arguments) or "",
            )
        )
    return calls


def _reasoning(message: JsonObject) -> str:
    return as_text(message.get("reasoning_content")) or as_text(message.get("reasoning")) or ""


def _usage(event: JsonObject) -> Usage | None:
    usage = event.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = as_mapping(cast("Any", usage))
    prompt, completion = counts.get("prompt_tokens"), counts.get("completion_tokens")
    return Usage(
        prompt if isinstance(prompt, int) else 0, completion if isinstance(completion, int) else 0
    )


async def collect(deltas: AsyncIterator[ChatDelta]) -> ChatAnswer:
    """Put the pieces of an answer together."""
    content: list[str] = []
    reasoning: list[str] = []
    calls: dict[int, ToolCallDelta] = {}
    finish_reason, usage = None, Usage()
    async for delta in deltas:
        content.append(delta.content)
        reasoning.append(delta.reasoning)
        finish_reason = delta.finish_reason or finish_reason
        usage = delta.usage or usage
        for piece in delta.tool_calls:
            so_far = calls.get(piece.index, ToolCallDelta(piece.index))
            calls[piece.index] = ToolCallDelta(
                piece.index,
                so_far.id or piece.id,
                so_far.name or piece.name,
                so_far.arguments + piece.arguments,
            )
    return ChatAnswer(
        "".join(content),
        reasoning="".join(reasoning),
        tool_calls=tuple(ToolCall(c.id, c.name, c.arguments) for _, c in sorted(calls.items())),
        finish_reason=finish_reason,
        usage=usage,
    )


async def whole_chat(
    connection: Connection, ref: str, body: JsonObject, *, name: str
) -> ChatAnswer:
    """Send a chat request that is answered in one piece.

    Args:
        connection: To any server.
        ref: The model, for errors.
        body: From ``request_body`` with ``stream=False``.
        name: The name that the server knows the model by.

    Raises:
        ModelRunnerError: As for ``stream_chat``.
    """
    path = f"{connection.address.openai_prefix}/chat/completions"
    with connection.span("chat", name) as span:
        # The whole answer is one silence, so it gets as long as a load.
        document = await connection.json(
            "POST", path, body=body, model=ref, read_seconds=connection.timeouts.load
        )
        connection.note_answer(name, "completion")
        whole = _whole_as_delta(connection, document, path)
        span.set_attributes(_counted(whole))

    async def one() -> AsyncIterator[ChatDelta]:
        yield whole

    return await collect(one())


def _whole_as_delta(connection: Connection, document: Any, path: str) -> ChatDelta:
    event = as_mapping(document)
    url = connection.shown(path)
    if (error := message_of(event)) is not None:
        raise _stream_error(error, url)
    choice = as_mapping(next(iter(as_list(event.get("choices"))), None))
    message = as_mapping(choice.get("message"))
    if not message:
        raise ProtocolError(f"{url}: an answer without a message: {str(document)[:200]}", url=url)
    return ChatDelta(
        content=as_text(message.get("content")) or "",
        reasoning=_reasoning(message),
        tool_calls=tuple(_tool_deltas(message)),
        finish_reason=as_text(choice.get("finish_reason")),
        usage=_usage(event),
    )
