"""How a step is performed: blocking or awaiting, from one source of truth.

A *flow* is a generator that yields zero-argument callables and receives their results. It decides; it
never sleeps, connects or awaits. `run` calls each step, `arun` awaits each step. What a step raises is
raised inside the flow, at the ``yield``, so a flow handles failures with an ordinary ``try``.
"""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Flow: TypeAlias = Generator[Callable[[], Any], Any, T]
"""A generator that yields steps, receives their results and returns a *T*."""


def run(flow: Flow[T]) -> T:
    """Perform *flow*, calling each step.

    Args:
        flow: A fresh generator whose steps are plain callables.

    Returns:
        What the flow returns.

    Raises:
        BaseException: What the flow raises. Cancellation and Ctrl-C close the flow and pass through.
    """
    try:
        step = next(flow)
        while True:
            try:
                result = step()
            except Exception as exc:
                step = flow.throw(exc)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        flow.close()


async def arun(flow: Flow[T]) -> T:
    """Perform *flow*, awaiting each step.

    Args:
        flow: A fresh generator whose steps return awaitables.

    Returns:
        What the flow returns.

    Raises:
        BaseException: What the flow raises. Cancellation closes the flow and passes through.
    """
    try:
        step: Callable[[], Awaitable[Any]] = next(flow)
        while True:
            try:
                result = await step()
            except Exception as exc:
                step = flow.throw(exc)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        flow.close()


def in_threads(flow: Flow[T]) -> Flow[T]:
    """Turn a flow whose steps block into one for `arun`: each step is called in a thread.

    Args:
        flow: A fresh generator whose steps are plain callables.

    Returns:
        A flow with the same result, whose steps return awaitables.
    """
    try:
        step = next(flow)
        while True:
            try:
                result = yield partial(_call_in_thread, step)
            except Exception as exc:
                step = flow.throw(exc)
            else:
                step = flow.send(result)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        flow.close()


async def _call_in_thread(step: Callable[[], Any]) -> Any:
    import asyncio

    return await asyncio.to_thread(_call, step)


def _call(step: Callable[[], Any]) -> Any:
    """Call *step*; a future, unlike a generator, never ends when its function raises `StopIteration`."""
    try:
        return step()
    except StopIteration as exc:
        raise RuntimeError("a step raised StopIteration") from exc
