"""The loss matrix: what is still there when a process has ended, by how it ended and how its sink was."""

import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.activity import life_of_a_log

pytestmark = pytest.mark.crash

COUNT = 1000
ENDS = {
    "return": 0,
    "sys.exit": 3,
    "exception": 1,
    "SIGTERM": -signal.SIGTERM,
    "handled SIGTERM": 7,
    "SIGKILL": -signal.SIGKILL,
    "os._exit": 4,
    "fork": 0,
}
"""How a process ends, and its exit status then."""

SUDDEN = {"SIGKILL", "os._exit"}
"""Ends of which nobody in the process hears."""

SINKS = ("fast", "slow", "down")


def live(folder: Path, sink: str, end: str) -> int:
    """Let a process record and end; return its exit status."""
    command = [sys.executable, life_of_a_log.__file__, str(folder), sink, end, str(COUNT)]
    return subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=120).returncode


def recover(folder: Path) -> None:
    """Let the next process deliver what the last one left."""
    (folder / "up").touch()
    with life_of_a_log.log(folder, "fast") as activity:
        assert activity.flush(60)


def taken(folder: Path) -> Counter[int]:
    """Count by number what the sink has taken."""
    lines = (folder / "taken").read_text(encoding="utf-8").splitlines()
    return Counter(int(line.rpartition("number.")[2]) for line in lines if "number." in line)


def durable(folder: Path) -> set[int]:
    """Return the numbers of the entries that were promised to be on disk."""
    return set(map(int, (folder / "durable").read_text(encoding="utf-8").split()))


@pytest.mark.parametrize(
    ("number", "mode"), [(signal.SIGTERM, "works"), (signal.SIGKILL, "works critically")]
)
def test_ended_at_random_points(
    number: signal.Signals, mode: str, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Whatever several threads were told is taken arrives, wherever SIGTERM or SIGKILL finds them."""
    seed = time.time_ns()
    draw = random.Random(seed)  # noqa: S311
    promised: set[int] = set()
    for life in range(pytestconfig.getoption("--crash-kills")):
        kind = draw.choice(SINKS)
        command = [sys.executable, life_of_a_log.__file__, str(tmp_path), kind, mode, str(life * 1_000_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            promised.add(int(process.stdout.readline()))
            reader = threading.Thread(target=lambda out=process.stdout: promised.update(numbers(out)))
            reader.start()
            time.sleep(draw.uniform(0, 0.3))
            process.send_signal(number)
            assert -number == process.wait(60)
            reader.join()
    recover(tmp_path)
    assert set() == promised - set(taken(tmp_path)), f"seed {seed}"


def numbers(lines: Iterable[bytes]) -> Iterator[int]:
    """Yield the numbers of whole lines."""
    return (int(line) for line in lines if line.endswith(b"\n"))


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("end", ENDS)
def test_loss_matrix(end: str, sink: str, tmp_path: Path) -> None:
    """Everything arrives, once; of a process that was killed all critical entries do."""
    assert ENDS[end] == live(tmp_path, sink, end)
    recover(tmp_path)
    arrived = taken(tmp_path)
    critical = durable(tmp_path)
    assert critical <= set(arrived)
    if end in SUDDEN:
        assert set(range(50, COUNT, 100)) == critical
    else:
        assert Counter(range(COUNT * (3 if end == "fork" else 1))) == arrived
    assert [] == list((tmp_path / "spill").iterdir())


def test_a_handler_that_comes_later_has_the_last_word(tmp_path: Path) -> None:
    """A worker that finishes its work at SIGTERM, and calls who was there before, is not killed over it."""
    code = f"""
import os, signal
from resilient_agents import ActivityLog, DeadLetterQueue, Replayer

log = ActivityLog("sqlite:///{tmp_path}/activity.db", spill="{tmp_path}/spill")
log.record("worker.started", organization_id="1")
queue = DeadLetterQueue("sqlite:///{tmp_path}/queue.db")

@queue.handler("mail")
def send(payload):
    os.kill(os.getpid(), signal.SIGTERM)
    log.record("mail.sent", organization_id="1")

queue.enqueue("mail", {{}})
Replayer(queue).run()
print("finished", queue.stats().waiting)
"""
    child = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)

    assert (0, "finished 0\n") == (child.returncode, child.stdout)
    with sqlite3.connect(tmp_path / "activity.db") as connection:
        told = connection.execute("SELECT action FROM activity_logs ORDER BY id").fetchall()
    connection.close()
    assert [("worker.started",), ("mail.sent",)] == told
