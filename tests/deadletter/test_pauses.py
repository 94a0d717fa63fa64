"""When a target is taken for down, how long it is left alone, and how it comes back."""

import subprocess
import sys

import pytest

from resilient_agents import events
from resilient_agents.deadletter import Limits
from resilient_agents.deadletter.pauses import STRIKES, Pauses
from resilient_agents.errors import (
    Blocked,
    ConfigurationError,
    Origin,
    RateLimited,
    ReauthRequired,
    Unreachable,
    ValidationFailed,
    classify,
)
from resilient_agents.testing import FakeClock

A_MOMENT = 0.001
DOWN = classify(Unreachable())


@pytest.fixture
def pauses(clock: FakeClock) -> Pauses:
    """Return pauses of at most a minute."""
    return Pauses(Limits(wait_initial=1, wait_max=60))


def strike(pauses: Pauses, times: int = STRIKES) -> None:
    """Let topic ``t`` be out so many times."""
    for _ in range(times):
        pauses.failed("t", DOWN)


def test_unknown_topic(pauses: Pauses) -> None:
    """A topic of which nothing is known may be tried."""
    assert (0.0, False, True, False) == (
        pauses.wait("t"),
        pauses.probing("t"),
        pauses.admits("t"),
        pauses.served_since("t", 0),
    )


def test_strikes(pauses: Pauses, heard: list[events.Event]) -> None:
    """An outage is one entry's bad luck until it has happened three times in a row."""
    strike(pauses, STRIKES - 1)
    assert (0.0, []) == (pauses.wait("t"), heard)

    strike(pauses, 1)

    assert 0.5 <= pauses.wait("t") <= 1
    assert not pauses.admits("t")
    wait = pytest.approx(pauses.wait("t"))
    assert [events.TopicPaused(topic="t", wait=wait, failure=DOWN)] == heard  # type: ignore[arg-type]


def test_success_breaks_the_row(pauses: Pauses) -> None:
    """Two outages, a success and two outages are no row of three."""
    strike(pauses, STRIKES - 1)
    pauses.served("t")
    strike(pauses, STRIKES - 1)

    assert 0.0 == pauses.wait("t")


def test_other_topics_go_on(pauses: Pauses) -> None:
    """A pause is one topic's own."""
    strike(pauses)

    assert pauses.admits("u")


@pytest.mark.parametrize(
    "error", [Unreachable(retry_after=0), RateLimited(), Blocked(), ReauthRequired()], ids=repr
)
def test_certain(pauses: Pauses, error: Exception) -> None:
    """A target that says it is no use trying is believed at once."""
    pauses.failed("t", classify(error))

    assert pauses.wait("t") >= 0.5


def test_hint(pauses: Pauses, clock: FakeClock, heard: list[events.Event]) -> None:
    """The target's own word how long to wait is kept, beyond our own greatest wait."""
    pauses.failed("t", classify(RateLimited(retry_after=7200)))

    assert 7200 == pauses.wait("t")
    clock.advance(7199)
    assert not pauses.admits("t")
    clock.advance(1)
    assert pauses.admits("t")
    assert ["TopicPaused"] == [type(event).__name__ for event in heard]


def test_calls_under_way(pauses: Pauses, clock: FakeClock, heard: list[events.Event]) -> None:
    """Calls that fail together are one outage; a later word how long to wait only makes the pause longer."""
    strike(pauses, 40)
    assert pauses.wait("t") <= 1

    for hint in (100, 50, 0):
        pauses.failed("t", classify(RateLimited(retry_after=hint)))

    assert 100 == pauses.wait("t")
    assert ["TopicPaused"] == [type(event).__name__ for event in heard]
    clock.advance(100)
    assert pauses.admits("t")
    strike(pauses, 1)
    assert pauses.wait("t") <= 2


@pytest.mark.parametrize(
    "error", [ValidationFailed(origin=Origin.DEPENDENCY), ConfigurationError(), ValueError()], ids=repr
)
def test_no_outage(pauses: Pauses, error: Exception) -> None:
    """An entry that is rejected, or our own fault, says nothing against the target."""
    for _ in range(10):
        pauses.failed("t", classify(error))

    assert (0.0, False) == (pauses.wait("t"), pauses.probing("t"))


def test_growth(pauses: Pauses, clock: FakeClock) -> None:
    """Each probe that fails doubles the pause, up to the greatest wait."""
    strike(pauses, STRIKES - 1)
    for ceiling in (1, 2, 4, 8, 16, 32, 60, 60):
        strike(pauses, 1)
        assert ceiling / 2 <= pauses.wait("t") <= ceiling
        clock.advance(pauses.wait("t") + A_MOMENT)


def test_probe_of_one(pauses: Pauses, clock: FakeClock) -> None:
    """After the pause one caller tries; the others wait until he has come back or is overdue."""
    strike(pauses)
    clock.advance(pauses.wait("t") + A_MOMENT)
    assert (0.0, True) == (pauses.wait("t"), pauses.probing("t"))

    assert [True, False, False] == [pauses.admits("t") for _ in range(3)]

    clock.advance(1)
    assert [True, False] == [pauses.admits("t") for _ in range(2)]
    pauses.served("t")
    assert [True, True, True] == [pauses.admits("t") for _ in range(3)]


def test_resumed(pauses: Pauses, clock: FakeClock, heard: list[events.Event]) -> None:
    """The first success ends the pause, and is said once; the next row starts anew."""
    strike(pauses, STRIKES + 5)
    heard.clear()

    pauses.served("t")
    pauses.served("t")

    assert [events.TopicResumed(topic="t")] == heard
    assert (0.0, False) == (pauses.wait("t"), pauses.probing("t"))
    strike(pauses, STRIKES)
    assert pauses.wait("t") <= 1


def test_served_since(pauses: Pauses, clock: FakeClock) -> None:
    """It is known whether the target worked after some moment."""
    before = clock.time()
    clock.advance(1)
    pauses.served("t")

    assert pauses.served_since("t", before)
    assert not pauses.served_since("t", clock.time())


FORK = """
import os, signal
from resilient_agents import events
from resilient_agents.deadletter import Limits
from resilient_agents.deadletter.pauses import Pauses
from resilient_agents.errors import RateLimited, classify, knowledge
from resilient_agents.events import bus

pauses = Pauses(Limits())
events.subscribe(events.TopicPaused)(lambda event: print("paused", event.topic, flush=True))
for lock in (pauses._lock, bus._lock, knowledge._lock):
    lock.acquire()
child = os.fork()
if not child:
    signal.alarm(60)
    pauses.failed("t", classify(RateLimited()))
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""


def test_fork() -> None:
    """A lock that a thread of the parent held at the fork keeps nobody waiting in the child."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK]
    parent = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)

    assert "paused t\n0\n" == parent.stdout
