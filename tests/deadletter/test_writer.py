"""The writer: concurrent callers share a commit, and the faults of one harm no other."""

import asyncio
import fcntl
import sqlite3
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from resilient_agents import DeadLetterQueue
from resilient_agents.deadletter._writer import Writer
from resilient_agents.errors import Conflict, StorageBusy, StorageFailure

Stalled = Callable[[], AbstractContextManager[None]]

PATIENCE = 60.0
"""Time in seconds after which a test gives up."""

SHORT = 0.05
"""Time in seconds after which an impatient caller gives up."""


def prepare(connection: sqlite3.Connection) -> None:
    """Create a table of numbers."""
    connection.execute("CREATE TABLE IF NOT EXISTS numbers (n INTEGER UNIQUE)")


def insert(number: int) -> Callable[[sqlite3.Connection], int]:
    """Return an operation that stores a number."""

    def operation(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO numbers VALUES (?)", (number,))
        return number

    return operation


def insert_then_raise(number: int, error: Exception) -> Callable[[sqlite3.Connection], int]:
    """Return an operation that fails after it has written."""

    def operation(connection: sqlite3.Connection) -> int:
        insert(number)(connection)
        raise error

    return operation


def refuse(_: sqlite3.Connection) -> int:
    """Refuse before anything is written."""
    raise Conflict("refused")


def numbers(connection: sqlite3.Connection) -> list[int]:
    """Read what is stored."""
    return [row[0] for row in connection.execute("SELECT n FROM numbers ORDER BY n")]


def commits(log: Path) -> int:
    """Count the transactions in a write-ahead log (sqlite.org/fileformat2.html, section 4)."""
    data = log.read_bytes()
    if not data:
        return 0
    page_size, salt = struct.unpack(">I", data[8:12])[0], data[16:24]
    frames = (data[at : at + 24] for at in range(32, len(data), 24 + page_size))
    return sum(frame[4:8] != bytes(4) for frame in frames if frame[8:16] == salt)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    """Open a writer on a table of numbers."""
    opened = Writer(tmp_path / "queue.db", prepare, patience=PATIENCE)
    yield opened
    opened.close()


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Writer]:
    """Open a writer whose callers give up soon; that it opens in time is not sure on a busy disk."""
    opened = Writer(tmp_path / "queue.db", prepare, patience=PATIENCE)
    opened._patience = SHORT
    yield opened
    opened.close()


async def all_at_once(writer: Writer, stalled: Stalled, *operations: Any) -> list[Any]:
    """Hand in *operations* while the file is locked, so that they make one group."""
    with stalled():
        first = asyncio.create_task(writer.aperform(lambda _: None))
        await asyncio.sleep(0)
        tasks = [asyncio.create_task(writer.aperform(operation)) for operation in operations]
        await asyncio.sleep(0)
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_tasks_share_a_commit(writer: Writer, stalled: Stalled, tmp_path: Path) -> None:
    """What gathers during a commit becomes durable with the next one, together."""
    before = commits(tmp_path / "queue.db-wal")

    results = await all_at_once(writer, stalled, *map(insert, range(32)))

    assert list(range(32)) == results == writer.perform(numbers)
    assert 1 <= commits(tmp_path / "queue.db-wal") - before <= 2


async def test_large_crowd(writer: Writer, stalled: Stalled, tmp_path: Path) -> None:
    """A crowd is served in groups of a bounded size."""
    crowd = Writer.largest_group + 10
    before = commits(tmp_path / "queue.db-wal")

    assert list(range(crowd)) == await all_at_once(writer, stalled, *map(insert, range(crowd)))
    assert 2 <= commits(tmp_path / "queue.db-wal") - before <= 3


def test_threads_share_commits(writer: Writer, tmp_path: Path) -> None:
    """Threads that write at the same time need far fewer commits than they get acknowledgements."""
    before = commits(tmp_path / "queue.db-wal")
    start = threading.Barrier(32)

    def work(first: int) -> None:
        start.wait()
        for number in range(first, first + 8):
            writer.perform(insert(number))

    threads = [threading.Thread(target=work, args=(8 * n,)) for n in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert list(range(256)) == writer.perform(numbers)
    assert commits(tmp_path / "queue.db-wal") - before < 128


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("broken"), sqlite3.IntegrityError("broken"), KeyError("broken")], ids=repr
)
async def test_bad_operation(writer: Writer, stalled: Stalled, error: Exception) -> None:
    """An operation that fails in the middle takes back its own part, and nobody else's."""
    results = await all_at_once(
        writer, stalled, insert(1), insert_then_raise(2, error), refuse, insert(3), insert(1)
    )

    kinds = [type(result) for result in results]
    failed = StorageFailure if isinstance(error, sqlite3.Error) else type(error)
    assert [int, failed, Conflict, int, StorageFailure] == kinds
    assert [1, 3] == writer.perform(numbers)


def test_refusal_is_fresh_for_each_caller(writer: Writer) -> None:
    """A refusal reaches its caller as it was raised, and the writer works on."""
    with pytest.raises(Conflict, match="refused"):
        writer.perform(refuse)
    with pytest.raises(StorageFailure, match=r"queue\.db: the database refused to work \(SQLITE_ERROR\)"):
        writer.perform(lambda it: it.execute("SELECT secret FROM nowhere"))

    assert 1 == writer.perform(insert(1))


def test_busy(impatient: Writer, stalled: Stalled) -> None:
    """When another process keeps the lock, the caller hears in time, and what to do."""
    with stalled(), pytest.raises(StorageBusy) as caught:
        impatient.perform(insert(1))

    assert str(caught.value).startswith(
        "queue.db: no commit within 0.05 s; another process may hold queue.db-lock"
    )
    assert "submit it again with the same key" in str(caught.value)


async def test_busy_in_a_loop(impatient: Writer, stalled: Stalled) -> None:
    """In an event loop the wait is bounded too."""
    with stalled(), pytest.raises(StorageBusy, match="no commit within"):
        await impatient.aperform(insert(1))


async def test_given_up_before_its_turn(impatient: Writer, stalled: Stalled, writer: Writer) -> None:
    """What its caller has given up before it was begun is not done behind his back."""
    with stalled():
        with pytest.raises(StorageBusy):
            impatient.perform(insert(1))
        with pytest.raises(StorageBusy):
            await impatient.aperform(insert(2))
    impatient.close()  # finishes what is in the line

    assert [] == writer.perform(numbers)


def test_closed_while_others_write(tmp_path: Path) -> None:
    """Closing takes nothing from those who write at that moment: they open it again."""
    writer = Writer(tmp_path / "queue.db", prepare, patience=PATIENCE)

    def work(first: int) -> None:
        for number in range(first, first + 50):
            writer.perform(insert(number))

    threads = [threading.Thread(target=work, args=(50 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        writer.close()

    assert list(range(200)) == writer.perform(numbers)
    writer.close()


def test_loop_that_went_away(writer: Writer, stalled: Stalled) -> None:
    """What a caller gave up before its commit is not done, and does no harm."""

    async def leave() -> None:
        task = asyncio.create_task(writer.aperform(insert(1)))
        await asyncio.sleep(0)
        task.cancel()

    with stalled():
        asyncio.run(leave())
    writer.perform(insert(2))

    assert [2] == writer.perform(numbers)


def test_log_is_folded_back(writer: Writer, tmp_path: Path) -> None:
    """The write-ahead log does not grow for ever."""
    log = tmp_path / "queue.db-wal"
    writer.perform(lambda it: it.execute("CREATE TABLE big (b BLOB)"))
    for _ in range(12):
        writer.perform(lambda it: it.execute("INSERT INTO big VALUES (zeroblob(4000000))").rowcount)

    assert log.stat().st_size < 30_000_000


def test_closed_twice_and_used_again(writer: Writer, tmp_path: Path) -> None:
    """Closing leaves one file without a log, and the next call opens it again."""
    writer.perform(insert(1))
    writer.close()
    writer.close()

    assert not (tmp_path / "queue.db-wal").exists()
    assert [1] == writer.perform(numbers)


CROWD = """
import sys
from resilient_agents import DeadLetterQueue

with DeadLetterQueue(sys.argv[1]) as queue:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(200):
        queue.enqueue("t", {"n": n}, key=f"{sys.argv[2]}-{n}")
"""


def test_two_processes(queue: DeadLetterQueue, url: str) -> None:
    """Two processes that write at the same time both get through, with everything."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    crowd = [subprocess.Popen([sys.executable, "-c", CROWD, url, name], text=True, **pipes) for name in "ab"]
    for process in crowd:
        assert process.stdout
        assert "ready\n" == process.stdout.readline()
    for process in crowd:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in crowd:
        process.communicate(timeout=PATIENCE)

    assert [0, 0] == [process.returncode for process in crowd]
    expected = {f"{name}-{n}" for name in "ab" for n in range(200)}
    assert expected == {entry.key for entry in queue.entries(limit=1000)}


FORK = """
import os, sys
from resilient_agents import DeadLetterQueue

queue = DeadLetterQueue(sys.argv[1])
queue.enqueue("t", {}, key="before")
child = os.fork()
queue.enqueue("t", {}, key="parent" if child else "child")
if not child:
    queue.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
queue.enqueue("t", {}, key="after")
print(*sorted(entry.key for entry in queue.entries()))
queue.close()
"""


def test_fork(url: str) -> None:
    """A forked child writes through a writer of its own, and its parent goes on."""
    parent = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=PATIENCE,
    )

    assert "after before child parent\n" == parent.stdout


BUSY_FORK = """
import os, sys, threading
from resilient_agents import DeadLetterQueue
from resilient_agents.deadletter import _writer

_writer.REST_WAIT = 60  # a commit takes as long as the disk likes
queue = DeadLetterQueue(sys.argv[1])
stop = threading.Event()

def write():
    while not stop.is_set():
        queue.enqueue("parent", {})

threads = [threading.Thread(target=write) for _ in range(4)]
for thread in threads:
    thread.start()
failed = 0
for n in range(8):
    child = os.fork()
    if not child:
        queue.enqueue("child", {"n": n})
        os._exit(0)
    failed += os.waitpid(child, 0)[1] != 0
stop.set()
for thread in threads:
    thread.join()
print(failed, len(queue.entries(topic="child")))
queue.close()
"""


def test_fork_while_others_write(url: str) -> None:
    """A child that is forked in the middle of its parent's commits can write at once."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BUSY_FORK, url]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE)

    assert "0 8\n" == parent.stdout


LOCKED_FORK = """
import fcntl, os, sys
from resilient_agents import DeadLetterQueue
from resilient_agents.errors import StorageBusy

queue = DeadLetterQueue(sys.argv[1])
queue.enqueue("t", {}, key="before")
holder = open(sys.argv[1].removeprefix("sqlite:///") + "-lock", "a")
fcntl.flock(holder, fcntl.LOCK_EX)
child = os.fork()
holder.close()
if not child:
    try:
        queue.enqueue("t", {}, key="child")
    except StorageBusy as exc:
        os._exit(0 if "forked" in str(exc) else 2)
    os._exit(1)
print(os.waitpid(child, 0)[1])
queue.close()
"""


def test_fork_while_another_process_is_at_the_file(url: str) -> None:
    """A child that inherits an open connection refuses to accept anything: it would be lost."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", LOCKED_FORK, url]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE)

    assert "0\n" == parent.stdout


def test_thread_that_cannot_be_started(url: str) -> None:
    """A queue whose thread could not be started says so, and works as soon as it can be."""
    code = """
import resource, sys
from resilient_agents import DeadLetterQueue
from resilient_agents.errors import StorageFailure

queue = DeadLetterQueue(sys.argv[1])
queue.close()
import threading
start = threading.Thread.start
def refuse(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = refuse
try:
    queue.enqueue("t", {}, key="refused")
except StorageFailure as exc:
    print("thread" in str(exc))
threading.Thread.start = start
print(queue.enqueue("t", {}, key="taken").key)
queue.close()
"""
    child = subprocess.run([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True, check=True)

    assert "True\ntaken\n" == child.stdout


def test_lock_is_released_between_commits(writer: Writer, tmp_path: Path) -> None:
    """An idle writer stands in nobody's way."""
    writer.perform(insert(1))
    with (tmp_path / "queue.db-lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert writer.path.samefile(tmp_path / "queue.db")
