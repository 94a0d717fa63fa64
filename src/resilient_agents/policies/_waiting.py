"""How a policy waits: by blocking a thread, or by suspending a task."""

import os
import threading
from collections.abc import Callable
from contextvars import copy_context
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from resilient_agents._clock import clock

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

R = TypeVar("R")

MOST_THREADS = 16
"""How many calls that block for a moment are made at a time."""


class Bell(Protocol):
    """Wakes one who waits; anybody may ring it, from any thread, before or during the wait."""

    def ring(self) -> bool:
        """Wake the one who waits; tell whether he can hear it, or his event loop is gone."""
        ...

    def wait(self, seconds: float | None) -> Any:
        """Wait for the ring, for so many *seconds* at most; a step of a flow. Tells whether it rang."""
        ...


class Waiting(Protocol):
    """How a flow waits: by blocking its thread, or by suspending its task."""

    def sleep(self, seconds: float) -> Any:
        """Wait for *seconds*; a step of a flow."""
        ...

    def bell(self) -> Bell:
        """Return a new bell, for the thread or the task that asks."""
        ...

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function that blocks for a moment, as on a socket; a step of a flow."""
        ...


class _ThreadBell:
    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> bool:
        if self._lock.locked():
            self._lock.release()
        return True

    def wait(self, seconds: float | None) -> bool:
        if seconds is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))


class _Blocking:
    """Waits by blocking the thread."""

    def sleep(self, seconds: float) -> None:
        clock().sleep(seconds)

    def bell(self) -> Bell:
        return _ThreadBell()

    def call(self, function: Callable[[], R]) -> R:
        return function()


class _TaskBell:
    __slots__ = ("_future", "_loop", "_rung")

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] | None = None
        self._rung = False

    def ring(self) -> bool:
        import asyncio

        if asyncio._get_running_loop() is self._loop:
            self._hear()
            return True
        try:
            self._loop.call_soon_threadsafe(self._hear)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _hear(self) -> None:
        self._rung = True
        self._wake()

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None) -> bool:
        if self._rung:
            return True
        self._future = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(seconds, self._wake)
        try:
            await self._future
        finally:
            self._future = None
            if timer is not None:
                timer.cancel()
        return self._rung


class _Awaiting:
    """Waits by suspending the task."""

    async def sleep(self, seconds: float) -> None:
        await clock().asleep(seconds)

    def bell(self) -> Bell:
        return _TaskBell()

    async def call(self, function: Callable[[], R]) -> R:
        import asyncio

        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(_threads(), context.run, function)


@cache
def _threads() -> "ThreadPoolExecutor":
    """Return threads of our own: those of the event loop may all be busy with somebody else's work."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(MOST_THREADS, thread_name_prefix="resilient-agents")


os.register_at_fork(after_in_child=_threads.cache_clear)

BLOCKING: Waiting = _Blocking()
AWAITING: Waiting = _Awaiting()


def pause(waiting: Waiting, seconds: float) -> Callable[[], Any]:
    """Return a step that waits for *seconds*."""
    return partial(waiting.sleep, seconds)
