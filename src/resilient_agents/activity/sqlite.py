"""A sink in a SQLite file: the default, for one machine."""

import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path
from threading import Lock

from resilient_agents._clock import clock
from resilient_agents.activity._sqlite_feed import SQLiteFeed
from resilient_agents.activity.entry import TICKS, Activity, uuid7
from resilient_agents.errors import StorageBusy, StorageFailure

APPLICATION_ID = 0x5241414C  # "RAAL"
SCHEMA_VERSION = 1
REST_WAIT = 1.0

_SCHEMA = """
CREATE TABLE activity_logs (
    id TEXT NOT NULL,
    source TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    agent_id TEXT,
    action TEXT NOT NULL,
    status TEXT NOT NULL,
    duration_ms REAL,
    request_id TEXT,
    job_id TEXT,
    error_code TEXT,
    error_category TEXT,
    metadata TEXT NOT NULL,
    created_at REAL NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (id, source)
) WITHOUT ROWID;
CREATE TABLE last_arrival (recorded_at INTEGER NOT NULL);
INSERT INTO last_arrival VALUES (0);
CREATE INDEX activity_logs_feed ON activity_logs (organization_id, recorded_at, id);
"""
_WIDTH = len(Activity._fields)
_SIZES = (8192, 2048, 256, 32)
"""How many rows a statement inserts: few sizes, for each is kept prepared. SQLite allows 32766 parameters,
999 before 3.32, and 250000 as Debian builds it (sqlite.org/limits.html)."""


class SQLiteSink:
    """Writes entries to the table ``activity_logs`` of a SQLite file.

    The file is made, readable by its owner only, where there is none. It must be on a local disk. Several
    processes may share it.

    Args:
        path: The file.
        name: What events and statistics call it. The default is ``sqlite:`` and the path.
    """

    batch_size = 8192

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self.path = Path(path).absolute()
        self.name = f"sqlite:{self.path}" if name is None else name
        self._connection: sqlite3.Connection | None = None
        self._at_work = Lock()
        self._barred = False

    def write(self, batch: Sequence[Activity]) -> None:
        """Insert a batch in one transaction; what is there already stays as it is."""
        with self._at_work:
            connection = self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._insert(connection, batch)
                connection.execute("COMMIT")
            except BaseException:
                self._disconnect()
                raise

    def _insert(self, connection: sqlite3.Connection, batch: Sequence[Activity]) -> None:
        """Insert many rows with one statement: SQLite then works without the interpreter's lock."""
        now = _arrival(connection)
        start = 0
        for size in self._sizes:
            while len(batch) - start >= size:
                rows = batch[start : start + size]
                connection.execute(_insert(size), (now, *chain.from_iterable(rows)))
                start += size
        connection.executemany(_insert(1), [(now, *row) for row in batch[start:]])

    def prune(self, *, max_age: float | None, max_rows: int | None, limit: int) -> int:
        """Delete up to *limit* entries that are too old or too many, and return how many."""
        with self._at_work:
            connection = self._connect()
            try:
                deleted = 0
                if max_age is not None:
                    oldest = uuid7(int((clock().time() - max_age) * TICKS), 0)
                    deleted += connection.execute(_OLDER, (oldest, limit)).rowcount
                if max_rows is not None and deleted < limit:
                    last = connection.execute(
                        "SELECT id FROM activity_logs ORDER BY id DESC LIMIT 1 OFFSET ?", (max_rows - 1,)
                    ).fetchone()
                    if last is not None:
                        deleted += connection.execute(_OLDER, (last[0], limit - deleted)).rowcount
                return deleted
            except BaseException:
                self._disconnect()
                raise

    def reader(self) -> SQLiteFeed:
        """Return what reads the feed from the file."""
        return SQLiteFeed(self.path)

    def close(self) -> None:
        """Close the file. A later batch opens it again."""
        with self._at_work:
            self._disconnect()

    def before_fork(self) -> None:
        """Close the file: SQLite keeps its locks by process, and a child must not inherit that."""
        if self._at_work.acquire(timeout=REST_WAIT):
            self._disconnect()
        else:
            self._barred = True

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if not self._barred:
            self._at_work.release()
        self._barred = False

    def after_fork_in_child(self) -> None:
        """Begin anew; refuse to, if the file was open all through the fork."""
        self._at_work = Lock()
        if self._connection is not None:
            import ctypes

            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))  # never to be closed here
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._barred:
            raise StorageBusy(
                f"{self.path.name}: this process was forked while the file was in use: start it anew"
            )
        if self._connection is not None:
            return self._connection
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            _prepare(connection, self.path.name)
            limit = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
            self._sizes = [size for size in _SIZES if size * _WIDTH < limit]
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


_OLDER = """
DELETE FROM activity_logs WHERE (id, source) IN
(SELECT id, source FROM activity_logs WHERE id < ? ORDER BY id LIMIT ?)
"""


def _arrival(connection: sqlite3.Connection) -> int:
    """Return when a batch arrives, in microseconds since 1970; it is later than any before it."""
    connection.execute(
        "UPDATE last_arrival SET recorded_at = max(recorded_at + 1, ?)", [int(clock().time() * 1e6)]
    )
    latest: int = connection.execute("SELECT recorded_at FROM last_arrival").fetchone()[0]
    return latest


@lru_cache
def _insert(rows: int) -> str:
    row = f"({', '.join('?' * _WIDTH)})"
    values = ", ".join([row] * rows)
    return f"INSERT INTO activity_logs SELECT v.*, ? FROM (VALUES {values}) v WHERE 1 ON CONFLICT DO NOTHING"  # noqa: S608


def _prepare(connection: sqlite3.Connection, name: str) -> None:
    """Make the table in an empty file; refuse a file of something else or of a newer version."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
            if application == APPLICATION_ID:
                raise StorageFailure(
                    f"{name}: the file has schema version {version}, and this library knows "
                    f"{SCHEMA_VERSION}: upgrade resilient-agents"
                )
            if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StorageFailure(f"{name}: the file belongs to another program: choose another path")
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
