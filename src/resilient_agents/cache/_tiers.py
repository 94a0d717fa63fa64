"""Memory and store together: look, keep, write and invalidate, within one budget of time a call."""

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from resilient_agents import events
from resilient_agents._flow import Flow
from resilient_agents.cache._entry import Entry, monotonic
from resilient_agents.cache._flights import Flights
from resilient_agents.cache._memory import Memory
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._sealing import Refused, seal, unseal
from resilient_agents.cache._ways import Way
from resilient_agents.cache.stats import Counters
from resilient_agents.cache.store import Store, StoreUnavailable

LONGEST_LIFE = 7 * 86_400.0
"""How long an entry lives at most, and how long the mark of a tag is kept: no entry outlives its marks."""

_log = logging.getLogger("resilient_agents.cache")


class Call:
    """One call of a cached function: what is asked for, and what was learnt so far.

    Attributes:
        plan: The function's settings.
        key: What is asked for.
        tags: The marks of its tags, by name.
        load: Calls the origin.
        left: Time in seconds that the store may still take of this call.
        marks: The versions of the tags, as they were seen last.
        reason: Why nothing was found, if nothing was.
        seen: The entry that is to be replaced, if one is.
    """

    __slots__ = ("key", "left", "load", "marks", "plan", "reason", "seen", "tags")

    def __init__(
        self, plan: Plan, key: str, tags: Sequence[str], load: Callable[[], Any], budget: float
    ) -> None:
        self.plan = plan
        self.key = key
        self.tags = tags
        self.load = load
        self.left = budget
        self.marks: Sequence[bytes | None] = ()
        self.reason = "absent"
        self.seen: Entry | None = None

    @property
    def names(self) -> Sequence[str]:
        """What the store is asked for: the entry, and the marks of its tags."""
        return (self.key, *self.tags)


class Tiers:
    """The memory of this process, the store that processes share, or both.

    Attributes:
        name: The cache's prefix, for events.
        memory: The memory tier, or *None*.
        store: What processes share, or *None*.
        budget: Time in seconds that the store may take of one call.
        local_ttl: Time in seconds for which memory is not looked up in the store.
        lease: Time in seconds that a load of another process is waited for at first.
        flights: The loads under way.
        counters: What happened.
    """

    def __init__(
        self,
        name: str,
        *,
        memory: Memory | None,
        store: Store | None,
        budget: float,
        local_ttl: float,
        lease: float,
    ) -> None:
        self.name = name
        self.memory = memory
        self.store = store
        self.budget = budget
        self.local_ttl = local_ttl
        self.lease = lease
        self.flights = Flights()
        self.counters = Counters()
        if memory is not None and store is not None:
            store.listen(self.hear)

    def tell(self, kind: type[events.CacheEvent], **attributes: Any) -> None:
        """Emit an event of this cache."""
        if events.subscribed():
            events.emit(kind, cache=self.name, **attributes)

    def hear(self, names: Sequence[str] | None) -> None:
        """Learn what was invalidated or written elsewhere; with *None*, that it is not known."""
        if names is not None:
            self.forget(names)
        elif self.memory is not None:
            self.memory.distrust()

    def forget(self, names: Sequence[str]) -> None:
        """Void the loads of these keys and tags in this process, and what memory has of them."""
        self.flights.invalidate(names)
        if self.memory is not None:
            self.memory.invalidate(names)

    def answers(self, call: Call) -> bool:
        """Tell whether the store may be asked for a call."""
        return self.store is not None and call.left > 0 and self.store.usable()

    def ask(self, call: Call, operation: Callable[..., Any], *args: Any, **options: Any) -> Flow[Any]:
        """Perform one operation of the store within what is left of the budget.

        Raises:
            StoreUnavailable: It is not usable, did not answer in time, or the budget is spent.
        """
        if not self.answers(call):
            raise StoreUnavailable("not asked")
        begun = monotonic()
        try:
            answer = yield partial(operation, *args, within=call.left, **options)
        except Exception as exc:  # a store says StoreUnavailable; one that says something else is broken too
            call.left = 0.0
            self.counters.unavailable += 1
            raise StoreUnavailable("did not answer") from exc
        call.left -= monotonic() - begun
        return answer

    def look(self, call: Call, way: Way) -> Flow[tuple[Entry | None, str]]:
        """Return the newest entry for a call, and where it was found.

        The tier is ``""`` where memory has an entry that the store, which does not answer, cannot confirm.
        """
        memory, store = self.memory, self.store
        entry = None if memory is None else memory.entries.get(call.key)
        if entry is not None and (store is None or monotonic() < entry.quiet_until):
            entry.visited = True
            return self.alive(call, entry), "memory"
        if store is None:
            return None, "memory"
        epoch = 0 if memory is None else memory.epoch
        try:
            values = yield from self.ask(call, way.half(store).get, call.names)
        except StoreUnavailable:
            call.reason = "unavailable"
            return self.alive(call, entry), ""
        return self.learn(call, values, epoch, entry), "store"

    def learn(
        self, call: Call, values: Sequence[bytes | None], epoch: int, entry: Entry | None
    ) -> Entry | None:
        """Read what the store has; memory then has the same, in place of *entry*."""
        shared = self.read(call, values)
        if self.memory is not None:
            if shared is not None:
                self.remember(call, shared, epoch)
            elif entry is not None:
                self.memory.drop(call.key, entry)
        return shared

    def alive(self, call: Call, entry: Entry | None) -> Entry | None:
        """Return *entry*, unless it is too old for everything."""
        if entry is None or monotonic() < entry.soft + call.plan.freshness.grace(entry.value):
            return entry
        call.reason = "expired"
        if self.memory is not None:
            self.memory.drop(call.key, entry)
        return None

    def read(self, call: Call, values: Sequence[bytes | None]) -> Entry | None:
        """Read what the store has for a call: an entry, and the marks of its tags."""
        call.marks = values[1:]
        data = values[0]
        if data is None:
            call.reason = "absent"
            return None
        try:
            return unseal(call.plan, call.key, call.tags, data, call.marks)
        except Refused as refusal:
            call.reason = refusal.reason
            if refusal.reason == "unreadable":
                self.counters.unreadable += 1
            return None

    def remember(self, call: Call, entry: Entry, epoch: int | None) -> None:
        """Keep *entry* in memory, unless something was invalidated since *epoch*."""
        if self.memory is None:
            return
        quiet = call.plan.freshness.quiet(entry)
        if self.store is not None:
            quiet = min(quiet, monotonic() + self.local_ttl)
        entry.quiet_until = quiet
        self.memory.put(call.key, entry, epoch)

    def sealed(self, call: Call, entry: Entry) -> bytes | None:
        """Return *entry* as the store keeps it; *None* where it cannot be written."""
        try:
            return seal(call.plan, call.key, entry)
        except Exception as exc:
            self.counters.unfit += 1
            self.warn(call.plan, exc)
            return None

    def warn(self, plan: Plan, exc: Exception) -> None:
        """Say once of each function that its values cannot be kept, and never what they are."""
        from resilient_agents.cache.codec import UnfitValue

        if not plan.warned:
            plan.warned = True
            _log.warning(
                "values of %s are not cached; its calls go to the origin. It is said once: %s",
                plan.name,
                exc if isinstance(exc, UnfitValue) else type(exc).__name__,
            )

    def write(self, call: Call, entry: Entry, way: Way) -> Flow[bool]:
        """Write a value that somebody knows for sure; loads that began before it do not overwrite it.

        Returns:
            Whether the store has it.

        Raises:
            UnfitValue: The store could not give it back as what it is. Nothing was changed.
        """
        done = True
        data = seal(call.plan, call.key, entry) if self.store is not None else b""
        self.forget((call.key,))
        if self.store is not None:
            ttl = entry.soft + call.plan.freshness.grace(entry.value) - monotonic()
            put = partial(way.half(self.store).put, call.key, data, ttl, within=self.budget)
            try:
                done = yield from self._deliver(put, (call.key,), {})
            finally:
                # A reader may have found the old value in between.
                self.forget((call.key,))
        self.remember(call, entry, None)
        return done

    def invalidate(self, keys: Sequence[str], tags: Sequence[str], way: Way) -> Flow[bool]:
        """Invalidate keys and tags everywhere.

        Returns:
            Whether it is done; else it is done when the store answers again.
        """
        names = (*keys, *tags)
        self.counters.invalidations += len(names)
        self.forget(names)
        try:
            return (yield from self.expel(keys, tags, way))
        finally:
            # A reader may have found the old value before the store lost it.
            self.forget(names)

    def expel(self, keys: Sequence[str], tags: Sequence[str], way: Way) -> Flow[bool]:
        """Have the store forget keys and tags, and tell other processes; now or later.

        Returns:
            Whether it is done.
        """
        if self.store is None or not (keys or tags):
            return True
        marks = {tag: secrets.token_bytes(8) for tag in tags}
        operation = partial(way.half(self.store).invalidate, keys, marks, LONGEST_LIFE, within=self.budget)
        return (yield from self._deliver(operation, keys, marks))

    def _deliver(
        self, operation: Callable[[], Any], keys: Sequence[str], marks: Mapping[str, bytes]
    ) -> Flow[bool]:
        """Tell the store of a change, now or later."""
        delivered = False
        try:
            yield operation
            delivered = True
        except Exception:
            self.counters.unavailable += 1
        finally:
            if not delivered and self.store is not None:
                self.store.postpone(keys, marks, LONGEST_LIFE)
        return delivered
