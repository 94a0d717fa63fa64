"""Cached functions: the short ways to a hit."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from resilient_agents import _clock, events
from resilient_agents._flow import arun, run
from resilient_agents.cache._calls import answer
from resilient_agents.cache._entry import Entry
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._tiers import Call, Tiers
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY
from resilient_agents.cache.keys import KeyOf
from resilient_agents.cache.store import Store
from resilient_agents.events import subscribed

NO_ENTRIES: dict[str, Entry] = {}


class Function:
    """What a cached function is made of.

    Attributes:
        tiers: The cache.
        plan: The function's settings.
        fn: The function, with its time limit.
        key_of: Makes the key of a call.
        tags_of: Make the names of its tags' marks.
        awaited: Whether it must be awaited.
    """

    __slots__ = ("awaited", "fn", "key_of", "plan", "tags_of", "tiers")

    def __init__(
        self,
        tiers: Tiers,
        plan: Plan,
        fn: Callable[..., Any],
        *,
        key_of: KeyOf,
        tags_of: Sequence[KeyOf],
        awaited: bool,
    ) -> None:
        self.tiers = tiers
        self.plan = plan
        self.fn = fn
        self.key_of = key_of
        self.tags_of = tuple(tags_of)
        self.awaited = awaited

    @property
    def passes(self) -> bool:
        """Whether a call that finds the store away may go straight to the origin.

        Only the first one at a time does; those beside it share loads, and are limited. With a memory tier
        there may be something left to answer with, and what does not exist may have to be remembered.
        """
        return self.tiers.memory is None and self.plan.freshness.negative_ttl is None

    def call(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call that begins."""
        tags = tuple([tag_of(args, kwargs) for tag_of in self.tags_of]) if self.tags_of else ()
        return Call(self.plan, key, tags, partial(self.fn, *args, **kwargs), self.tiers.budget)

    def begun(self, *args: Any, **kwargs: Any) -> Call:
        """Return a call with these arguments."""
        return self.call(self.key_of(args, kwargs), args, kwargs)

    def tell_hit(self, key: str, tier: str) -> None:
        """Say that a call was answered with a fresh value."""
        events.emit(events.CacheHit, cache=self.tiers.name, key=key, tier=tier)

    def tell_pass(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Say that a call goes straight to its origin."""
        key = self.key_of(args, kwargs)
        events.emit(events.CacheMiss, cache=self.tiers.name, key=key, reason="unavailable")


def cached(function: Function) -> Callable[..., Any]:
    """Return the function as it is called. Its ways to a hit are the reason why they are written by hand."""
    if function.tiers.store is None:
        return _remembering_awaiting(function) if function.awaited else _remembering_blocking(function)
    build = _sharing_awaiting if function.awaited else _sharing_blocking
    return build(function, function.tiers.store)


def _remembering_blocking(function: Function) -> Callable[..., Any]:
    tiers, key_of, counters = function.tiers, function.key_of, function.tiers.counters
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries

    def call(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            if subscribed():
                function.tell_hit(key, "memory")
            return entry.value
        return run(answer(tiers, function.call(key, args, kwargs), BLOCKING_WAY))

    return call


def _remembering_awaiting(function: Function) -> Callable[..., Any]:
    tiers, key_of, counters = function.tiers, function.key_of, function.tiers.counters
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries

    async def call(*args: Any, **kwargs: Any) -> Any:
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            if subscribed():
                function.tell_hit(key, "memory")
            return entry.value
        return await arun(answer(tiers, function.call(key, args, kwargs), AWAITING_WAY))

    return call


def _sharing_blocking(function: Function, store: Store) -> Callable[..., Any]:
    tiers, key_of, counters, usable = function.tiers, function.key_of, function.tiers.counters, store.usable
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries
    fn, passes, passing = function.fn, function.passes, False

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal passing
        if passes and not passing and not usable():
            passing = True
            try:
                counters.misses += 1
                counters.loads += 1
                if subscribed():
                    function.tell_pass(args, kwargs)
                return fn(*args, **kwargs)
            finally:
                passing = False
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            if subscribed():
                function.tell_hit(key, "memory")
            return entry.value
        look = _Look(function.call(key, args, kwargs), tiers, entry)
        try:
            if usable():
                look.values = store.blocking.get(look.call.names, within=look.call.left)
        except Exception:
            counters.unavailable += 1
        found = _found(look)
        if found[1] == "hit":
            return _taken(function, look.call, found[0])
        return run(answer(tiers, look.call, BLOCKING_WAY, found))

    return call


def _sharing_awaiting(function: Function, store: Store) -> Callable[..., Any]:
    tiers, key_of, counters, usable = function.tiers, function.key_of, function.tiers.counters, store.usable
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries
    fn, passes, passing = function.fn, function.passes, False

    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal passing
        if passes and not passing and not usable():
            passing = True
            try:
                counters.misses += 1
                counters.loads += 1
                if subscribed():
                    function.tell_pass(args, kwargs)
                return await fn(*args, **kwargs)
            finally:
                passing = False
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            if subscribed():
                function.tell_hit(key, "memory")
            return entry.value
        look = _Look(function.call(key, args, kwargs), tiers, entry)
        try:
            if usable():
                look.values = await store.awaiting.get(look.call.names, within=look.call.left)
        except Exception:
            counters.unavailable += 1
        found = _found(look)
        if found[1] == "hit":
            return _taken(function, look.call, found[0])
        return await arun(answer(tiers, look.call, AWAITING_WAY, found))

    return call


class _Look:
    """One look at the store: what for, when it began, and what it brought."""

    __slots__ = ("begun", "call", "entry", "epoch", "tiers", "values")

    def __init__(self, call: Call, tiers: Tiers, entry: Entry | None) -> None:
        self.call = call
        self.tiers = tiers
        self.entry = entry
        self.epoch = 0 if tiers.memory is None else tiers.memory.epoch
        self.begun = _clock.in_force.monotonic()
        self.values: Sequence[bytes | None] | None = None


def _found(look: _Look) -> tuple[Entry | None, str]:
    """Return what a look at the store brought: a fresh entry as a ``"hit"``, else as `answer` takes it."""
    call, tiers = look.call, look.tiers
    if look.values is None:
        call.left, call.reason = 0.0, "unavailable"
        return tiers.alive(call, look.entry), ""
    now = _clock.in_force.monotonic()
    call.left -= now - look.begun
    shared = tiers.learn(call, look.values, look.epoch, look.entry)
    if shared is not None and now < call.plan.freshness.quiet(shared):
        return shared, "hit"
    return shared, "store"


def _taken(function: Function, call: Call, entry: Entry | None) -> Any:
    """Answer with a fresh entry of the store."""
    assert entry is not None  # noqa: S101 - for type checkers
    function.tiers.counters.store_hits += 1
    if subscribed():
        function.tell_hit(call.key, "store")
    return entry.value
