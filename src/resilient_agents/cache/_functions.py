"""Cached functions: the short ways to a hit, and what else such a function can do."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any

from resilient_agents import _clock, events
from resilient_agents._flow import arun, run
from resilient_agents.cache._calls import answer, glimpsed, renewed
from resilient_agents.cache._entry import Entry
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._tiers import Call, Tiers
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY
from resilient_agents.cache.keys import KeyOf

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
        alone: Whether no call goes past the store that is away, at this moment.
    """

    __slots__ = ("alone", "awaited", "fn", "key_of", "plan", "tags_of", "tiers")

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
        self.alone = True

    def call(self, key: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Return a call that begins."""
        tags = tuple([tag_of(args, kwargs) for tag_of in self.tags_of]) if self.tags_of else ()
        return Call(self.plan, key, tags, partial(self.fn, *args, **kwargs), self.tiers.budget)

    def begun(self, *args: Any, **kwargs: Any) -> Call:
        """Return a call with these arguments."""
        return self.call(self.key_of(args, kwargs), args, kwargs)

    def hit(self, key: str, entry: Entry, tier: str) -> Any:
        """Say that a call was answered with a fresh entry."""
        if events.subscribed():
            events.emit(events.CacheHit, cache=self.tiers.name, key=key, tier=tier)
        return entry.value

    def missed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Say that a call goes straight to its origin."""
        self.tiers.counters.misses += 1
        self.tiers.counters.loads += 1
        if events.subscribed():
            key = self.key_of(args, kwargs)
            events.emit(events.CacheMiss, cache=self.tiers.name, key=key, reason="unavailable")

    @property
    def passes(self) -> bool:
        """Whether a call that finds the store away may go straight to the origin.

        Only the first one at a time does; those beside it share loads, and are limited. With a memory tier
        there may be something left to answer with, and what does not exist may have to be remembered.
        """
        return self.tiers.memory is None and self.plan.freshness.negative_ttl is None


def cached_blocking(function: Function) -> Callable[..., Any]:
    """Return the function as it is called, for a ``def``."""
    tiers, key_of, counters = function.tiers, function.key_of, function.tiers.counters
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries
    fn, passes, store = function.fn, function.passes, tiers.store

    def call(*args: Any, **kwargs: Any) -> Any:
        if store is not None and passes and function.alone and not store.usable():
            function.alone = False
            try:
                function.missed(args, kwargs)
                return fn(*args, **kwargs)
            finally:
                function.alone = True
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            return function.hit(key, entry, "memory")
        begun = function.call(key, args, kwargs)
        if store is None:
            return run(answer(tiers, begun, BLOCKING_WAY))
        at = _clock.in_force.monotonic()
        epoch = 0 if tiers.memory is None else tiers.memory.epoch
        try:
            values = store.blocking.get(begun.names, within=begun.left) if store.usable() else None
        except Exception:
            values = None
            counters.unavailable += 1
        found = _read(function, begun, values, at, epoch, entry)
        if found[0] is not None and found[1] == "hit":
            counters.store_hits += 1
            return function.hit(key, found[0], "store")
        return run(answer(tiers, begun, BLOCKING_WAY, found))

    return call


def cached_awaiting(function: Function) -> Callable[..., Any]:
    """Return the function as it is called, for an ``async def``."""
    tiers, key_of, counters = function.tiers, function.key_of, function.tiers.counters
    entries = NO_ENTRIES if tiers.memory is None else tiers.memory.entries
    fn, passes, store = function.fn, function.passes, tiers.store

    async def call(*args: Any, **kwargs: Any) -> Any:
        if store is not None and passes and function.alone and not store.usable():
            function.alone = False
            try:
                function.missed(args, kwargs)
                return await fn(*args, **kwargs)
            finally:
                function.alone = True
        key = key_of(args, kwargs)
        entry = entries.get(key)
        if entry is not None and _clock.in_force.monotonic() < entry.quiet_until:
            entry.visited = True
            counters.memory_hits += 1
            return function.hit(key, entry, "memory")
        begun = function.call(key, args, kwargs)
        if store is None:
            return await arun(answer(tiers, begun, AWAITING_WAY))
        at = _clock.in_force.monotonic()
        epoch = 0 if tiers.memory is None else tiers.memory.epoch
        try:
            values = await store.awaiting.get(begun.names, within=begun.left) if store.usable() else None
        except Exception:
            values = None
            counters.unavailable += 1
        found = _read(function, begun, values, at, epoch, entry)
        if found[0] is not None and found[1] == "hit":
            counters.store_hits += 1
            return function.hit(key, found[0], "store")
        return await arun(answer(tiers, begun, AWAITING_WAY, found))

    return call


def _read(
    function: Function,
    call: Call,
    values: Sequence[bytes | None] | None,
    begun: float,
    epoch: int,
    entry: Entry | None,
) -> tuple[Entry | None, str]:
    """Return what a look at the store brought: a fresh entry as a ``"hit"``, else as `answer` takes it."""
    tiers = function.tiers
    if values is None:
        call.left, call.reason = 0.0, "unavailable"
        return tiers.alive(call, entry), ""
    now = _clock.in_force.monotonic()
    call.left -= now - begun
    shared = tiers.learn(call, values, epoch, entry)
    if shared is not None and now < call.plan.freshness.quiet(shared):
        return shared, "hit"
    return shared, "store"


def with_powers(function: Function, fn: Callable[..., Any], call: Callable[..., Any]) -> Any:
    """Return *call* in the clothes of *fn*, with what a cached function can do besides; see `Cached`."""
    way = AWAITING_WAY if function.awaited else BLOCKING_WAY
    perform: Any = arun if function.awaited else run
    tiers, key_of = function.tiers, function.key_of

    def key_for(*args: Any, **kwargs: Any) -> str:
        return key_of(args, kwargs)

    def invalidate(*args: Any, **kwargs: Any) -> Any:
        return perform(tiers.invalidate((key_of(args, kwargs),), (), way))

    def refresh(*args: Any, **kwargs: Any) -> Any:
        return perform(renewed(tiers, function.begun(*args, **kwargs), way))

    def peek(*args: Any, **kwargs: Any) -> Any:
        return perform(glimpsed(tiers, function.begun(*args, **kwargs), way))

    powered: Any = wraps(fn)(call)
    powered.key_for, powered.invalidate = key_for, invalidate
    powered.refresh, powered.peek = refresh, peek
    return Method(powered) if _is_in_class(fn) else powered


def _is_in_class(fn: Callable[..., Any]) -> bool:
    owner = fn.__qualname__.rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


class Method(partial[Any]):
    """A cached function in a class: bound to an object, what it can do is bound too.

    `inspect` sees through a ``partial``, to whether it must be awaited.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(partial(self.func, *self.args))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.func if instance is None else Method(self.func, instance)

    def __getattr__(self, name: str) -> Any:
        if name in _POWERS:
            return partial(getattr(self.func, name), *self.args)
        if name in _CLOTHES:
            return getattr(self.func, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


_POWERS = frozenset({"invalidate", "key_for", "peek", "refresh"})
_CLOTHES = frozenset({"__name__", "__qualname__"})
