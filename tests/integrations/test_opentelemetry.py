"""What happens to a call is on the span that is current, once, and without secrets."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from resilient_agents import CircuitBreaker, correlation, events, fallback, retry
from resilient_agents.errors import NotFound, RateLimited, Unreachable, classify
from resilient_agents.integrations import opentelemetry
from resilient_agents.testing import FakeClock

PREFIX = "resilient_agents."


@pytest.fixture
def spans() -> InMemorySpanExporter:
    """Finished spans end here."""
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Iterator[trace.Tracer]:
    """A tracer of the application; the installation is in force."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    stop = opentelemetry.install()
    opentelemetry.install()
    yield provider.get_tracer("app")
    stop()
    stop()
    provider.shutdown()


@retry(attempts=3)
def fetch(url: str) -> None:
    """Fail, and tell a secret."""
    raise Unreachable(f"GET {url} failed")


def the_one(spans: InMemorySpanExporter) -> ReadableSpan:
    """Return the only span."""
    (span,) = spans.get_finished_spans()
    return span


def names(span: ReadableSpan) -> list[str]:
    """Return the names of the span's events."""
    return [event.name for event in span.events]


def values(found: Any) -> dict[str, Any]:
    """Return attributes as a dictionary."""
    return dict(found.attributes)


def test_a_retry_that_gave_up(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """Attempts are events; the failure is on the span, with the correlation; the exception is there once."""
    with FakeClock(), tracer.start_as_current_span("work"), correlation.bind(request_id="r-1"):
        with pytest.raises(Unreachable) as raised:
            fetch("https://crm:hunter2@crm.test/")
        events.emit(
            events.RequestFailed,
            method="GET",
            path="/",
            route="/",
            status=503,
            request_id="r-1",
            duration=1.0,
            failure=classify(raised.value),
            exception=raised.value,
        )

    span = the_one(spans)
    assert ["attempt failed", "attempt failed", "exception"] == names(span)
    assert {
        "error.type": "external.unreachable",
        f"{PREFIX}code": "external.unreachable",
        f"{PREFIX}category": "external",
        f"{PREFIX}origin": "dependency",
        f"{PREFIX}advice": "safe",
        f"{PREFIX}retry.attempts": 3,
        f"{PREFIX}retry.reason": "attempts",
        f"{PREFIX}retry.target": f"{__name__}.fetch",
        f"{PREFIX}request_id": "r-1",
    } == values(span)
    attempt = values(span.events[0])
    assert (1, "external.unreachable", "external") == (
        attempt[f"{PREFIX}attempt"],
        attempt["error.type"],
        attempt[f"{PREFIX}category"],
    )
    assert {
        "exception.type": "resilient_agents.errors.exceptions.Unreachable",
        "exception.message": "GET https://***@crm.test/ failed",
    } == values(span.events[2])
    assert trace.StatusCode.ERROR == span.status.status_code


def test_a_defect_is_an_error(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """The status of the span says it, in words that hold nothing of the exception."""
    exc = KeyError("hunter2")
    with tracer.start_as_current_span("job"):
        events.emit(
            events.JobFailed,
            job_id="j",
            job_name="sync",
            attempt=2,
            duration=1.0,
            failure=classify(exc),
            decision="dead_letter",
            exception=exc,
        )

    span = the_one(spans)
    assert trace.StatusCode.ERROR == span.status.status_code
    assert "hunter2" not in (span.status.description or "")
    assert (2, "dead_letter") == (
        values(span)[f"{PREFIX}job.attempt"],
        values(span)[f"{PREFIX}job.decision"],
    )
    assert "KeyError" == values(span.events[0])["exception.type"]


def test_each_span_has_the_exception(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """An exception that goes out through two spans is on both."""
    exc = Unreachable("x")
    with tracer.start_as_current_span("outer"):
        with tracer.start_as_current_span("inner"):
            opentelemetry.annotate(classify(exc), exc)
        opentelemetry.annotate(classify(exc), exc)
        opentelemetry.annotate(classify(NotFound("x")))
        opentelemetry.annotate(classify(RateLimited(retry_after=5.0)))

    inner, outer = spans.get_finished_spans()
    assert ["exception"] == names(inner) == names(outer)
    assert 5.0 == values(outer)[f"{PREFIX}retry_after"]


def test_an_exception_that_cannot_be_told(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """Its class is told."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with tracer.start_as_current_span("work"):
        opentelemetry.annotate(classify(NotFound("x")), Mute())

    span = the_one(spans)
    assert values(span.events[0])["exception.type"].endswith("Mute")
    assert trace.StatusCode.UNSET == span.status.status_code


def test_steps(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """What happens on the way is told where it happens."""

    @fallback("unknown")
    def look_up() -> str:
        raise NotFound("x")

    with tracer.start_as_current_span("work"):
        CircuitBreaker(name="kommo").force_open()
        assert "unknown" == look_up()
        events.emit(events.ConcurrencyChanged, policy="adaptive", name="x", before=1, limit=2)

    span = the_one(spans)
    assert ["breaker opened", "fell back"] == names(span)
    assert "kommo" == values(span.events[0])[f"{PREFIX}name"]


def test_without_a_span_nothing_is_done(tracer: trace.Tracer, spans: InMemorySpanExporter) -> None:
    """Nobody's span is touched, and none is begun."""
    with FakeClock(), pytest.raises(Unreachable):
        fetch("https://crm.test/")
    opentelemetry.annotate(classify(KeyError()))

    assert () == spans.get_finished_spans()
