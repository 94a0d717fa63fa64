"""What the policies that admit calls have in common: a way in, a way out, and three ways to be used.

A *gate* lets a call in at once, after a wait, or not at all, and hears how the call ended. Breakers, limiters
and bulkheads are gates. Each is a decorator, a ``with`` block and a part of a pipeline; all three are written
here, once.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import partial, wraps
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, Protocol, Self, TypeVar, cast

from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.policies._functions import must_be_awaited, refuse_class

P = ParamSpec("P")
R = TypeVar("R")


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
    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._future = self._loop.create_future()

    def ring(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._settle)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _settle(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    async def wait(self, seconds: float | None) -> bool:
        import asyncio

        await asyncio.wait((self._future,), timeout=seconds)
        return self._future.done()


class _Awaiting:
    """Waits by suspending the task."""

    async def sleep(self, seconds: float) -> None:
        await clock().asleep(seconds)

    def bell(self) -> Bell:
        return _TaskBell()

    async def call(self, function: Callable[[], R]) -> R:
        import asyncio

        return await asyncio.to_thread(function)


BLOCKING: Waiting = _Blocking()
AWAITING: Waiting = _Awaiting()

_blocks: ContextVar[tuple[tuple["Gate", Any], ...]] = ContextVar("resilient_agents_blocks", default=())
"""The gates whose ``with`` blocks are open here, with what each let in."""


class Gate(ABC):
    """A policy that each call passes on its way in and on its way out.

    Attributes:
        kind: What kind of policy it is, in one word.
        name: What events and messages call it.
    """

    kind: ClassVar[str]
    name: str = ""

    @abstractmethod
    def try_enter(self) -> Any:
        """Let a call in at once; this is the success path and takes nanoseconds.

        Returns:
            A permit, anything but *None*, which `leave` gets back; *None* if the call must `enter` and wait.

        Raises:
            ApiError: The call is refused.
        """

    def enter(self, waiting: Waiting) -> Flow[Any]:
        """Wait until the call may come in, and return its permit. Asked only after a *None* of `try_enter`.

        Raises:
            ApiError: The call is refused.
        """
        raise NotImplementedError(f"{type(self).__name__} lets nobody wait")

    @abstractmethod
    def leave(self, permit: Any, exc: BaseException | None) -> None:
        """Hear how a call ended that was let in. Never raises and never waits.

        Args:
            permit: What let it in.
            exc: What it raised, or *None*. What is no `Exception`, as a cancellation, says nothing about the
                call's target: the permit is given back and nothing is counted.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return what it does, as a clause: ``"at most 20 calls at a time"``."""

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* such that each call passes here: a ``def`` or an ``async def``, like *fn*.

        Raises:
            TypeError: *fn* is a class, a generator function, or no function.
        """
        refuse_class(fn, type(self).__name__)
        if must_be_awaited(fn, type(self).__name__):
            return cast("Callable[P, R]", _awaiting(self, cast("Callable[P, Awaitable[Any]]", fn)))
        return _blocking(self, fn)

    def __enter__(self) -> Self:
        permit = self.try_enter()
        if permit is None:
            permit = run(self.enter(BLOCKING))
        _blocks.set((*_blocks.get(), (self, permit)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(self._permit_of_block(), exc)

    async def __aenter__(self) -> Self:
        permit = self.try_enter()
        if permit is None:
            permit = await arun(self.enter(AWAITING))
        _blocks.set((*_blocks.get(), (self, permit)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(self._permit_of_block(), exc)

    def _permit_of_block(self) -> Any:
        """Close the innermost open block of this gate, and return its permit."""
        blocks = _blocks.get()
        place = max(place for place, (gate, _) in enumerate(blocks) if gate is self)
        _blocks.set(blocks[:place] + blocks[place + 1 :])
        return blocks[place][1]


def _blocking(gate: Gate, fn: Callable[P, R]) -> Callable[P, R]:
    """Return *fn* behind *gate*. Its success path is the reason why it is written by hand."""
    try_enter, leave = gate.try_enter, gate.leave

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        permit = try_enter()
        if permit is None:
            permit = run(gate.enter(BLOCKING))
        try:
            result = fn(*args, **kwargs)
        except BaseException as exc:
            leave(permit, exc)
            raise
        leave(permit, None)
        return result

    return call


def _awaiting(gate: Gate, fn: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Any]]:
    """Return *fn* behind *gate*. Its success path is the reason why it is written by hand."""
    try_enter, leave = gate.try_enter, gate.leave

    @wraps(fn)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        permit = try_enter()
        if permit is None:
            permit = await arun(gate.enter(AWAITING))
        try:
            result = await fn(*args, **kwargs)
        except BaseException as exc:
            leave(permit, exc)
            raise
        leave(permit, None)
        return result

    return call


def in_a_row(gates: Sequence[Gate], fn: Callable[P, R]) -> Callable[P, R]:
    """Return *fn* behind several gates, the first of them outermost, in one step.

    It does what putting each on the next would do, and saves their frames.
    """
    if len(gates) == 1:
        return gates[0](fn)
    if must_be_awaited(fn, type(gates[0]).__name__):
        return cast("Callable[P, R]", _awaiting_row(tuple(gates), cast("Callable[P, Awaitable[Any]]", fn)))
    return _blocking_row(tuple(gates), fn)


def _blocking_row(gates: tuple[Gate, ...], fn: Callable[P, R]) -> Callable[P, R]:
    """Return *fn* behind *gates*. Its success path is the reason why it is written by hand."""
    enters = tuple(gate.try_enter for gate in gates)
    leaves = tuple(gate.leave for gate in reversed(gates))

    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        permits: list[Any] = []
        try:
            for try_enter in enters:
                permit = try_enter()
                if permit is None:
                    permit = run(gates[len(permits)].enter(BLOCKING))
                permits.append(permit)
            result = fn(*args, **kwargs)
        except BaseException as exc:
            _leave_all(leaves, permits, exc)
            raise
        for leave in leaves:
            leave(permits.pop(), None)
        return result

    return call


def _awaiting_row(gates: tuple[Gate, ...], fn: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Any]]:
    """Return *fn* behind *gates*. Its success path is the reason why it is written by hand."""
    enters = tuple(gate.try_enter for gate in gates)
    leaves = tuple(gate.leave for gate in reversed(gates))

    @wraps(fn)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        permits: list[Any] = []
        try:
            for try_enter in enters:
                permit = try_enter()
                if permit is None:
                    permit = await arun(gates[len(permits)].enter(AWAITING))
                permits.append(permit)
            result = await fn(*args, **kwargs)
        except BaseException as exc:
            _leave_all(leaves, permits, exc)
            raise
        for leave in leaves:
            leave(permits.pop(), None)
        return result

    return call


def _leave_all(leaves: Sequence[Callable[[Any, Any], None]], permits: list[Any], exc: BaseException) -> None:
    """Leave those gates that were entered, the innermost first."""
    for leave in leaves[len(leaves) - len(permits) :]:
        leave(permits.pop(), exc)


def pause(waiting: Waiting, seconds: float) -> Callable[[], Any]:
    """Return a step that waits for *seconds*."""
    return partial(waiting.sleep, seconds)
