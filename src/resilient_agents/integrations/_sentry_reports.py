"""What is told to Sentry of failures: which, how loud, with which tags, and how often."""

import sys
from collections.abc import Callable, Hashable
from typing import Any

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from resilient_agents import _clock, correlation, events
from resilient_agents.errors import Advice, Category, Failure, Level, Origin, classify
from resilient_agents.errors.refusals import refusal
from resilient_agents.events import Event
from resilient_agents.integrations._repeats import Repeats, fingerprint, mark, marked

_OURS = "resilient_agents"
_INTERNAL = Category.INTERNAL  # looked up once: a member of an enum takes long to read (before Python 3.12)

_EXPLICIT = {None, "generic", "excepthook", "threading"}
"""Mechanisms of events that somebody asked for, or that end a program: the table has no say in them."""


def wanted(failure: Failure) -> bool:
    """Tell whether Sentry hears of an operation that failed so.

    Args:
        failure: The decision about the last attempt.
    """
    category = failure.category
    if category in (Category.VALIDATION, Category.AUTH):
        return failure.origin is Origin.DEPENDENCY
    if category is Category.RATE_LIMIT:  # a limit passes, a quota that is spent does not
        return failure.advice is Advice.NEVER
    return category in (Category.EXTERNAL, Category.INTERNAL)


class Reports:
    """Reports to one client of Sentry, as a subscriber to events.

    Args:
        client: The client, for its options.
        repeats: Lets pass what is to be sent.
    """

    def __init__(self, client: Any, repeats: Repeats) -> None:
        self._client = client
        self._repeats = repeats

    def __call__(self, event: Event) -> None:
        HEARD[type(event)](self, event)

    def capture(self, exc: BaseException, failure: Failure | None, tags: dict[str, str]) -> bool:
        """Send an exception, unless it or another of its kind was sent; return whether it was sent."""
        suppressed = self._passes(exc, failure)
        if suppressed is None:
            return False
        event, hint = self._made(exc, _OURS)
        if failure is not None:
            event["level"] = _level(failure)
            tags = _tags(failure) | tags
        return self._send(event | {"tags": tags | _told(suppressed)}, hint)

    def tell(self, kind: Hashable, text: str, level: str, tags: dict[str, str]) -> None:
        """Send what has no exception, unless another of its kind was sent within the window."""
        suppressed = self._repeats.passes(kind, _clock.in_force.monotonic())
        if suppressed is not None:
            self._send({"message": text, "level": level, "tags": tags | _told(suppressed)}, {})

    def look_at(self, event: Any, hint: dict[str, Any]) -> Any:
        """Return any event, with what the context knows; *None* where it would be one too many."""
        event["tags"] = {**correlation.current(), **(event.get("tags") or {})}
        if _OURS in hint:
            return event
        if _is_told_by_an_event(hint.get("log_record")):
            return None
        raised = (hint.get("exc_info") or (None, None))[1]
        exc = raised if raised is not None or "log_record" not in hint else sys.exc_info()[1]
        return event if exc is None else self._judged(event, exc, raised is not None)

    def _judged(self, event: Any, exc: BaseException, has_exception: bool) -> Any:
        """Judge an event of another integration as one of ours.

        A line that is logged while an exception is handled tells of that exception: it gets its traceback.
        """
        failure = None
        if isinstance(exc, Exception):
            refused = refusal(exc)
            failure = classify(exc) if refused is None else refused.failure
        if failure is not None and not wanted(failure) and _mechanism(event) not in _EXPLICIT:
            return None
        suppressed = self._passes(exc, failure)
        if suppressed is None:
            return None
        if not has_exception:
            event["exception"] = self._made(exc, "logging")[0]["exception"]
        event["tags"] = (_tags(failure) if failure else {}) | event["tags"] | _told(suppressed)
        return event

    def _passes(self, exc: BaseException, failure: Failure | None) -> int | None:
        """Return how many of its kind were held back; *None* where it, or one of its kind, was told of."""
        now, handling, code = _clock.in_force.monotonic(), False, ""
        if failure is not None:
            handling, code = failure.category is not _INTERNAL, failure.code
        if marked(exc, now - self._repeats.window, handling=handling):
            return None
        suppressed = self._repeats.passes(fingerprint(exc, code), now)
        mark(exc, now)
        return suppressed

    def _made(self, exc: BaseException, mechanism: str) -> tuple[Any, dict[str, Any]]:
        """Return the event of an exception: this is what costs milliseconds."""
        options = self._client.options
        return event_from_exception(
            exc, client_options=options, mechanism={"type": mechanism, "handled": True}
        )

    def _send(self, event: Any, hint: dict[str, Any]) -> bool:
        return sentry_sdk.capture_event(event, hint={**hint, _OURS: True}) is not None


def _level(failure: Failure) -> str:
    """Return how loud an operation is that failed so: what might have passed did not."""
    if failure.level is Level.CRITICAL:
        return "fatal"
    external = failure.category is Category.EXTERNAL
    return "warning" if failure.level is Level.WARNING and not external else "error"


def _tags(failure: Failure) -> dict[str, str]:
    tags = {"code": failure.code, "category": str(failure.category), "origin": str(failure.origin)}
    dependency = getattr(failure, "dependency", None)
    return tags | {"dependency": str(dependency)} if dependency else tags


def _told(suppressed: int) -> dict[str, str]:
    return {"suppressed": str(suppressed)} if suppressed else {}


def _is_told_by_an_event(record: Any) -> bool:
    """Tell whether a log line of ours is about a failure, which is an event of ours too."""
    return record is not None and record.name.startswith(f"{_OURS}.") and hasattr(record, "category")


def _mechanism(event: Any) -> str | None:
    values = (event.get("exception") or {}).get("values") or [{}]
    return (values[-1].get("mechanism") or {}).get("type")


def _gave_up(reports: Reports, event: events.RetryGaveUp) -> None:
    if event.exception is not None and wanted(event.failure):
        tags = {"target": event.target, "attempts": str(event.attempts), "reason": event.reason}
        reports.capture(event.exception, event.failure, tags)


def _request_failed(reports: Reports, event: events.RequestFailed) -> None:
    if wanted(event.failure):
        tags = {"method": event.method, "route": event.route or "none", "request_id": event.request_id}
        reports.capture(event.exception, event.failure, tags)


def _call_failed(reports: Reports, event: events.CallFailed) -> None:
    if wanted(event.failure):
        reports.capture(event.exception, event.failure, {"target": event.target})


def _job_failed(reports: Reports, event: events.JobFailed) -> None:
    if event.decision == "retry":
        text = f"attempt {event.attempt} of job {event.job_name} failed: {event.failure.code}"
        _breadcrumb("job", text, {"code": event.failure.code, "wait": event.wait})
    elif wanted(event.failure):
        tags = {"job_id": event.job_id, "job_name": event.job_name, "attempts": str(event.attempt)}
        reports.capture(event.exception, event.failure, tags)


def _retry_scheduled(reports: Reports, event: events.RetryScheduled) -> None:
    code = event.failure.code
    text = f"attempt {event.attempt} of {event.target} failed: {code}, next in {event.wait:.1f} s"
    _breadcrumb("retry", text, {"code": code, "attempt": event.attempt, "wait": event.wait})


def _entry_parked(reports: Reports, event: events.EntryParked) -> None:
    failure = event.failure
    tags = {"topic": event.topic, "code": event.reason, "entry_id": str(event.entry_id)}
    text = f"an entry of {event.topic} was parked: {event.reason}"
    level = "error" if failure is None else _level(failure)
    kind = ("parked", event.topic, event.reason)
    reports.tell(kind, text, level, tags if failure is None else _tags(failure) | tags)


def _breaker_opened(reports: Reports, event: events.BreakerOpened) -> None:
    if event.reason in ("failures", "slow"):  # others tell of an outage that is known
        text = f"the breaker {event.name or 'without a name'} opened: {event.reason}"
        kind = ("opened", event.name, event.reason)
        reports.tell(kind, text, "error", {"breaker": event.name or "none", "reason": event.reason})


def _breadcrumb(category: str, text: str, data: dict[str, Any]) -> None:
    sentry_sdk.add_breadcrumb(category=category, message=text, level="warning", data=data)


HEARD: dict[type[Event], Callable[[Reports, Any], None]] = {
    events.BreakerOpened: _breaker_opened,
    events.CallFailed: _call_failed,
    events.EntryParked: _entry_parked,
    events.JobFailed: _job_failed,
    events.RequestFailed: _request_failed,
    events.RetryGaveUp: _gave_up,
    events.RetryScheduled: _retry_scheduled,
}
