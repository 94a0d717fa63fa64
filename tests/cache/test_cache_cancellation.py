"""A caller who is cancelled at any step of any path leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.policies.crowd import settled

from resilient_agents.cache import MISS, Cache
from resilient_agents.testing import BrokenStore, FakeClock

MOST_STEPS = 100

PATHS = (
    *("miss", "hit", "stale", "failing", "herd", "joined", "refresh", "peek"),
    *("invalidate", "tag", "invalidates", "set", "many"),
)


class Path:
    """A cache, and one way through it.

    Args:
        name: Which one.
        store: What is behind the memory of the process, or *None*.
        options: Settings of the cache.
    """

    def __init__(self, name: str, store: BrokenStore | None, **options: Any) -> None:
        self.name = name
        self.cache = Cache(store, jitter=0.0, **options)
        self.inside = 0
        self.failing = False
        cache, things = self.cache, self.cache.entity("thing", model=str, ttl=10)

        @cache.cached("k:{key}", ttl=10, stale=100 if name == "stale" else 0, tags=["t:{key}"])
        async def get(key: str) -> str:
            self.inside += 1
            try:
                await asyncio.sleep(0)
                if self.failing:
                    raise ValueError
                return "value"
            finally:
                self.inside -= 1

        @cache.invalidates("k:{key}")
        async def change(key: str) -> None:
            await asyncio.sleep(0)

        async def herd() -> None:
            await asyncio.gather(*(get("a") for _ in range(3)))

        self.get = get
        others: dict[str, Callable[[], Awaitable[Any]]] = {
            "herd": herd,
            "refresh": lambda: get.refresh("a"),
            "peek": lambda: get.peek("a"),
            "invalidate": lambda: get.invalidate("a"),
            "tag": lambda: cache.ainvalidate_tag("t:a"),
            "invalidates": lambda: change("a"),
            "set": lambda: things.aset("1", "thing"),
            "many": lambda: things.aget_many(["1", "2"]),
        }
        self.walk: Callable[[], Awaitable[Any]] = others.get(name, lambda: get("a"))


async def cancelled_after(
    steps: int, path: Path, clock: FakeClock, store: BrokenStore | None, how: Any
) -> bool:
    """Cancel a caller after so many steps; tell whether he had arrived by then."""
    if path.name in ("hit", "stale", "peek", "invalidate", "tag", "invalidates"):
        await path.get("a")
    clock.advance(15 if path.name == "stale" else 0)
    if store is not None and how is not None:
        store.breaks(how, times=2)
    path.failing = path.name == "failing"
    other = asyncio.ensure_future(path.get("a")) if path.name == "joined" else None
    await asyncio.sleep(0)
    caller: asyncio.Future[Any] = asyncio.ensure_future(path.walk())
    for _ in range(steps):
        await asyncio.sleep(0)
    arrived: bool = caller.done()
    caller.cancel()
    ended: Any = (await asyncio.gather(caller, return_exceptions=True))[0]
    assert arrived or isinstance(ended, asyncio.CancelledError | ValueError)
    assert other is None or "value" == await other
    for _ in range(8):
        await settled()
    assert (0, 0) == (path.inside, len(path.cache._tiers.flights))
    assert {asyncio.current_task()} == asyncio.all_tasks()
    path.failing = False
    if store is not None:
        store.mend()
        assert how is not None or set() == store._store.leases
    if steps and path.name in ("invalidate", "tag"):
        assert MISS is await path.get.peek("a")
    assert "value" == await path.get("a")
    return arrived


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("tiers", ["memory", "store", "both", "hung store", "slow store", "lost answers"])
def test_a_caller_may_leave_at_any_step(name: str, tiers: str, clock: FakeClock) -> None:
    """No load, lease, task or place is left; others get their values, and invalidations hold."""
    how = {"hung store": "hang", "slow store": "slow", "lost answers": "lost"}.get(tiers)
    options = {"local_ttl": 1.0} if tiers == "both" else {}
    for steps in range(MOST_STEPS):
        store = None if tiers == "memory" else BrokenStore()
        path = Path(name, store, **options)
        if asyncio.run(cancelled_after(steps, path, clock, store, how)):
            return
    raise AssertionError("the caller never arrived")
