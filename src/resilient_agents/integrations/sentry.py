"""Failures in Sentry: one event for an operation that failed, and a repeated failure costs next to nothing.

    from resilient_agents.integrations import sentry

    sentry.install(dsn)

The client of Sentry makes an event of an exception before it asks whether anybody wants it: that takes
milliseconds, even with a sample rate of 0. Here a failure is judged first. Those of one kind (class, code,
line of the program) are sent once, then once a window, with a tag that says how many were not.
"""

import sys
from collections.abc import Callable, Hashable
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.logging import ignore_logger, unignore_logger
from sentry_sdk.scope import add_global_event_processor
from sentry_sdk.utils import event_from_exception

from resilient_agents import correlation, events
from resilient_agents.errors import Advice, Category, Failure, Level, Origin, classify
from resilient_agents.events import Event
from resilient_agents.integrations._repeats import Repeats, fingerprint, mark, marked
from resilient_agents.integrations._sentry_scrubber import Scrubber

_OWN_LOGGERS = ("resilient_agents.errors", "resilient_agents.jobs", "resilient_agents.requests")
"""What they tell is an event here."""

_EXPLICIT = {None, "generic", "excepthook", "threading"}
"""Mechanisms of events that somebody asked for, or that end a program: the table has no say in them."""

_OURS = "resilient_agents"

SAFE: dict[str, Any] = {
    "include_local_variables": False,
    "max_request_body_size": "never",
}
"""The options of Sentry's client that are put in force: neither variables nor bodies are sent."""


def install(dsn: str | None = None, *, window: float = 60.0, **options: Any) -> Callable[[], None]:
    """Send failures to Sentry from now on.

    Sent is one event for each operation that failed: what a retry gave up on, a request and a job that
    failed, an entry that was parked, a breaker that opened. The table of the decision says which: failures of
    a dependency that may pass, once it is given up on; what a dependency rejected; credentials that it
    refuses; quotas; all that is our own. Attempts become breadcrumbs. What the other integrations of Sentry
    (logging, FastAPI, Flask, Celery, …) send is judged in the same way, and no exception is sent twice.

    Each event has the level of its failure, and tags: ``code``, ``category``, ``origin``, ``request_id``,
    ``job_id`` and their kin, and ``suppressed``. Variables of functions and bodies of requests are not sent,
    and all else is searched for secrets as by `redaction.redact_value`.

    Args:
        dsn: Where to send. The default is to attach to the client that ``sentry_sdk.init()`` has made; its
            options `SAFE` are put in force there too, unless they are among *options*. Where there is no such
            client either, nothing is sent and nothing is subscribed to.
        window: Time in seconds in which one failure of a kind is sent. The default is 60.
        **options: Options for ``sentry_sdk.init()``.

    Returns:
        A function that stops it.

    Raises:
        ValueError: *window* is not more than 0.
    """
    global _installed
    if not window > 0:
        raise ValueError(f"window is a time in seconds of more than 0, not {window!r}")
    if _installed is not None:
        _installed.stop()
    if dsn:
        sentry_sdk.init(dsn=dsn, **{**SAFE, "event_scrubber": Scrubber(), **options})
    client = sentry_sdk.get_client()
    if client.transport is None:
        return lambda: None
    installed = _installed = _Installed(client, Repeats(window), {**SAFE, **options})
    return installed.stop


def capture(exc: BaseException, failure: Failure | None = None, **tags: str) -> bool:
    """Send *exc*, unless it was sent already or another of its kind was within the window.

    To hold one back costs about a microsecond. It never raises; without `install` it does nothing.

    Args:
        exc: What was raised.
        failure: The decision about it. The default is that of `classify`.
        **tags: More tags of the event.

    Returns:
        Whether it was sent.
    """
    installed = _installed
    if installed is None:
        return False
    try:
        if failure is None and isinstance(exc, Exception):
            failure = classify(exc)
        if _is_told(installed, exc, failure):
            return False
        suppressed = installed.repeats.passes(fingerprint(exc, failure.code if failure else ""))
        mark(exc)
        if suppressed is None:
            return False
        return installed.send_exception(exc, failure, {**tags, **_told(suppressed)})
    except Exception:  # reporting a failure must not make another one
        return False


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


class _Installed:
    """What `install` has put in force, and the subscriber to events."""

    def __init__(self, client: Any, repeats: Repeats, options: dict[str, Any]) -> None:
        self.client = client
        self.repeats = repeats
        self._options = {name: client.options.get(name) for name in (*SAFE, "event_scrubber")}
        client.options.update({name: options[name] for name in SAFE})
        if not isinstance(client.options["event_scrubber"], Scrubber):
            client.options["event_scrubber"] = Scrubber(client.options["event_scrubber"])
        for name in _OWN_LOGGERS:
            ignore_logger(name)
        events.subscribe(*_HEARD)(self)

    def stop(self) -> None:
        """Put back what was before."""
        global _installed
        events.unsubscribe(self)
        if _installed is self:
            _installed = None
            self.client.options.update(self._options)
            for name in _OWN_LOGGERS:
                unignore_logger(name)

    def __call__(self, event: Event) -> None:
        _HEARD[type(event)](self, event)

    def send_exception(self, exc: BaseException, failure: Failure | None, tags: dict[str, str]) -> bool:
        """Make an event of an exception and send it."""
        sent, hint = event_from_exception(
            exc, client_options=self.client.options, mechanism={"type": _OURS, "handled": True}
        )
        if failure is not None:
            sent["level"] = _level(failure)  # type: ignore[typeddict-item]
            tags = _tags(failure) | tags
        return self._send({**sent, "tags": tags}, hint)

    def send_message(self, kind: Hashable, text: str, level: str, tags: dict[str, str]) -> None:
        """Send what has no exception, unless another of its kind was sent within the window."""
        suppressed = self.repeats.passes(kind)
        if suppressed is not None:
            self._send({"message": text, "level": level, "tags": tags | _told(suppressed)}, {})

    def _send(self, event: Any, hint: dict[str, Any]) -> bool:
        return sentry_sdk.capture_event(event, hint={**hint, _OURS: True}) is not None


_installed: _Installed | None = None


def _is_told(installed: _Installed, exc: BaseException, failure: Failure | None) -> bool:
    handling = failure is not None and failure.category is not Category.INTERNAL
    return marked(exc, installed.repeats.window, handling=handling)


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


def _gave_up(installed: _Installed, event: events.RetryGaveUp) -> None:
    if event.exception is not None and wanted(event.failure):
        tags = {"target": event.target, "attempts": str(event.attempts), "reason": event.reason}
        capture(event.exception, event.failure, **tags)


def _request_failed(installed: _Installed, event: events.RequestFailed) -> None:
    if wanted(event.failure):
        tags = {"method": event.method, "route": event.route or "none", "request_id": event.request_id}
        capture(event.exception, event.failure, **tags)


def _call_failed(installed: _Installed, event: events.CallFailed) -> None:
    if wanted(event.failure):
        capture(event.exception, event.failure, target=event.target)


def _job_failed(installed: _Installed, event: events.JobFailed) -> None:
    if event.decision == "retry":
        text = f"attempt {event.attempt} of job {event.job_name} failed: {event.failure.code}"
        _breadcrumb("job", text, {"code": event.failure.code, "wait": event.wait})
    elif wanted(event.failure):
        tags = {"job_id": event.job_id, "job_name": event.job_name, "attempts": str(event.attempt)}
        capture(event.exception, event.failure, **tags)


def _retry_scheduled(installed: _Installed, event: events.RetryScheduled) -> None:
    code = event.failure.code
    text = f"attempt {event.attempt} of {event.target} failed: {code}, next in {event.wait:.1f} s"
    _breadcrumb("retry", text, {"code": code, "attempt": event.attempt, "wait": event.wait})


def _entry_parked(installed: _Installed, event: events.EntryParked) -> None:
    failure = event.failure
    tags = {"topic": event.topic, "code": event.reason, "entry_id": str(event.entry_id)}
    text = f"an entry of {event.topic} was parked: {event.reason}"
    level = "error" if failure is None else _level(failure)
    kind = ("parked", event.topic, event.reason)
    installed.send_message(kind, text, level, tags if failure is None else _tags(failure) | tags)


def _breaker_opened(installed: _Installed, event: events.BreakerOpened) -> None:
    if event.reason in ("failures", "slow"):  # others tell of an outage that is known
        text = f"the breaker {event.name or 'without a name'} opened: {event.reason}"
        kind = ("opened", event.name, event.reason)
        installed.send_message(kind, text, "error", {"breaker": event.name or "none", "reason": event.reason})


def _breadcrumb(category: str, text: str, data: dict[str, Any]) -> None:
    sentry_sdk.add_breadcrumb(category=category, message=text, level="warning", data=data)


_HEARD: dict[type[Event], Callable[[_Installed, Any], None]] = {
    events.BreakerOpened: _breaker_opened,
    events.CallFailed: _call_failed,
    events.EntryParked: _entry_parked,
    events.JobFailed: _job_failed,
    events.RequestFailed: _request_failed,
    events.RetryGaveUp: _gave_up,
    events.RetryScheduled: _retry_scheduled,
}


@add_global_event_processor
def _look_at(event: Any, hint: dict[str, Any]) -> Any:
    """Look at each event on its way: drop what was sent already, and add what the context knows."""
    installed = _installed
    if installed is None or event.get("type") is not None:
        return event
    try:
        return _looked_at(installed, event, hint)
    except Exception:  # Sentry drops an event whose processor raises
        return event


def _looked_at(installed: _Installed, event: Any, hint: dict[str, Any]) -> Any:
    event["tags"] = {**correlation.current(), **(event.get("tags") or {})}
    if _OURS in hint:
        return event
    raised = (hint.get("exc_info") or (None, None))[1]
    exc = raised if raised is not None or "log_record" not in hint else sys.exc_info()[1]
    return event if exc is None else _judged(installed, event, exc, raised is not None)


def _judged(installed: _Installed, event: Any, exc: BaseException, has_exception: bool) -> Any:
    """Return an event of another integration, with tags; *None* where it would be one too many.

    A line that is logged while an exception is handled tells of that exception: it gets its traceback.
    """
    failure = classify(exc) if isinstance(exc, Exception) else None
    if _is_told(installed, exc, failure):
        return None
    if failure is not None and not wanted(failure) and _mechanism(event) not in _EXPLICIT:
        return None
    suppressed = installed.repeats.passes(fingerprint(exc, failure.code if failure else ""))
    mark(exc)
    if suppressed is None:
        return None
    if not has_exception:
        made, _ = event_from_exception(
            exc, client_options=installed.client.options, mechanism={"type": "logging"}
        )
        event["exception"] = made["exception"]
    event["tags"] = (_tags(failure) if failure else {}) | event["tags"] | _told(suppressed)
    return event


def _mechanism(event: Any) -> str | None:
    values = (event.get("exception") or {}).get("values") or [{}]
    return (values[-1].get("mechanism") or {}).get("type")
