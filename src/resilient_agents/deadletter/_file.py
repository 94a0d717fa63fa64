"""The database file: how it is created, opened, locked between processes, and what its refusals mean."""

import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from resilient_agents.errors import StorageBusy, StorageCorrupt, StorageFailure, StorageFull, StorageReadOnly

_log = logging.getLogger("resilient_agents.deadletter")

CHECKPOINT_PAGES = 4000
BUSY_TIMEOUT = 5.0
LOCK_POLL = 0.001

_STORAGE_ERRORS: tuple[tuple[str, type[StorageFailure], str], ...] = (
    ("SQLITE_FULL", StorageFull, "the disk is full: free some space"),
    ("SQLITE_IOERR_SHMSIZE", StorageFull, "the disk is full: free some space"),
    ("SQLITE_IOERR", StorageFailure, "the disk failed, or a quota or a limit of size was reached"),
    (
        "SQLITE_READONLY",
        StorageReadOnly,
        "the file cannot be written: check its disk, its permissions and those of its -wal, -shm and -lock",
    ),
    (
        "SQLITE_CANTOPEN",
        StorageReadOnly,
        "the file cannot be opened: check that its folder exists and is writable",
    ),
    ("SQLITE_PERM", StorageReadOnly, "access to the file is denied: check its permissions"),
    ("SQLITE_CORRUPT", StorageCorrupt, "the file is damaged: move it away and restore a backup"),
    ("SQLITE_NOTADB", StorageCorrupt, "the file is no SQLite database: move it away or choose another path"),
    ("SQLITE_BUSY", StorageBusy, "another program keeps the file locked: find it with fuser"),
    ("SQLITE_LOCKED", StorageBusy, "another program keeps the file locked: find it with fuser"),
)


_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def storage_failure(exc: sqlite3.Error | OSError, path: Path) -> StorageFailure:
    """Say what a refusal of SQLite or of the file system means, and what to do."""
    if isinstance(exc, OSError):
        name = "SQLITE_FULL" if exc.errno in _DISK_FULL else "SQLITE_CANTOPEN"
    else:
        name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    for prefix, kind, advice in _STORAGE_ERRORS:
        if name.startswith(prefix):
            return kind(f"{path.name}: {advice}")
    return StorageFailure(f"{path.name}: the database refused to work ({name})")


class DatabaseFile:
    """One connection to one file, used by one thread at a time.

    - A file lock around each transaction keeps several processes fair: SQLite's own busy handler polls, and
      starves the unlucky for half a second.
    - Checkpoints run at the end of a commit, and so under the same lock: SQLite 3.7.0 to 3.51.2 can lose
      committed writes when a checkpoint overlaps another connection's commit (sqlite.org/wal.html, "the
      WAL-reset bug").

    Args:
        path: The file. It is created, readable by its owner only, where there is none.
        prepare: Called with each new connection, under the file lock, to bring the schema up to date.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self.path = path
        self._prepare = prepare
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._lock_fd = -1
        self._barred = False

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Open a transaction under the file lock; commit it, or roll it back and say what was wrong."""
        if self._barred:
            raise StorageBusy(
                f"{self.path.name}: this process was forked while the file was in use: start it anew"
            )
        with self._locked():
            try:
                connection = self._connect()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
            except (sqlite3.Error, OSError) as exc:
                self._disconnect()
                raise storage_failure(exc, self.path) from exc

    @contextmanager
    def _locked(self) -> Generator[None]:
        if self._lock_fd < 0:
            try:
                lock_path = f"{self.path}-lock"
                self._lock_fd = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as exc:
                raise storage_failure(exc, self.path) from exc
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        except OSError as exc:
            raise storage_failure(exc, self.path) from exc
        try:
            yield
        finally:
            fcntl.flock(self._lock_fd, fcntl.LOCK_UN)

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            if _identity_of(self.path) == self._identity:
                return self._connection
            _log.critical("%s was moved or deleted while in use; opening it anew", self.path.name)
            self._disconnect()
        _create(self.path)
        connection = sqlite3.connect(
            self.path, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False
        )
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous=FULL")
            self._prepare(connection)
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                raise StorageFailure(
                    f"{self.path.name}: the file system has no write-ahead log; use a local disk"
                )
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, _identity_of(self.path)
        return connection

    def close(self, *, within: float) -> bool:
        """Close the connection, whose last checkpoint needs the file lock, and the lock file.

        Args:
            within: Time in seconds to wait for another process that is at the file.

        Returns:
            Whether it was closed; else everything stays as it is.
        """
        if self._connection is not None:
            end = time.monotonic() + within
            while not self._try_lock():
                if time.monotonic() >= end:
                    return False
                time.sleep(LOCK_POLL)
            self._disconnect()
        self._close_lock_file()
        return True

    def leave_to_parent(self) -> object:
        """Let go of all after a fork, touching nothing; return the connection that was open, if any."""
        connection, self._connection = self._connection, None
        self._close_lock_file()
        return connection

    def bar(self) -> None:
        """Refuse every transaction from now on."""
        self._barred = True

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _close_lock_file(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_dev, found.st_ino)


def _create(path: Path) -> None:
    """Create the file, for its owner only, and make its name durable."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    os.close(fd)
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
