"""`ActivityLog` as its users see it, with real threads and real files."""

import asyncio
import inspect
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.policies.redis_server import heard, until

from resilient_agents import events
from resilient_agents.activity import Activity, ActivityLog, FunctionSink
from resilient_agents.correlation import bind
from resilient_agents.errors import ConfigurationError, RateLimited, StorageFailure, Unreachable, classify
from resilient_agents.testing import FakeClock


class Witness:
    """A sink that remembers what it has taken."""

    name = "witness"

    def __init__(self) -> None:
        self.taken: list[Activity] = []

    def write(self, batch: list[Activity]) -> None:
        """Take a batch."""
        self.taken += batch

    def told(self, *names: str) -> list[tuple[Any, ...]]:
        """Return some attributes of what was taken."""
        return [tuple(getattr(entry, name) for name in names) for entry in self.taken]


def log(sink: Any, folder: Path, **options: Any) -> ActivityLog:
    """Return a log whose spill is in *folder*."""
    return ActivityLog(sink, spill=folder / "spill", source="here", **options)


def test_record(tmp_path: Path) -> None:
    """What was recorded arrives with what was said, else with what was bound."""
    witness = Witness()
    with log(witness, tmp_path) as activity, bind(organization_id="1", request_id="r", job_id="j"):
        assert activity.record("a", agent_id="42", metadata={"password": "hunter2"}, duration_ms=1.5)
        assert activity.record("b", organization_id="2", status="skipped", priority="low")
        assert activity.record("c", error=Unreachable())
        assert activity.record("d", error=classify(RateLimited()), status="late")
        assert activity.record("e", error=asyncio.CancelledError())
        assert activity.flush(30)
        assert 5 == activity.stats().sinks["witness"].written
        assert [] == list((tmp_path / "spill").glob("*"))
    assert [
        ("a", "1", "42", "ok", 1.5, None, None, '{"password":"***"}'),
        ("b", "2", None, "skipped", None, None, None, "{}"),
        ("c", "1", None, "error", None, "external.unreachable", "external", "{}"),
        ("d", "1", None, "late", None, "rate_limit.throttled", "rate_limit", "{}"),
        ("e", "1", None, "cancelled", None, None, None, "{}"),
    ] == sorted(
        witness.told(
            *("action", "organization_id", "agent_id", "status", "duration_ms"),
            *("error_code", "error_category", "metadata"),
        )
    )
    assert {("r", "j", "here")} == set(witness.told("request_id", "job_id", "source"))


def test_critical_is_on_disk(tmp_path: Path) -> None:
    """A critical entry is on disk when `record` returns, and arrives like any other."""
    witness = Witness()
    with log(witness, tmp_path) as activity:
        assert activity.record("paid", critical=True)
        assert 1 == len(list((tmp_path / "spill").glob("*.db")))
        assert activity.flush(30)
    assert [("paid",)] == witness.told("action")
    assert [] == list((tmp_path / "spill").glob("*"))


def test_spill_is_for_its_owner_only(tmp_path: Path) -> None:
    """Nobody else reads what waits on disk."""
    with log(Witness(), tmp_path) as activity:
        activity.record("paid", critical=True)
        for path in (tmp_path / "spill").iterdir():
            assert 0o600 == path.stat().st_mode & 0o777
        assert 0o700 == (tmp_path / "spill").stat().st_mode & 0o777


def test_closed_raises_and_open_does_not(tmp_path: Path) -> None:
    """Where the disk fails, an action that must not be done without a record is told so, any other is not."""
    (tmp_path / "spill").write_text("not a folder", encoding="utf-8")
    with log(Witness(), tmp_path) as activity:
        assert not activity.record("paid", critical=True)
        with pytest.raises(StorageFailure):
            activity.record("paid", on_failure="closed")
        with pytest.raises(ValueError, match="on_failure"):
            activity.record("paid", on_failure="ajar")  # type: ignore[arg-type]
        begun = False
        with pytest.raises(StorageFailure), activity.track("paid", on_failure="closed"):
            begun = True
        assert not begun
        assert activity.record("paid")


def test_tracked_block(tmp_path: Path) -> None:
    """A block is recorded with how long it took, how it ended and why; what it raises goes on its way."""
    witness = Witness()
    with log(witness, tmp_path) as activity, FakeClock() as clock:
        with activity.track("a", organization_id="1", metadata={"n": 1}) as tracked:
            clock.advance(0.25)
            tracked.metadata["words"] = 7
            tracked.status = "partial"
        with pytest.raises(Unreachable), activity.track("b"):
            raise Unreachable
        with pytest.raises(KeyboardInterrupt), activity.track("c"):
            raise KeyboardInterrupt
        with activity.track("d", on_failure="closed"):
            pass
    assert [
        ("a", "partial", 250.0, None, {"n": 1, "words": 7}),
        ("b", "error", 0.0, "external.unreachable", {}),
        ("c", "cancelled", 0.0, None, {}),
        ("d", "started", None, None, {}),
        ("d", "ok", 0.0, None, {}),
    ] == [
        (entry.action, entry.status, entry.duration_ms, entry.error_code, json.loads(entry.metadata))
        for entry in sorted(witness.taken)
    ]


async def test_tracked_functions(tmp_path: Path) -> None:
    """A decorator keeps the signature, and tracks each call of `def` and `async def` by itself."""
    witness = Witness()
    activity = log(witness, tmp_path)

    @activity.track("sync")
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    @activity.track("async")
    async def aadd(a: int, b: int = 1) -> int:
        return a + b

    assert 3 == add(1, b=2)
    assert [2, 3, 4] == list(await asyncio.gather(aadd(1), aadd(2), aadd(3)))
    assert ("add", "Add.", ["a", "b"]) == (add.__name__, add.__doc__, [*inspect.signature(add).parameters])
    assert inspect.iscoroutinefunction(aadd)
    async with activity.track("block"):
        pass
    task = asyncio.create_task(activity.track("cancelled")(asyncio.Event().wait)())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(TypeError, match="generator"):
        activity.track("g")(lambda: (yield))
    with pytest.raises(TypeError, match="methods"):
        activity.track("c")(Witness)
    await asyncio.to_thread(activity.close)
    assert sorted(
        [("sync", "ok"), *[("async", "ok")] * 3, ("block", "ok"), ("cancelled", "cancelled")]
    ) == sorted(witness.told("action", "status"))


def test_drops_are_reported_once(tmp_path: Path) -> None:
    """What was dropped is one entry and one event, however much it was."""
    witness = Witness()
    with (
        heard(events.ActivityDropped) as told,
        log(witness, tmp_path, max_entry_bytes=200) as activity,
    ):
        for _ in range(50):
            assert not activity.record("big", metadata={"text": "x" * 500})
        activity.record("small")
        activity.flush(30)
        assert {"too_big": 50} == activity.stats().dropped
    (event,) = told
    assert (50, {"too_big": 50}) == (event.count, event.reasons)
    assert [("activity.dropped", "dropped", '{"count":50,"reasons":{"too_big":50}}')] == [
        entry for entry in witness.told("action", "status", "metadata") if entry[0] != "small"
    ]


def test_own_sinks_and_subscribers_do_not_feed_the_log(tmp_path: Path) -> None:
    """What a sink or a subscriber on the log's own threads records is ignored, and a flush does not wait."""
    flushed: list[bool] = []

    def feeds(batch: list[Activity]) -> None:
        activity.record("fed")
        flushed.append(activity.flush(10))
        raise Unreachable

    activity = log(feeds, tmp_path, exit_timeout=0.0)
    events.subscribe(events.SinkDown)(lambda event: activity.record("down"))
    activity.record("first")
    until(lambda: activity.stats().sinks[next(iter(activity.stats().sinks))].on_disk)
    assert [False] == flushed
    assert 0 == activity.stats().queued
    activity.close()
    with log(
        FunctionSink(witness := Witness().taken.extend, name=activity.stats().sinks.__iter__().__next__()),
        tmp_path,
    ) as heir:
        assert heir.flush(30)
    assert ["first"] == [entry.action for entry in witness.__self__]  # type: ignore[attr-defined]


def test_several_threads(tmp_path: Path) -> None:
    """Threads that record at once lose nothing, and ids are in the order of each."""
    witness = Witness()
    with log(witness, tmp_path) as activity:

        def work(name: int) -> None:
            for number in range(500):
                assert activity.record(f"{name}", metadata={"number": number})

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert activity.flush(30)
    assert 2000 == len({entry.id for entry in witness.taken})
    for name in range(4):
        own = [
            json.loads(entry.metadata)["number"]
            for entry in sorted(witness.taken)
            if entry.action == f"{name}"
        ]
        assert list(range(500)) == own


def test_latest_are_in_memory(tmp_path: Path) -> None:
    """The last entries of this process are at hand while the sink is down."""

    def dead(batch: list[Activity]) -> None:
        raise Unreachable

    with log(dead, tmp_path) as activity:
        activity.record("a")
        activity.record("b", critical=True)
        activity.flush(0)
        assert {"a", "b"} == {entry.action for entry in activity._engine.latest}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"max_entries": 0}, ValueError, "max_entries"),
        ({"max_bytes": 1.5}, TypeError, "max_bytes"),
        ({"max_age": -1}, ValueError, "max_age"),
        ({"max_rows": 0}, ValueError, "max_rows"),
        ({"exit_timeout": -1}, ValueError, "exit_timeout"),
        ({"patience": None}, TypeError, "patience"),
        ({"source": 7}, TypeError, "source"),
    ],
)
def test_parameters(options: dict[str, Any], error: type[Exception], words: str, tmp_path: Path) -> None:
    """A parameter that makes no sense is refused before anything is done."""
    with pytest.raises(error, match=words):
        ActivityLog(Witness(), **{"spill": tmp_path / "spill", **options})
    assert [] == list(tmp_path.iterdir())


def test_sinks_are_checked() -> None:
    """A log needs a sink, and each has a name of its own."""
    with pytest.raises(TypeError, match="needs a sink"):
        ActivityLog()
    with pytest.raises(ValueError, match="'witness'"):
        ActivityLog(Witness(), Witness())
    with pytest.raises(ConfigurationError, match="'mysql'"):
        ActivityLog("mysql://localhost")


def child(folder: Path) -> None:
    """Record in a child of multiprocessing, which skips `atexit`."""
    path = folder / "taken"
    activity = log(FunctionSink(lambda batch: path.write_text(batch[0].action), name="file"), folder)
    activity.record("from a child")


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_child_of_multiprocessing(method: str, tmp_path: Path) -> None:
    """A worker process of multiprocessing loses nothing either."""
    context: Any = multiprocessing.get_context(method)
    process = context.Process(target=child, args=(tmp_path,))
    process.start()
    process.join(60)
    assert 0 == process.exitcode
    assert "from a child" == (tmp_path / "taken").read_text(encoding="utf-8")


FIRST_PROCESS = """
import os, signal, sys
from pathlib import Path
from resilient_agents.activity import ActivityLog, FunctionSink, _exit
folder = Path(sys.argv[1])
def take(batch):
    with (folder / "taken").open("a") as file:
        file.writelines(f"{entry.action}\\n" for entry in batch)
activity = ActivityLog(FunctionSink(take, name="file"), spill=folder / "spill")
activity.record("before")
kill, os.kill = os.kill, lambda *_: None  # as for the first process of a container
kill(os.getpid(), signal.SIGTERM)
assert signal.getsignal(signal.SIGTERM) is _exit._on_sigterm
activity.record("after")
"""


def test_first_process_of_a_container(tmp_path: Path) -> None:
    """Where SIGTERM does not end the process, the log goes on."""
    subprocess.run([sys.executable, "-c", FIRST_PROCESS, str(tmp_path)], check=True, timeout=60)
    assert ["before", "after"] == (tmp_path / "taken").read_text(encoding="utf-8").split()


@pytest.mark.parametrize("thread", [False, True])
def test_ignored_sigterm_stays_ignored(thread: bool, tmp_path: Path) -> None:
    """A process that ignores SIGTERM goes on doing so; another thread than the main one changes nothing."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL if thread else signal.SIG_IGN)
    try:
        maker = threading.Thread(target=lambda: log(Witness(), tmp_path).close())
        maker.start() if thread else maker.run()
        maker.join() if thread else None
        assert (signal.SIG_DFL if thread else signal.SIG_IGN) == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_fork_leaves_the_parent_its_entries(tmp_path: Path) -> None:
    """A child begins empty: what the parent had recorded arrives once, and what the child records too."""
    path = tmp_path / "activity.db"
    program = f"""
import os
from resilient_agents.activity import ActivityLog
activity = ActivityLog("sqlite:///{path}", spill="{tmp_path}/spill")
for number in range(50):
    activity.record("before", critical=number == 0)
child = os.fork()
for number in range(50):
    activity.record("child" if child == 0 else "parent")
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)
    import sqlite3

    connection = sqlite3.connect(path)
    counted = connection.execute(
        "SELECT action, count(*) FROM activity_logs GROUP BY action ORDER BY 1"
    ).fetchall()
    connection.close()
    assert [("before", 50), ("child", 50), ("parent", 50)] == counted
    assert [] == list((tmp_path / "spill").iterdir())
