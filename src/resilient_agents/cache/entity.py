"""`Cache.entity`: the entries of one kind of thing, read and written by hand."""

from collections.abc import Iterable
from typing import Any, Generic, TypeGuard, TypeVar, cast

from resilient_agents._flow import Flow, arun, run
from resilient_agents.cache._calls import glimpsed
from resilient_agents.cache._entry import MISS, Entry, Missing, monotonic
from resilient_agents.cache._plan import Plan
from resilient_agents.cache._tiers import Call, Tiers
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY, Way
from resilient_agents.cache.keys import key_part, literal_key
from resilient_agents.cache.store import StoreUnavailable

M = TypeVar("M")


class Entity(Generic[M]):
    """The entries of one kind of thing, by id; made by `Cache.entity`.

    Each method has an awaiting twin. None of them raises because of the store: what it cannot tell is
    not there, and what it cannot be told is removed from it as soon as it answers again.
    """

    def __init__(self, tiers: Tiers, plan: Plan, name: str) -> None:
        self._tiers = tiers
        self._plan = plan
        self._name = name

    def __repr__(self) -> str:
        return f"Entity({self._name!r})"

    def key_for(self, id: object) -> str:  # noqa: A002 - the word a user would say
        """Return the key of a thing, as it stands in the store and in events."""
        return literal_key(f"{self._name}:{key_part(id)}", prefix=self._tiers.name)

    def get(self, id: object) -> M | None:  # noqa: A002
        """Return a thing, or *None* where the cache does not have it."""
        return run(self._got(id, BLOCKING_WAY))

    async def aget(self, id: object) -> M | None:  # noqa: A002
        """Return a thing; the awaiting twin of `get`."""
        return await arun(self._got(id, AWAITING_WAY))

    def get_many(self, ids: Iterable[object]) -> dict[Any, M]:
        """Return those things that the cache has, by id, with one look at the store."""
        return run(self._got_many(ids, BLOCKING_WAY))

    async def aget_many(self, ids: Iterable[object]) -> dict[Any, M]:
        """Return those things that the cache has; the awaiting twin of `get_many`."""
        return await arun(self._got_many(ids, AWAITING_WAY))

    def set(self, id: object, value: M) -> bool:  # noqa: A002
        """Keep a thing as it is now; loads of it that began before do not overwrite it.

        Returns:
            Whether the store has it. If not, it will at least lose what it had.

        Raises:
            UnfitValue: The store could not give it back as what it is. Nothing was changed.
        """
        return run(self._tiers.write(self._call(id), self._entry(value), BLOCKING_WAY))

    async def aset(self, id: object, value: M) -> bool:  # noqa: A002
        """Keep a thing as it is now; the awaiting twin of `set`."""
        return await arun(self._tiers.write(self._call(id), self._entry(value), AWAITING_WAY))

    def delete(self, id: object) -> bool:  # noqa: A002
        """Forget a thing, in every process.

        Returns:
            Whether the store knows; else it is told as soon as it answers again.
        """
        return run(self._tiers.invalidate((self.key_for(id),), (), BLOCKING_WAY))

    async def adelete(self, id: object) -> bool:  # noqa: A002
        """Forget a thing; the awaiting twin of `delete`."""
        return await arun(self._tiers.invalidate((self.key_for(id),), (), AWAITING_WAY))

    def _call(self, id: object) -> Call:  # noqa: A002
        return Call(self._plan, self.key_for(id), (), _no_origin, self._tiers.budget)

    def _entry(self, value: M) -> Entry:
        now = monotonic()
        return Entry(value, born=now, soft=now + self._plan.freshness.lifetime(value))

    def _got(self, id: object, way: Way) -> Flow[M | None]:  # noqa: A002
        found = yield from glimpsed(self._tiers, self._call(id), way)
        return None if found is MISS else cast("M", found)

    def _got_many(self, ids: Iterable[object], way: Way) -> Flow[dict[Any, M]]:
        tiers, memory = self._tiers, self._tiers.memory
        calls = {each: self._call(each) for each in ids}
        found: dict[Any, Entry | None] = {}
        if memory is not None:
            now = monotonic()
            kept = {each: memory.entries.get(call.key) for each, call in calls.items()}
            found = {
                each: entry
                for each, entry in kept.items()
                if entry is not None and (tiers.store is None or now < entry.quiet_until)
            }
        wanted = [each for each in calls if each not in found]
        if tiers.store is not None and wanted:
            epoch = 0 if memory is None else memory.epoch
            asking = Call(self._plan, "", (), _no_origin, tiers.budget)
            names = [calls[each].key for each in wanted]
            try:
                values = yield from tiers.ask(asking, way.half(tiers.store).get, names)
            except StoreUnavailable:
                wanted = values = []
            for each, value in zip(wanted, values, strict=True):
                found[each] = tiers.learn(calls[each], (value,), epoch, None)
        return {each: entry.value for each, entry in found.items() if _is_there(entry)}


def _is_there(entry: Entry | None) -> TypeGuard[Entry]:
    return entry is not None and monotonic() < entry.soft and not isinstance(entry.value, Missing)


def _no_origin() -> Any:
    raise NotImplementedError("an entity has no origin")
