"""A clock that stands still, an ear for the cache, and functions to cache, blocking and awaiting."""

import asyncio
from collections.abc import Callable, Iterator
from contextvars import copy_context
from typing import Any

import pytest

from resilient_agents import events
from resilient_agents.cache import Cache
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def heard() -> Iterator[list[events.CacheEvent]]:
    """Hear what caches say."""
    told: list[events.CacheEvent] = []
    events.subscribe(events.CacheEvent)(told.append)
    yield told
    events.unsubscribe(told.append)


class Origin:
    """What is behind a cache: it counts its calls, and answers what it is told to.

    Attributes:
        calls: The keys it was asked for.
        answer: What it returns, or raises; with a function, what that returns.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.answer: Any = lambda key: f"{key} {len(self.calls)}"

    def __call__(self, key: str) -> Any:
        """Answer a call."""
        self.calls.append(key)
        answer = self.answer(key) if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class Asking:
    """A cached function, asked from plain code whether it must be awaited or not; tasks go on in between."""

    def __init__(self, cache: Cache, origin: Origin, *, awaited: bool, **options: Any) -> None:
        self._runner = asyncio.Runner() if awaited else None

        def blocking(key: str) -> Any:
            return origin(key)

        async def awaiting(key: str) -> Any:
            await asyncio.sleep(0)
            return origin(key)

        options = {"key": "f:{key}", "model": Any, **options}
        self.fn: Any = cache.cached(**options)(awaiting if awaited else blocking)

    def settle(self, answer: Any) -> Any:
        """Return what an answer is, once it is there."""
        if self._runner is None:
            return answer

        async def settled() -> Any:
            return await answer

        return self._runner.run(settled(), context=copy_context())

    def __call__(self, key: str = "k") -> Any:
        """Ask."""
        return self.settle(self.fn(key))

    def rest(self) -> None:
        """Let what goes on in the background end."""
        if self._runner is not None:

            async def turns() -> None:
                for _ in range(30):
                    await asyncio.sleep(0)

            self._runner.run(turns())
            return
        from resilient_agents.cache import _ways

        for thread in list(_ways._blocking._running):
            thread.join(30)

    def close(self) -> None:
        """End the event loop."""
        if self._runner is not None:
            self._runner.close()


Ask = Callable[..., Asking]


@pytest.fixture
def origin() -> Origin:
    """Return what is behind the cache."""
    return Origin()


@pytest.fixture(params=[False, True], ids=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest, origin: Origin) -> Iterator[Ask]:
    """Return what puts a cache in front of the origin, for a ``def`` and for an ``async def``."""
    made: list[Asking] = []

    def build(cache: Cache, **options: Any) -> Asking:
        made.append(Asking(cache, origin, awaited=request.param, **options))
        return made[-1]

    yield build
    for each in made:
        each.close()
