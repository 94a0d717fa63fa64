"""One flow, two drivers: they give the same results and the same failures."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from resilient_agents._flow import Flow, arun, in_threads, run

Perform = Callable[[Flow[Any]], Any]


def give(value: object) -> Callable[[], object]:
    """Return a step that gives *value*."""
    return lambda: value


def fail(exc: BaseException) -> Callable[[], object]:
    """Return a step that raises *exc*."""

    def step() -> object:
        raise exc

    return step


def awaiting(step: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    """Return the awaitable twin of *step*."""

    async def twin() -> object:
        await asyncio.sleep(0)
        return step()

    return twin


def in_a_loop(flow: Flow[Any]) -> object:
    """Perform *flow* by awaiting each of its blocking steps."""

    def twin(inner: Flow[Any]) -> Flow[Any]:
        try:
            step = next(inner)
            while True:
                try:
                    result = yield awaiting(step)
                except Exception as exc:
                    step = inner.throw(exc)
                else:
                    step = inner.send(result)
        except StopIteration as stop:
            return stop.value
        finally:
            inner.close()

    return asyncio.run(arun(twin(flow)))


def in_worker_threads(flow: Flow[Any]) -> object:
    """Perform *flow* by calling each of its steps in a thread."""
    return asyncio.run(arun(in_threads(flow)))


drivers = pytest.mark.parametrize("perform", [run, in_a_loop, in_worker_threads])


@drivers
def test_results_come_back_into_the_flow(perform: Perform) -> None:
    """A flow receives what its steps give and returns its own value."""

    def flow() -> Flow[Any]:
        first = yield give(20)
        second = yield give(22)
        return first + second

    assert 42 == perform(flow())


@drivers
def test_a_flow_without_steps_returns_at_once(perform: Perform) -> None:
    """A flow need not yield."""

    def flow() -> Flow[Any]:
        yield from ()
        return "done"

    assert "done" == perform(flow())


@drivers
def test_a_flow_handles_the_failure_of_a_step(perform: Perform) -> None:
    """What a step raises is raised at the yield, so an ordinary try handles it."""

    def flow() -> Flow[Any]:
        try:
            yield fail(KeyError("lead"))
        except KeyError:
            return (yield give("handled"))
        return "not raised"

    assert "handled" == perform(flow())


@drivers
def test_an_unhandled_failure_comes_out(perform: Perform) -> None:
    """What a flow does not handle reaches the caller as the same object."""
    exc = KeyError("lead")

    def flow() -> Flow[None]:
        yield fail(exc)

    with pytest.raises(KeyError) as caught:
        perform(flow())
    assert exc is caught.value


@pytest.mark.parametrize("perform", [run, in_a_loop])
def test_ctrl_c_closes_the_flow_and_is_not_offered_to_it(perform: Perform) -> None:
    """A flow that catches everything still cannot swallow Ctrl-C, and its cleanup runs."""
    log: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield fail(KeyboardInterrupt())
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise

    with pytest.raises(KeyboardInterrupt):
        perform(flow())
    assert ["GeneratorExit"] == log


async def test_cancellation_passes_through_and_closes_the_flow() -> None:
    """Cancelling the task that performs a flow ends both."""
    log: list[str] = []
    started = asyncio.Event()

    async def forever() -> None:
        started.set()
        await asyncio.Event().wait()

    def flow() -> Flow[None]:
        try:
            yield forever
        except Exception:
            log.append("offered")
        finally:
            log.append("closed")

    task = asyncio.create_task(arun(flow()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["closed"] == log


@pytest.mark.parametrize("perform", [run, in_a_loop])
def test_stop_iteration_in_a_step_does_not_end_the_flow_quietly(perform: Perform) -> None:
    """A step that raises StopIteration is a failure, not a result."""

    def flow() -> Flow[Any]:
        yield fail(StopIteration("sneaky"))
        return "never"

    with pytest.raises(RuntimeError):
        perform(flow())


async def test_in_threads_leaves_the_loop_alone() -> None:
    """A blocking step is called in another thread than the loop's."""

    def flow() -> Flow[Any]:
        return (yield threading.get_ident)

    assert threading.get_ident() != await arun(in_threads(flow()))
