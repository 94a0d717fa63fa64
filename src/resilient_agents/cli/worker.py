"""``resilient-agents worker``: deliver what waits in a queue of the user's."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from inspect import signature

from resilient_agents import events
from resilient_agents.deadletter import DeadLetterQueue, Replayer, State
from resilient_agents.errors import ConfigurationError
from resilient_agents.redaction import redact

_log = logging.getLogger("resilient_agents.worker")


def load_queue(target: str) -> DeadLetterQueue:
    """Import the queue that ``MODULE:ATTRIBUTE`` names.

    What the module itself raises passes through: the traceback is what its author needs.

    Args:
        target: Dotted names of a module and of a `DeadLetterQueue` in it, or of a function without parameters
            that returns one.

    Raises:
        ConfigurationError: There is no such queue, or it has no handlers.
    """
    module, separator, attribute = target.partition(":")
    if not (module and separator and attribute):
        raise ConfigurationError("name the queue as MODULE:ATTRIBUTE, like  myapp.leads:queue")
    try:
        found: object = import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise ConfigurationError(
            f"there is no module {exc.name!r} here: run the worker in the folder that holds it"
        ) from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ConfigurationError(f"module {module!r} has no attribute {attribute!r}")
        found = getattr(found, name)
    if callable(found):
        if _wants_arguments(found):
            raise ConfigurationError(
                f"{target} is a function with parameters; name the queue, or a function without parameters "
                "that returns it"
            )
        found = found()
    if not isinstance(found, DeadLetterQueue):
        raise ConfigurationError(f"{target} is no DeadLetterQueue, but {type(found).__name__}")
    if not found.targets:
        raise ConfigurationError(
            f"{target} has no handlers: the module must import the code that registers them"
        )
    return found


def deliver_once(queue: DeadLetterQueue) -> str:
    """Deliver everything that is due now, log what a person should know, and tell what became of it."""
    replayer = Replayer(queue)
    with _logged():
        done = asyncio.run(replayer.arun_once()) if _awaits(queue) else replayer.run_once()
    left = queue.stats()
    return (
        f"delivered {done.delivered}, deferred {done.deferred}, parked {done.parked}; "
        f"still waiting {left.waiting}, parked in all {left.states[State.PARKED]}"
    )


def deliver_until_stopped(queue: DeadLetterQueue, *, concurrency: int) -> None:
    """Deliver what is due until SIGTERM or SIGINT, and log what a person should know.

    Args:
        queue: The queue.
        concurrency: How many calls are made at a time.
    """
    replayer = Replayer(queue, concurrency=concurrency)
    with _logged():
        if _awaits(queue):
            asyncio.run(_arun(replayer))
        else:
            replayer.run()


async def _arun(replayer: Replayer) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, replayer.stop)
    await replayer.arun()


def _wants_arguments(function: Callable[..., object]) -> bool:
    try:
        signature(function).bind()
    except (TypeError, ValueError):  # ValueError: a builtin that does not tell its parameters
        return True
    return False


def _awaits(queue: DeadLetterQueue) -> bool:
    return any(target.traits.awaiting for target in queue.targets.values())


@contextmanager
def _logged() -> Iterator[None]:
    events.subscribe(events.EntryParked, events.TopicPaused, events.TopicResumed)(_tell)
    try:
        yield
    finally:
        events.unsubscribe(_tell)


def _tell(event: events.Event) -> None:
    if isinstance(event, events.EntryParked):
        cause = event.reason if event.failure is None else f"{event.reason}, {redact(event.failure.detail)}"
        text = "entry %d of %s is parked: %s; mend the cause, then queue.redrive(%d)"
        _log.error(text, event.entry_id, event.topic, cause, event.entry_id)
    elif isinstance(event, events.TopicPaused):
        _log.warning("%s pauses for %.1f s: %s", event.topic, event.wait, event.failure.title)
    elif isinstance(event, events.TopicResumed):
        _log.warning("%s goes on", event.topic)
