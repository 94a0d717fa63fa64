"""`FakeStore`: what processes share, in memory, for tests of a cache."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from secrets import token_bytes
from threading import RLock
from typing import Any

from resilient_agents._clock import clock


class _Shared:
    """What all twins of a store see."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.data: dict[str, tuple[bytes, float]] = {}
        self.leases: dict[str, tuple[str, float]] = {}
        self.twins: list[FakeStore] = []

    def value(self, name: str) -> bytes | None:
        data, end = self.data.get(name, (None, 0.0))
        return data if clock().monotonic() < end else None

    def holder(self, key: str) -> str | None:
        token, end = self.leases.get(key, (None, 0.0))
        return token if clock().monotonic() < end else None


class _Blocking:
    """The blocking half: each operation is one step that nothing comes between."""

    def __init__(self, store: "FakeStore", shared: _Shared) -> None:
        self._store = store
        self._shared = shared

    def get(self, names: Sequence[str], within: float) -> list[bytes | None]:
        with self._shared.lock:
            return [self._shared.value(name) for name in names]

    def claim(
        self, names: Sequence[str], token: str, seconds: float, within: float, *, take_over: bool = False
    ) -> tuple[bool, list[bytes | None]]:
        with self._shared.lock:
            won = take_over or self._shared.holder(names[0]) in (None, token)
            if won:
                self._shared.leases[names[0]] = (token, clock().monotonic() + seconds)
            return won, self.get(names, within)

    def fill(self, key: str, value: bytes, ttl: float, token: str, within: float) -> bool:
        with self._shared.lock:
            if self._shared.holder(key) != token:
                return False
            del self._shared.leases[key]
            self._shared.data[key] = (value, clock().monotonic() + ttl)
            return True

    def release(self, key: str, token: str, within: float) -> None:
        with self._shared.lock:
            if self._shared.holder(key) == token:
                del self._shared.leases[key]

    def put(self, key: str, value: bytes, ttl: float, within: float) -> None:
        with self._shared.lock:
            self._shared.leases.pop(key, None)
            self._shared.data[key] = (value, clock().monotonic() + ttl)
        self._store.tell([key])

    def invalidate(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float) -> None:
        with self._shared.lock:
            for key in keys:
                self._shared.leases.pop(key, None)
                self._shared.data.pop(key, None)
            for name, mark in marks.items():
                self._shared.data[name] = (mark, clock().monotonic() + ttl)
        self._store.tell([*keys, *marks])


class _Awaiting:
    """The awaiting half: other tasks run before each operation and after it, as on a network."""

    def __init__(self, blocking: Any) -> None:
        self._blocking = blocking

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        perform = getattr(self._blocking, operation)

        async def performed(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            answer = perform(*args, **kwargs)
            await asyncio.sleep(0)
            return answer

        return performed


class FakeStore:
    """A store that processes share, without processes: give each `Cache` a twin of its own.

    ::

        here, there = FakeStore.twins(2)
        cache, other = Cache(here), Cache(there)

    It goes by the clock in force, so a `FakeClock` makes entries and leases end.
    """

    blocking: Any
    awaiting: Any

    def __init__(self, *, _shared: _Shared | None = None) -> None:
        self._shared = _shared or _Shared()
        self._shared.twins.append(self)
        self._heard: list[Callable[[Sequence[str] | None], None]] = []
        self._listens = True
        self.blocking = _Blocking(self, self._shared)
        self.awaiting = _Awaiting(self.blocking)

    @classmethod
    def twins(cls, number: int) -> "list[FakeStore]":
        """Return so many stores that see the same, each as another process would.

        Args:
            number: How many.
        """
        shared = _Shared()
        return [cls(_shared=shared) for _ in range(number)]

    @property
    def names(self) -> set[str]:
        """What is in it now: the names of entries and of marks."""
        with self._shared.lock:
            return {name for name in self._shared.data if self._shared.value(name) is not None}

    @property
    def leases(self) -> set[str]:
        """The keys that somebody has the right to fill now."""
        with self._shared.lock:
            return {key for key in self._shared.leases if self._shared.holder(key) is not None}

    def usable(self) -> bool:
        """Tell whether it is worth asking, which it always is."""
        return True

    def postpone(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float) -> None:
        """Do at once what could not be done; with marks of its own, as a real one."""
        fresh = {name: token_bytes(8) for name in marks}
        _Blocking(self, self._shared).invalidate(keys, fresh, ttl, 1.0)

    def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """Tell *heard* what twins write and invalidate."""
        self._heard.append(heard)

    def tell(self, names: Sequence[str]) -> None:
        """Tell the twins that *names* were written or invalidated."""
        for twin in self._shared.twins:
            if twin is not self and twin._listens:
                for heard in twin._heard:
                    heard(names)

    def stop_listening(self) -> None:
        """Lose what the twins tell from now on, as when a connection breaks."""
        self._listens = False
        for heard in self._heard:
            heard(None)

    def listen_again(self) -> None:
        """Hear again, with no word of what was missed."""
        self._listens = True
        for heard in self._heard:
            heard(None)

    def flush(self) -> None:
        """Forget everything, as FLUSHALL does."""
        with self._shared.lock:
            self._shared.data.clear()
            self._shared.leases.clear()

    def close(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""
