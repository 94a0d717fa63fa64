"""The worker: what it does when things around it break."""

import logging
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.activity.test_activity_delivery import FakeSink, Hand
from tests.policies.redis_server import until

from resilient_agents.activity._delivery import Delivery
from resilient_agents.activity._intake import Intake
from resilient_agents.activity._lane import Lane
from resilient_agents.activity._spill import Spill
from resilient_agents.activity._worker import MOST_AT_ONCE, Worker
from resilient_agents.activity.entry import Activity, Clerk, snapshot
from resilient_agents.errors import InternalFailure, StorageFailure, Unreachable


class BrokenClerk(Clerk):
    """A clerk with a defect."""

    def activity(self, tick: int, bound: Mapping[str, str], copy: bytes) -> Activity:
        """Fail at every other entry."""
        if b"broken" in copy:
            raise ZeroDivisionError
        return super().activity(tick, bound, copy)


def a_copy(action: str) -> bytes:
    """Return the snapshot of an action."""
    return snapshot((action, "1", None, "ok", None, None, None, None))


class Office:
    """A worker with one sink; its thread starts with the first entry."""

    def __init__(self, folder: Path) -> None:
        self.sink, self.hand = FakeSink(), Hand()
        self.intake = Intake(max_entries=10_000, max_bytes=1 << 24, max_entry_bytes=1000)
        self.lane = Lane("sink", self.sink, self.hand, 10_000)
        self.spill = Spill(folder, max_bytes=1 << 20)
        put = self.intake.inbox.put
        delivery = Delivery([self.lane], self.spill, put, overdue=5.0, keep=(None, None))
        self.started: list[None] = []
        self.worker = Worker(
            self.intake, delivery, BrokenClerk("here"), deque(maxlen=10), lambda: self.started.append(None)
        )


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """Return a worker that is stopped in the end."""
    office = Office(tmp_path)
    yield office
    office.hand.release()
    office.worker.stop()


def test_entry_that_cannot_be_prepared(office: Office) -> None:
    """It is dropped and counted, and its caller told; those beside it arrive."""
    for action in ("broken", "well"):
        office.intake.put(a_copy(action))
    office.intake.put_durably(a_copy("well"), patience=30)
    with pytest.raises(InternalFailure, match="prepared"):
        office.intake.put_durably(a_copy("broken"), patience=30)
    assert office.worker.flush(30)
    assert {"encode": 1} == office.worker.drops.counted()
    assert 3 == len(office.sink.taken)  # the report of the drop is the third
    assert [None] == office.started


def test_defect_does_not_end_the_worker(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    """The worker goes on after an error of its own, and says so once."""

    def defect() -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="resilient_agents.activity"):
        office.intake.wake(defect)
        office.intake.wake(defect)
        until(lambda: not office.intake.inbox.qsize())
        office.intake.put(a_copy("well"))
        assert office.worker.flush(30)
    assert 1 == len(caplog.records)
    assert 1 == len(office.sink.taken)


def test_flush_that_comes_too_late(office: Office) -> None:
    """When the time is up, what has not arrived is on disk, and whoever waits is told so."""
    office.hand.hold = True
    for _ in range(MOST_AT_ONCE + 10):
        office.intake.put(a_copy("well"))
    assert not office.worker.flush(0.05)
    assert MOST_AT_ONCE + 10 == office.lane.on_disk
    office.hand.release()
    assert office.worker.flush(30)
    assert MOST_AT_ONCE + 10 == len(office.sink.taken)


def test_nobody_waits_for_a_sink_that_is_down(office: Office) -> None:
    """An impatient flush gives up at once where a sink is down."""
    office.sink.error = Unreachable()
    office.intake.put(a_copy("well"))
    start = time.monotonic()
    assert not office.worker.flush(60, patient=False)
    assert time.monotonic() - start < 30
    assert 1 == office.lane.on_disk
    office.sink.error = None
    assert office.worker.flush(60)


def test_fork_does_not_wait_for_ever(office: Office) -> None:
    """A fork while the worker is at work leaves its file alone, and it goes on in the parent."""
    office.intake.put_durably(a_copy("well"), patience=30)
    with office.worker.at_work:
        office.worker.rest()
        office.worker.go_on()
    assert office.worker.flush(30)


NO_THREADS = """
import sys, threading
from resilient_agents.activity import ActivityLog, FunctionSink
folder = sys.argv[1]
def take(batch):
    with open(f"{folder}/taken", "a") as file:
        file.writelines(f"{entry.action}\\n" for entry in batch)
threading.stack_size(1 << 46)  # more than there is: no thread can start
activity = ActivityLog(FunctionSink(take, name="file"), spill=f"{folder}/spill", patience=0.05)
assert activity.record("first")
assert not activity.record("paid", critical=True)
assert activity.flush(10)
assert activity.record("last")
"""


def test_no_thread_can_start(tmp_path: Path) -> None:
    """Where the system gives no thread, entries wait for a flush or the end, and arrive then."""
    subprocess.run([sys.executable, "-c", NO_THREADS, str(tmp_path)], check=True, timeout=60)
    assert ["first", "last", "paid"] == sorted((tmp_path / "taken").read_text(encoding="utf-8").split())


def test_closed_twice(tmp_path: Path) -> None:
    """A worker without a thread stops too, and whoever stops it again does no harm."""
    office = Office(tmp_path)
    office.intake.put = lambda *_: False  # type: ignore[method-assign]
    office.worker.stop()
    office.worker.stop()
    assert not office.started
    office.worker.start()
    assert not office.started


def test_spill_that_is_damaged(tmp_path: Path, caplog: Any) -> None:
    """A file that a dead process left and nobody can read is left for a person; the rest goes on."""
    folder = tmp_path / "spill"
    folder.mkdir()
    (folder / "1-dead.db").write_bytes(b"no database" * 1000)
    office = Office(folder)
    try:
        office.intake.put(a_copy("well"))
        assert office.worker.flush(30)
        assert (folder / "1-dead.db").exists()
    finally:
        office.worker.stop()


def test_spill_refusals_say_what_to_do(tmp_path: Path) -> None:
    """What the disk refuses is told in words."""
    import sqlite3

    from resilient_agents.activity._spill import refusal
    from resilient_agents.errors import StorageFull

    path = tmp_path / "1-a.db"
    full = sqlite3.OperationalError()
    full.sqlite_errorname = "SQLITE_FULL"
    assert isinstance(refusal(full, path), StorageFull)
    assert isinstance(refusal(OSError(28, "no space"), path), StorageFull)
    assert isinstance(refusal(PermissionError(13, "denied"), path), StorageFailure)
    assert "EACCES" in str(refusal(PermissionError(13, "denied"), path))
