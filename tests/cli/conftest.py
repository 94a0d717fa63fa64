"""A look at the processes of this machine, for tests that leave none behind."""

import subprocess
import time
from collections.abc import Callable

import pytest

Processes = dict[int, tuple[int, str]]


@pytest.fixture
def processes() -> Callable[[], Processes]:
    """A function that returns parent and state of each process, by its id."""

    def look() -> Processes:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid=,stat="], check=True, stdout=subprocess.PIPE, text=True
        )
        lines = (line.split() for line in listing.stdout.splitlines())
        return {int(pid): (int(parent), state) for pid, parent, state in lines}

    return look


@pytest.fixture
def ends(processes: Callable[[], Processes]) -> Callable[[int], bool]:
    """A function that tells whether a process ends soon; one that nobody has buried yet has ended."""

    def watch(pid: int) -> bool:
        end = time.monotonic() + 60
        while not processes().get(pid, (0, "Z"))[1].startswith("Z"):
            if time.monotonic() > end:
                return False
        return True

    return watch
