"""What the cache asks of a store that processes share."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class StoreUnavailable(Exception):
    """The store was not asked, or did not answer in time. No caller of a cached function ever sees it."""


class Half(Protocol):
    """One half of a store: the blocking one returns what is said here, the awaiting one awaitables of it.

    Every operation is one round trip and takes no longer than *within* seconds. Whatever goes wrong, it
    raises `StoreUnavailable`, and the store's own breaker counts it. Cancellation passes through.
    """

    def get(self, keys: Sequence[str], within: float) -> Any:
        """Return the values (``bytes`` or *None*) of *keys*: an entry first, then the marks of its tags."""
        ...

    def claim(self, key: str, token: str, seconds: float, within: float) -> Any:
        """Take the lease on filling *key*, for *seconds*; return whether it was free."""
        ...

    def fill(self, key: str, value: bytes, ttl: float, token: str, within: float) -> Any:
        """Store what was loaded under the lease *token* and end the lease; return whether it was stored.

        It is not stored where the lease has been voided: by a `put` or an `invalidate` since.
        """
        ...

    def release(self, key: str, token: str, within: float) -> Any:
        """End the lease *token* without a value, so that the next caller need not wait for it."""
        ...

    def put(self, key: str, value: bytes, ttl: float, within: float) -> Any:
        """Write *value*, and void any lease: a load that began before must not overwrite it."""
        ...

    def invalidate(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float) -> Any:
        """Remove *keys*, void their leases, write the *marks* of tags for *ttl* seconds.

        Other processes are told.
        """
        ...


class Store(Protocol):
    """A store that processes share, in two halves."""

    blocking: Half
    awaiting: Half

    def usable(self) -> bool:
        """Tell without any waiting whether it is worth asking: false while the breaker is open.

        True for one caller at a time when a probe is due; that caller must then perform an operation.
        """
        ...

    def close(self) -> None:
        """Let go of connections and threads."""
        ...
