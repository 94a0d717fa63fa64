"""How the flows of the cache are performed: by a thread that blocks, or by tasks of an event loop."""

import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import ReferenceType, ref

from resilient_agents._flow import Flow, arun, run
from resilient_agents.cache._flights import Flight
from resilient_agents.cache.store import Half, Store
from resilient_agents.policies._deadline import lift
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting

if TYPE_CHECKING:
    import asyncio

MOST_THREADS = 8
"""How many threads work in the background at a time; what finds none is refreshed later."""

MOST_TASKS = 256
"""How many loads of tasks are under way at a time, beyond which none is begun in the background."""


class Way(Protocol):
    """How a flow is performed.

    Attributes:
        waiting: How it waits.
        inline: Whether the leader of a load performs it himself; else a task of its own does.
    """

    waiting: Waiting
    inline: bool

    def half(self, store: Store) -> Half:
        """Return the half of *store* to ask."""
        ...

    def place(self) -> object:
        """Return what the loads that may be shared have in common: the event loop, or *None* for threads."""
        ...

    def begin(self, flight: Flight, flow: Callable[[], Flow[Any]], ended: Callable[[], None]) -> bool:
        """Perform a load beside the caller; tell whether there was room for it.

        *ended* is called in any case when it is over, also where it never got to begin.
        """
        ...

    def afterwards(self, step: Callable[[], Any]) -> None:
        """Perform one step beside the caller, who may be about to end, if there is room for it."""
        ...


class _Blocking:
    waiting = BLOCKING
    inline = True

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without threads, in a forked child: those of its parent are not in it."""
        self._running: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def half(self, store: Store) -> Half:
        return store.blocking

    def place(self) -> object:
        return None

    def begin(self, flight: Flight, flow: Callable[[], Flow[Any]], ended: Callable[[], None]) -> bool:
        context = copy_context()
        context.run(lift)
        return self._start(_perform, context.run, flow, ended)

    def afterwards(self, step: Callable[[], Any]) -> None:
        self._start(_quietly, step)

    def _start(self, target: Callable[..., None], *args: Any) -> bool:
        thread = threading.Thread(target=target, args=args, name="resilient-agents-cache", daemon=True)
        with self._lock:
            self._running = {thread for thread in self._running if thread.is_alive()}
            if len(self._running) >= MOST_THREADS:
                return False
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the process ends
                return False
            self._running.add(thread)
        return True


def _perform(within: Callable[..., Any], flow: Callable[[], Flow[Any]], ended: Callable[[], None]) -> None:
    try:
        within(lambda: run(flow()))
    finally:
        ended()


def _quietly(step: Callable[[], Any]) -> None:
    with suppress(Exception):
        step()


class _Awaiting:
    waiting = AWAITING
    inline = False

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin without tasks, in a forked child: those of its parent are not in it."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._last_loop: ReferenceType[object] | None = None

    def half(self, store: Store) -> Half:
        return store.awaiting

    def place(self) -> object:
        import asyncio

        return asyncio.get_running_loop()

    def begin(self, flight: Flight, flow: Callable[[], Flow[Any]], ended: Callable[[], None]) -> bool:
        import asyncio

        loop = asyncio.get_running_loop()
        if self._last_loop is None or self._last_loop() is not loop:
            self._last_loop = ref(loop)
            self._let_go_of_closed_loops()
        if flight.background and len(self._tasks) >= MOST_TASKS:
            return False
        context = copy_context()
        context.run(lift)
        task = loop.create_task(arun(flow()), context=context)
        flight.task = task
        self._keep(task)
        task.add_done_callback(lambda _: ended())
        return True

    def afterwards(self, step: Callable[[], Any]) -> None:
        import asyncio

        with suppress(RuntimeError):  # the loop is gone
            self._keep(asyncio.get_running_loop().create_task(_aquietly(step)))

    def _keep(self, task: "asyncio.Task[Any]") -> None:
        """Hold *task* until it ends: an event loop does not."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _let_go_of_closed_loops(self) -> None:
        """Forget the tasks that never end, since their loop was closed in the middle of them."""
        for task in tuple(self._tasks):
            if task.get_loop().is_closed():
                self._tasks.discard(task)
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # as asyncio does with its own
                with suppress(Exception):
                    cast("Coroutine[Any, Any, Any]", task.get_coro()).close()


async def _aquietly(step: Callable[[], Any]) -> None:
    with suppress(Exception):
        await step()


_blocking = _Blocking()
_awaiting = _Awaiting()

BLOCKING_WAY: Way = _blocking
AWAITING_WAY: Way = _awaiting


def _begin_anew() -> None:
    _blocking.begin_anew()
    _awaiting.begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
