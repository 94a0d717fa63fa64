"""Where the cache stops: work in the background is bounded, and a forked child begins anew."""

import asyncio
import gc
import threading
from typing import Any

import pytest
from tests.policies.crowd import PATIENCE, until

from resilient_agents import deadline
from resilient_agents.cache import Cache, _flights, _memory, _plan, _ways
from resilient_agents.cache._entry import Entry
from resilient_agents.cache._plan import MOST_PAUSES, Pauses
from resilient_agents.errors import DeadlineExceeded, ExternalFailure, NotFound, classify
from resilient_agents.testing import BrokenStore, FakeClock


def test_only_so_many_threads_refresh(clock: FakeClock) -> None:
    """What finds no thread for its refresh is answered with the old value, and tried again later."""
    cache, gate = Cache(jitter=0.0), threading.Event()
    gate.set()
    loads: list[int] = []

    @cache.cached("k:{key}", ttl=10, stale=1000)
    def get(key: int) -> int:
        loads.append(key)
        gate.wait(PATIENCE)
        return key

    keys = range(_ways.MOST_THREADS + 3)
    assert list(keys) == [get(key) for key in keys]
    gate.clear()
    clock.advance(15)
    assert list(keys) == [get(key) for key in keys]
    while cache.stats().loads < len(keys) + _ways.MOST_THREADS:
        threading.Event().wait(0.001)
    assert [] == [key for key in loads[len(keys) :] if key >= _ways.MOST_THREADS]
    gate.set()
    for thread in list(_ways._blocking._running):
        thread.join(PATIENCE)
    for key in keys:
        get(key)
    for thread in list(_ways._blocking._running):
        thread.join(PATIENCE)
    assert 2 * len(keys) == len(loads)


async def test_only_so_many_tasks_refresh(clock: FakeClock) -> None:
    """The same for tasks."""
    cache, gate = Cache(jitter=0.0), asyncio.Event()
    gate.set()

    @cache.cached("k:{key}", ttl=10, stale=1000)
    async def get(key: int) -> int:
        await gate.wait()
        return key

    keys = range(_ways.MOST_TASKS + 3)
    assert list(keys) == [await get(key) for key in keys]
    for _ in range(3):
        await asyncio.sleep(0)
    gate.clear()
    clock.advance(15)
    assert list(keys) == [await get(key) for key in keys]
    await until(lambda: cache.stats().refreshes == _ways.MOST_TASKS)
    assert _ways.MOST_TASKS == len(cache._tiers.flights)
    gate.set()
    await until(lambda: len(cache._tiers.flights) == 0)


def test_pauses_are_bounded() -> None:
    """Of more failing keys than can be remembered, the oldest are forgotten."""
    pauses, failure = Pauses(), classify(ExternalFailure())
    for number in range(MOST_PAUSES + 1):
        pauses.failed(str(number), failure, 0.0, 1.0)
    assert pauses.reason("0", 0.5) is None
    assert "failed" == pauses.reason("1", 0.5)
    assert pauses.reason("1", 1.5) is None


def test_what_a_thread_was_changing_is_emptied_in_a_child() -> None:
    """A memory that was forked in the middle of a change is empty in the child; others are whole."""
    whole, torn = _memory.Memory(3), _memory.Memory(3)
    for memory in (whole, torn):
        memory.put("k", Entry(1, born=0.0, soft=1.0))
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with torn._lock:
            holding.set()
            over.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holding.wait(PATIENCE)
    for renew in (_memory._renew_locks, _plan._renew_locks, _flights._begin_anew, _ways._begin_anew):
        renew()
    over.set()
    thread.join(PATIENCE)
    assert ["k"] == list(whole.entries)
    assert [] == list(torn.entries)
    torn.put("k", Entry(1, born=0.0, soft=1.0))


async def test_a_refresh_obeys_the_deadline_of_its_caller() -> None:
    """Who refreshes waits no longer than he may, and begins nothing when his time is up."""
    cache, gate = Cache(), asyncio.Event()

    @cache.cached("k", ttl=10)
    async def get() -> int:
        await gate.wait()
        return 1

    with deadline(0.01), pytest.raises(DeadlineExceeded):
        await get.refresh()
    with deadline(0), pytest.raises(DeadlineExceeded):
        await get.refresh()
    gate.set()
    assert 1 == await get.refresh()


async def test_a_refresh_whose_load_cancels_itself_is_cancelled() -> None:
    """A CancelledError of the origin's own is no reason to try for ever."""

    @Cache().cached("k", ttl=10)
    async def get() -> int:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await get.refresh()


async def test_who_joins_a_refresh_that_is_cancelled_loads_anew() -> None:
    """A caller beside a refresh whose task is cancelled loads by himself."""
    cache, gate, loads = Cache(), asyncio.Event(), []

    @cache.cached("k", ttl=10)
    async def get() -> int:
        loads.append(1)
        if len(loads) == 1:
            await gate.wait()
        return len(loads)

    refreshing = asyncio.ensure_future(get.refresh())
    await until(lambda: len(loads) == 1)
    joined = asyncio.ensure_future(get())
    await until(lambda: cache.stats().misses == 1)
    (flight,) = cache._tiers.flights._under_way["cache:{k}"].values()
    assert flight.task is not None
    flight.task.cancel()
    assert 2 == await joined
    with pytest.raises(asyncio.CancelledError):
        await refreshing


def test_a_failing_refresh_raises(clock: FakeClock) -> None:
    """An explicit refresh hides nothing, and leaves what was there."""
    cache = Cache(jitter=0.0)
    answers: list[Any] = ["value", ExternalFailure(), NotFound()]

    @cache.cached("k", ttl=10)
    def get() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert "value" == get()
    with pytest.raises(ExternalFailure):
        get.refresh()
    assert "value" == get()
    with pytest.raises(NotFound):
        get.refresh()


def test_loops_that_end_in_the_middle_leave_nothing(
    clock: FakeClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left undone when a loop ended is forgotten in silence, and takes no other task's place."""
    store = BrokenStore()
    cache, loads = Cache(store, jitter=0.0), []

    async def never(*_: Any, **__: Any) -> None:
        await asyncio.get_running_loop().create_future()

    @cache.cached("k:{key}", ttl=10, stale=1000)
    async def get(key: int) -> int:
        loads.append(key)
        if key:
            await never()
        return key

    async def end_in_the_middle(*keys: int) -> None:
        calls = [asyncio.ensure_future(get(key)) for key in keys]
        await until(lambda: set(keys) <= set(loads))
        for call in calls:
            call.cancel()

    async def is_refreshed() -> None:
        assert 0 == await get(0)
        await until(lambda: 2 == loads.count(0))

    async def is_loaded() -> None:
        assert 0 == await get(0)

    asyncio.run(is_loaded())
    with monkeypatch.context() as patched:
        patched.setattr(store.awaiting, "release", never, raising=False)
        asyncio.run(end_in_the_middle(1, 2))
        asyncio.run(end_in_the_middle(*range(3, _ways.MOST_TASKS + 5)))
    clock.advance(15)
    asyncio.run(is_refreshed())
    gc.collect()
    assert [] == caplog.messages
