"""Faults and scripted answers, set through ``FaultyRunner.faults``, never by magic prompts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, get_args

FaultKind = Literal[
    # any request
    "status", "slow", "hang", "garbage",
    # inference
    "cut", "wrong-dimension", "nan", "engine-death", "load-slow", "load-fail",
    # pulls: refused before the stream …
    "pull-not-found", "pull-unauthorized", "pull-unsupported", "pull-failed",
    # … or failing and misbehaving inside it
    "pull-error-line", "pull-stream-unauthorized", "pull-stream-not-found", "pull-cut",
    "pull-stall", "pull-doubled", "pull-cached", "pull-slow",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault waiting to happen.

    Attributes:
        kind: ``status`` answers with ``status`` and plain text; ``slow`` answers after ``seconds``;
            ``hang`` never answers; ``garbage`` answers 200 with what is no JSON; ``cut`` closes the
            connection after ``after_bytes`` of the answer; ``wrong-dimension`` gives vectors of
            ``dimensions``; ``nan`` spoils the first vector; ``engine-death`` ends the engine before
            its headers; ``load-slow`` and ``load-fail`` strike while an engine loads; ``pull-*``
            are the failing pulls of docs/model-runner.md.
        route: Only for this route label (``embeddings``, ``chat``, ``rerank``, ``models``, …);
            "" for any.
        model: Only for requests whose body names this model, as written; "" for any.
        times: How often it strikes; None means always.
        skip: How many matching requests pass before it strikes.
        status: For ``status``.
        message: Text instead of the usual one.
        retry_after: Seconds for a ``Retry-After`` header, or None for no header.
        seconds: For the slow ones.
        after_bytes: For ``cut``.
        dimensions: For ``wrong-dimension``.
    """

    kind: FaultKind
    _: KW_ONLY
    route: str = ""
    model: str = ""
    times: int | None = 1
    skip: int = 0
    status: int = 500
    message: str = ""
    retry_after: float | None = None
    seconds: float = 0.0
    after_bytes: int = 200
    dimensions: int = 8


@dataclass(frozen=True, slots=True)
class ScriptedCall:
    """One tool call of a scripted answer."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """What the next chat request is answered with, instead of asking a model.

    Attributes:
        content: The text; sent in pieces on a stream.
        tool_calls: Calls to make; the finish reason is then ``tool_calls``.
        finish_reason: Another finish reason, "" for the natural one.
    """

    content: str = ""
    _: KW_ONLY
    tool_calls: tuple[ScriptedCall, ...] = ()
    finish_reason: str = ""


class Faults:
    """The faults and scripted answers of one runner; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults = list[Fault]()
        self._script = deque[ScriptedAnswer]()
        self._scripted_requests = list[Mapping[str, Any]]()

    def inject(self, fault: Fault | FaultKind, **options: Any) -> None:
        """Add a fault, given whole or as its kind and fields.

        Raises:
            ValueError: The kind does not exist.
        """
        added = Fault(fault, **options) if isinstance(fault, str) else fault
        if added.kind not in get_args(FaultKind):
            raise ValueError(f"unknown fault {added.kind!r}; known: {get_args(FaultKind)}")
        with self._lock:
            self._faults.append(added)

    def clear(self) -> None:
        """Drop all faults, scripted answers and recorded requests."""
        with self._lock:
            self._faults.clear()
            self._script.clear()
            self._scripted_requests.clear()

    @property
    def pending(self) -> tuple[Fault, ...]:
        """Faults that may still strike, in order."""
        with self._lock:
            return tuple(self._faults)

    def take(self, *kinds: FaultKind, route: str = "", model: str = "") -> Fault | None:
        """Return the first fault of these kinds that strikes this request, and count it down."""
        with self._lock:
            for index, fault in enumerate(self._faults):
                if fault.kind not in kinds or not _matches(fault, route, model):
                    continue
                if fault.skip:
                    self._faults[index] = replace(fault, skip=fault.skip - 1)
                    continue
                if fault.times is not None:
                    if fault.times <= 1:
                        del self._faults[index]
                    else:
                        self._faults[index] = replace(fault, times=fault.times - 1)
                return fault
        return None

    def script_chat(self, answers: Iterable[ScriptedAnswer | str]) -> None:
        """Queue answers for the next chat requests, one each, in order."""
        with self._lock:
            self._script.extend(
                ScriptedAnswer(answer) if isinstance(answer, str) else answer for answer in answers
            )

    @property
    def has_script(self) -> bool:
        """Whether a scripted answer waits."""
        with self._lock:
            return bool(self._script)

    def take_scripted(self, request: Mapping[str, Any]) -> ScriptedAnswer | None:
        """Return the next scripted answer, recording the request that it answers."""
        with self._lock:
            if not self._script:
                return None
            self._scripted_requests.append(request)
            return self._script.popleft()

    @property
    def scripted_requests(self) -> tuple[Mapping[str, Any], ...]:
        """Chat requests that were answered by the script, oldest first."""
        with self._lock:
            return tuple(self._scripted_requests)


def _matches(fault: Fault, route: str, model: str) -> bool:
    return fault.route in {"", route} and fault.model in {"", model}
