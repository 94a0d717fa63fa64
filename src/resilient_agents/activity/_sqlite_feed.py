"""The feed, read from the file of a SQLite sink."""

import sqlite3
from pathlib import Path
from threading import Lock
from typing import Any

from resilient_agents.activity.entry import Activity
from resilient_agents.activity.feed import Position, Query

_COLUMNS = ", ".join(Activity._fields)


class SQLiteFeed:
    """Reads beside the writer, which it neither waits for nor holds up (sqlite.org/wal.html).

    Args:
        path: The file. Where there is none yet, nothing has happened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._lock = Lock()

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
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def renew(self) -> None:
        """Begin anew in a forked child."""
        self._lock, self._connection = Lock(), None

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            address = f"{self._path.as_uri()}?mode=ro"
            self._connection = sqlite3.connect(address, uri=True, timeout=1.0, check_same_thread=False)
        return self._connection


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
