"""Where entries wait that cannot be delivered now: one SQLite file of this process, in a folder of many.

A file belongs to the process that holds its lock. What a dead process left is taken over by the next one.
"""

import errno
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from resilient_agents.activity.entry import Activity
from resilient_agents.errors import StorageFailure, StorageFull

_log = logging.getLogger("resilient_agents.activity")

CHUNK = 1000
"""How many entries are moved in one go."""

OVERHEAD = 300
"""About how many bytes an entry takes on disk beside its metadata."""

_COLUMNS = ", ".join(Activity._fields)
_SCHEMA = f"""
CREATE TABLE entries (seq INTEGER PRIMARY KEY, lane TEXT NOT NULL, {_COLUMNS});
CREATE INDEX entries_lane ON entries (lane, seq);
"""
_INSERT = f"INSERT INTO entries VALUES (?, ?{', ?' * len(Activity._fields)})"  # noqa: S608

Place = range | tuple[int, ...]
"""Where entries are on disk."""


class Spill:
    """The file of this process. Only the worker's thread uses it.

    Args:
        folder: Where it is, and those of other processes. It is made when the first entry comes.
        max_bytes: How many bytes the entries take together at most, those aside that must be durable.
    """

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._connection: sqlite3.Connection | None = None
        self._lock = -1
        self.renew()

    def renew(self) -> None:
        """Begin with a file of one's own, as in a forked child; the parent's is not touched."""
        if self._connection is not None:
            import ctypes

            # Never to be closed here, not even at exit: that would take the parent's locks for ours.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
        if self._lock >= 0:
            os.close(self._lock)
        self._connection, self._lock = None, -1
        self.path = self.folder / f"{os.getpid()}-{os.urandom(4).hex()}.db"
        self.bytes = 0
        self._next = 1
        self._made = False

    @property
    def full(self) -> bool:
        """Whether no more may be added, but for what must be durable."""
        return self.bytes >= self._max_bytes

    def add(self, lane: str, entries: Sequence[Activity], *, durable: bool = False) -> range:
        """Keep *entries* for one lane, and return where they are.

        Args:
            lane: Whose they are.
            entries: What to keep.
            durable: Whether they must outlive a power cut too (fsync), not just the process. The default is
                *False*.

        Raises:
            StorageFailure: Nothing was kept.
        """
        return self.add_for([lane], entries, durable=durable)[0]

    def add_for(
        self, lanes: Sequence[str], entries: Sequence[Activity], *, durable: bool = False
    ) -> list[range]:
        """Keep *entries* for each of several lanes, all or nothing."""
        size = len(entries)
        places = [
            range(first, first + size) for first in range(self._next, self._next + size * len(lanes), size)
        ]
        rows = [
            (seq, lane, *entry)
            for lane, place in zip(lanes, places, strict=True)
            for seq, entry in zip(place, entries, strict=True)
        ]
        with self._transaction(durable=durable) as connection:
            connection.executemany(_INSERT, rows)
        self._next += len(rows)
        self.bytes += len(lanes) * sum(map(_size, entries))
        return places

    def read(self, lane: str, count: int) -> tuple[tuple[int, ...], list[Activity]]:
        """Return the oldest entries of a lane, and where they are."""
        with self._transaction() as connection:
            rows = connection.execute(
                f"SELECT seq, {_COLUMNS} FROM entries WHERE lane = ? ORDER BY seq LIMIT ?",  # noqa: S608
                (lane, count),
            ).fetchall()
        return tuple(row[0] for row in rows), [Activity._make(row[1:]) for row in rows]

    def remove(self, place: Place, entries: Sequence[Activity]) -> None:
        """Forget *entries*, which have arrived."""
        with self._transaction() as connection:
            connection.executemany("DELETE FROM entries WHERE seq = ?", [(seq,) for seq in place])
        self.bytes -= sum(map(_size, entries))

    def disconnect(self) -> None:
        """Close the file for now, as before a fork."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def close(self, *, empty: bool) -> None:
        """Let go of the file, and delete it if it is *empty*; else the next process takes it over."""
        self.disconnect()
        if self._made and empty:
            _delete(self.path)
            self._made = False
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _begin_anew(self) -> None:
        """Make another file: somebody has deleted this one, and what is written to it would be lost."""
        _log.critical("%s was moved or deleted while in use, with all that waited there", self.path.name)
        self.close(empty=False)
        self.bytes, self._made = 0, False

    def orphans(self) -> list[Path]:
        """Return the files that other processes left or are using."""
        try:
            return sorted(path for path in self.folder.glob("*.db") if path != self.path)
        except OSError:
            return []

    def adopt(self, path: Path, lanes: Sequence[str]) -> "dict[str, int] | None":
        """Move some entries of a dead process to the own file.

        Args:
            path: Its file.
            lanes: The lanes that there are here. Entries of others are left where they are.

        Returns:
            How many entries each lane was given; nothing left, or not ours: *None*.
        """
        try:
            with _held(path) as held:
                return self._move(path, lanes) if held else None
        except (sqlite3.Error, OSError):
            return None

    def _move(self, path: Path, lanes: Sequence[str]) -> "dict[str, int] | None":
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            marks = ", ".join("?" * len(lanes))
            rows = connection.execute(
                f"SELECT seq, lane, {_COLUMNS} FROM entries WHERE lane IN ({marks}) ORDER BY seq LIMIT ?",  # noqa: S608
                (*lanes, CHUNK),
            ).fetchall()
            moved = {}
            for lane in lanes:
                entries = [Activity._make(row[2:]) for row in rows if row[1] == lane]
                if entries:
                    self.add(lane, entries, durable=True)
                    moved[lane] = len(entries)
            connection.execute("BEGIN")
            connection.executemany("DELETE FROM entries WHERE seq = ?", [(row[0],) for row in rows])
            connection.execute("COMMIT")
            emptied = not connection.execute("SELECT count(*) FROM entries").fetchone()[0]
        finally:
            connection.close()
        if emptied:
            _delete(path)
        return moved or None

    @contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connect()
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except (sqlite3.Error, OSError) as exc:
            self.disconnect()
            raise refusal(exc, self.path) from exc

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None:
            if self.path.exists():
                return self._connection
            self._begin_anew()
        if self._lock < 0:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(_lock_of(self.path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not self._made:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA journal_mode=WAL")
            if not self._made:
                connection.executescript(_SCHEMA)
                _make_durable(self.folder)
        except BaseException:
            connection.close()
            raise
        self._connection, self._made = connection, True
        return connection


def refusal(exc: Exception, path: Path) -> StorageFailure:
    """Say what a refusal of SQLite or of the file system means, and what to do."""
    name = getattr(exc, "sqlite_errorname", "") or errno.errorcode.get(getattr(exc, "errno", None) or 0, "")
    if name.startswith("SQLITE_FULL") or name in {"ENOSPC", "EDQUOT"}:
        return StorageFull(f"{path.name}: the disk is full: free some space")
    return StorageFailure(
        f"{path.name}: it cannot be written ({name or type(exc).__name__}): check the folder "
        f"{path.parent.name}, its disk and its permissions"
    )


def _size(entry: Activity) -> int:
    return OVERHEAD + len(entry.metadata)


def _lock_of(path: Path) -> Path:
    return path.with_suffix(".lock")


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Tell whether the owner of *path* is dead, and keep others out meanwhile."""
    lock = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path.exists()
    except BlockingIOError:
        yield False
    finally:
        if not path.exists():
            _lock_of(path).unlink(missing_ok=True)
        os.close(lock)


def _delete(path: Path) -> None:
    for victim in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), _lock_of(path)):
        victim.unlink(missing_ok=True)


def _make_durable(folder: Path) -> None:
    """Write the names in *folder* to disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
