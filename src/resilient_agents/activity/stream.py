"""The feed as Server-Sent Events (html.spec.whatwg.org, section 9.2): what happens, as it happens."""

import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any

from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import MOST, Feed, Page, query_for
from resilient_agents.policies._parameters import number, patience

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""What a stream is sent with: a proxy that gathers events would keep them from the listener."""

HEARTBEAT = 15.0
"""Time in seconds after which a silent stream says that it is alive: proxies close what is silent."""

LIFETIME = 600.0
"""Time in seconds: a stream was asked for by somebody who might see it then, and may not any more."""

REMEMBERED = 1000
"""How many ids a stream remembers, so as not to send twice what comes twice after an outage."""


def as_json(entry: Activity) -> dict[str, Any]:
    """Return an entry as JSON data; its metadata is data, not text."""
    return {**entry._asdict(), "metadata": json.loads(entry.metadata)}


def page_as_json(page: Page) -> dict[str, Any]:
    """Return a page as JSON data."""
    return {
        "entries": [as_json(entry) for entry in page],
        "next": page.next,
        "previous": page.previous,
        "more": page.more,
        "complete": page.complete,
    }


def check_interval(interval: Any, parameter: str = "interval") -> float:
    """Return *interval* if it is a time that passes.

    Raises:
        TypeError: It is no number.
        ValueError: It is not more than 0.
    """
    number(parameter, interval, "a time in seconds")
    patience(parameter, interval)
    return float(interval)


class Stream:
    """What happens in one organisation, for one listener.

    Iterate over it, blocking or with ``async for``: each item is a piece of text to send at once. It ends
    when the log is closed, and after *lifetime*: a browser then connects again, goes on where it was, and
    shows anew who it is.

    Args:
        log: The log.
        organization_id: The organisation.
        after: Where to go on from: the last event id that the listener has seen (``Last-Event-ID``). The
            default is *None*: from now on.
        interval: Time in seconds between two looks at the log. The default is 1.
        lifetime: Time in seconds after which it ends. The default is 600.
        **which: What else `ActivityLog.recent` takes: *agent_id* and *actions*.

    Raises:
        ValidationFailed: *after* is no cursor, or another argument is wrong.
        TypeError: *interval* or *lifetime* is no number.
        ValueError: One of them is not more than 0.
    """

    def __init__(
        self,
        log: Feed,
        organization_id: str,
        *,
        after: str | None = None,
        interval: float = 1.0,
        lifetime: float = LIFETIME,
        **which: Any,
    ) -> None:
        self._interval = check_interval(interval)
        self._lifetime = check_interval(lifetime, "lifetime")
        self._log = log
        query_for(organization_id, after=after, **which)  # what is wrong is told before anything is sent
        self._read = partial(log.recent, organization_id, **which)
        self._aread = partial(log.arecent, organization_id, **which)
        self._cursor = after
        self._seen: dict[str, None] = {}
        self._pause = 0.0
        self._begun = self._told = clock().monotonic()

    def __iter__(self) -> Iterator[str]:
        yield self._greeting()
        while (piece := run(self._next(self._read, clock().sleep))) is not None:
            yield piece

    async def __aiter__(self) -> AsyncIterator[str]:
        yield self._greeting()
        while (piece := await arun(self._next(self._aread, clock().asleep))) is not None:
            yield piece

    def _greeting(self) -> str:
        """Return what opens a stream: how long to wait before connecting again, in milliseconds."""
        return f"retry: {int(self._interval * 3000)}\n\n"

    def _next(self, read: Callable[..., Any], sleep: Callable[[float], Any]) -> Flow[str | None]:
        """Return what to send next, once there is something; *None* at the end."""
        while True:
            if self._pause:
                yield partial(sleep, self._pause)
            if self._log.feed_closed or clock().monotonic() - self._begun >= self._lifetime:
                return None
            page: Page = yield partial(read, after=self._cursor, limit=1 if self._cursor is None else MOST)
            begins, self._cursor = self._cursor is None, page.next
            fresh = [] if begins else [entry for entry in page if entry.id not in self._seen]
            self._pause = 0.0 if fresh and page.more else self._interval
            if fresh:
                self._told = clock().monotonic()
                self._remember(fresh)
                return self._events(fresh[::-1])
            if clock().monotonic() - self._told >= HEARTBEAT:
                self._told = clock().monotonic()
                return ": still here\n\n"

    def _events(self, entries: Sequence[Activity]) -> str:
        """Return entries as events; the last has the id, so that who loses the others gets them again."""
        told = (json.dumps(as_json(entry), ensure_ascii=False, separators=(",", ":")) for entry in entries)
        return "\n".join(f"event: activity\ndata: {text}\n" for text in told) + f"id: {self._cursor}\n\n"

    def _remember(self, entries: list[Activity]) -> None:
        self._seen.update(dict.fromkeys(entry.id for entry in entries))
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
