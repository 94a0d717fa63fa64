"""What happens in a cache. Keys are told, values never."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resilient_agents.events.bus import Event

if TYPE_CHECKING:
    from resilient_agents.errors import Failure


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheEvent(Event):
    """Something happened in a cache.

    Attributes:
        cache: The cache's prefix.
    """

    cache: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheHit(CacheEvent):
    """A call was answered from the cache, with a fresh value.

    Attributes:
        key: The key of the call.
        tier: Where it was found: ``"memory"``, or ``"store"`` for what processes share.
    """

    key: str
    tier: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheMiss(CacheEvent):
    """A call was not answered from the cache.

    Attributes:
        key: The key of the call.
        reason: ``"absent"``, ``"expired"``, ``"invalidated"`` (one of its tags was), ``"unreadable"`` (what
            is stored is none of ours, damaged or of another shape) or ``"unavailable"`` (the store was not
            asked, or did not answer).
    """

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheStale(CacheEvent):
    """A call was answered with a value whose time is over.

    Attributes:
        key: The key of the call.
        reason: Why: ``"refreshing"`` (it is loaded anew in the background), ``"failed"`` (its origin fails,
            or failed a moment ago), ``"slow"`` (its origin takes long) or ``"unavailable"`` (the store that
            should confirm it does not answer).
        age: Time in seconds since it was loaded.
    """

    key: str
    reason: str
    age: float


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheHerded(CacheEvent):
    """A call was answered by a load that another call had begun.

    Attributes:
        key: The key of the call.
        across: Whose load it was: one of this ``"process"``, or of other ``"processes"``.
    """

    key: str
    across: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheDegraded(CacheEvent):
    """The store does not answer, or refuses writes: calls go on without it until it does.

    Attributes:
        failure: What went wrong.
        reads: Whether it is read all the same, since it refuses writes only.
    """

    failure: "Failure"
    reads: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRestored(CacheEvent):
    """The store answers again.

    Attributes:
        seconds: For how long it did not, in seconds.
        replayed: How many invalidations were kept meanwhile, and are delivered now.
    """

    seconds: float
    replayed: int
