"""The ambient deadline: one end that everything below obeys."""

from contextvars import ContextVar, Token
from types import TracebackType

from resilient_agents._clock import clock
from resilient_agents.errors import DeadlineExceeded

_end: ContextVar[float | None] = ContextVar("resilient_agents_deadline", default=None)
"""When the time is up, on the monotonic clock."""


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
        _end.reset(self._token)


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
        raise DeadlineExceeded(
            "the deadline passed before the work was done: give it more time, or less to do"
        )
