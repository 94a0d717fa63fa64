"""What happens to a call, on the span that is current: attributes and events, and no second tracer.

    from resilient_agents.integrations import opentelemetry

    opentelemetry.install()

Your framework or your own code begins the spans; this needs the API of OpenTelemetry alone, and without an
SDK it does nothing. The names are those of the semantic conventions where there are any: ``error.type`` is
the code of the failure, which has few values.
"""

from collections.abc import Callable
from typing import Any, Final

from opentelemetry.trace import Span, Status, StatusCode, get_current_span

from resilient_agents import correlation, events
from resilient_agents.errors import Failure
from resilient_agents.errors.scope import held_by
from resilient_agents.events import Event
from resilient_agents.redaction import redact

_PREFIX: Final = "resilient_agents."
_MARK: Final = "_resilient_agents_recorded"
_Values = dict[str, str | bool | int | float]


def install() -> Callable[[], None]:
    """Describe on the current span what happens, from now on. Where that is done already, nothing changes.

    An attempt that failed, a wait, a refusal, a hedge, a fallback and a change of a breaker are events of the
    span. A call that was given up on, a request and a job that failed give it ``error.type``, the decision
    (``resilient_agents.category``, ``.origin``, ``.code``, ``.advice``), the number of attempts, and the
    exception, once: without its traceback, and its text without secrets. What `correlation` knows is on the
    span too.

    Returns:
        A function that stops it.
    """
    events.unsubscribe(_describe)
    events.subscribe(Event)(_describe)
    return lambda: events.unsubscribe(_describe)


def annotate(failure: Failure, exc: BaseException | None = None) -> None:
    """Say on the current span that its work failed.

    Args:
        failure: The decision about it.
        exc: What was raised. The default is that only the decision is told.
    """
    span = get_current_span()
    if span.is_recording():
        _fail(span, failure, exc)


def _describe(event: Event) -> None:
    """Hear of all events; what is not on a span costs a look at the context."""
    span = get_current_span()
    if not span.is_recording():
        return
    span.set_attributes({_PREFIX + name: value for name, value in correlation.current().items()})
    end = _ENDS.get(type(event))
    if end is not None:
        end(span, event)
    elif type(event) in _STEPS:
        span.add_event(_STEPS[type(event)], _values(event))


def _values(event: Event) -> _Values:
    """Return the plain attributes of an event; a failure becomes its code and category."""
    values: _Values = {}
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        if isinstance(value, Failure):
            values["error.type"] = value.code
            values[f"{_PREFIX}category"] = str(value.category)
        elif isinstance(value, str | bool | int | float):
            values[_PREFIX + name] = value
    return values


def _fail(span: Span, failure: Failure, exc: BaseException | None) -> None:
    decision: _Values = {
        "error.type": failure.code,
        f"{_PREFIX}code": failure.code,
        f"{_PREFIX}category": str(failure.category),
        f"{_PREFIX}origin": str(failure.origin),
        f"{_PREFIX}advice": str(failure.advice),
    }
    if failure.retry_after is not None:
        decision[f"{_PREFIX}retry_after"] = failure.retry_after
    span.set_attributes(decision)
    if failure.status >= 500:  # so do the semantic conventions for HTTP servers
        span.set_status(Status(StatusCode.ERROR, failure.title))
    if exc is not None:
        _record(span, exc)


def _record(span: Span, exc: BaseException) -> None:
    """Record an exception on a span, once. The SDK's own way would tell its text and its traceback."""
    place = span.get_span_context().span_id
    held = held_by(exc)
    if held.get(_MARK) == place:
        return
    held[_MARK] = place
    kind = type(exc)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = redact(str(exc))
    except Exception:  # the text of an exception is other people's code
        text = ""
    span.add_event("exception", {"exception.type": name, "exception.message": text})


def _gave_up(span: Span, event: events.RetryGaveUp) -> None:
    span.set_attributes(
        {
            f"{_PREFIX}retry.attempts": event.attempts,
            f"{_PREFIX}retry.reason": event.reason,
            f"{_PREFIX}retry.target": event.target,
        }
    )
    _fail(span, event.failure, event.exception)


def _request_failed(span: Span, event: events.RequestFailed) -> None:
    _fail(span, event.failure, event.exception)


def _job_failed(span: Span, event: events.JobFailed) -> None:
    span.set_attributes({f"{_PREFIX}job.attempt": event.attempt, f"{_PREFIX}job.decision": event.decision})
    _fail(span, event.failure, event.exception)


_ENDS: dict[type[Event], Callable[[Span, Any], None]] = {
    events.CallFailed: _request_failed,
    events.JobFailed: _job_failed,
    events.RequestFailed: _request_failed,
    events.RetryGaveUp: _gave_up,
}

_STEPS: dict[type[Event], str] = {
    events.BreakerClosed: "breaker closed",
    events.BreakerHalfOpened: "breaker half-opened",
    events.BreakerOpened: "breaker opened",
    events.CallRefused: "call refused",
    events.CallWaited: "call waited",
    events.EntryAccepted: "entry accepted",
    events.EntryDeferred: "entry deferred",
    events.EntryDelivered: "entry delivered",
    events.EntryParked: "entry parked",
    events.FellBack: "fell back",
    events.HedgeStarted: "hedge started",
    events.HedgeWon: "hedge won",
    events.RetryBudgetExhausted: "retry budget exhausted",
    events.RetryScheduled: "attempt failed",
}
"""Events of a span; what is not about the call, such as a gauge, is not listed."""
