"""Failures in Sentry: one event for an operation that failed, and a repeated failure costs next to nothing.

    from resilient_agents.integrations import sentry

    sentry.install(dsn)

The client of Sentry makes an event of an exception before it asks whether anybody wants it: that takes
milliseconds, even with a sample rate of 0. Here a failure is judged first. Those of one kind (class, code,
line of the program) are sent once, then once a window, with a tag that says how many were not.
"""

from collections.abc import Callable
from typing import Any

import sentry_sdk
from sentry_sdk.scope import add_global_event_processor

from resilient_agents import events
from resilient_agents.errors import Failure, classify
from resilient_agents.integrations._repeats import Repeats
from resilient_agents.integrations._sentry_reports import HEARD, Reports, wanted
from resilient_agents.integrations._sentry_scrubber import Scrubber

__all__ = ["SAFE", "capture", "install", "wanted"]

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
    if not window > 0:
        raise ValueError(f"window is a time in seconds of more than 0, not {window!r}")
    if _in_force is not None:
        _in_force.stop()
    if dsn:
        sentry_sdk.init(dsn=dsn, **{**SAFE, "event_scrubber": Scrubber(), **options})
    client = sentry_sdk.get_client()
    if client.transport is None:
        return lambda: None
    return _Installation(client, window, {**SAFE, **options}).stop


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
    installation = _in_force
    if installation is None:
        return False
    try:
        if failure is None and isinstance(exc, Exception):
            failure = classify(exc)
        return installation.reports.capture(exc, failure, tags)
    except Exception:  # reporting a failure must not make another one
        return False


class _Installation:
    """What `install` has put in force."""

    def __init__(self, client: Any, window: float, options: dict[str, Any]) -> None:
        global _in_force
        self.reports = Reports(client, Repeats(window))
        self._client = client
        self._before = {name: client.options.get(name) for name in (*SAFE, "event_scrubber")}
        client.options.update({name: options[name] for name in SAFE})
        if not isinstance(client.options["event_scrubber"], Scrubber):
            client.options["event_scrubber"] = Scrubber(client.options["event_scrubber"])
        events.subscribe(*HEARD)(self.reports)
        _in_force = self

    def stop(self) -> None:
        """Put back what was before."""
        global _in_force
        if _in_force is not self:
            return
        _in_force = None
        events.unsubscribe(self.reports)
        self._client.options.update(self._before)


_in_force: _Installation | None = None


@add_global_event_processor
def _look_at(event: Any, hint: dict[str, Any]) -> Any:
    """Look at each event on its way; those that are no failures pass."""
    installation = _in_force
    if installation is None or event.get("type") is not None:
        return event
    try:
        return installation.reports.look_at(event, hint)
    except Exception:  # Sentry drops an event whose processor raises
        return event
