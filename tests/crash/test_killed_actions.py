"""Every critical action that was accepted is done exactly once, whenever its process is killed."""

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resilient_agents import DeadLetterQueue
from resilient_agents.deadletter import State

pytestmark = pytest.mark.crash

PATIENCE = 240
"""Time in seconds within which a life must do what it is for."""


@dataclass
class Service:
    """An agent, life after life, and which messages it said that it had handled."""

    folder: Path
    kind: str
    handled: set[str] = field(default_factory=set)
    lives: int = 0

    def __post_init__(self) -> None:
        self.done.touch()

    @property
    def database(self) -> Path:
        """The queue's file."""
        return self.folder / "actions.db"

    @property
    def done(self) -> Path:
        """The world: a line for each deed."""
        return self.folder / "done.txt"

    def live(self, mode: str, *, handled: int = sys.maxsize, then: float = 0.0) -> int:
        """Live until killed *then* seconds after so many messages; return the exit status."""
        self.lives += 1
        program = str(Path(__file__).with_name("action_life.py"))
        first = str(self.lives * 100_000)
        process = subprocess.Popen(
            [sys.executable, program, str(self.database), str(self.done), first, mode, self.kind],
            stdout=subprocess.PIPE,
        )
        watchdog = threading.Timer(PATIENCE, process.kill)
        watchdog.start()
        assert process.stdout is not None
        for number, line in enumerate(process.stdout, 1):
            self.handled.add(line.decode().strip())
            if number == handled:
                time.sleep(then)
                process.kill()
        process.stdout.close()
        status = process.wait()
        watchdog.cancel()
        return status

    def accounts(self) -> tuple[set[str], set[str], int]:
        """Return what is lost, what was done twice, and how much is still open in the queue."""
        times = Counter(self.done.read_text().split())
        with DeadLetterQueue(f"sqlite:///{self.database}") as queue:
            states = queue.stats().states
        open_still = sum(number for state, number in states.items() if state is not State.DELIVERED)
        twice = {key for key, number in times.items() if number > 1}
        return self.handled - set(times), twice, open_still


@pytest.fixture(params=["def", "async def"])
def service(tmp_path: Path, request: pytest.FixtureRequest) -> Service:
    """Return a service of each kind."""
    return Service(tmp_path, request.param)


def test_killed_at_random_points(service: Service, pytestconfig: pytest.Config) -> None:
    """Whatever was handled is done once, however often the agent is killed or a handling given up."""
    seed = time.time_ns()
    draw = random.Random(seed)  # noqa: S311
    for _ in range(pytestconfig.getoption("--crash-kills")):
        status = service.live("works", handled=draw.randint(1, 25), then=draw.uniform(0, 0.4))
        assert status == -signal.SIGKILL
    assert service.live("drain") == 0

    assert len(service.handled) > 0
    assert (set(), set(), 0) == service.accounts(), f"seed {seed}"


@pytest.mark.parametrize("edge", ["dies-before", "dies-after"])
def test_killed_around_the_deed(service: Service, edge: str) -> None:
    """An agent that dies just before or just after the deed has done it once in the end."""
    assert service.live(edge) == -signal.SIGKILL
    assert service.live("drain") == 0

    assert service.done.read_text()
    assert (set(), set(), 0) == service.accounts()
