"""`BrokenStore`: a store that fails as a Redis does, on demand."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from resilient_agents._clock import clock
from resilient_agents.cache.store import StoreUnavailable
from resilient_agents.testing.fake_store import FakeStore

How = Literal["down", "hang", "slow", "raise", "garbage", "lost", "forgetful"]


@dataclass
class _Breakage:
    how: How
    on: frozenset[str] | None
    times: int | None
    seconds: float
    error: Exception
    garbage: bytes

    def applies(self, operation: str) -> bool:
        return self.on is None or operation in self.on

    def used(self) -> bool:
        """Count one use; tell whether it was the last."""
        if self.times is None:
            return False
        self.times -= 1
        return self.times <= 0


class BrokenStore:
    """A store that works until it is told to fail: for tests of what your service does without its cache.

    ::

        store = BrokenStore()
        cache = Cache(store)
        store.breaks("hang", on=["get"], times=1)

    Each breakage concerns the operations *on* (``get``, ``claim``, ``fill``, ``release``, ``put``,
    ``invalidate``) so many *times*; the first that applies counts. `mend` ends them all, and delivers the
    invalidations that were kept meanwhile, as a real store does when its server is back.

    Args:
        store: The store that works otherwise. The default is a new `FakeStore`.

    Attributes:
        calls: The operations so far, in order.
    """

    blocking: Any
    awaiting: Any

    def __init__(self, store: FakeStore | None = None) -> None:
        self.calls: list[str] = []
        self._store = FakeStore() if store is None else store
        self._breakages: list[_Breakage] = []
        self._kept: list[tuple[Sequence[str], Mapping[str, bytes], float]] = []
        self.blocking = _Blocking(self)
        self.awaiting = _Awaiting(self)

    def breaks(
        self,
        how: How,
        *,
        on: Sequence[str] | None = None,
        times: int | None = None,
        seconds: float = 0.02,
        error: Exception | None = None,
        garbage: bytes = b"\x80garbage",
    ) -> None:
        """Fail from now on.

        Args:
            how: ``"down"``: it is known not to answer, and `usable` says so. ``"hang"``: it takes all the
                time it is given, and does not answer. ``"slow"``: it answers after *seconds*, if it is given
                that long. ``"raise"``: it raises *error*. ``"garbage"``: it has *garbage* for every entry.
                ``"lost"``: it does what it is told, and the answer is lost. ``"forgetful"``: it says that it
                did what it was told, and did not.
            on: The operations that fail. The default is all.
            times: How often. The default is until it is mended.
            seconds: How slow it is, in seconds. The default is 0.02.
            error: What it raises. The default is an `OSError`, which no store should.
            garbage: What it returns. The default is some bytes.

        Raises:
            ValueError: There is no such way to fail.
        """
        if how not in get_args(How):
            raise ValueError(f"a store fails in one of these ways: {', '.join(get_args(How))}; not {how!r}")
        names = None if on is None else frozenset(on)
        self._breakages.append(
            _Breakage(how, names, times, seconds, error or OSError("broken on purpose"), garbage)
        )

    def mend(self) -> None:
        """Work again, from now on."""
        self._breakages.clear()
        kept, self._kept = self._kept, []
        for invalidation in kept:
            self._store.postpone(*invalidation)

    def usable(self) -> bool:
        """Tell whether it is worth asking."""
        return not self._kept and not any(breakage.how == "down" for breakage in self._breakages)

    def postpone(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float) -> None:
        """Keep an invalidation until it is mended; where nothing is broken any more, do it."""
        self._kept.append((keys, marks, ttl))
        if not self._breakages:
            self.mend()

    def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """Tell *heard* what others write and invalidate."""
        self._store.listen(heard)

    def close(self) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""

    def _breakage(self, operation: str) -> _Breakage | None:
        """Note an operation, and return what is broken about it."""
        self.calls.append(operation)
        found = next((one for one in self._breakages if one.applies(operation)), None)
        if found is not None and found.used():
            self._breakages.remove(found)
        return found

    def _before(self, found: _Breakage | None, within: float) -> tuple[float, Exception | None]:
        """Return how long an operation takes, in seconds, and what it raises then."""
        if found is None or found.how in ("garbage", "lost", "forgetful"):
            return 0.0, None
        if found.how == "hang" or (found.how == "slow" and found.seconds > within):
            return within, StoreUnavailable("no answer")
        if found.how == "slow":
            return found.seconds, None
        return 0.0, found.error if found.how == "raise" else StoreUnavailable("down")

    def _perform(self, found: _Breakage | None, operation: str, args: Any, kwargs: Any) -> Any:
        if found is not None and found.how == "forgetful" and operation not in ("get", "claim"):
            return True
        answer = getattr(self._store.blocking, operation)(*args, **kwargs)
        if found is not None and found.how == "lost":
            raise StoreUnavailable("the answer was lost")
        if found is not None and found.how == "garbage":
            if operation == "get":
                return [found.garbage for _ in answer]
            if operation == "claim":
                return answer[0], [found.garbage for _ in answer[1]]
        return answer


class _Blocking:
    def __init__(self, store: BrokenStore) -> None:
        self._store = store

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        store = self._store

        def performed(*args: Any, within: float, **kwargs: Any) -> Any:
            found = store._breakage(operation)
            seconds, error = store._before(found, within)
            if seconds:
                clock().sleep(seconds)
            if error is not None:
                raise error
            return store._perform(found, operation, args, {"within": within, **kwargs})

        return performed


class _Awaiting:
    def __init__(self, store: BrokenStore) -> None:
        self._store = store

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        store = self._store

        async def performed(*args: Any, within: float, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            found = store._breakage(operation)
            seconds, error = store._before(found, within)
            if seconds:
                await clock().asleep(seconds)
            if error is not None:
                raise error
            answer = store._perform(found, operation, args, {"within": within, **kwargs})
            await asyncio.sleep(0)
            return answer

        return performed
