"""The loss matrix: what is still there when a process has ended, by how it ended and how its sink was."""

import signal
import subprocess
import sys
from collections import Counter
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
    return Counter(int(action.removeprefix("number.")) for action in (line.split()[1] for line in lines))


def durable(folder: Path) -> set[int]:
    """Return the numbers of the entries that were promised to be on disk."""
    return set(map(int, (folder / "durable").read_text(encoding="utf-8").split()))


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
        assert set(range(99, COUNT, 100)) == critical
    else:
        assert Counter(range(COUNT * (3 if end == "fork" else 1))) == arrived
    assert [] == list((tmp_path / "spill").iterdir())
