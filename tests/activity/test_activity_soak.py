"""A service at work for a while, in miniature: its memory stays flat."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

PROGRAM = """
import sys, time
from resilient_agents.activity import ActivityLog
from resilient_agents.errors import Unreachable

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def flaky(batch):
    if int(time.monotonic()) % 4 == 3:  # down for one second in four
        raise Unreachable("down")

folder, seconds = sys.argv[1], float(sys.argv[2])
sinks = f"sqlite:///{folder}/activity.db", flaky
with ActivityLog(*sinks, spill=f"{folder}/spill", max_rows=5000) as activity:
    end, warm, number, early = time.monotonic() + seconds, time.monotonic() + seconds / 3, 0, None
    while time.monotonic() < end:
        for _ in range(100):
            number += 1
            activity.record(
                f"deal.{number % 50}", organization_id=f"{number % 1000}", agent_id=f"agent-{number}",
                metadata={"number": number, "text": f"moved by {number}", f"key {number % 7000}": "x"},
                critical=number % 5000 == 0,
            )
        time.sleep(0.005)
        if early is None and time.monotonic() > warm:
            early = resident()
    assert activity.flush(60)
    assert not activity.stats().dropped
    print(number, resident() - early)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """After a warm-up, hundreds of thousands of entries later, the process has hardly grown."""
    seconds = 4 * pytestconfig.getoption("--outage")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(seconds)]
    done = subprocess.run(command, check=True, timeout=60 + 3 * seconds, stdout=subprocess.PIPE)
    entries, growth = map(int, done.stdout.split())
    print(f"{entries} entries in {seconds:g} s, {growth >> 10} KiB more than after the warm-up")  # noqa: T201
    assert growth < 16 << 20
