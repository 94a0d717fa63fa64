"""Which attempt is under way: known inside the function that is being repeated."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from resilient_agents.policies._deadline import put_back

number: ContextVar[int] = ContextVar("resilient_agents_attempt", default=1)


def attempt_number() -> int:
    """Return the number of the attempt that is under way here, from 1.

    For a function that logs its repetitions, or asks a replica the second time. A first attempt sets nothing,
    so inside the repetition of an outer call it sees the number of that one.
    """
    return number.get()


def call_numbered(attempt: int, call: Callable[[], Any]) -> Any:
    """Call a function as attempt number *attempt*."""
    token = number.set(attempt)
    try:
        return call()
    finally:
        put_back(number, token)


async def acall_numbered(attempt: int, call: Callable[[], Awaitable[Any]]) -> Any:
    """Await a function as attempt number *attempt*."""
    token = number.set(attempt)
    try:
        return await call()
    finally:
        put_back(number, token)
