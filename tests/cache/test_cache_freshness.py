"""How values age: fresh, old but good enough, and over."""

import asyncio
import threading
from collections import Counter
from math import exp
from typing import Any

import pytest
from tests.cache.conftest import Ask, Asking, Origin

from resilient_agents import deadline, events
from resilient_agents.cache import MISS, Cache
from resilient_agents.cache._entry import Entry, Freshness
from resilient_agents.errors import (
    AuthFailed,
    CircuitOpen,
    DeadlineExceeded,
    ExternalFailure,
    NotFound,
    RateLimited,
    ValidationFailed,
)
from resilient_agents.testing import FakeClock, FakeStore

PASSING = [ExternalFailure(), RateLimited(), CircuitOpen(), TimeoutError(), ConnectionRefusedError()]
LASTING = [NotFound(), AuthFailed(), ValidationFailed(), ZeroDivisionError(), KeyError("k")]


def caches(**options: Any) -> list[Cache]:
    """Return a cache in memory, one with a store, and one with both."""
    return [
        Cache(jitter=0.0, **options),
        Cache(FakeStore(), jitter=0.0, **options),
        Cache(FakeStore(), local_ttl=1.0, jitter=0.0, **options),
    ]


TIERS = pytest.mark.parametrize("tiers", [0, 1, 2], ids=["memory", "store", "both"])


@TIERS
def test_a_value_is_loaded_once_while_it_is_fresh(tiers: int, ask: Ask, clock: FakeClock) -> None:
    """Until its time is over the function is not called again."""
    get = ask(caches()[tiers], ttl=10)

    assert "k 1" == get()
    clock.advance(9.9)
    assert "k 1" == get()
    clock.advance(0.2)
    assert "k 2" == get()


@TIERS
@pytest.mark.parametrize("value", [None, 0, "", [], {}, False])
def test_every_value_is_a_value(tiers: int, value: Any, ask: Ask, origin: Origin, clock: FakeClock) -> None:
    """None and what counts as false are cached like anything else."""
    origin.answer = value
    get = ask(caches()[tiers], ttl=10)

    assert [value, value] == [get(), get()]
    assert value == get.settle(get.fn.peek("k"))
    assert 1 == len(origin.calls)


def test_jitter_only_shortens(clock: FakeClock) -> None:
    """Values that were loaded together end one after the other, none of them late."""
    chances = iter([0.0, 0.5, 0.999])
    cache = Cache(jitter=0.2, chance=lambda: next(chances))

    @cache.cached("n:{number}", ttl=10)
    def load(number: int) -> int:
        return number

    for number in range(3):
        load(number)
    clock.advance(8.5)
    assert [0, 1, MISS] == [load.peek(number) for number in range(3)]
    clock.advance(1.0)
    assert [0, MISS, MISS] == [load.peek(number) for number in range(3)]
    clock.advance(0.6)
    assert [MISS, MISS, MISS] == [load.peek(number) for number in range(3)]


@TIERS
def test_an_old_value_is_answered_with_while_a_new_one_is_loaded(
    tiers: int, ask: Ask, origin: Origin, clock: FakeClock, heard: list[Any]
) -> None:
    """In its time of grace nobody waits; one load begins in the background, whose value comes next."""
    get = ask(caches()[tiers], ttl=10, stale=20)
    get()
    clock.advance(15)
    heard.clear()

    assert "k 1" == get()
    assert [events.CacheStale(cache="cache", key="cache:{f:k}", reason="refreshing", age=15.0)] == heard
    get.rest()
    assert "k 2" == get()
    assert 2 == len(origin.calls)


@TIERS
def test_after_its_grace_a_value_is_over(tiers: int, ask: Ask, clock: FakeClock) -> None:
    """Once both times have passed the call waits for a new value."""
    get = ask(caches()[tiers], ttl=10, stale=20)
    get()
    clock.advance(31)

    assert "k 2" == get()


@TIERS
@pytest.mark.parametrize("failure", PASSING, ids=lambda failure: type(failure).__name__)
def test_an_old_value_stands_in_for_a_failure_that_passes(
    tiers: int, failure: Exception, ask: Ask, origin: Origin, clock: FakeClock, heard: list[Any]
) -> None:
    """During an outage the old value is answered with, and the origin left alone for a moment."""
    cache = caches(throttle=5.0)[tiers]
    get = ask(cache, ttl=10, stale_if_error=100)
    get()
    clock.advance(15)
    origin.answer = failure
    heard.clear()

    assert ["k 1", "k 1", "k 1"] == [get(), get(), get()]
    assert 2 == len(origin.calls)
    assert {"failed"} == {event.reason for event in heard if isinstance(event, events.CacheStale)}
    clock.advance(5.1)
    assert "k 1" == get()
    assert 3 == len(origin.calls)
    origin.answer = "well again"
    clock.advance(5.1)
    assert ["well again", "well again"] == [get(), get()]


@TIERS
@pytest.mark.parametrize("failure", LASTING, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("window", ["stale", "stale_if_error"])
def test_an_old_value_never_hides_a_failure_that_stays(
    tiers: int, failure: Exception, window: str, ask: Ask, origin: Origin, clock: FakeClock
) -> None:
    """What does not exist, is not allowed, is wrong or is a defect is raised, as without a cache."""
    get = ask(caches()[tiers], ttl=10, **{window: 100})
    get()
    clock.advance(15)
    origin.answer = failure
    if window == "stale":
        assert "k 1" == get()  # nobody knows yet
        get.rest()

    for _ in range(2):
        with pytest.raises(type(failure)):
            get()
    origin.answer = ExternalFailure()
    with pytest.raises(ExternalFailure):
        get()
    origin.answer = "back"
    assert "back" == get()


def test_a_server_that_asks_for_more_time_gets_it(ask: Ask, origin: Origin, clock: FakeClock) -> None:
    """The pause after a failure is as long as the other side asked for, up to a minute."""
    get = ask(Cache(jitter=0.0, throttle=1.0), ttl=10, stale_if_error=1000)
    get()
    clock.advance(15)
    origin.answer = RateLimited(retry_after=30)
    get()
    clock.advance(29)
    get()
    assert 2 == len(origin.calls)
    clock.advance(2)
    get()
    assert 3 == len(origin.calls)


def test_a_refresh_that_fails_is_not_repeated_at_once(ask: Ask, origin: Origin, clock: FakeClock) -> None:
    """In the time of grace a failing origin is asked once in a while, not by every call."""
    get = ask(Cache(jitter=0.0, throttle=5.0), ttl=10, stale=1000)
    get()
    clock.advance(15)
    origin.answer = ExternalFailure()
    for _ in range(5):
        assert "k 1" == get()
        get.rest()
    assert 2 == len(origin.calls)
    clock.advance(6)
    get()
    get.rest()
    assert 3 == len(origin.calls)


@TIERS
def test_what_does_not_exist_is_remembered(tiers: int, ask: Ask, origin: Origin, clock: FakeClock) -> None:
    """With negative_ttl a 404 is remembered, as a NotFound with what it said."""
    origin.answer = NotFound("no agent has this id", code="not_found.agent")
    get = ask(caches()[tiers], ttl=100, negative_ttl=5)

    for _ in range(3):
        with pytest.raises(NotFound) as raised:
            get()
        assert ("no agent has this id", "not_found.agent") == (raised.value.detail, raised.value.code)
    assert MISS is get.settle(get.fn.peek("k"))
    assert 1 == len(origin.calls)
    clock.advance(5.1)
    origin.answer = "there"
    assert "there" == get()


@TIERS
def test_none_is_remembered_as_long_as_what_does_not_exist(
    tiers: int, ask: Ask, origin: Origin, clock: FakeClock
) -> None:
    """With negative_ttl a function that returns None for what is not there is asked again soon."""
    origin.answer = None
    get = ask(caches()[tiers], ttl=100, negative_ttl=5)

    assert [None, None] == [get(), get()]
    clock.advance(5.1)
    origin.answer = "there"
    assert "there" == get()


def test_without_negative_ttl_a_failure_is_raised_each_time(ask: Ask, origin: Origin) -> None:
    """Failures are not remembered unless that is asked for."""
    origin.answer = NotFound()
    get = ask(Cache(), ttl=100)
    for _ in range(2):
        with pytest.raises(NotFound):
            get()
    assert 2 == len(origin.calls)


@TIERS
def test_a_condition_decides_what_is_kept(tiers: int, ask: Ask, origin: Origin) -> None:
    """What the condition refuses is returned, and not kept."""
    get = ask(caches()[tiers], ttl=100, condition=lambda value: value != "k 1")

    assert ["k 1", "k 2", "k 2"] == [get(), get(), get()]


def test_a_condition_that_raises_costs_nobody_his_value(ask: Ask, caplog: pytest.LogCaptureFixture) -> None:
    """A broken condition is said once, without the value, and the value is not kept."""

    def broken(value: Any) -> bool:
        raise ValueError(value)

    get = ask(Cache(), ttl=100, condition=broken)
    assert ["k 1", "k 2"] == [get(), get()]
    assert 1 == len(caplog.records)
    assert "k 1" not in caplog.text


@pytest.mark.parametrize(("chance", "loads"), [(0.99, 2), (0.01, 1)])
def test_a_value_is_loaded_early_by_chance(
    chance: float, loads: int, ask: Ask, origin: Origin, clock: FakeClock
) -> None:
    """Shortly before its end a value is loaded anew in the background, once the die says so (XFetch)."""
    cache = Cache(jitter=0.0, chance=lambda: chance)

    def slow(key: str) -> str:
        clock.advance(1.0)
        return f"{key} {len(origin.calls)}"

    origin.answer = slow
    get = ask(cache, ttl=10, early=1.0)
    get()
    clock.advance(8.0)  # two seconds before the end, with a load that takes one
    assert "k 1" == get()
    get.rest()
    assert loads == len(origin.calls)
    assert f"k {loads}" == get()


def test_the_chance_of_an_early_load_is_that_of_the_paper() -> None:
    """So many seconds before its end, a value is due with the probability exp(-seconds / (cost * beta))."""
    steps = 10_000
    tries = iter([(number + 0.5) / steps for number in range(steps)] * 3)
    ages = Freshness(10.0, 0.0, 0.0, 0.0, 2.0, None, 1.0, lambda: next(tries))
    entry = Entry("value", born=0.0, soft=100.0, cost=1.5)

    for before in (1.0, 3.0, 9.0):
        due = Counter(ages.due(entry, 100.0 - before) for _ in range(steps))
        assert exp(-before / 3.0) == pytest.approx(due[True] / steps, abs=2 / steps)
    assert exp(-(100.0 - ages.quiet(entry)) / 3.0) < 1.1e-9


def test_soft_timeout_answers_with_the_old_value_while_the_load_goes_on(clock: FakeClock) -> None:
    """A thread whose origin takes long gets the old value; the load ends in the background."""
    cache = Cache(jitter=0.0)
    gate, ended = threading.Event(), threading.Event()
    gate.set()
    answers = iter(["old", "new"])

    @cache.cached("k", ttl=10, stale_if_error=100, soft_timeout=0.01)
    def get() -> str:
        gate.wait(30)
        ended.set()
        return next(answers)

    assert "old" == get()
    gate.clear()
    ended.clear()
    clock.advance(15)
    assert "old" == get()
    gate.set()
    assert ended.wait(30)
    while get.peek() != "new":
        threading.Event().wait(0.001)
    assert "new" == get()


async def test_soft_timeout_answers_a_task_too(clock: FakeClock, heard: list[Any]) -> None:
    """A task whose origin takes long gets the old value; the load is not cancelled."""
    cache = Cache(jitter=0.0, throttle=5.0)
    gate, answers = asyncio.Event(), iter(["old", "new"])
    gate.set()

    @cache.cached("k", ttl=10, stale_if_error=100, soft_timeout=0.01)
    async def get() -> str:
        await gate.wait()
        return next(answers)

    assert "old" == await get()
    gate.clear()
    clock.advance(15)
    heard.clear()
    assert ["old", "old"] == [await get(), await get()]
    assert ["slow", "slow"] == [event.reason for event in heard if isinstance(event, events.CacheStale)]
    gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert "new" == await get()
    assert 2 == cache.stats().loads


async def test_timeout_ends_a_load() -> None:
    """A load that takes longer than it may is cancelled, and its callers hear of it."""
    cache = Cache()
    ended = []

    @cache.cached("k", ttl=10, timeout=0.01)
    async def get() -> str:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)
        return "never"

    outcomes = await asyncio.gather(get(), get(), return_exceptions=True)
    assert [DeadlineExceeded, DeadlineExceeded] == [type(outcome) for outcome in outcomes]
    assert [True] == ended


async def test_a_deadline_ends_the_wait_of_its_caller_alone() -> None:
    """Who has no more time gives up; who has, gets the value of the same load."""
    cache = Cache()
    gate = asyncio.Event()

    @cache.cached("k", ttl=10)
    async def get() -> str:
        await gate.wait()
        return "value"

    async def hurried() -> str:
        with deadline(0.01):
            return await get()

    patient = asyncio.ensure_future(get())
    with pytest.raises(DeadlineExceeded, match=r"while .*get was loaded"):
        await hurried()
    gate.set()
    assert "value" == await patient
    assert 1 == cache.stats().loads


def test_nothing_is_begun_when_the_time_is_up(ask: Ask, origin: Origin) -> None:
    """A load is not begun under a deadline that has passed; what is there is answered with."""
    get = ask(Cache(), ttl=10)
    with deadline(0), pytest.raises(DeadlineExceeded):
        get()
    assert [] == origin.calls
    get()
    with deadline(0):
        assert "k 1" == get()


def test_a_load_in_the_background_has_no_deadline(ask: Ask, origin: Origin, clock: FakeClock) -> None:
    """The deadline of the call that began it does not end a refresh."""
    from resilient_agents.policies import remaining

    get = ask(Cache(jitter=0.0), ttl=10, stale=100)
    get()
    clock.advance(15)
    origin.answer = lambda key: repr(remaining())
    with deadline(5):
        get()
    get.rest()
    assert "None" == get()


def test_what_is_older_than_its_grace_is_forgotten(ask: Ask, clock: FakeClock) -> None:
    """Memory lets go of a value that can serve no more."""
    cache = Cache(jitter=0.0)
    get = ask(cache, ttl=10)
    get()
    clock.advance(11)
    assert MISS is get.settle(get.fn.peek("k"))
    assert 0 == cache.stats().entries


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ttl": 0}, ValueError, "ttl must be more than 0 seconds"),
        ({"ttl": None}, TypeError, "nothing is fresh for ever"),
        ({"ttl": "1"}, TypeError, "ttl must be a time in seconds"),
        ({"ttl": 8 * 86400}, ValueError, "7 days at most"),
        ({"ttl": 1, "stale": 8 * 86400}, ValueError, "7 days at most"),
        ({"ttl": 1, "stale": None}, TypeError, "stale must be a time"),
        ({"ttl": 1, "stale": -1}, ValueError, "stale must be 0 or more"),
        ({"ttl": 1, "stale_if_error": -1}, ValueError, "stale_if_error"),
        ({"ttl": 1, "early": -1}, ValueError, "early must be 0 or more"),
        ({"ttl": 1, "early": "x"}, TypeError, "early must be a number"),
        ({"ttl": 1, "negative_ttl": 0}, ValueError, "negative_ttl"),
        ({"ttl": 1, "soft_timeout": 0}, ValueError, "soft_timeout"),
        ({"ttl": 1, "timeout": 0}, ValueError, "timeout"),
        ({"ttl": 1, "tags": "org"}, TypeError, "tags is a list"),
        ({"ttl": 1, "key": len}, TypeError, "write @cache.cached"),
    ],
)
def test_wrong_ages_are_refused_at_decoration(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """What cannot be meant is said when the function is decorated."""
    with pytest.raises(error, match=words):
        Asking(Cache(), Origin(), awaited=False, **options)
