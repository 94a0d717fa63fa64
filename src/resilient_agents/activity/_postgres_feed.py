"""The feed, read from the table of a PostgreSQL sink."""

import os
import threading
from concurrent.futures import Future
from typing import Any
from weakref import WeakSet

from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import Position, Query
from resilient_agents.errors import Unreachable

LAG = 2.0
"""Seconds for which an entry is held back: one that arrived before it may not be committed yet.

Longer, as long as a writer's transaction is open that began earlier. What a slow commit brings is so never
passed over by a cursor. That needs to see the writer's transactions: a reader of another name than the writer
needs ``pg_read_all_stats``.
"""

PATIENCE = 2.0
"""Time in seconds that a page waits for the database."""

MOST_READERS = 8
"""How many pages may wait for a database that does not answer; no more threads than that hang with it."""

_COLUMNS = ", ".join(
    {
        "id": "id::text",
        "metadata": "metadata::text",
        "created_at": "extract(epoch FROM created_at)::double precision",
    }.get(name, name)
    for name in Activity._fields
)
_MICROSECONDS = "(extract(epoch FROM recorded_at) * 1000000)::bigint"
_MOMENT = "timestamptz 'epoch' + %s * interval '1 microsecond'"
_SETTINGS = (
    "SELECT set_config('resilient_agents.organization_id', %s, true),"
    " set_config('statement_timeout', %s, true)"
)
_SETTLED = """
SELECT (extract(epoch FROM least(
    clock_timestamp() - %s * interval '1 second',
    (SELECT min(xact_start) FROM pg_stat_activity
     WHERE datname = current_database() AND application_name = 'resilient-agents activity')
)) * 1000000)::bigint
"""
"""Up to when everything is committed. It is asked before the page: what commits in between is on the page."""


class PostgresFeed:
    """Reads on connections of its own, and waits for no database that hangs.

    Args:
        psycopg: The module.
        parameters: What its ``connect`` takes.
        lag: Seconds for which an entry is held back.
        patience: Time in seconds that a page waits for the database.
    """

    def __init__(
        self, psycopg: Any, parameters: dict[str, Any], *, lag: float = LAG, patience: float = PATIENCE
    ) -> None:
        self._psycopg = psycopg
        self._lag = lag
        self._patience = patience
        self._parameters = {
            **parameters,
            "connect_timeout": 2,
            "application_name": "resilient-agents feed",
        }
        self._begin()
        _feeds.add(self)

    def _begin(self) -> None:
        self._idle: list[Any] = []
        self._lending = threading.Lock()
        self._readers = threading.Semaphore(MOST_READERS)

    def read(self, query: Query) -> list[tuple[Position, Activity]]:
        """Return what is wanted.

        Raises:
            Unreachable: The database does not answer in time, or cannot be reached.
        """
        if not self._readers.acquire(blocking=False):
            raise Unreachable("the activity log's database does not answer: no more pages wait for it")
        answer: Future[list[Any]] = Future()
        try:
            threading.Thread(
                target=self._work, args=(query, answer), name="activity-feed", daemon=True
            ).start()
        except BaseException:  # no more threads can be had
            self._readers.release()
            raise
        try:
            rows = answer.result(self._patience)
        except TimeoutError as exc:
            raise Unreachable("the activity log's database did not answer in time") from exc
        return [(Position(row[-1], row[0]), Activity(*row[:-1])) for row in rows]

    def close(self) -> None:
        """Close the connections; those in use, when they have been used."""
        with self._lending:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Begin anew; the parent's connections are left alone."""
        _inherited.extend(self._idle)
        self._begin()

    def _work(self, query: Query, answer: "Future[list[Any]]") -> None:
        try:
            answer.set_result(self._select(query))
        except Exception as exc:
            answer.set_exception(exc)
        finally:
            self._readers.release()

    def _select(self, query: Query) -> list[Any]:
        with self._lending:
            idle = self._idle
            connection = idle.pop() if idle else None
        if connection is None:
            connection = self._connect()
        try:
            with connection.transaction():
                # For a user who is not the owner, row-level security asks for which organisation this is.
                connection.execute(_SETTINGS, [query.organization_id, f"{self._patience * 1000:.0f}ms"])
                (settled,) = connection.execute(_SETTLED, [self._lag]).fetchone()
                statement, values = _statement(query, settled)
                rows: list[Any] = connection.execute(statement.encode(), values).fetchall()
        except BaseException:
            connection.close()
            raise
        with self._lending:
            if idle is self._idle:
                idle.append(connection)
                return rows
        connection.close()
        return rows

    def _connect(self) -> Any:
        # A pooler hands what was prepared to somebody else (psycopg.org, "Prepared statements").
        connection = self._psycopg.connect(autocommit=True, prepare_threshold=None, **self._parameters)
        connection.isolation_level = self._psycopg.IsolationLevel.READ_COMMITTED
        return connection


_feeds: WeakSet[PostgresFeed] = WeakSet()
_inherited: list[Any] = []


def _after_fork_in_child() -> None:
    for feed in list(_feeds):
        feed.after_fork_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _statement(query: Query, settled: int) -> tuple[str, list[Any]]:
    """Return the statement for a query, and its parameters."""
    conditions, values = (
        ["organization_id = %s", f"recorded_at < {_MOMENT}"],
        [query.organization_id, settled],
    )
    for position, sign in ((query.after, ">"), (query.before, "<")):
        if position is not None:
            conditions.append(f"(recorded_at, id) {sign} ({_MOMENT}, %s::uuid)")
            values += [position.recorded_at, position.id or "00000000-0000-0000-0000-000000000000"]
    if query.agent_id is not None:
        conditions.append("agent_id = %s")
        values.append(query.agent_id)
    if query.actions:
        conditions.append("action = ANY(%s)")
        values.append([*query.actions])
    order = "DESC" if query.after is None else "ASC"
    statement = (
        f"SELECT {_COLUMNS}, {_MICROSECONDS} FROM activity_logs WHERE {' AND '.join(conditions)}"  # noqa: S608
        f" ORDER BY recorded_at {order}, activity_logs.id {order} LIMIT %s"
    )
    return statement, [*values, query.limit]
