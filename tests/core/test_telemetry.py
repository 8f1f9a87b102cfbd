"""What the environment asks of traces; what spans hold is looked at in ``e2e/test_secrets``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from merganser import telemetry
from merganser.errors import StoreError
from merganser.telemetry import span, start_telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from opentelemetry.sdk.trace import ReadableSpan


@pytest.fixture(autouse=True)
def nothing_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.sdk.trace", raising=False)
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, ""),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, ""),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "console"}, ""),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "'zipkin', use 'otlp', 'console' or 'none'"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "the OTLP protocol is 'grpc', only 'http/protobuf' works",
        ),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_set_up(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], problem: str
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    said = start_telemetry()

    assert said.endswith(problem)
    assert bool(said) == bool(problem)
    assert "opentelemetry.sdk.trace" not in sys.modules


def test_a_missing_sdk_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)

    assert "pip install '.[telemetry]'" in start_telemetry()


def test_off_a_span_is_the_same_nothing_for_all():
    with span("one", {"a": 1}) as first, span("two", is_request=True) as second:
        first.set_attributes({"b": 2})

    assert first is second
    assert not telemetry.is_recording()


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, ReadableSpan]]:
    """Record with a real SDK; gives what gives the ended spans by name."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The process's own provider can be set only once, and others may want to.
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return lambda: {one.name: one for one in exporter.get_finished_spans()}


def test_a_stage_is_the_parent_of_what_happens_in_it_and_a_request_is_none(
    finished: Callable[[], dict[str, ReadableSpan]],
):
    with span("stage") as stage, span("request", {"a": 1}, is_request=True), span("inner"):
        stage.set_attributes({"b": 2})

    spans = finished()
    parents = {name: one.parent.span_id if one.parent else None for name, one in spans.items()}
    context = spans["stage"].context
    assert context is not None
    stage_id = context.span_id
    assert parents == {"stage": None, "request": stage_id, "inner": stage_id}
    assert (spans["request"].kind.name, spans["stage"].kind.name) == ("CLIENT", "INTERNAL")
    assert (spans["request"].attributes, spans["stage"].attributes) == ({"a": 1}, {"b": 2})


def test_an_error_is_named_by_its_type_and_its_message_is_left_out(
    finished: Callable[[], dict[str, ReadableSpan]],
):
    def answers() -> Generator[int]:
        with span("generator"):
            yield 1

    with pytest.raises(StoreError), span("stage"):
        raise StoreError("the text of a document")
    for _ in answers():
        break

    stage, generator = finished()["stage"], finished()["generator"]
    assert (stage.status.status_code.name, stage.status.description) == ("ERROR", None)
    assert (stage.attributes, stage.events) == ({"error.type": "StoreError"}, ())
    assert generator.status.is_unset
