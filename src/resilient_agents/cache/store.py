"""What the cache asks of a store that processes share.

Names are whole and stand as they are: a key like ``svc:{agent:42}``, and for a tag the name of its *mark*,
like ``svc:{org:1}:tag``. The lease on a key is ``svc:{agent:42}:lease``; the braces keep the two together in
a cluster.

A *mark* is the version of a tag: a few random bytes, written anew when the tag is invalidated. An entry
remembers the marks that were there before its origin ran, and counts for as long as they are the same. So no
clock of one machine is ever compared with another's.

A *lease* is the right to fill a key. It ends with `Half.fill` or `Half.release`, by itself after a time, and
it is void from the moment at which the key is written or invalidated by somebody else.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol


class StoreUnavailable(Exception):
    """The store was not asked, or did not answer in time. Callers of cached functions never see it."""


class Half(Protocol):
    """One half of a store: the blocking one returns what is said here, the awaiting one awaitables of it.

    Every operation is one round trip and takes no longer than *within* seconds. Whatever goes wrong, it
    raises `StoreUnavailable`, and the store's own breaker counts it. Cancellation passes through.
    """

    def get(self, names: Sequence[str], within: float) -> Any:
        """Return the values (``bytes`` or *None*) of *names*: keys, and marks of tags."""
        ...

    def claim(
        self, names: Sequence[str], token: str, seconds: float, within: float, *, take_over: bool = False
    ) -> Any:
        """Take the lease on filling the first of *names*, for *seconds*, and look again.

        With *take_over* it is taken from whoever holds it: his load began earlier, and must not be stored.

        Returns:
            Whether the lease is ours, and the values of *names*, as `get` returns them.
        """
        ...

    def fill(self, key: str, value: bytes, ttl: float, token: str, within: float) -> Any:
        """Store what was loaded under the lease *token* and end the lease; return whether it was stored.

        It is not stored where the lease is void, was taken over or has ended.
        """
        ...

    def release(self, key: str, token: str, within: float) -> Any:
        """End the lease *token* without a value, so that the next caller need not wait for it."""
        ...

    def put(self, key: str, value: bytes, ttl: float, within: float) -> Any:
        """Write *value*, and void any lease: a load that began before must not overwrite it.

        Other processes are told. What could not be done is postponed, as a removal, before it raises.
        """
        ...

    def invalidate(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float) -> Any:
        """Remove *keys*, void their leases, write the *marks* of tags for *ttl* seconds.

        Other processes are told. What could not be done is postponed before it raises.
        """
        ...


class Store(Protocol):
    """A store that processes share, in two halves."""

    blocking: Half
    awaiting: Half

    def usable(self) -> bool:
        """Tell without any waiting whether it is worth asking: false while the breaker is open."""
        ...

    def postpone(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float) -> None:
        """Keep an invalidation that could not be delivered, and deliver it before anything is read again.

        Never waits.
        """
        ...

    def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """Call *heard*, from any thread, with the names that another process has invalidated or written.

        With *None* where messages may have been missed: what is kept in memory must be looked up again. What
        is told through this object itself is not heard: a store with a listener belongs to one cache.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...

    async def aclose(self) -> None:
        """Let go of connections and threads, those of the running event loop included."""
        ...
