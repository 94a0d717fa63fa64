"""Faults on purpose."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

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


def test_class() -> None:
    """A class is refused."""
    with pytest.raises(TypeError, match="not on the class"):
        Chaos()(dict)
