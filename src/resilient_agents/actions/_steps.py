"""How a step of a message's handling is performed, and what its answer is taken for."""

from collections.abc import Callable
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import Any

from resilient_agents.actions.message import OTHER, Intent
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._functions import is_awaited

Performer = Callable[..., Callable[[], Any]]
"""Makes a step of a function and its arguments: one that blocks, or one that is awaited."""


def blocking(fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Return a step that blocks."""
    if is_awaited(fn):
        raise TypeError("handle_blocking() calls plain functions only: use handle() with an async def")
    return partial(fn, *args)


def awaiting(fn: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """Return a step that is awaited; what blocks is called in a thread."""
    return partial(fn, *args) if is_awaited(fn) else partial(_in_thread, fn, *args)


async def _in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    import asyncio

    return await asyncio.to_thread(fn, *args)


def settled(value: Any) -> Any:
    """Return a returned *value*, unless it is work that nobody has done yet.

    Raises:
        ConfigurationError: It is an awaitable.
    """
    if not isawaitable(value):
        return value
    if iscoroutine(value):
        value.close()
    raise ConfigurationError(
        "a function that is no coroutine function returned an awaitable: make it async def"
    )


def intent_of(answer: object) -> Intent:
    """Return what an analyser answered as an intent; nothing and nonsense are ``"other"``."""
    name: object = answer.name if isinstance(answer, Intent) else answer
    if not isinstance(name, str) or not name:
        return Intent(name=OTHER)
    return answer if isinstance(answer, Intent) else Intent(name=name)
