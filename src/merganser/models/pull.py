"""Pull a model: read the progress stream, tell success from silence, try again when it may help.

The stream's status is 200 from its first byte on, so only a line of type ``success`` is success;
everything else that ends the stream is a failure, and lines that are no JSON are its reason.
"""

from __future__ import annotations

import asyncio
import html
import json
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import httpx

from merganser.errors import (
    ModelRunnerError,
    PullError,
    RunnerUnavailableError,
    RunnerUnreachableError,
    TransientError,
)
from merganser.models.ref import canonical, is_hugging_face, pull_command
from merganser.models.retry import NO_RETRY, RetryPolicy
from merganser.models.server_errors import error_for_exception, message_of
from merganser.models.wire import as_count, as_mapping, as_text
from merganser.progress import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from merganser.models.connection import Connection

# What Docker's own client does: four retries after 1, 2, 4 and 8 s, network errors and 502-504.
PULL_RETRY = RetryPolicy(attempts=5, first_seconds=1.0, longest_seconds=8.0)
# The server's words when it is the one that has no network; it may have it again later.
_NETWORK_WORDS = (
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "tls handshake timeout",
    "network is unreachable",
    "temporary failure in name resolution",
    "unexpected eof",
    "toomanyrequests",
)
# A layer of a large model makes some thousand lines of a few hundred bytes.
_MOST_LINE_BYTES = 1 << 16
_MOST_STREAM_BYTES = 1 << 30
_MOST_LAYERS = 10_000
_MOST_WORDS = 20
# Lines that come and say nothing new, as many times the wait for a line.
_STANDSTILL = 10
_SECOND_COPY = "Building model artifact"
_SHOWN_CHARACTERS = 2000

Phase: TypeAlias = Literal["waiting", "downloading", "storing", "done"]
ProgressCallback: TypeAlias = "Callable[[PullProgress], None]"


class PullInterruptedError(PullError, TransientError):
    """A pull that broke off for a reason that may pass; a retry resumes where it can."""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is.

    Attributes:
        phase: ``storing`` is the second pass of a Hugging Face pull, from a temporary folder into
            the store, which reports every byte again.
        received_bytes: Of this phase; never above the total, never falling within a phase.
        total_bytes: Of this phase, or None until the server says it.
    """

    phase: Phase
    received_bytes: int
    total_bytes: int | None


@dataclass(slots=True)
class PullTracker:
    """Add up the lines of one pull stream.

    Layers interleave, and a layer that is already there says nothing. A Hugging Face pull reports
    its files and then, under other ids, the layers it copies into the store: the second set starts
    a new phase instead of counting to 200 %.
    """

    phase: Phase = "waiting"
    total: int | None = None
    _layers: dict[str, int] = field(default_factory=dict[str, int])
    _received: int = 0

    def add(self, line: dict[str, Any]) -> PullProgress:
        """Take one decoded line and return the state after it."""
        message = as_text(line.get("message")) or ""
        if message.startswith(_SECOND_COPY) and self.phase == "downloading":
            self._start("storing")
        total = as_count(line.get("total"))
        layer = as_mapping(line.get("layer"))
        layer_id = as_text(layer.get("id"))
        if layer_id is not None:
            self._add_layer(layer_id, layer, total)
        elif total is not None:
            self.total = total
        if line.get("type") == "success":
            self.phase = "done"
        return PullProgress(self.phase, self._received, self.total)

    def _add_layer(self, layer_id: str, layer: dict[str, Any], total: int | None) -> None:
        complete = self.total is not None and self._received >= self.total
        if self.phase == "waiting":
            self._start("downloading")
        elif self.phase == "downloading" and complete and layer_id not in self._layers:
            self._start("storing")
        if total is not None:
            self.total = total
        if len(self._layers) >= _MOST_LAYERS and layer_id not in self._layers:
            return
        current = as_count(layer.get("current")) or 0
        self._layers[layer_id] = max(current, self._layers.get(layer_id, 0))
        received = sum(self._layers.values())
        if self.total is not None:
            received = min(received, self.total)
        self._received = max(self._received, received)

    def _start(self, phase: Phase) -> None:
        self.phase = phase
        self._layers.clear()
        self._received = 0


async def pull_model(
    connection: Connection,
    ref: str,
    *,
    token: str | None,
    on_progress: ProgressCallback | None = None,
    retry: RetryPolicy = PULL_RETRY,
) -> None:
    """Pull a model until the server says success.

    Args:
        connection: To a server that manages models.
        ref: The model.
        token: A Hugging Face token, sent as ``bearer-token``, or None.
        on_progress: Told after every line.
        retry: For lost connections, stalls, 502, 503 and 504; other answers are final.

    Raises:
        PullError: The pull failed for good; the message has the server's words and the next step.
        PullInterruptedError: It broke off for a reason that may pass.
        RunnerUnreachableError: The server is gone.
    """
    attempt = 0
    while True:
        attempt += 1
        try:
            await _pull_once(connection, ref, token=token, notify=on_progress)
        except _Failed as failure:
            raise failure.error(ref, connection) from None
        except (RunnerUnavailableError, RunnerUnreachableError, _Broken) as error:
            transient = error.error(ref, connection) if isinstance(error, _Broken) else error
            pause = retry.pause_seconds(attempt, transient)
            if pause is None:
                raise transient from error
            await asyncio.sleep(pause)
        except ModelRunnerError as error:
            raise _Failed(str(error)).error(ref, connection, status=error.status) from error
        else:
            return


class _Broken(Exception):  # noqa: N818 - a private signal, turned into a typed error above
    """The stream ended or fell silent without a reason: worth a retry."""

    def error(self, ref: str, connection: Connection) -> PullInterruptedError:
        where = connection.address.shown
        message = f"pull of {canonical(ref)!r} at {where} broke off: {self}; {_next(ref)}"
        return PullInterruptedError(message, url=where)


class _Failed(Exception):  # noqa: N818 - as above
    """The server gave a reason."""

    def error(self, ref: str, connection: Connection, status: int | None = None) -> PullError:
        where, reason = connection.address.shown, str(self)[:_SHOWN_CHARACTERS]
        message = f"pull of {canonical(ref)!r} at {where} failed: {reason}; {_next(ref, reason)}"
        lowered = reason.lower()
        kind = PullInterruptedError if any(w in lowered for w in _NETWORK_WORDS) else PullError
        return kind(message, status=status, url=where)


def _next(ref: str, reason: str = "") -> str:
    if "unauthorized" in reason.lower() and is_hugging_face(ref):
        return "set HF_TOKEN to a token that may read this model, and check its name"
    if any(word in reason.lower() for word in ("not found", "unauthorized", "manifest_unknown")):
        # The embedded runner knows few names, and no Docker command helps it.
        return (
            "check the name (`docker model search`), or take one of `merganser models list` in its "
            f"place: --model-map {ref}=NAME"
        )
    return f"try `{pull_command(ref)}` by hand, `docker model logs` has the server's side"


async def _pull_once(
    connection: Connection,
    ref: str,
    *,
    token: str | None,
    notify: ProgressCallback | None,
) -> None:
    tracker = PullTracker()
    body = {"from": canonical(ref)}
    if token:
        body["bearer-token"] = token
    words: dict[str, None] = {}
    standstill = _Standstill(_STANDSTILL * connection.timeouts.stall)
    # Exactly this Accept: for every other value the lines come as HTML-escaped text.
    async with connection.stream(
        "/models/create",
        body=body,
        headers={"Accept": "application/json"},
        begin_seconds=connection.timeouts.queue,
        retry=NO_RETRY,
    ) as response:
        async for line in _lines(response, connection):
            document = decode_line(line)
            document = document or {}
            kind = document.get("type")
            if not document or "error" in document or kind in {"error", "warning"}:
                said = message_of(document)
                if len(words) < _MOST_WORDS:
                    words.setdefault((said.text if said else line.strip())[:_SHOWN_CHARACTERS])
            progress = tracker.add(document)
            if notify is not None and document:
                notify(progress)
            if kind == "success":
                return
            standstill.check(progress)
    if words:
        raise _Failed("; ".join(_without_repeats(words)))
    raise _Broken("the stream ended without a success line")


class _Standstill:
    """Notices a pull that talks and does not get on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last: PullProgress | None = None
        self._since = monotonic()

    def check(self, progress: PullProgress) -> None:
        """Take the state after a line.

        Raises:
            _Broken: It has been the same for too long.
        """
        if progress != self._last:
            self._last, self._since = progress, monotonic()
        elif monotonic() - self._since > self._seconds:
            raise _Broken(f"no progress for {self._seconds:g} s")


def _without_repeats(words: Iterable[str]) -> list[str]:
    """Leave out what another text holds too: servers tell a failure by a line and once more."""
    bare = list(dict.fromkeys(text.removeprefix("Error: ").strip() for text in words))
    return [text for text in bare if not any(text in other for other in bare if other != text)]


async def _lines(response: httpx.Response, connection: Connection) -> AsyncIterator[str]:
    """Yield the lines that are not empty.

    Raises:
        _Broken: After the first byte a line took too long.
        _Failed: A line or the stream is longer than any that a pull makes.
    """
    loop, stall = asyncio.get_running_loop(), connection.timeouts.stall
    parts = response.aiter_bytes()
    deadline: float | None = None
    rest, size = b"", 0
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                part = await anext(parts, None)
        except TimeoutError:
            raise _Broken(f"no progress for {stall:g} s") from None
        except httpx.HTTPError as exc:
            raise _Broken(str(error_for_exception(exc, url=connection.address.shown))) from exc
        *lines, rest = (rest + (part or b"\n")).split(b"\n")
        size += len(part or b"")
        if lines or deadline is None:
            deadline = loop.time() + stall
        for line in lines:
            if line.strip():
                yield line.decode(errors="replace")
        if part is None:
            return
        if len(rest) > _MOST_LINE_BYTES or size > _MOST_STREAM_BYTES:
            raise _Failed("the server tells more than the progress of a pull can be")


def report_pull(ref: str) -> ProgressCallback:
    """Return a callback that reports each phase of a pull to whoever shows progress."""
    phase = "downloading"

    def tell(progress: PullProgress) -> None:
        nonlocal phase
        total = progress.total_bytes
        if not total:
            return
        done = progress.received_bytes
        if progress.phase == "done":  # the last phase may not have told its end
            done = total
        else:
            phase = progress.phase
        report(f"{phase} {ref}", done, total, unit="bytes")

    return tell


def decode_line(line: str) -> dict[str, Any] | None:
    """Read one line of a pull stream, plain or HTML-escaped; None when it is no JSON object."""
    for text in (line, html.unescape(line)):
        try:
            document: Any = json.loads(text)
        except (ValueError, RecursionError):
            continue
        return as_mapping(document) or None
    return None
