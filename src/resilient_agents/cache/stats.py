"""How a cache has fared, in numbers."""

from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheStats:
    """What happened in this process since the cache was made.

    Attributes:
        memory_hits: Calls that were answered from memory with a fresh value.
        store_hits: Calls that were answered from the store with a fresh value.
        misses: Calls that were not answered from the cache.
        stale: Calls that were answered with a value whose time was over.
        herded: Calls that were answered by a load that another call had begun.
        loads: How often an origin was called.
        failed_loads: How often it failed.
        refreshes: How many of the loads were begun in the background.
        unreadable: Stored values that could not be read; each counts as a miss too.
        unfit: Loaded values that could not be stored.
        unavailable: How often a call went on without the store.
        invalidations: How many keys and tags were invalidated here.
        entries: How many entries the memory tier holds.
    """

    memory_hits: int = 0
    store_hits: int = 0
    misses: int = 0
    stale: int = 0
    herded: int = 0
    loads: int = 0
    failed_loads: int = 0
    refreshes: int = 0
    unreadable: int = 0
    unfit: int = 0
    unavailable: int = 0
    invalidations: int = 0
    entries: int = 0

    @property
    def hit_rate(self) -> float:
        """What part of the calls was answered without their origin, from 0 to 1; 0 without calls."""
        answered = self.memory_hits + self.store_hits + self.stale
        calls = answered + self.misses
        return answered / calls if calls else 0.0


class Counters:
    """The numbers as they grow. Each is only ever added to, in one step."""

    __slots__ = tuple(field.name for field in fields(CacheStats) if field.name != "entries")

    memory_hits: int
    store_hits: int
    misses: int
    stale: int
    herded: int
    loads: int
    failed_loads: int
    refreshes: int
    unreadable: int
    unfit: int
    unavailable: int
    invalidations: int

    def __init__(self) -> None:
        for name in self.__slots__:
            setattr(self, name, 0)

    def stats(self, entries: int) -> CacheStats:
        """Return them as they stand now."""
        return CacheStats(entries=entries, **{name: getattr(self, name) for name in self.__slots__})
