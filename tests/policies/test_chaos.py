"""Faults on purpose."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.policies.crowd import at_once

from resilient_agents import deadline, events
from resilient_agents.errors import DeadlineExceeded, Unreachable
from resilient_agents.policies import Chaos, remaining
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that no test has to wait for."""
    with FakeClock() as fake:
        yield fake


async def outcomes(chaos: Chaos, calls: int) -> list[str]:
    """Return how so many calls ended, every second of them awaited."""

    @chaos
    def fetch() -> str:
        return "deal"

    @chaos
    async def afetch() -> str:
        return "deal"

    ends = []
    for number in range(calls):
        try:
            ends.append(await afetch() if number % 2 else fetch())
        except Exception as exc:
            ends.append(type(exc).__name__)
    return ends


async def test_rates(clock: FakeClock) -> None:
    """So many calls fail and so many are late, the same ones for the same seed."""
    told: list[events.FaultInjected] = []
    events.subscribe(events.FaultInjected)(told.append)

    ends = await outcomes(Chaos(error_rate=0.25, latency_rate=0.5, latency=(1.0, 3.0), seed=1), 1000)

    assert ends == await outcomes(Chaos(error_rate=0.25, latency_rate=0.5, latency=(1.0, 3.0), seed=1), 1000)
    kinds = Counter(it.fault for it in told)
    assert 2 * Counter(ends)["Unreachable"] == kinds["error"] == pytest.approx(500, abs=80)
    assert len(clock.sleeps) == kinds["latency"] == pytest.approx(1000, abs=120)
    assert 1.0 <= min(clock.sleeps) <= max(clock.sleeps) <= 3.0


async def test_switched_off(clock: FakeClock) -> None:
    """Switched off nothing happens; a function is asked at each call."""
    switch = [False]
    chaos = Chaos(error_rate=1.0, latency_rate=1.0, enabled=lambda: switch[0])

    assert {"deal"} == set(await outcomes(chaos, 10))
    switch[0] = True
    assert {"Unreachable"} == set(await outcomes(chaos, 10))
    assert {"deal"} == set(await outcomes(Chaos(error_rate=1.0, enabled=False), 10))


def test_deadline(clock: FakeClock) -> None:
    """A delay ends where the deadline does."""
    call = Chaos(latency_rate=1.0, latency=10.0)(remaining)

    with deadline(4), pytest.raises(DeadlineExceeded):
        call()
    assert [4.0] == clock.sleeps
    with deadline(14):
        assert 4.0 == call()


@pytest.mark.parametrize("error", [KeyError, lambda: KeyError("deal")], ids=["class", "function"])
def test_own_error(error: Any) -> None:
    """What a failing call raises may be chosen."""
    with pytest.raises(KeyError):
        Chaos(error_rate=1.0, error=error)(lambda: 1)()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"error_rate": 1.1}, ValueError, "error_rate must be a part of the calls"),
        ({"latency_rate": float("nan")}, ValueError, "latency_rate must be a part of the calls"),
        ({"error_rate": "some"}, TypeError, "error_rate must be a part of the calls"),
        ({"latency": "long"}, TypeError, "latency must be seconds"),
        ({"latency": (1.0, 2.0, 3.0)}, TypeError, "latency must be seconds"),
        ({"name": 1}, TypeError, "name must be a text"),
        ({"latency": -1.0}, ValueError, "latency must be seconds"),
        ({"latency": (3.0, 1.0)}, ValueError, "latency must be seconds"),
        ({"error": Unreachable()}, TypeError, "error must be an exception class"),
    ],
    ids=repr,
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong argument is refused, and the message says what is right."""
    with pytest.raises(error, match=message):
        Chaos(**arguments)


def test_threads_meet_the_same_faults() -> None:
    """With a seed the first so many calls meet the same faults, however many threads make them."""
    told: list[events.FaultInjected] = []
    events.subscribe(events.FaultInjected)(told.append)

    def faults(threads: int) -> tuple[Counter[str], set[float]]:
        told.clear()
        chaos = Chaos(error_rate=0.5, latency_rate=0.5, latency=(1.0, 3.0), seed=3)(len)

        def call(_: int) -> None:
            for _ in range(4800 // threads):
                with suppress(Unreachable):
                    chaos(())

        with FakeClock() as clock:
            at_once(call, threads)
        return Counter(it.fault for it in told), set(clock.sleeps)

    assert faults(1) == faults(16)


def test_name(clock: FakeClock) -> None:
    """Events tell which policy it was."""
    told: list[events.FaultInjected] = []
    events.subscribe(events.FaultInjected)(told.append)
    with suppress(Unreachable):
        Chaos(error_rate=1.0, latency_rate=1.0, name="crm")(len)(())

    assert [("latency", "crm"), ("error", "crm")] == [(it.fault, it.name) for it in told]
    assert "Chaos(error_rate=0.5, latency_rate=0.0, name='')" == repr(Chaos(error_rate=0.5))


FORK = """
import os, signal
from resilient_agents.policies.chaos import Chaos

chaos = Chaos(error_rate=0.5)
reading, writing = os.pipe()
chaos._lock.acquire()
for _ in range(2):
    if not os.fork():
        signal.alarm(10)
        ends = ""
        for _ in range(64):
            try:
                ends += chaos(repr)(1)
            except Exception:
                ends += "0"
        os.write(writing, (ends + " ").encode())
        os._exit(0)
os.close(writing)
print([os.wait()[1] for _ in range(2)], len(set(os.read(reading, 1000).split())))
"""


def test_fork() -> None:
    """Forked children wait for no lock, and each meets faults of its own."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)

    assert "[0, 0] 2\n" == parent.stdout


def test_class() -> None:
    """A class is refused."""
    with pytest.raises(TypeError, match="not on the class"):
        Chaos()(dict)
