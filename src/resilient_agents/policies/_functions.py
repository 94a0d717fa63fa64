"""What kind of function a policy is put on, and what it is called."""

import inspect
from collections.abc import Callable
from typing import Any


def must_be_awaited(fn: Callable[..., Any], policy: str) -> bool:
    """Tell an ``async def`` from a plain function, and refuse what a policy cannot be put on.

    Args:
        fn: What is to be decorated or called.
        policy: Name of the policy, for the message.

    Returns:
        Whether a call of *fn* must be awaited.

    Raises:
        TypeError: *fn* is a generator function, a ``staticmethod`` or ``classmethod`` object, or no
            callable at all.
    """
    if isinstance(fn, staticmethod | classmethod):
        raise TypeError(f"put @{policy} below @{type(fn).__name__}, directly on the function")
    if not callable(fn):
        raise TypeError(f"{policy} is for functions, and this is a value of type {type(fn).__name__}")
    forms = (fn, type(fn).__call__)
    if any(inspect.isgeneratorfunction(form) or inspect.isasyncgenfunction(form) for form in forms):
        raise TypeError(
            f"{policy} cannot hold {name_of(fn)}, a generator function: its body runs after the call has "
            f"returned. Put {policy} on the function that fetches one item or one page"
        )
    return is_awaited(fn)


def is_awaited(fn: Any) -> bool:
    """Tell whether *fn* is a coroutine function, or an object that is called like one."""
    return callable(fn) and any(map(inspect.iscoroutinefunction, (fn, type(fn).__call__)))


def refuse_class(fn: object, policy: str) -> None:
    """Refuse a class, on which a policy would mean its construction alone.

    Raises:
        TypeError: *fn* is a class.
    """
    if isinstance(fn, type):
        raise TypeError(f"put {policy} on the methods of {fn.__qualname__} that call out, not on the class")


def name_of(fn: Callable[..., Any]) -> str:
    """Return the qualified name of *fn*; of its class where it is an object that can be called."""
    named: Any = fn if hasattr(fn, "__qualname__") else type(fn)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)
