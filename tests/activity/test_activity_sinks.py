"""The sinks of one machine: SQLite, JSON lines, structlog, functions; and how an address names a sink."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import structlog
from tests.activity.test_activity_outages import SCHEMA

from resilient_agents.activity import Activity, FunctionSink
from resilient_agents.activity.entry import TICKS, uuid7
from resilient_agents.activity.lines import JSONLinesSink, StructlogSink
from resilient_agents.activity.postgres import PostgresSink
from resilient_agents.activity.redis import RedisSink
from resilient_agents.activity.sinks import sink_for
from resilient_agents.activity.sqlite import SQLiteSink
from resilient_agents.errors import ConfigurationError, StorageFailure
from resilient_agents.testing import FakeClock
from resilient_agents.testing.clock import EPOCH


def batch(count: int, *, age: float = 0.0) -> list[Activity]:
    """Return entries that were recorded so many seconds ago."""
    moment = int((EPOCH - age) * TICKS)
    return [
        Activity(
            *(uuid7(moment + number, number), "here", f"{number % 3}", "42", "deal.updated", "ok", 1.5),
            *("r", None, None, None, f'{{"number":{number}}}', (moment + number) / TICKS),
        )
        for number in range(count)
    ]


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Return what is in a file."""
    connection = sqlite3.connect(path)
    found = connection.execute(
        f"SELECT {', '.join(Activity._fields)} FROM activity_logs ORDER BY id"
    ).fetchall()
    connection.close()
    return found


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[SQLiteSink]:
    """Return a sink in a fresh file."""
    sink = SQLiteSink(tmp_path / "activity.db")
    yield sink
    sink.close()


def test_sqlite_stores_each_entry_once(sqlite: SQLiteSink) -> None:
    """Entries of a batch of any size are stored, and once, though they come again."""
    entries = batch(3000)
    sqlite.write(entries[:2500])
    sqlite.write(entries)
    assert [tuple(entry) for entry in entries] == rows(sqlite.path)
    assert 0o600 == sqlite.path.stat().st_mode & 0o777


def test_sqlite_batch_is_all_or_nothing(sqlite: SQLiteSink) -> None:
    """Of a batch that fails nothing is stored, and the next one is."""
    entries = batch(10)
    with pytest.raises(sqlite3.IntegrityError):
        sqlite.write([*entries, entries[0]._replace(id="x", action=None)])  # type: ignore[arg-type]
    sqlite.write(entries)
    assert 10 == len(rows(sqlite.path))


def kept(sink: Any) -> int:
    """Tell how many entries a sink has."""
    if isinstance(sink, SQLiteSink):
        return len(rows(sink.path))
    with psycopg.connect(sink._parameters["conninfo"] if "conninfo" in sink._parameters else _url(sink)) as c:
        found = c.execute("SELECT count(*) FROM activity_logs").fetchone()
    assert found is not None
    return int(found[0])


def _url(sink: PostgresSink) -> str:
    given = sink._parameters
    return f"postgresql://postgres:{given['password']}@/{given['dbname']}?host={given['host']}"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_retention(kind: str, request: pytest.FixtureRequest) -> None:
    """What is too old or too many is deleted, the oldest first, and never more than asked for at once."""
    if kind == "sqlite":
        sink: Any = request.getfixturevalue("sqlite")
    else:
        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SCHEMA.read_bytes())
        sink = PostgresSink(url)
    with FakeClock():
        sink.write(batch(30, age=100) + batch(20))
        assert 10 == sink.prune(max_age=50, max_rows=None, limit=10)
        assert 20 == sink.prune(max_age=50, max_rows=None, limit=1000)
        assert 20 == kept(sink)
        assert 0 == sink.prune(max_age=50, max_rows=20, limit=1000)
        assert 14 == sink.prune(max_age=50, max_rows=6, limit=14)
        assert 0 == sink.prune(max_age=None, max_rows=6, limit=14)
        assert 6 == kept(sink)
        assert 0 == sink.prune(max_age=None, max_rows=7, limit=14)
    sink.close()


def test_postgres_without_the_table(postgres_url: str) -> None:
    """Where the table is missing the sink fails, and works as soon as it is there."""
    sink = PostgresSink(postgres_url)
    with pytest.raises(psycopg.errors.UndefinedTable):
        sink.write(batch(1))
    with pytest.raises(psycopg.errors.UndefinedTable):
        sink.prune(max_age=1, max_rows=None, limit=1)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SCHEMA.read_bytes())
    sink.write(batch(1))
    assert 1 == kept(sink)
    sink.close()


def test_sqlite_refuses_files_of_others(tmp_path: Path) -> None:
    """A file of another program, or of a newer version, stays as it is."""
    path = tmp_path / "other.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    with pytest.raises(StorageFailure, match="another program"):
        SQLiteSink(path).write(batch(1))
    connection.execute("PRAGMA application_id=0x5241414C")
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    with pytest.raises(StorageFailure, match="schema version 99"):
        SQLiteSink(path).prune(max_age=1, max_rows=None, limit=1)
    connection.close()


def test_sqlite_in_a_forked_child(tmp_path: Path) -> None:
    """A child forked while the file was in use does not touch it; forked otherwise, it opens it anew."""
    program = f"""
import os, sys
from resilient_agents.activity.sqlite import SQLiteSink
from resilient_agents.errors import StorageBusy
sink = SQLiteSink("{tmp_path}/activity.db")
sink.write([])
for busy in (False, True):
    if busy:
        sink._at_work.acquire()
        sink._connect()
    sink.before_fork()
    if os.fork() == 0:
        sink.after_fork_in_child()
        try:
            sink.write([])
        except StorageBusy:
            os._exit(7)
        os._exit(0)
    sink.after_fork_in_parent()
    if busy:
        sink._at_work.release()
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    sink.write([])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.PIPE)
    assert [b"0", b"7"] == done.stdout.split()


def test_json_lines(tmp_path: Path) -> None:
    """Each entry is a line; a file that was moved away is made anew; a batch that fails leaves nothing."""
    path = tmp_path / "activity.jsonl"
    sink = JSONLinesSink(path)
    entries = batch(3)
    sink.write(entries[:2])
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [{**entry._asdict(), "metadata": {"number": n}} for n, entry in enumerate(entries[:2])] == lines
    assert 0o600 == path.stat().st_mode & 0o777
    path.rename(tmp_path / "old")
    sink.write(entries[2:])
    assert 1 == len(path.read_text(encoding="utf-8").splitlines())
    with pytest.raises(StorageFailure, match="ENOENT"):
        JSONLinesSink(tmp_path / "no" / "folder").write(entries)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a size limit that raises")
def test_json_lines_of_a_full_disk(tmp_path: Path) -> None:
    """What was written of a batch before the disk was full is taken back."""
    program = f"""
import resource, signal
from tests.activity.test_activity_sinks import JSONLinesSink, StorageFailure, batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sink = JSONLinesSink("{tmp_path}/activity.jsonl")
sink.write(batch(2))
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
try:
    sink.write(batch(20))
except StorageFailure as exc:
    print(exc)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, stdout=subprocess.PIPE, cwd=root
    )
    assert b"EFBIG" in done.stdout
    assert 2 == len((tmp_path / "activity.jsonl").read_text(encoding="utf-8").splitlines())


def test_structlog() -> None:
    """Each entry is an event; a failure is a warning."""
    sink = StructlogSink("agents")
    entry = batch(1)[0]
    with structlog.testing.capture_logs() as lines:
        sink.write([entry, entry._replace(error_code="external.timeout")])
    assert [("deal.updated", "info"), ("deal.updated", "warning")] == [
        (line["event"], line["log_level"]) for line in lines
    ]
    assert ({"number": 0}, "42") == (lines[0]["metadata"], lines[0]["agent_id"])
    assert "job_id" not in lines[0]


def nothing(batch: list[Activity]) -> None:
    """Take a batch, and do nothing with it."""


async def coroutine(batch: list[Activity]) -> None:
    """Be no sink."""


def test_functions() -> None:
    """A plain function is a sink under its own name; a coroutine function is not."""
    assert "function:builtins.list.append" not in sink_for([].append).name
    assert f"function:{__name__}.nothing" == FunctionSink(nothing).name
    for wrong in (coroutine, 7, None):
        with pytest.raises(TypeError, match="a sink is"):
            sink_for(wrong)


@pytest.mark.parametrize(
    ("address", "kind", "name"),
    [
        ("sqlite:///a.db", SQLiteSink, f"sqlite:{Path.cwd()}/a.db"),
        ("sqlite:////srv/a.db", SQLiteSink, "sqlite:/srv/a.db"),
        ("postgresql://user:opensesame@host/agents", PostgresSink, "postgresql:host/agents"),
        ("redis://user:opensesame@host:7000/2", RedisSink, "redis://host:7000/2/activity"),
        ("unix:///run/redis.sock", RedisSink, "unix:///run/redis.sock/activity"),
        ("jsonl:/srv/a.jsonl", JSONLinesSink, "jsonl:/srv/a.jsonl"),
        ("structlog:agents", StructlogSink, "structlog:agents"),
        ("structlog:", StructlogSink, "structlog:activity"),
    ],
)
def test_addresses(address: str, kind: type, name: str) -> None:
    """An address names a sink, whose own name holds no password."""
    sink = sink_for(address)
    assert (kind, name) == (type(sink), sink.name)


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "jsonl:", "x", ""])
def test_unreadable_addresses(address: str) -> None:
    """What names no sink is refused, with the forms that do."""
    with pytest.raises(ConfigurationError, match=r"sqlite:///activity\.db"):
        sink_for(address)


def test_unreadable_postgres_address() -> None:
    """An address that PostgreSQL cannot read is refused, and not repeated: it may hold a password."""
    with pytest.raises(ValueError, match="cannot be read") as caught:
        sink_for("postgresql://user:opensesame@host:port:port/?no")
    assert "opensesame" not in str(caught.value)
