"""Many callers, one load: in a process and across processes, whoever is cancelled or killed."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cache.conftest import Origin
from tests.policies.crowd import PATIENCE, THREADS, at_once, until

from resilient_agents import deadline, events
from resilient_agents.cache import Cache
from resilient_agents.errors import DeadlineExceeded, ExternalFailure
from resilient_agents.testing import FakeClock, FakeStore

STORES = pytest.mark.parametrize("shared", [False, True], ids=["memory", "store"])


def cache_of(*, shared: bool) -> Cache:
    """Return a cache in memory, or one with a store alone."""
    return Cache(FakeStore() if shared else None, jitter=0.0, budget=PATIENCE)


@STORES
async def test_two_hundred_tasks_make_one_call(shared: bool, heard: list[Any]) -> None:
    """Of many who miss at once one loads, and all get what he got."""
    cache, calls = cache_of(shared=shared), []

    @cache.cached("k:{key}", ttl=10)
    async def get(key: str) -> list[int]:
        calls.append(key)
        await asyncio.sleep(0.01)
        return [len(calls)]

    assert [[1]] * 200 == await asyncio.gather(*[get("a") for _ in range(200)])
    assert ["a"] == calls
    assert 199 == cache.stats().herded
    herded = [event for event in heard if isinstance(event, events.CacheHerded)]
    assert {events.CacheHerded(cache="cache", key="cache:{k:a}", across="process")} == set(herded)


@STORES
def test_many_threads_make_one_call(shared: bool) -> None:
    """Threads that miss at once wait for the first of them."""
    cache, calls, answers = cache_of(shared=shared), [], []

    @cache.cached("k", ttl=10)
    def get() -> int:
        calls.append(1)
        while cache.stats().misses < THREADS:
            threading.Event().wait(0.001)
        return len(calls)

    at_once(lambda _: answers.append(get()))

    assert [1] * THREADS == answers
    assert 1 == len(calls)


@STORES
async def test_a_failure_is_shared_too(shared: bool) -> None:
    """All who waited for a load that failed hear why, and the next call tries again."""
    cache, calls = cache_of(shared=shared), []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        raise ExternalFailure

    outcomes = await asyncio.gather(*[get() for _ in range(5)], return_exceptions=True)
    assert [ExternalFailure] * 5 == [type(outcome) for outcome in outcomes]
    assert 1 == len(calls)
    with pytest.raises(ExternalFailure):
        await get()
    assert 2 == len(calls)


@STORES
@given(cancelled=st.sets(st.integers(0, 5), max_size=6))
def test_the_cancelled_harm_nobody(shared: bool, cancelled: set[int]) -> None:
    """Whoever of six is cancelled, the leader too, the others get the value; without any, the load ends."""

    async def crowd() -> None:
        cache, gate, ended = cache_of(shared=shared), asyncio.Event(), []

        @cache.cached("k", ttl=10)
        async def get() -> str:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            ended.append("loaded")
            return "value"

        callers = [asyncio.ensure_future(get()) for _ in range(6)]
        await until(lambda: cache.stats().misses == 6 and cache.stats().loads == 1)
        for number in cancelled:
            callers[number].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        gate.set()
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        for _ in range(5):
            await asyncio.sleep(0)

        stayed = set(range(6)) - cancelled
        assert {"value"} >= {outcome for number, outcome in enumerate(outcomes) if number in stayed}
        assert all(isinstance(outcomes[number], asyncio.CancelledError) for number in cancelled)
        assert ["loaded" if stayed else "cancelled"] == ended
        assert 0 == len(cache._tiers.flights)
        if shared:
            assert set() == cache._tiers.store.leases  # type: ignore[union-attr]

    asyncio.run(crowd())


async def test_who_comes_after_everybody_left_loads_anew() -> None:
    """A load that is being cancelled is nobody's: the next caller begins his own."""
    cache, gates = Cache(), [asyncio.Event(), asyncio.Event()]
    begun: list[int] = []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        begun.append(1)
        number = len(begun)
        await gates[number - 1].wait()
        return number

    first = asyncio.ensure_future(get())
    await until(lambda: len(begun) == 1)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    gates[1].set()
    assert 2 == await get()


async def test_a_load_that_cancels_itself_cancels_its_callers() -> None:
    """A CancelledError of the origin's own reaches who called, and nobody tries for ever."""
    cache, calls = Cache(), []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        calls.append(1)
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    outcomes = await asyncio.gather(*[get() for _ in range(3)], return_exceptions=True)
    assert [asyncio.CancelledError] * 3 == [type(outcome) for outcome in outcomes]
    assert len(calls) <= 3


def test_ctrl_c_in_a_leading_thread_passes_the_lead_on() -> None:
    """A thread that is interrupted while it loads leaves the load to one of those who wait."""
    cache, calls = Cache(), []

    @cache.cached("k", ttl=10)
    def get() -> int:
        calls.append(1)
        if len(calls) == 1:
            while cache.stats().misses < 2:
                threading.Event().wait(0.001)
            raise KeyboardInterrupt
        return len(calls)

    with ThreadPoolExecutor(2) as pool:
        outcomes = [pool.submit(get) for _ in range(2)]
        failures = {type(outcome.exception(30)) for outcome in outcomes}
    assert {KeyboardInterrupt, type(None)} == failures
    assert 2 == get()


def test_the_deadline_of_a_leading_thread_is_its_own() -> None:
    """Where the leader's time is up, who has more loads by himself."""
    cache, calls, waits = Cache(), [], threading.Event()

    @cache.cached("k", ttl=10)
    def get() -> int:
        calls.append(1)
        if len(calls) == 1:
            waits.set()
            while cache.stats().misses < 2:
                threading.Event().wait(0.001)
            raise DeadlineExceeded
        return len(calls)

    with ThreadPoolExecutor(1) as pool:
        hurried = pool.submit(get)
        assert waits.wait(30)
        assert 2 == get()
        assert isinstance(hurried.exception(30), DeadlineExceeded)


def test_a_thread_waits_no_longer_than_its_deadline() -> None:
    """A thread that waits for another one's load gives up when its own time is up."""
    cache, gate, begun = Cache(), threading.Event(), threading.Event()

    @cache.cached("k", ttl=10)
    def get() -> int:
        begun.set()
        gate.wait(30)
        return 1

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(get)
        assert begun.wait(30)
        with deadline(0.01), pytest.raises(DeadlineExceeded):
            get()
        gate.set()
        assert 1 == leader.result(30)


@STORES
async def test_a_load_that_calls_its_own_key_runs_through(shared: bool) -> None:
    """Recursion does not wait for itself: the inner call goes to the function."""
    cache, depth = cache_of(shared=shared), []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        depth.append(1)
        return 1 + (await get() if len(depth) < 3 else 0)

    assert 3 == await asyncio.wait_for(get(), 30)
    assert 3 == await get()
    assert 3 == len(depth)


def test_a_thread_that_calls_its_own_key_runs_through() -> None:
    """The same for threads."""
    cache, depth = Cache(), []

    @cache.cached("k", ttl=10)
    def get() -> int:
        depth.append(1)
        return 1 + (get() if len(depth) < 3 else 0)

    assert 3 == get()


async def test_two_loads_that_need_each_other_run_through() -> None:
    """Two tasks whose loads wait for each other's keys would wait for ever: one of them loads by itself."""
    cache = Cache()
    both = asyncio.Barrier(2)

    @cache.cached("left", ttl=10)
    async def left(*, deep: bool = False) -> str:
        if not deep:
            await both.wait()
            return f"left({await right(deep=True)})"
        return "left"

    @cache.cached("right", ttl=10)
    async def right(*, deep: bool = False) -> str:
        if not deep:
            await both.wait()
            return f"right({await left(deep=True)})"
        return "right"

    outcomes = await asyncio.wait_for(asyncio.gather(left(), right()), 30)
    assert "left" in outcomes[0]
    assert "right" in outcomes[1]
    assert 0 == len(cache._tiers.flights)


def test_event_loops_share_nothing() -> None:
    """Two loops in two threads load one key each for itself, and neither waits for the other."""
    cache, calls, both = Cache(), [], threading.Barrier(2)

    @cache.cached("k", ttl=10)
    async def get() -> int:
        calls.append(threading.get_ident())
        if len(calls) <= 2:
            both.wait(30)
        await asyncio.sleep(0)
        return 1

    async def crowd() -> list[int]:
        return await asyncio.gather(*[get() for _ in range(10)])

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(asyncio.run, crowd()) for _ in range(2)]
        assert [[1] * 10] * 2 == [answer.result(30) for answer in answers]
    assert 2 == len(set(calls)) == len(calls)


def test_one_loop_after_the_other() -> None:
    """A function that was decorated once works in each new event loop, also after one ended in its middle."""
    cache = Cache()
    origin = Origin()

    @cache.cached("k", ttl=10)
    async def get(*, slow: bool) -> str:
        if slow:
            await asyncio.sleep(30)
        return str(origin("k"))

    async def left_alone() -> None:
        asyncio.ensure_future(get(slow=True))  # noqa: RUF006
        await asyncio.sleep(0.001)

    asyncio.run(left_alone())
    assert "k 1" == asyncio.run(get(slow=False))
    assert 0 == len(cache._tiers.flights)


class Twins:
    """Two processes: one store, a cache and a function in each."""

    def __init__(self, **options: Any) -> None:
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.stores = FakeStore.twins(2)
        self.caches = [Cache(store, jitter=0.0, budget=PATIENCE, **options) for store in self.stores]
        self.get = [self.function(cache, name) for cache, name in zip(self.caches, "ab", strict=True)]

    def function(self, cache: Cache, name: str) -> Any:
        """Return the function of one process."""

        @cache.cached("k", ttl=100)
        async def get() -> str:
            self.calls.append(name)
            await self.gate.wait()
            return f"{name} {len(self.calls)}"

        return get


async def test_processes_make_one_call(heard: list[Any]) -> None:
    """Of two processes whose callers miss at once one loads, and the other takes what it has loaded."""
    twins = Twins()
    callers = [asyncio.ensure_future(get()) for get in twins.get for _ in range(50)]
    await until(lambda: len(twins.calls) == 1)
    twins.gate.set()

    assert ["a 1"] * 100 == await asyncio.gather(*callers)
    assert ["a"] == twins.calls
    assert (
        1
        == sum(isinstance(event, events.CacheHerded) and event.across == "processes" for event in heard) - 49
    )
    assert set() == twins.stores[0].leases


async def test_a_killed_leader_delays_nobody_for_long(clock: FakeClock) -> None:
    """A lease whose owner is dead ends by itself, and then another process loads."""
    twins = Twins(lease=2.0)
    twins.gate.set()
    twins.stores[0].blocking.claim(["cache:{k}"], "of a dead process", 2.0, within=1.0)
    began = clock.monotonic()

    assert "b 1" == await twins.get[1]()
    assert 2.0 <= clock.monotonic() - began <= 2.3
    assert {"cache:{k}"} == twins.stores[0].names


async def test_a_leader_that_never_ends_is_not_waited_for(clock: FakeClock) -> None:
    """Who has waited as long as a load takes loads by himself, without a lease, and stores nothing."""
    twins = Twins(lease=2.0)
    twins.gate.set()
    await twins.get[1]()
    twins.caches[1]._tiers.counters.misses = 0
    clock.advance(101)
    twins.stores[0].blocking.claim(["cache:{k}"], "a slow one", 1000.0, within=1.0)
    began = clock.monotonic()

    assert "b 2" == await twins.get[1]()
    assert clock.monotonic() - began <= 2.0
    assert set() == twins.stores[0].names


async def test_a_lease_lasts_as_long_as_loads_take(clock: FakeClock) -> None:
    """Once it is known how long a load takes, the lease is three times as long."""
    stores = FakeStore.twins(2)
    cache = Cache(stores[0], jitter=0.0, lease=1.0)

    @cache.cached("k", ttl=10)
    async def get() -> int:
        await clock.asleep(20.0)
        return 1

    await get()
    clock.advance(11)
    leader = asyncio.ensure_future(get())
    await until(lambda: cache.stats().loads == 2)
    assert 60.0 == stores[0]._shared.leases.get("cache:{k}", ("", 0.0))[1] - clock.monotonic() + 20.0
    await leader


async def test_an_invalidation_during_a_load_is_not_overwritten() -> None:
    """What was loaded before an invalidation in another process is stored nowhere."""
    twins = Twins(local_ttl=50.0)
    caller = asyncio.ensure_future(twins.get[0]())
    await until(lambda: len(twins.calls) == 1)
    await twins.caches[1].ainvalidate("k")
    twins.gate.set()

    assert "a 1" == await caller
    assert set() == twins.stores[0].names
    assert "a 2" == await twins.get[0]()


async def test_a_refresh_overtakes_older_loads() -> None:
    """A load that began before a refresh does not overwrite what that has stored."""
    twins = Twins()
    slow = asyncio.ensure_future(twins.get[0]())
    await until(lambda: len(twins.calls) == 1)

    @twins.caches[1].cached("k", ttl=100)
    async def renewed() -> str:
        return "newer"

    assert "newer" == await renewed.refresh()
    twins.gate.set()
    assert "a 1" == await slow
    assert "newer" == await twins.get[0]()


async def test_a_refresh_in_the_same_process_overtakes_too() -> None:
    """In one process too: who waits for the older load gets its value, and the newer one is kept."""
    cache, gates, calls = Cache(), [asyncio.Event(), asyncio.Event()], []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        calls.append(1)
        number = len(calls)
        await gates[number - 1].wait()
        return number

    older = asyncio.ensure_future(get())
    await until(lambda: len(calls) == 1)
    newer = asyncio.ensure_future(get.refresh())
    await until(lambda: len(calls) == 2)
    gates[1].set()
    assert 2 == await newer
    gates[0].set()
    assert 1 == await older
    assert 2 == await get()


async def test_only_one_process_refreshes_in_the_background(clock: FakeClock) -> None:
    """An old value is loaded anew by one process; the others answer with it and do not wait for the lease."""
    stores = FakeStore.twins(2)
    calls: list[int] = []
    gate = asyncio.Event()
    gate.set()
    functions = []
    for store in stores:
        cache = Cache(store, jitter=0.0)

        @cache.cached("k", ttl=10, stale=100)
        async def get() -> int:
            calls.append(1)
            await gate.wait()
            return len(calls)

        functions.append(get)
    assert 1 == await functions[0]()
    gate.clear()
    clock.advance(15)
    assert [1] * 6 == [await function() for _ in range(3) for function in functions]
    await until(lambda: len(calls) == 2)
    for _ in range(20):
        await asyncio.sleep(0)
    assert 2 == len(calls)
    gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert [2, 2] == [await function() for function in functions]
