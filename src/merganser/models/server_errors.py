"""Turn what a model server says when it fails into the typed errors of ``merganser.errors``.

Two dialects come out of one port: Docker Model Runner's own errors are plain text, the engine's
are JSON with an ``error`` object. A status alone decides little: a 500 may be an input that is too
long (never retry), an engine that crashed at load (never) or a load that was cancelled (retry).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from time import time
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from merganser.errors import (
    InputTooLongError,
    ModelNotFoundError,
    ModelRunnerError,
    ProtocolError,
    RequestRejectedError,
    RunnerUnavailableError,
    RunnerUnreachableError,
)
from merganser.models.ref import canonical, pull_command
from merganser.models.wire import as_count, as_mapping, as_text

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUS_HINT = "`docker model status` and `docker model logs` show what the server is doing"

_TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})
# A load that was cancelled or refused by a restart; every other failed load fails again.
_TRANSIENT_LOADS = ("unable to load runner: context canceled", "backend loading disabled")
# Seen once and worth one more try; with "unable to load runner" before it, it is a crash at load.
_ENGINE_DIED = "terminated unexpectedly"
_SLOW_LOAD = "took too long to initialize"
_OUT_OF_MEMORY = ("not enough GPU memory", "failed to load model", "exceeds total system memory")
_TEMPLATE_WORDS = ("jinja", "template", "value is not callable")
# The three texts of llama.cpp (and the OpenAI-style one of other servers), with their numbers.
_TOO_LONG = (
    re.compile(
        r"input \((?P<n>\d+) tokens\) is too large to process\."
        r"(?:.*current batch size: (?P<limit>\d+))?",
        re.DOTALL,
    ),
    re.compile(r"input \((?P<n>\d+) tokens\) is larger than the max context size \((?P<limit>\d+)"),
    re.compile(
        r"request \((?P<n>\d+) tokens\) exceeds the available context size \((?P<limit>\d+)"
    ),
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens.*?(?:requested|resulted in) (?P<n>\d+)",
        re.DOTALL,
    ),
)
_TOO_LONG_WITHOUT_NUMBERS = (
    "is too large to process",
    "larger than the max context size",
    "exceeds the available context size",
    "exceed_context_size_error",
    "context_length_exceeded",
    "request too large",
)
_SHOWN_CHARACTERS = 2000

_E = TypeVar("_E", bound=RunnerUnavailableError | RunnerUnreachableError)


class ToolTemplateError(RequestRejectedError):
    """The model's chat template cannot render tools; the same turn without tools may work."""


@dataclass(frozen=True, slots=True)
class ServerMessage:
    """What an error body says, in whichever dialect.

    Attributes:
        text: The message, stripped.
        kind: The engine's ``type`` or ``code`` when it is a word, else empty.
        code: The engine's own numeric code, or None.
        tokens: ``n_prompt_tokens`` when the engine says it.
        limit: ``n_ctx`` when the engine says it.
    """

    text: str
    kind: str = ""
    code: int | None = None
    tokens: int | None = None
    limit: int | None = None


def read_message(body: str) -> ServerMessage:
    """Read an error body: a JSON object with an error in it, else the text itself."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ServerMessage(body.strip())
    if not isinstance(document, dict):
        return ServerMessage(body.strip())
    return message_of(as_mapping(document)) or ServerMessage(body.strip())


def message_of(document: Mapping[str, Any]) -> ServerMessage | None:
    """Read the error of a decoded JSON object, or None when there is none in it."""
    error = document.get("error")
    if isinstance(error, str):
        return ServerMessage(error.strip())
    if isinstance(error, dict):
        return _engine_message(as_mapping(error))
    if document.get("type") == "error" or "message" in document:
        return _engine_message(document)
    if "detail" in document:
        return ServerMessage(str(document["detail"]).strip())
    return None


def _engine_message(error: Mapping[str, Any]) -> ServerMessage:
    code = error.get("code")
    return ServerMessage(
        text=(as_text(error.get("message")) or json.dumps(error)).strip(),
        kind=as_text(error.get("type")) or as_text(code) or "",
        code=as_count(code),
        tokens=as_count(error.get("n_prompt_tokens")),
        limit=as_count(error.get("n_ctx")),
    )


def error_for(
    status: int,
    message: ServerMessage,
    *,
    url: str,
    model: str | None = None,
    retry_after: str | None = None,
) -> ModelRunnerError:
    """Choose the typed error for an answer that is not a success.

    Args:
        status: The HTTP status, or the code inside a stream that began with 200.
        message: What the body says.
        url: What was asked, for the message; holds no secret.
        model: The model of the request, if it had one.
        retry_after: The header of that name.
    """
    text = message.text[:_SHOWN_CHARACTERS] or "(empty answer)"
    told = f"{url} answered {status}: {text}"
    if (too_long := _too_long(message, told, status=status, url=url)) is not None:
        return too_long
    if _is_transient(status, message.text):
        error = RunnerUnavailableError(f"{told}; {STATUS_HINT}", status=status, url=url)
        return with_retry_after(error, retry_after)
    if status == HTTPStatus.NOT_FOUND and model is not None and _says_no_model(message):
        return model_not_found(model, where=url, status=status)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and _is_template_failure(message.text):
        return ToolTemplateError(told, status=status, url=url)
    hint = _hint(status, message.text)
    return RequestRejectedError(f"{told}{'; ' + hint if hint else ''}", status=status, url=url)


def error_in_success(
    document: Any, *, url: str, model: str | None = None
) -> ModelRunnerError | None:
    """Choose the typed error for an answer with a status of success that says an error.

    Gateways put the error of the server behind them into an answer of 200. Without a code of its
    own it is taken for a passing one: the same request is tried again.

    Args:
        document: The decoded JSON.
        url: What was asked, for the message.
        model: The model of the request, if it had one.

    Returns:
        None when it says none.
    """
    answer = as_mapping(document)
    if not answer.get("error") or answer.keys() & {"data", "results"}:
        return None
    message = message_of(answer) or ServerMessage(json.dumps(document)[:_SHOWN_CHARACTERS])
    said = ServerMessage(
        f"{message.text} (an error in an answer of 200)",
        kind=message.kind,
        code=message.code,
        tokens=message.tokens,
        limit=message.limit,
    )
    is_ours = message.kind.startswith("invalid") or message.kind == "exceed_context_size_error"
    fallback = HTTPStatus.BAD_REQUEST if is_ours else HTTPStatus.SERVICE_UNAVAILABLE
    return error_for(message.code or fallback, said, url=url, model=model)


def model_not_found(
    model: str, *, where: str, status: int | None = None, reason: str = ""
) -> ModelNotFoundError:
    """Say which model is missing where, and the command that pulls it."""
    why = f" ({reason})" if reason else ""
    return ModelNotFoundError(
        f"model {canonical(model)!r} is not local at {where}{why}; "
        f"pull it with `{pull_command(model)}`, `docker model list` shows what is there",
        status=status,
        url=where,
    )


def error_for_exception(exc: httpx.HTTPError, *, url: str) -> ModelRunnerError:
    """Choose the typed error for a request that got no whole answer."""
    what = str(exc) or type(exc).__name__
    if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
        return RunnerUnreachableError(f"cannot connect to {url}: {what}; {STATUS_HINT}", url=url)
    if isinstance(exc, httpx.TimeoutException):
        return RunnerUnavailableError(f"{url} did not answer in time; {STATUS_HINT}", url=url)
    if isinstance(exc, httpx.TransportError) and not isinstance(exc, httpx.UnsupportedProtocol):
        return RunnerUnavailableError(f"{url} dropped the connection: {what}", url=url)
    return ProtocolError(f"{url}: {what}", url=url)


def with_retry_after(error: _E, value: str | None) -> _E:
    """Attach the ``Retry-After`` header, in either of its two forms, to a transient error."""
    if value is None:
        return error
    try:
        error.retry_after_seconds = max(0.0, float(value))
    except ValueError:
        try:
            error.retry_after_seconds = max(0.0, parsedate_to_datetime(value).timestamp() - time())
        except (ValueError, OverflowError):  # no date, or none of any calendar
            error.retry_after_seconds = None
    return error


def _too_long(
    message: ServerMessage, told: str, *, status: int, url: str
) -> InputTooLongError | None:
    for pattern in _TOO_LONG:
        if found := pattern.search(message.text):
            limit = found["limit"]
            return InputTooLongError(
                told,
                tokens=int(found["n"]),
                limit=int(limit) if limit else message.limit,
                status=status,
                url=url,
            )
    if any(words in message.text or words == message.kind for words in _TOO_LONG_WITHOUT_NUMBERS):
        return InputTooLongError(
            told, tokens=message.tokens, limit=message.limit, status=status, url=url
        )
    return None


def _is_transient(status: int, text: str) -> bool:
    if status in _TRANSIENT_STATUSES:
        return True
    if any(words in text for words in (*_TRANSIENT_LOADS, _SLOW_LOAD)):
        return True
    return _ENGINE_DIED in text and "unable to load runner" not in text


def _says_no_model(message: ServerMessage) -> bool:
    text = message.text.lower()
    return (
        "model not found" in text
        or "error while getting model" in text
        or message.kind == "model_not_found"
        or ("model" in text and "does not exist" in text)
    )


def _is_template_failure(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for word in _TEMPLATE_WORDS)


def _hint(status: int, text: str) -> str:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return "check the model's token_key: the server wants other credentials"
    if any(words in text for words in _OUT_OF_MEMORY):
        return "free memory first: `docker model ps` and `docker model unload`, or a smaller model"
    if "unable to load runner" in text:
        return "`docker model logs` has the engine's own words"
    if "must be forced" in text:
        return "remove it by one of its names, or with --force"
    if "Pooling type 'none'" in text:
        return 'set provider_opts.runtime_flags: ["--pooling", "mean"] on the embedding model'
    return ""
