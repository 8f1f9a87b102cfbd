"""Spans of what takes time, by OpenTelemetry, for those who ask for them in the environment.

Off, which is the default, a span costs a look into a dictionary and imports nothing. The variables
are OpenTelemetry's own: ``OTEL_EXPORTER_OTLP_ENDPOINT``, or ``OTEL_TRACES_EXPORTER=console|otlp``;
a program that uses merganser and has set up an SDK by itself gets the spans too. Model calls bear
the attributes of the GenAI semantic conventions. No span holds a text, of a document, question or
answer, nor the message of an error, which may quote one.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OpenSpan

    Attributes: TypeAlias = Mapping[str, str | int | float | Sequence[str]]

_SDK = "opentelemetry.sdk.trace"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span:
    """A stretch of time, as a context manager; this one is for those who asked for none."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        del kind

    def note(self, attributes: Attributes) -> None:
        """Add what is known only now."""
        del attributes


_OFF = Span()


def span(name: str, attributes: Attributes | None = None, *, is_request: bool = False) -> Span:
    """Give a span for a ``with``.

    Args:
        name: Of few different values: the stage, or the operation and the model.
        attributes: What is known at the beginning.
        is_request: To another process. It is no parent of what happens meanwhile, so that it may
            stay open while a generator is suspended.
    """
    return _Recorded(name, attributes, is_request=is_request) if is_recording() else _OFF


def is_recording() -> bool:
    """Tell whether there is an SDK that takes spans."""
    return _SDK in sys.modules


def start_telemetry() -> str:
    """Set the SDK up if the environment asks for it; call early in a process.

    Returns:
        Why it cannot be, for people; empty when all is well.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not exporter and any(os.environ.get(name) for name in _ENDPOINTS):
        exporter = "otlp"
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if exporter in {"", "none"} or is_disabled or is_recording():
        return ""
    if exporter not in {"otlp", "console"}:
        return f"no traces: OTEL_TRACES_EXPORTER is {exporter!r}, use 'otlp', 'console' or 'none'"
    wanted = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    if not all(_is_installed(name) for name in wanted):
        return "no traces: OpenTelemetry's SDK is missing; pip install 'merganser[telemetry]'"
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)
    if exporter == "otlp" and protocol != "http/protobuf":
        return f"no traces: the OTLP protocol is {protocol!r}, only 'http/protobuf' works"
    _start(exporter)
    return ""


def _start(exporter: str) -> None:
    from opentelemetry import trace  # noqa: PLC0415 - nobody else pays for it
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {"service.name": "merganser"})
    provider = TracerProvider(resource=resource)  # ends, and sends what is left, at exit
    provider.add_span_processor(BatchSpanProcessor(_exporter(exporter)))
    trace.set_tracer_provider(provider)


def _exporter(name: str) -> SpanExporter:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for

        # Standard output is for answers.
        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for
        OTLPSpanExporter,
    )

    return OTLPSpanExporter()


def _is_installed(name: str) -> bool:
    from importlib.util import find_spec  # noqa: PLC0415 - nobody else needs it

    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class _Recorded(Span):
    """A span of the SDK, begun when it is entered; an error is named by its type."""

    __slots__ = ("_attributes", "_is_request", "_name", "_span", "_token")

    def __init__(self, name: str, attributes: Attributes | None, *, is_request: bool) -> None:
        self._name = name
        self._attributes = attributes
        self._is_request = is_request
        self._span: OpenSpan | None = None
        self._token: Token[Context] | None = None

    def __enter__(self) -> Self:
        from opentelemetry import context, trace  # noqa: PLC0415 - loaded with the SDK

        kind = trace.SpanKind.CLIENT if self._is_request else trace.SpanKind.INTERNAL
        tracer = trace.get_tracer("merganser")
        self._span = tracer.start_span(self._name, attributes=self._attributes, kind=kind)
        if not self._is_request:
            self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        from opentelemetry import context, trace  # noqa: PLC0415 - loaded with the SDK, which nobody else pays for

        assert self._span is not None, "it was entered"
        if self._token is not None:
            context.detach(self._token)
        # Whoever closes a generator has had enough of it, and nothing went wrong.
        if kind is not None and kind is not GeneratorExit:
            self._span.set_attribute("error.type", kind.__qualname__)
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()

    def note(self, attributes: Attributes) -> None:
        assert self._span is not None, "it was entered"
        self._span.set_attributes(attributes)
