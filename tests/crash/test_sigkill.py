"""Nothing accepted is lost and nothing arrives twice, whenever the process is killed."""

import fcntl
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from resilient_agents.testing import FakeKommo, Fault

pytestmark = pytest.mark.crash

WEATHER = [
    Fault(kind="latency", probability=0.2, seconds=0.05),
    Fault(kind="drop", method="POST", route="*/complex", probability=0.08, commit=True),
    Fault(kind="drop", probability=0.03),
    Fault(kind="reset", probability=0.03),
    Fault(kind="truncate", probability=0.03),
    Fault(kind="html", method="POST", route="*/complex", probability=0.03),
    Fault(kind="500", method="POST", route="*/complex", probability=0.05, commit=True),
    Fault(kind="504", method="POST", route="*/complex", probability=0.05, commit=True),
    Fault(kind="503", probability=0.02),
    Fault(kind="hang", method="POST", route="*/complex", probability=0.03, seconds=0.5, commit="late"),
]
"""What happens to the CRM meanwhile. The latest late commit comes half a second after its request."""


DRAIN_LIMIT = 240
"""Time in seconds within which everything must have arrived."""


@dataclass
class Service:
    """The service under test, life after life, and what it acknowledged."""

    database: Path
    kommo: FakeKommo
    acknowledged: set[str] = field(default_factory=set)
    lives: int = 0

    def start(self, mode: str) -> "subprocess.Popen[bytes]":
        """Begin a life."""
        self.lives += 1
        first = str(self.lives * 100_000)
        program = str(Path(__file__).with_name("life.py"))
        command = [sys.executable, program, str(self.database), self.kommo.url, first, mode]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    def live(self, mode: str, *, acknowledgements: int, then: float) -> int:
        """Begin a life, and kill it *then* seconds after so many acknowledgements; return its exit status."""
        process = self.start(mode)
        self.listen(process, acknowledgements)
        if process.poll() is None:
            time.sleep(then)
            process.kill()
        self.listen(process)
        return process.wait()

    def listen(self, process: "subprocess.Popen[bytes]", lines: float = math.inf) -> None:
        """Note what *process* acknowledges: so many lines at least, or all until its end."""
        assert process.stdout is not None
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        while lines > 0 and (line := process.stdout.readline()).endswith(b"\n"):
            self.acknowledged.add(line.decode().strip())
            lines -= 1
        watchdog.cancel()
        if lines == math.inf:
            process.stdout.close()

    def drain(self) -> None:
        """Live once more, until nothing waits; give up after some minutes."""
        process = self.start("drain")
        assert process.stdout is not None
        process.stdout.close()
        try:
            assert process.wait(DRAIN_LIMIT) == 0
        finally:
            process.kill()
            process.wait()

    def freeze(self, process: "subprocess.Popen[bytes]") -> None:
        """Stop *process* between two commits: in the middle of one, nobody else can use the file either."""
        with Path(f"{self.database}-lock").open("w") as lock:
            while True:
                process.send_signal(signal.SIGSTOP)
                # Until the last of its threads stands still.
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    process.send_signal(signal.SIGCONT)
                else:
                    return

    def arrived(self) -> Counter[str]:
        """Count the leads in the CRM by the key that they carry."""
        return Counter(lead["custom_fields"]["EXTERNAL_ID"][0] for lead in self.kommo.leads())


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """Return a service whose CRM has its weather."""
    with FakeKommo(rate=None, faults=WEATHER) as kommo:
        yield Service(tmp_path / "leads.db", kommo)


def test_killed_at_random_points(service: Service, pytestconfig: pytest.Config) -> None:
    """Whatever was acknowledged arrives exactly once, however often the process is killed on the way."""
    seed = time.time_ns()
    draw = random.Random(seed)  # noqa: S311
    for _ in range(pytestconfig.getoption("--crash-kills")):
        status = service.live("works", acknowledgements=draw.randint(1, 25), then=draw.uniform(0, 0.4))
        assert status == -signal.SIGKILL
    service.drain()
    arrived = service.arrived()
    lost = service.acknowledged - set(arrived)
    duplicated = {key for key, times in arrived.items() if times > 1}
    assert (lost, duplicated) == (set(), set()), f"seed {seed}"
    accepted = len(service.acknowledged)
    print(f"{service.lives - 1} kills, {accepted} acknowledged, 0 lost, 0 duplicated")  # noqa: T201


@pytest.mark.parametrize("edge", ["accepted", "sent", "recorded"])
def test_killed_at_every_edge(service: Service, edge: str) -> None:
    """A process that dies between two steps of a delivery leaves a lead that arrives exactly once."""
    service.kommo.script([])
    status = service.live(f"dies-{edge}", acknowledgements=10_000, then=0)
    assert status == -signal.SIGKILL
    service.drain()
    arrived = service.arrived()
    assert arrived
    assert set(arrived.values()) == {1}
    assert service.acknowledged <= set(arrived)


def test_stopped_longer_than_its_lease(service: Service) -> None:
    """A worker that sleeps through its lease and wakes up does not deliver what another has taken over."""
    service.kommo.script([Fault(kind="latency", probability=0.5, seconds=0.2)])
    zombie = service.start("works")
    service.listen(zombie, 1)
    service.freeze(zombie)
    service.drain()
    zombie.send_signal(signal.SIGCONT)
    time.sleep(0.5)
    zombie.kill()
    service.listen(zombie)
    zombie.wait()
    service.drain()
    arrived = service.arrived()
    assert set(arrived.values()) == {1}
    assert service.acknowledged <= set(arrived)


def test_the_count_sees_a_loss(service: Service) -> None:
    """A service that acknowledges before it stores is caught: the count would see a lost lead."""
    for _ in range(3):
        service.live("acknowledges-first", acknowledgements=1, then=0)
    service.drain()
    assert service.acknowledged - set(service.arrived())
