"""What happened lately: pages of an organisation's activities, and cursors to go on from.

The order is that of arrival. An entry that waited on disk while its sink was down is old when it arrives, and
who has asked for what came since sees it all the same.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from resilient_agents.activity.entry import Activity
from resilient_agents.errors import ConfigurationError, ValidationFailed, classify
from resilient_agents.policies import CircuitBreaker

if TYPE_CHECKING:
    from collections import deque

MOST = 200
"""How many entries a page has at most."""

MOST_ACTIONS = 100
"""How many actions a feed can be narrowed down to."""

_ID = re.compile("(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?")

MARGIN = 60_000_000
"""Microseconds by which the clock of a database may be behind ours."""


class Position(NamedTuple):
    """Where an entry is in the feed.

    Attributes:
        recorded_at: When it arrived, in microseconds since 1970.
        id: Its id.
    """

    recorded_at: int
    id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which entries are wanted.

    Attributes:
        organization_id: Of which organisation.
        after: Later than this position, the earliest first; *None* for the latest first.
        before: Earlier than this position.
        limit: How many at most.
        agent_id: Of this agent alone, or *None*.
        actions: Of these actions alone; empty for all.
    """

    organization_id: str
    after: Position | None
    before: Position | None
    limit: int
    agent_id: str | None
    actions: tuple[str, ...]

    def wants(self, entry: Activity) -> bool:
        """Tell whether an entry is wanted, wherever it is."""
        return (
            entry.organization_id == self.organization_id
            and (self.agent_id is None or entry.agent_id == self.agent_id)
            and (not self.actions or entry.action in self.actions)
        )


def query_for(
    organization_id: str,
    *,
    after: str | None = None,
    before: str | None = None,
    limit: int = 50,
    agent_id: str | None = None,
    actions: Sequence[str] = (),
) -> Query:
    """Return the query that the arguments of `ActivityLog.recent` make.

    Raises:
        ValidationFailed: One of them is wrong.
    """
    if len(actions) > MOST_ACTIONS:
        raise _unfit("actions", f"must be {MOST_ACTIONS} at most")
    return Query(
        organization_id=_named("organization_id", organization_id),
        after=_position("after", after),
        before=_position("before", before),
        limit=_limited(limit),
        agent_id=None if agent_id is None else _named("agent_id", agent_id),
        actions=tuple(_named("actions", action) for action in actions),
    )


class Reader(Protocol):
    """Reads from where a sink writes to."""

    def read(self, query: Query, /) -> list[tuple[Position, Activity]]:
        """Return what is wanted, in the order in which it is wanted."""
        ...

    def close(self) -> None:
        """Let go of connections; a later question opens new ones."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A part of the feed; iterate over it for its entries.

    Attributes:
        entries: The entries, the latest first.
        next: Hand it in as *after* for what has come since.
        previous: Hand it in as *before* for what came before; *None* where there is no more.
        more: Whether there is more in the direction that was asked for.
        complete: Whether it comes from the sink. Else the sink is down, and this is what the process itself
            has recorded lately; entries may come again when the sink is back, with the same ids.
    """

    entries: tuple[Activity, ...]
    next: str
    previous: str | None
    more: bool
    complete: bool

    def __iter__(self) -> Iterator[Activity]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class Remembering(Protocol):
    """What the feed asks of what is behind a log.

    Attributes:
        sinks: The sinks, by name.
        latest: The last entries of this process.
    """

    sinks: "dict[str, Any]"
    latest: "deque[Activity]"


class Feed:
    """The reading half of an `ActivityLog`.

    Attributes:
        feed_closed: Whether the log was closed: nothing more will come.
    """

    _memory: Remembering
    _reading: tuple[Reader, CircuitBreaker] | None = None
    feed_closed = False

    def recent(
        self,
        organization_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int = 50,
        agent_id: str | None = None,
        actions: Sequence[str] = (),
    ) -> Page:
        """Return what happened lately in one organisation.

        Without a cursor it is the latest; with *after* what has come since, the earliest of it where there is
        more than a page; with *before* what came before.

        Args:
            organization_id: The organisation. There is no feed of all.
            after: The ``next`` of an earlier page.
            before: The ``previous`` of an earlier page.
            limit: How many entries at most, from 1 to 200. The default is 50.
            agent_id: Of this agent alone. The default is all.
            actions: Of these actions alone. The default is all.

        Returns:
            A page. While the sink is down it holds what this process has recorded lately.

        Raises:
            ConfigurationError: None of the log's sinks can be read: it needs SQLite or PostgreSQL.
            ValidationFailed: A cursor, the limit or the organisation is none.
        """
        query = query_for(
            organization_id, after=after, before=before, limit=limit, agent_id=agent_id, actions=actions
        )
        reader, breaker = self._reading or self._begin_to_read()
        try:
            found = breaker(reader.read)(query)
        except Exception as exc:
            if not _down(exc):
                raise
            return _from_memory(query, list(self._memory.latest))
        return _page(query, found)

    async def arecent(
        self,
        organization_id: str,
        *,
        after: str | None = None,
        before: str | None = None,
        limit: int = 50,
        agent_id: str | None = None,
        actions: Sequence[str] = (),
    ) -> Page:
        """Do what `recent` does, without blocking the event loop."""
        import asyncio

        read = partial(self.recent, after=after, before=before, limit=limit)
        return await asyncio.to_thread(read, organization_id, agent_id=agent_id, actions=actions)

    def _begin_to_read(self) -> tuple[Reader, CircuitBreaker]:
        """Return what to read with, the same to all threads that ask."""
        reader = reader_of(self._memory.sinks.values())
        breaker = CircuitBreaker(minimum_calls=1, window=1, open_for=5.0, name="activity.feed")
        reading: tuple[Reader, CircuitBreaker] = self.__dict__.setdefault("_reading", (reader, breaker))
        return reading

    def _close_feed(self) -> None:
        self.feed_closed = True
        if self._reading is not None:
            self._reading[0].close()


def reader_of(sinks: Any) -> Reader:
    """Return what reads from the first sink that can be read.

    Raises:
        ConfigurationError: There is none.
    """
    for sink in sinks:
        reader: Reader | None = getattr(sink, "reader", lambda: None)()
        if reader is not None:
            return reader
    raise ConfigurationError(
        "the feed is read from SQLite or PostgreSQL, and this log has neither: add such a sink"
    )


def _down(exc: Exception) -> bool:
    """Tell whether a failure is the sink's, and not one of ours."""
    return classify(exc).category in ("external", "rate_limit", "auth") or "storage" in classify(exc).code


def _page(query: Query, found: list[tuple[Position, Activity]]) -> Page:
    more = len(found) == query.limit
    if query.after is not None:
        found.reverse()
    newest = found[0][0] if found else query.after or Position(0, "")
    oldest = found[-1][0] if found and (more or query.after is not None) else None
    return Page(
        entries=tuple(entry for _, entry in found),
        next=_cursor(newest),
        previous=None if oldest is None else _cursor(oldest),
        more=more,
        complete=True,
    )


def _from_memory(query: Query, latest: list[Activity]) -> Page:
    """Return what this process remembers; the cursor stays where it was, so that nothing is passed over."""
    wanted = sorted(filter(query.wants, latest), reverse=True)
    if query.after is not None:
        since = (query.after.recorded_at - MARGIN) / 1e6
        wanted = [entry for entry in wanted if entry.created_at >= since]
    if query.before is not None:
        wanted = [entry for entry in wanted if entry.created_at * 1e6 < query.before.recorded_at]
    entries = tuple(wanted[: query.limit])
    here = query.after or Position(max(0, int(entries[-1].created_at * 1e6) - MARGIN) if entries else 0, "")
    return Page(entries=entries, next=_cursor(here), previous=None, more=False, complete=False)


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(f"{position.recorded_at}.{position.id}".encode()).decode().rstrip("=")


def _position(name: str, cursor: str | None) -> Position | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
        moment, _, id_ = text.partition(".")
        position = Position(int(moment), id_)
    except (binascii.Error, ValueError, TypeError):
        raise _unfit(name, "is no cursor of a page: hand in the next or previous of one as it is") from None
    if not 0 <= position.recorded_at < 1 << 53 or not _ID.fullmatch(position.id):
        raise _unfit(name, "is no cursor of a page: hand in the next or previous of one as it is")
    return position


def _limited(limit: object) -> int:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise _unfit("limit", f"must be a whole number from 1 to {MOST}")
    return limit


def _named(name: str, value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise _unfit(name, "must be a printable text that is not empty")
    return value


def _unfit(name: str, problem: str) -> ValidationFailed:
    return ValidationFailed(f"{name} {problem}", errors=[{"loc": [name], "msg": problem, "type": "feed"}])
