"""A sink in PostgreSQL, for all the processes of a service."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from resilient_agents._clock import clock
from resilient_agents._extras import require
from resilient_agents.activity._postgres_feed import PostgresFeed
from resilient_agents.activity.entry import TICKS, Activity, uuid7

_COLUMNS = ", ".join(Activity._fields)
_STAGE = """
CREATE TEMPORARY TABLE IF NOT EXISTS activity_logs_stage (
    id uuid, source text, organization_id text, agent_id text, action text, status text,
    duration_ms double precision, request_id text, job_id text, error_code text, error_category text,
    metadata jsonb, created_at timestamptz
) ON COMMIT DELETE ROWS
"""
_COPY = f"COPY pg_temp.activity_logs_stage ({_COLUMNS}) FROM STDIN"
_INSERT = f"""
INSERT INTO activity_logs ({_COLUMNS}) SELECT {_COLUMNS} FROM pg_temp.activity_logs_stage
ON CONFLICT DO NOTHING
"""  # noqa: S608
_OLDER = """
DELETE FROM activity_logs WHERE id IN (SELECT id FROM activity_logs WHERE id < %s ORDER BY id LIMIT %s)
"""
_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "resilient-agents activity",
}
"""A server that has vanished is noticed (postgresql.org/docs/current/libpq-connect.html)."""


class PostgresSink:
    """Writes entries to the table ``activity_logs`` of a PostgreSQL database.

    The table is made by ``resilient-agents migrate``. A batch is copied to a temporary table and inserted
    from there, in one transaction; what is there already stays as it is.

    Args:
        url: The address, as in ``postgresql://user@host/database``; or libpq's ``key=value`` pairs.
        name: What events and statistics call it. The default is made of the host and the database.

    Raises:
        MissingExtra: The package ``psycopg`` is not installed.
        ValueError: The address cannot be read.
    """

    batch_size = 1000

    def __init__(self, url: str, *, name: str | None = None) -> None:
        self._psycopg: Any = require("psycopg", extra="postgres", feature="an activity log in PostgreSQL")
        try:
            given = self._psycopg.conninfo.conninfo_to_dict(url)
        except self._psycopg.Error:
            raise ValueError("the address of a PostgreSQL database cannot be read") from None
        self._parameters = {**_PATIENCE, **given}
        place = f"{given.get('host', '')}/{given.get('dbname', '')}"
        self.name = f"postgresql:{place}" if name is None else name
        self._connection: Any = None

    def write(self, batch: Sequence[Activity]) -> None:
        """Insert a batch in one transaction."""
        with self._transaction() as cursor:
            cursor.execute(_STAGE)
            with cursor.copy(_COPY) as copy:
                for entry in batch:
                    copy.write_row((*entry[:-1], datetime.fromtimestamp(entry.created_at, UTC)))
            cursor.execute(_INSERT)

    def prune(self, *, max_age: float | None, max_rows: int | None, limit: int) -> int:
        """Delete up to *limit* entries that are too old or too many, and return how many."""
        deleted = 0
        with self._transaction() as cursor:
            if max_age is not None:
                oldest = UUID(uuid7(int((clock().time() - max_age) * TICKS), 0))
                deleted += cursor.execute(_OLDER, (oldest, limit)).rowcount
            if max_rows is not None and deleted < limit:
                query = "SELECT id FROM activity_logs ORDER BY id DESC LIMIT 1 OFFSET %s"
                last = cursor.execute(query, (max_rows - 1,)).fetchone()
                if last is not None:
                    deleted += cursor.execute(_OLDER, (last[0], limit - deleted)).rowcount
        return deleted

    def reader(self) -> PostgresFeed:
        """Return what reads the feed from the database."""
        return PostgresFeed(self._psycopg, self._parameters)

    def close(self) -> None:
        """Close the connection. A later batch opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent its connection: nothing is sent over it, not even a goodbye."""
        if self._connection is not None:
            _inherited.append(self._connection)
            self._connection = None

    def _transaction(self) -> "_Transaction":
        return _Transaction(self)

    def connect(self) -> Any:
        """Return the connection, which is opened if there is none."""
        if self._connection is None:
            self._connection = self._psycopg.connect(
                prepare_threshold=None,  # a pooler may give each transaction another connection
                **self._parameters,
            )
        return self._connection


class _Transaction:
    """One transaction; a connection on which anything failed is not used again."""

    def __init__(self, sink: PostgresSink) -> None:
        self._sink = sink

    def __enter__(self) -> Any:
        self._connection = self._sink.connect()
        return self._connection.cursor()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        if kind is None:
            try:
                self._connection.commit()
            except BaseException:
                self._sink.close()
                raise
        else:
            self._sink.close()


_inherited: list[Any] = []
