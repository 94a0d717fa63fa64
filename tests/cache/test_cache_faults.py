"""A store that fails in every way: each call gets a value all the same, and pays one budget."""

import asyncio
import threading
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.cache.conftest import Ask, Asking, Origin
from tests.policies.crowd import until

from resilient_agents import events
from resilient_agents.cache import MISS, Cache, StoreUnavailable
from resilient_agents.cache._loading import SHORTEST_PATIENCE
from resilient_agents.errors import ExternalFailure, NotFound
from resilient_agents.testing import BrokenStore, FakeClock, FakeStore
from resilient_agents.testing.broken_store import How

BUDGET = 0.05
HOWS: tuple[Any, ...] = get_args(How)
OPERATIONS = ["get", "claim", "fill", "release", "put", "invalidate"]


@pytest.mark.parametrize("local_ttl", [None, 5.0], ids=["store", "both"])
@pytest.mark.parametrize("how", HOWS)
def test_whatever_breaks_each_call_gets_a_value(
    how: Any, local_ttl: float | None, ask: Ask, origin: Origin, clock: FakeClock
) -> None:
    """With any fault in any operation, calls get what the origin says now, or said while it was fresh."""
    for operations in [None, *([operation] for operation in OPERATIONS)]:
        store = BrokenStore()
        cache = Cache(store, local_ttl=local_ttl, jitter=0.0, budget=BUDGET)
        get = ask(cache, ttl=10, stale=10, tags=["t"])
        origin.calls.clear()
        assert "k 1" == get()
        store.breaks(how, on=operations)
        for wait in (1, 6, 5, 30):
            clock.advance(wait)
            answer = get()
            assert answer in {f"k {number}" for number in range(1, len(origin.calls) + 1)}
            get.rest()
        store.mend()
        get.settle(get.fn.invalidate("k"))
        number = len(origin.calls) + 1
        assert f"k {number}" == get() == get()


@given(
    script=st.lists(
        st.tuples(
            st.sampled_from(["ask", "wait", "invalidate", "tag", "refresh", "mend", *HOWS]),
            st.sampled_from([None, *OPERATIONS]),
            st.floats(0.0, 20.0),
        ),
        max_size=30,
    ),
    awaited=st.booleans(),
    local_ttl=st.sampled_from([None, 2.0]),
)
def test_no_script_of_faults_costs_a_caller_his_value(
    script: list[Any], awaited: bool, local_ttl: float | None
) -> None:
    """Faults that come and go, alone and together: no call fails, none sees what was invalidated here."""
    store, origin = BrokenStore(), Origin()
    with FakeClock() as clock:
        cache = Cache(store, local_ttl=local_ttl, jitter=0.0, budget=BUDGET)
        get = Asking(cache, origin, awaited=awaited, ttl=10, tags=["t"])
        # A lease that may have been granted is given back beside the call, in its own time. Where that is
        # lost too, the next call waits for it as for a load.
        longest = 2 * BUDGET + SHORTEST_PATIENCE
        floor = 0
        try:
            for action, operation, seconds in script:
                get.rest()
                before = clock.monotonic()
                if action == "wait":
                    clock.advance(seconds)
                elif action == "mend":
                    store.mend()
                elif action in HOWS:
                    if action != "forgetful":  # who is lied to about an invalidation cannot know
                        store.breaks(action, on=None if operation is None else [operation])
                elif action == "ask":
                    number = int(get().removeprefix("k "))
                    assert floor < number <= len(origin.calls)
                    assert clock.monotonic() - before <= longest + 1e-6
                else:
                    floor = len(origin.calls)
                    if action == "invalidate":
                        get.settle(get.fn.invalidate("k"))
                    elif action == "refresh":
                        assert f"k {floor + 1}" == get.settle(get.fn.refresh("k"))
                    else:
                        cache.invalidate_tag("t")
        finally:
            get.close()


def test_one_budget_for_the_whole_call(ask: Ask, clock: FakeClock) -> None:
    """Each operation gets what the ones before it have left; when it is spent, the store is left alone."""
    store = BrokenStore()
    get = ask(Cache(store, budget=0.05), ttl=10)
    store.breaks("slow", seconds=0.03)

    assert "k 1" == get()
    assert [0.03, pytest.approx(0.02)] == clock.sleeps[:2]
    assert ["get", "claim"] == [operation for operation in store.calls if operation != "release"]


def test_a_store_that_hangs_is_asked_once_a_call(ask: Ask, clock: FakeClock) -> None:
    """After one operation that did not answer, the call goes on without the store."""
    store = BrokenStore()
    get = ask(Cache(store, budget=0.05), ttl=10)
    store.breaks("hang")

    assert "k 1" == get()
    assert ["get"] == store.calls
    assert [0.05] == clock.sleeps


def test_a_store_that_is_down_is_not_asked(ask: Ask, clock: FakeClock) -> None:
    """While its breaker is open, calls cost no operation."""
    store = BrokenStore()
    get = ask(Cache(store), ttl=10)
    store.breaks("down")

    assert ["k 1", "k 2"] == [get(), get()]
    assert [] == store.calls


def test_memory_answers_while_the_store_is_away(ask: Ask, clock: FakeClock, heard: list[Any]) -> None:
    """What memory has is answered with until its own time is over, though nobody can confirm it."""
    store = BrokenStore()
    get = ask(Cache(store, local_ttl=1.0, jitter=0.0), ttl=100, stale=50)
    get()
    store.breaks("down")
    clock.advance(90)
    heard.clear()

    assert "k 1" == get()
    assert [("unavailable", 90.0)] == [(event.reason, event.age) for event in heard]
    clock.advance(20)
    assert "k 1" == get()
    get.rest()
    assert "k 2" == get()


def test_what_was_invalidated_is_not_answered_with_while_the_store_is_away(ask: Ask) -> None:
    """An invalidation that cannot be delivered holds here at once, and everywhere when the store is back."""
    here, there = FakeStore.twins(2)
    store = BrokenStore(here)
    get, other = ask(Cache(store, local_ttl=50), ttl=100), ask(Cache(there), ttl=100)
    assert ["k 1", "k 1"] == [get(), other()]
    store.breaks("down")

    assert not get.settle(get.fn.invalidate("k"))
    assert "k 2" == get()
    assert "k 1" == other()
    store.mend()
    assert "k 3" == other()


def test_unreadable_entries_are_misses_that_count(ask: Ask, heard: list[Any]) -> None:
    """Garbage in the store is loaded over, counted, and said."""
    store = BrokenStore()
    cache = Cache(store)
    get = ask(cache, ttl=10)
    for garbage in (b"", b"v", b"v\x00", b"n\x00x", b"12345", b"v\x05abc", b"\x80\x04N.", b"v\xff" * 99):
        store.breaks("garbage", on=["get"], times=1, garbage=garbage)
        heard.clear()
        get()
        assert ["unreadable"] == [event.reason for event in heard if isinstance(event, events.CacheMiss)]
    assert 8 == cache.stats().unreadable


def test_an_entry_of_another_shape_is_not_read() -> None:
    """Another version of the code, whose values have another type, loads its own."""
    here, there = FakeStore.twins(2)

    @Cache(here).cached("k", ttl=10)
    def old() -> int:
        return 1

    @Cache(there).cached("k", ttl=10)
    def new() -> str:
        return "1"

    assert (1, "1", 1) == (old(), new(), old())


def test_a_value_that_cannot_be_stored_is_returned(
    ask: Ask, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    """What the store could not give back as it was is not kept; it is said once, without the value."""
    origin.answer = lambda key: (item for item in "secret")
    cache = Cache(FakeStore())
    get = ask(cache, ttl=10)

    assert ["s", "s"] == [next(get()), next(get())]
    assert 2 == cache.stats().unfit
    assert 1 == len(caplog.records)
    assert "generator" in caplog.text
    assert "secret" not in caplog.text


async def test_a_dead_store_is_not_a_dead_origin(clock: FakeClock) -> None:
    """Past a store that is away only so many loads of a function run at a time; the others wait."""
    store = BrokenStore()
    store.breaks("down")
    cache = Cache(store, origin_limit=3)
    running, most, gate = 0, 0, asyncio.Event()

    @cache.cached("k:{key}", ttl=10)
    async def get(key: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return key

    callers = [asyncio.ensure_future(get(key)) for key in range(50)]
    await until(lambda: running == 4)  # the first went straight through
    for _ in range(20):
        await asyncio.sleep(0)
    gate.set()
    assert list(range(50)) == await asyncio.gather(*callers)
    assert 4 == most


async def test_a_herd_at_a_dead_store_makes_two_calls() -> None:
    """The first call goes straight through, and all beside it share one load."""
    store = BrokenStore()
    store.breaks("down")
    cache, calls = Cache(store), []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        calls.append(1)
        await asyncio.sleep(0.001)
        return 7

    assert [7] * 100 == await asyncio.gather(*[get() for _ in range(100)])
    assert 2 == len(calls)


def test_what_goes_straight_through_raises_as_it_is(ask: Ask, origin: Origin, heard: list[Any]) -> None:
    """The shortest way past a dead store changes nothing about failures, and is counted."""
    store = BrokenStore()
    store.breaks("down")
    cache = Cache(store)
    get = ask(cache, ttl=10)
    origin.answer = ExternalFailure()
    for _ in range(2):
        with pytest.raises(ExternalFailure):
            get()
    assert 2 == cache.stats().misses == cache.stats().loads
    assert [events.CacheMiss(cache="cache", key="cache:{f:k}", reason="unavailable")] * 2 == heard


def test_an_answer_that_was_lost_leaves_no_lease(ask: Ask) -> None:
    """A lease whose grant nobody heard, or whose end, is given back."""
    for operation in ("claim", "fill", "release"):
        fake = FakeStore()
        store = BrokenStore(fake)
        get = ask(Cache(store), ttl=10)
        store.breaks("lost", on=[operation], times=1)
        get()
        get.rest()
        assert set() == fake.leases


def test_a_failed_load_gives_its_lease_back(ask: Ask, origin: Origin) -> None:
    """The next caller, of whatever process, need not wait for a load that has failed."""
    fake = FakeStore()
    get = ask(Cache(fake), ttl=10)
    origin.answer = NotFound()
    with pytest.raises(NotFound):
        get()
    get.rest()
    assert set() == fake.leases


def test_a_channel_that_is_lost_makes_memory_look_again(ask: Ask, clock: FakeClock) -> None:
    """When invalidations of others may have been missed, memory answers with nothing it has not confirmed."""
    here, there = FakeStore.twins(2)
    get, other = ask(Cache(here, local_ttl=50), ttl=100), ask(Cache(there), ttl=100)
    get()
    here.stop_listening()
    other.settle(other.fn.invalidate("k"))
    assert "k 2" == get()
    other.settle(other.fn.invalidate("k"))
    assert "k 2" == get()  # it is deaf, for local_ttl at most
    here.listen_again()
    assert "k 3" == get()


def test_what_another_process_changes_leaves_memory(ask: Ask) -> None:
    """A key or a tag that another process invalidates, or writes, is gone from this one's memory at once."""
    here, there = FakeStore.twins(2)
    cache, elsewhere = Cache(here, local_ttl=50), Cache(there)
    get = ask(cache, ttl=100, tags=["t"])
    assert "k 1" == get()
    elsewhere.invalidate("f:k")
    assert "k 2" == get()
    elsewhere.invalidate_tag("t")
    assert "k 3" == get()
    elsewhere.entity("f", model=str, ttl=10).set("k", "by hand")
    assert MISS is get.settle(get.fn.peek("k")) or "by hand" == get()


def test_a_flushed_store_is_a_miss(ask: Ask, clock: FakeClock) -> None:
    """After FLUSHALL everything is loaded anew, what memory holds included, once it looks."""
    fake = FakeStore()
    get = ask(Cache(fake, local_ttl=1.0), ttl=100)
    get()
    fake.flush()
    assert "k 1" == get()
    clock.advance(1.1)
    assert "k 2" == get()


def test_what_the_store_has_lost_is_not_answered_with_later(
    ask: Ask, origin: Origin, clock: FakeClock
) -> None:
    """A copy that the store did not confirm is gone, also for the time in which nobody can be asked."""
    fake = FakeStore()
    store = BrokenStore(fake)
    get = ask(Cache(store, local_ttl=1.0), ttl=100)
    get()
    fake.flush()
    clock.advance(1.1)
    origin.answer = NotFound()
    with pytest.raises(NotFound):
        get()
    store.breaks("down")
    origin.answer = "new"
    assert "new" == get()


def test_threads_and_a_store_that_comes_and_goes() -> None:
    """Many threads, while the store breaks and mends: every call gets a value, and no permit is lost."""
    store = BrokenStore()
    cache = Cache(store, origin_limit=2, local_ttl=0.001)
    stop = threading.Event()

    @cache.cached("k:{key}", ttl=0.005, stale=0.001)
    def get(key: int) -> int:
        return key

    def work(number: int) -> None:
        for turn in range(200):
            assert turn % 7 == get(turn % 7)

    def breaking() -> None:
        while not stop.is_set():
            for how in ("down", "raise", "lost", "garbage"):
                store.breaks(how)
                store.mend()

    breaker = threading.Thread(target=breaking)
    breaker.start()
    try:
        from tests.policies.crowd import at_once

        at_once(work, 8)
    finally:
        stop.set()
        breaker.join(30)
    assert 0 == len(cache._tiers.flights)


def test_a_broken_store_says_what_it_can_do() -> None:
    """An unknown fault is refused; a known one can be limited to operations and times."""
    store = BrokenStore()
    with pytest.raises(ValueError, match="down, hang, slow"):
        store.breaks("wobbly")  # type: ignore[arg-type]
    store.breaks("raise", on=["get"], times=2, error=RuntimeError("no"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            store.blocking.get(["a"], within=1.0)
    assert [None] == store.blocking.get(["a"], within=1.0)
    store.breaks("slow", seconds=5.0)
    with FakeClock() as clock, pytest.raises(StoreUnavailable):
        store.blocking.get(["a"], within=1.0)
    assert [1.0] == clock.sleeps
    store.close()
    asyncio.run(store.aclose())
