"""The ambient deadline: one end that everything below obeys."""

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar, Token
from functools import partial, wraps
from types import TracebackType, coroutine
from typing import Any, ParamSpec, TypeVar, cast

from resilient_agents import _clock
from resilient_agents._clock import clock
from resilient_agents.errors import DeadlineExceeded
from resilient_agents.policies._functions import name_of

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_end: ContextVar[float | None] = ContextVar("resilient_agents_deadline", default=None)
"""When the time is up, on the monotonic clock."""


end_of_time = _end.get
"""Return when the time is up, on the monotonic clock, or *None*; for those who look at the clock anyway."""


def lift() -> None:
    """Put no deadline in force in the current context: for work that goes on when its caller has left."""
    _end.set(None)


def put_back(variable: ContextVar[T], token: Token[T]) -> None:
    """Undo a change of a context variable; where the code was closed from elsewhere, it is gone already."""
    try:  # noqa: SIM105 - a part of every call, in which suppress() would be felt
        variable.reset(token)
    except ValueError:
        pass


class Deadline:
    """The block that `deadline` opens."""

    __slots__ = ("_seconds", "_token")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        end = clock().monotonic() + self._seconds
        outer = _end.get()
        self._token: Token[float | None] = _end.set(end if outer is None else min(end, outer))

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        put_back(_end, self._token)


def deadline(seconds: float) -> Deadline:
    """Give everything inside a ``with`` block one end.

    Retries, rate limits and clients inside the block, however deep, begin nothing that could not end in
    time. The block itself is not interrupted: see `timeout` for that. A block inside a block can only
    shorten the time.

    Args:
        seconds: Time in seconds from the start of the block.

    Returns:
        A context manager for one ``with`` statement.

    Raises:
        ValueError: *seconds* is negative or not a number.
    """
    if not seconds >= 0:
        raise ValueError(f"a deadline lies ahead: the seconds must be 0 or more, not {seconds!r}")
    return Deadline(seconds)


def remaining() -> float | None:
    """Return the time in seconds that the deadline in force leaves, 0 or more; *None* without one."""
    end = _end.get()
    return None if end is None else max(0.0, end - clock().monotonic())


def check() -> None:
    """Do nothing while there is time left; call it between the steps of long work.

    Raises:
        DeadlineExceeded: The deadline in force has passed.
    """
    if remaining() == 0:
        raise _passed()


def _passed() -> DeadlineExceeded:
    return DeadlineExceeded("the deadline passed before the work was done: give it more time, or less to do")


def bounded(fn: Callable[P, R], seconds: float, *, awaited: bool) -> Callable[P, R]:
    """Return *fn* with a time limit for each call; see `timeout`.

    Args:
        fn: A ``def`` or ``async def``.
        seconds: The limit in seconds.
        awaited: Whether a call of it must be awaited.
    """
    if awaited:
        return cast("Callable[P, R]", _cancelled(cast("Callable[P, Awaitable[Any]]", fn), seconds))

    @wraps(fn)
    def timed(*args: P.args, **kwargs: P.kwargs) -> R:
        now, outer = _clock.in_force.monotonic(), _end.get()
        end = now + seconds
        if outer is not None and outer < end:
            end = outer
        if end <= now:
            raise _passed()
        token = _end.set(end)
        try:
            return fn(*args, **kwargs)
        finally:
            put_back(_end, token)

    return timed


def _cancelled(fn: Callable[P, Awaitable[Any]], seconds: float) -> Callable[P, Awaitable[Any]]:
    """Return *fn* such that it is cancelled when its time is up."""

    @wraps(fn)
    async def timed(*args: P.args, **kwargs: P.kwargs) -> Any:
        now, outer = _clock.in_force.monotonic(), _end.get()
        end = now + seconds
        if outer is not None and outer < end:
            end = outer
        if end <= now:
            raise _passed()
        token = _end.set(end)
        try:
            steps = cast("Coroutine[Any, Any, Any]", fn(*args, **kwargs))
            try:
                # A call that never waits needs no timer, which would cost ten times as much as all else here.
                pending = steps.send(None)
            except StopIteration as done:
                return done.value
            rest = _rest(steps, pending)
            del pending  # a future holds what it raised, and that holds this frame
            return await _until(end, fn, seconds if end != outer else None, rest)
        finally:
            put_back(_end, token)

    return timed


async def _until(end: float, fn: Callable[..., Any], seconds: float | None, rest: Awaitable[Any]) -> Any:
    """Await *rest*, and cancel it at *end*.

    Args:
        end: When the time is up, on the monotonic clock.
        fn: The function, for messages.
        seconds: The limit, where it is the function's own.
        rest: What is left of the call.
    """
    import asyncio

    limit = asyncio.timeout(max(0.0, end - clock().monotonic()))
    try:
        async with limit:
            return await rest
    except TimeoutError as exc:
        if not limit.expired():
            raise
        raise _out_of_time(fn, seconds) from exc


@coroutine
def _rest(steps: Coroutine[Any, Any, R], pending: Any) -> Generator[Any, Any, R]:
    """Go on with a coroutine whose first step was made already: it waits for *pending*."""
    while True:
        try:
            answer = yield pending
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as exc:
            step = partial(steps.throw, exc)
        else:
            step = partial(steps.send, answer)
            del answer
        pending = None
        try:
            pending = step()
        except StopIteration as done:
            return cast("R", done.value)
        finally:
            del step


def _out_of_time(fn: Callable[..., Any], seconds: float | None) -> DeadlineExceeded:
    """Say whose time was up: a call that used all of its own was slow; one under a deadline may not be."""
    if seconds is None:
        return DeadlineExceeded(f"{name_of(fn)} was cancelled: its time was up")
    detail = f"{name_of(fn)} was cancelled: its time was up after {seconds:g} s"
    return DeadlineExceeded(detail, code="external.timeout")
