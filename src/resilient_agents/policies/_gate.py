"""What the policies that admit calls have in common: a way in, a way out, and three ways to be used.

A *gate* lets a call in at once, after a wait, or not at all, and hears how the call ended. Breakers, limiters
and bulkheads are gates. Each is a decorator, a ``with`` block and a part of a pipeline; all three are written
here, once.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, ParamSpec, Self, TypeVar, cast

from resilient_agents._flow import Flow, arun, run
from resilient_agents.policies._functions import must_be_awaited, refuse_class
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting

P = ParamSpec("P")
R = TypeVar("R")


class _Block:
    """A ``with`` block of a gate that is open."""

    __slots__ = ("gate", "open", "permit")

    def __init__(self, gate: "Gate", permit: Any) -> None:
        self.gate = gate
        self.permit = permit
        self.open = True


_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("resilient_agents_blocks", default=())
"""The blocks that were opened here, the innermost last."""


class Gate(ABC):
    """A policy that each call passes on its way in and on its way out.

    Attributes:
        kind: What kind of policy it is, in one word.
        name: What events and messages call it.
    """

    kind: ClassVar[str]
    name: str = ""
    _open_blocks: "deque[_Block]"

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
        self._open_block(permit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(self._permit_of_block(), exc)

    async def __aenter__(self) -> Self:
        permit = self.try_enter()
        if permit is None:
            permit = await arun(self.enter(AWAITING))
        self._open_block(permit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.leave(self._permit_of_block(), exc)

    def _open_block(self, permit: Any) -> None:
        block = _Block(self, permit)
        vars(self).setdefault("_open_blocks", deque()).append(block)
        _blocks.set((*(other for other in _blocks.get() if other.open), block))

    def _permit_of_block(self) -> Any:
        """Close the innermost block of this gate that was opened here, and return its permit.

        A block may end in another context than it began in, as a generator does that is read in turns. Then
        it is not known which one ends, and the oldest that is open is taken for it.
        """
        own: deque[_Block] = self._open_blocks
        here = (block for block in reversed(_blocks.get()) if block.gate is self and block.open)
        block = next(here, None) or own[0]
        block.open = False
        own.remove(block)
        _blocks.set(tuple(other for other in _blocks.get() if other.open))
        return block.permit


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
