"""The feed, read from the file of a SQLite sink."""

import os
import sqlite3
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import Position, Query

_COLUMNS = ", ".join(Activity._fields)
_FORK_WAIT = 1.0
"""Time in seconds that a fork waits for a page that is being read."""


class SQLiteFeed:
    """Reads beside the writer, which it neither waits for nor holds up (sqlite.org/wal.html).

    Args:
        path: The file. Where there is none yet, nothing has happened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = Lock()
        self._barred = False
        _feeds.add(self)

    def read(self, query: Query) -> list[tuple[Position, Activity]]:
        """Return what is wanted."""
        if not self._path.exists():
            return []
        statement, values = _select(query)
        with self._lock:
            connection = self._connected()
            if not connection.execute("PRAGMA user_version").fetchone()[0]:
                return []  # the writer is about to make the table
            rows = connection.execute(statement, values).fetchall()
        return [(Position(row[-1], row[0]), Activity(*row[:-1])) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._disconnect()

    def before_fork(self) -> None:
        """Close the file: in a child that has it open, SQLite takes the parent's locks for its own."""
        self._barred = not self._lock.acquire(timeout=_FORK_WAIT)
        if not self._barred:
            self._disconnect()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if not self._barred:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew; what was open all through the fork is never closed here."""
        _inherited.append(self._connection)
        self._lock, self._connection = Lock(), None

    def __del__(self) -> None:
        """Close the file with a log that nobody has closed: nothing of it is half written."""
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            address = f"{self._path.as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=1.0, check_same_thread=False)
        return self._connection


_feeds: WeakSet[SQLiteFeed] = WeakSet()
_inherited: list[sqlite3.Connection | None] = []


def _before_fork() -> None:
    for feed in list(_feeds):
        feed.before_fork()


def _after_fork_in_parent() -> None:
    for feed in list(_feeds):
        feed.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for feed in list(_feeds):
        feed.after_fork_in_child()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)


def _select(query: Query) -> tuple[str, list[Any]]:
    """Return the statement for a query, and its parameters."""
    conditions = ["organization_id = ?"]
    values: list[Any] = [query.organization_id]
    for position, sign in ((query.after, ">"), (query.before, "<")):
        if position is not None:
            conditions.append(f"(recorded_at, id) {sign} (?, ?)")
            values += position
    if query.agent_id is not None:
        conditions.append("agent_id = ?")
        values.append(query.agent_id)
    if query.actions:
        conditions.append(f"action IN ({', '.join('?' * len(query.actions))})")
        values += query.actions
    order = "DESC" if query.after is None else "ASC"
    statement = (
        f"SELECT {_COLUMNS}, recorded_at FROM activity_logs WHERE {' AND '.join(conditions)}"  # noqa: S608
        f" ORDER BY recorded_at {order}, id {order} LIMIT ?"
    )
    return statement, [*values, query.limit]
