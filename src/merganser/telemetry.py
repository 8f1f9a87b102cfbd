"""Spans of what takes time, by OpenTelemetry, when the environment asks for them.

By default a span costs a look into a dictionary, and nothing of OpenTelemetry is imported. The
variables are OpenTelemetry's own: ``OTEL_EXPORTER_OTLP_ENDPOINT``, or
``OTEL_TRACES_EXPORTER=console|otlp``; a program that uses merganser and has set up an SDK itself
gets the spans too. Model calls have the attributes of the GenAI semantic conventions. No span holds
the text of a document, question or answer, nor the message of an error, which may quote one.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol, TypeAlias

from merganser.humanize import install_extra

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from contextlib import AbstractContextManager

    Attributes: TypeAlias = Mapping[str, str | int | float | Sequence[str]]

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Span(Protocol):
    """What the block of a ``with span(...)`` gets; OpenTelemetry's own spans fit."""

    def set_attributes(self, attributes: Attributes) -> None:
        """Add what became known after the span began."""


class _Unrecorded:
    def set_attributes(self, attributes: Attributes) -> None:
        del attributes


_OFF = nullcontext(_Unrecorded())


def span(
    name: str, attributes: Attributes | None = None, *, is_request: bool = False
) -> AbstractContextManager[Span]:
    """Return a context manager that records its block as a span, if there is an SDK.

    Args:
        name: The stage, or the operation and the model; of few different values.
        attributes: What is known at the beginning.
        is_request: A request to another process. It does not become the parent of the spans that
            begin meanwhile, so it may stay open while a generator is suspended.
    """
    return _recorded(name, attributes, is_request=is_request) if is_recording() else _OFF


def is_recording() -> bool:
    """Return whether an SDK that takes spans has been imported."""
    return "opentelemetry.sdk.trace" in sys.modules


@contextmanager
def _recorded(name: str, attributes: Attributes | None, *, is_request: bool) -> Generator[Span]:
    from opentelemetry import context, trace  # noqa: PLC0415 - only with an SDK

    kind = trace.SpanKind.CLIENT if is_request else trace.SpanKind.INTERNAL
    recorded = trace.get_tracer("merganser").start_span(name, attributes=attributes, kind=kind)
    token = None if is_request else context.attach(trace.set_span_in_context(recorded))
    try:
        yield recorded
    except GeneratorExit:
        raise  # whoever closes a generator has had enough of it: no error
    except BaseException as error:
        recorded.set_attribute("error.type", type(error).__qualname__)
        recorded.set_status(trace.StatusCode.ERROR)
        raise
    finally:
        if token is not None:
            context.detach(token)
        recorded.end()


def start_telemetry() -> str:
    """Set the SDK up if the environment asks for it; call early in a process.

    Returns:
        Why spans cannot be sent as asked, for people; empty when nothing is wrong.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if not exporter and any(os.environ.get(name) for name in _ENDPOINTS):
        exporter = "otlp"
    is_disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    if exporter in {"", "none"} or is_disabled or is_recording():
        return ""
    if exporter not in {"otlp", "console"}:
        return f"no traces: OTEL_TRACES_EXPORTER is {exporter!r}, use 'otlp', 'console' or 'none'"
    general = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", general)
    if exporter == "otlp" and protocol != "http/protobuf":
        return f"no traces: the OTLP protocol is {protocol!r}, only 'http/protobuf' works"
    try:
        _start(exporter)
    except ModuleNotFoundError:
        return f"no traces: OpenTelemetry's SDK is missing; {install_extra('telemetry')}"
    return ""


def _start(exporter: str) -> None:
    # ruff: disable[PLC0415]
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
    # ruff: enable[PLC0415]

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    resource = Resource.create({} if named else {"service.name": "merganser"})
    provider = TracerProvider(resource=resource)  # ends, and sends what is left, at exit
    # Standard output is for answers.
    chosen = ConsoleSpanExporter(out=sys.stderr) if exporter == "console" else OTLPSpanExporter()
    provider.add_span_processor(BatchSpanProcessor(chosen))
    trace.set_tracer_provider(provider)
