"""A cache against a dictionary with a clock: whatever is asked in what order, the answers are the same."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from resilient_agents.cache import MISS, Cache
from resilient_agents.errors import ExternalFailure, NotFound
from resilient_agents.testing import FakeClock, FakeStore

IDS = st.sampled_from(["1", "2", "3"])
TTL, NEGATIVE, GRACE = 10.0, 3.0, 20.0


class Model:
    """What a cache should do, in the plainest words: a dictionary of values, and when they end."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Any, float, float]] = {}

    def look(self, key: str, now: float) -> Any:
        """Return a fresh value, or MISS."""
        value, fresh_until, _ = self.entries.get(key, (MISS, 0.0, 0.0))
        return value if now < fresh_until else MISS

    def old(self, key: str, now: float) -> Any:
        """Return a value that may stand in for a failure, or MISS."""
        value, _, end = self.entries.get(key, (MISS, 0.0, 0.0))
        return value if now < end else MISS

    def keep(self, key: str, value: Any, now: float) -> None:
        """Keep a value."""
        life = NEGATIVE if value is None or value is NotFound else TTL
        grace = 0.0 if value is NotFound else GRACE
        self.entries[key] = (value, now + life, now + life + grace)


class CacheAgainstModel(RuleBasedStateMachine):
    """One process, or two that share a store; rows come, change, vanish and cannot be reached."""

    awaited = False

    @initialize(tiers=st.sampled_from(["memory", "store", "both"]))
    def begin(self, tiers: str) -> None:
        """Make caches and an empty table."""
        self.clock = FakeClock()
        self.clock.__enter__()
        self.runner = asyncio.Runner()
        self.tiers = tiers
        self.rows: dict[str, Any] = {}
        self.reachable = True
        self.loads = 0
        self.model = Model()
        local = 1.0 if tiers == "both" else None
        stores = [None] if tiers == "memory" else FakeStore.twins(2)
        self.caches = [Cache(store, local_ttl=local, jitter=0.0, throttle=0.0) for store in stores]
        self.functions = [self.function(cache) for cache in self.caches]

    def teardown(self) -> None:
        """Put the clock back."""
        self.runner.close()
        self.clock.__exit__(None, None, None)

    def function(self, cache: Cache) -> Any:
        """Return the function of one process."""

        def origin(id: str) -> Any:  # noqa: A002
            self.loads += 1
            if not self.reachable:
                raise ExternalFailure
            if id not in self.rows:
                raise NotFound
            return self.rows[id]

        async def aorigin(id: str) -> Any:  # noqa: A002
            await asyncio.sleep(0)
            return origin(id)

        decorate = cache.cached(
            "row:{id}",
            ttl=TTL,
            stale_if_error=GRACE,
            negative_ttl=NEGATIVE,
            tags=["kind:{id}", "all"],
            model=Any,
        )
        return decorate(aorigin if self.awaited else origin)

    def settled(self, answer: Any) -> Any:
        """Return an answer once it is there."""
        if not self.awaited:
            return answer

        async def wait() -> Any:
            return await answer

        return self.runner.run(wait())

    @rule(who=st.integers(0, 1), id=IDS, again=st.booleans())
    def ask(self, who: int, id: str, again: bool) -> None:  # noqa: A002
        """Ask for a row, or for a new look at it, of which copies in other memories do not hear."""
        again = again and self.tiers != "both"
        function, now, before = self.functions[who % len(self.functions)], self.clock.monotonic(), self.loads
        expected = MISS if again else self.model.look(id, now)
        loads = expected is MISS
        if loads:
            expected = self.rows.get(id, NotFound) if self.reachable else ExternalFailure
            if expected is not ExternalFailure:
                self.model.keep(id, expected, now)
            elif not again and self.model.old(id, now) is not MISS:
                expected = self.model.old(id, now)
        try:
            answer = self.settled((function.refresh if again else function)(id))
        except (NotFound, ExternalFailure) as exc:
            answer = type(exc)
        assert expected == answer
        assert loads == self.loads - before

    @rule(who=st.integers(0, 1), id=IDS)
    def peek(self, who: int, id: str) -> None:  # noqa: A002
        """Look without asking."""
        expected = self.model.look(id, self.clock.monotonic())
        assert (MISS if expected is NotFound else expected) == self.settled(
            self.functions[who % len(self.functions)].peek(id)
        )

    @rule(who=st.integers(0, 1), id=IDS, how=st.sampled_from(["function", "key", "tag"]))
    def invalidate(self, who: int, id: str, how: str) -> None:  # noqa: A002
        """Invalidate one row."""
        who %= len(self.caches)
        self.model.entries.pop(id, None)
        if how == "function":
            assert self.settled(self.functions[who].invalidate(id))
        elif how == "key":
            assert self.caches[who].invalidate(f"row:{id}")
        else:
            assert self.caches[who].invalidate_tag(f"kind:{id}")

    @rule(who=st.integers(0, 1))
    def invalidate_all(self, who: int) -> None:
        """Invalidate all rows by their common tag."""
        self.model.entries.clear()
        cache = self.caches[who % len(self.caches)]
        assert self.runner.run(cache.ainvalidate_tag("all")) if self.awaited else cache.invalidate_tag("all")

    @rule(id=IDS, value=st.none() | st.integers() | st.text() | st.lists(st.booleans()))
    def change(self, id: str, value: Any) -> None:  # noqa: A002
        """Change a row behind the cache's back."""
        self.rows[id] = value

    @rule(id=IDS)
    def remove(self, id: str) -> None:  # noqa: A002
        """Remove one."""
        self.rows.pop(id, None)

    @rule(reachable=st.booleans())
    def connect(self, reachable: bool) -> None:
        """Let the table be reachable, or not."""
        self.reachable = reachable

    @rule(seconds=st.sampled_from([0.5, 2.0, 4.0, 11.0, 25.0]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def nothing_is_under_way(self) -> None:
        """Between two steps no load is left."""
        assert 0 == sum(len(cache._tiers.flights) for cache in getattr(self, "caches", ()))


@pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaiting"])
def test_a_cache_is_a_dictionary_with_a_clock(awaited: bool) -> None:
    """In every order of calls, changes, outages and invalidations the cache answers as the model does."""
    machine: Any = type("Machine", (CacheAgainstModel,), {"awaited": awaited})
    run_state_machine_as_test(machine, settings=settings(max_examples=60, stateful_step_count=30))
