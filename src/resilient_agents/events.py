"""What the library says happened: frozen event objects; `subscribe` and `emit`.

Events are how logs, metrics, alerts and tests hear of retries, outages and dead letters::

    from resilient_agents import events

    @events.subscribe(events.RetryScheduled)
    def note(event):
        print(f"attempt {event.attempt} failed, next in {event.wait:.1f} s")

A subscriber is called in the thread that emits, so it must be quick. What it raises is logged once per
subscriber and never reaches the code that emitted. Without a subscriber an event is not even built.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from resilient_agents.errors import Failure

_log = logging.getLogger("resilient_agents.events")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something happened. The base of all events; subscribe to it to hear everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryScheduled(Event):
    """An attempt failed and another one will be made.

    Attributes:
        target: Qualified name of the function.
        attempt: Number of the attempt that failed, from 1.
        wait: Time in seconds until the next attempt.
        failure: What went wrong.
    """

    target: str
    attempt: int
    wait: float
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryGaveUp(Event):
    """An attempt failed and no other one will be made.

    Attributes:
        target: Qualified name of the function.
        attempts: How many attempts were made.
        reason: Why it stopped: ``"attempts"``, ``"deadline"``, ``"advice"``, ``"idempotency"``,
            ``"filter"`` or ``"inactive"``.
        failure: What went wrong at last.
    """

    target: str
    attempts: int
    reason: str
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryEvent(Event):
    """Something happened to an entry of a dead-letter queue.

    Attributes:
        topic: What kind of work the entry is.
        entry_id: The entry's number in its queue.
        key: The entry's idempotency key.
    """

    topic: str
    entry_id: int
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryAccepted(EntryEvent):
    """An entry is durable: from now on it is not lost, whatever is killed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryDelivered(EntryEvent):
    """An entry reached its target; the ledger holds the proof.

    Attributes:
        reference: What the target calls it (the CRM's id), or *None*.
        reconciled: Whether it was found there by a look-up after an unknown outcome.
    """

    reference: str | None
    reconciled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryDeferred(EntryEvent):
    """An entry was not delivered and will be tried again.

    Attributes:
        state: ``"scheduled"``, or ``"uncertain"`` when it may have arrived and is looked for first.
        wait: Time in seconds until it is due.
        failure: What went wrong.
    """

    state: str
    wait: float
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class EntryParked(EntryEvent):
    """An entry needs a person: it was rejected, spent its attempts, or kills its worker.

    Attributes:
        reason: The failure's code, or ``"internal.crashes"``.
        failure: What went wrong, or *None* when its workers died.
    """

    reason: str
    failure: "Failure | None" = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseLost(EntryEvent):
    """A worker finished an entry whose lease had passed to another; what it found was not recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicPaused(Event):
    """A target is down, blocked or refuses us: its entries wait, and no attempts are spent.

    Attributes:
        topic: What kind of work waits.
        wait: Time in seconds until the target is probed again.
        failure: What went wrong.
    """

    topic: str
    wait: float
    failure: "Failure"


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicResumed(Event):
    """A paused target answers again.

    Attributes:
        topic: What kind of work goes on.
    """

    topic: str


E_ = TypeVar("E_", bound=Event)
Subscriber = Callable[[Any], object]

_subscribers: tuple[tuple[type[Event], Subscriber], ...] = ()
_wanted: dict[type[Event], tuple[Subscriber, ...]] = {}
_broken: set[int] = set()
_lock = Lock()


def _renew_lock() -> None:
    """Give a forked child its own lock: nobody in it releases one that was held."""
    global _lock
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)


def subscribe(*kinds: type[E_]) -> Callable[[Callable[[E_], object]], Callable[[E_], object]]:
    """Return a decorator that calls the decorated function with every event of *kinds*.

    Args:
        *kinds: Event classes; a base class brings its subclasses too. At least one.

    Returns:
        A decorator that hands the function back unchanged. Undo it with `unsubscribe`.

    Raises:
        TypeError: A kind is not an event class, or none is given.
    """
    if not kinds or not all(map(_is_event_class, kinds)):
        raise TypeError("subscribe() takes event classes, as in @subscribe(RetryScheduled)")

    def register(subscriber: Callable[[E_], object]) -> Callable[[E_], object]:
        global _subscribers
        with _lock:
            _subscribers += tuple((kind, subscriber) for kind in kinds)
            _wanted.clear()
        return subscriber

    return register


def _is_event_class(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Event)


def unsubscribe(subscriber: Subscriber) -> None:
    """Stop calling *subscriber*. Unknown ones are ignored."""
    global _subscribers
    with _lock:
        # Equality, not identity: each look at a bound method makes a new object.
        _broken.difference_update(id(other) for _, other in _subscribers if other == subscriber)
        _subscribers = tuple(pair for pair in _subscribers if pair[1] != subscriber)
        _wanted.clear()


def emit(kind: type[Event], **attributes: Any) -> None:
    """Build an event and hand it to its subscribers; do nothing where there are none.

    Args:
        kind: The class of the event.
        **attributes: Its attributes.
    """
    if not _subscribers:
        return
    listeners = _wanted.get(kind)
    if listeners is None:
        with _lock:
            listeners = _listeners(kind)
            _wanted[kind] = listeners
    if not listeners:
        return
    event = kind(**attributes)
    for listener in listeners:
        try:
            listener(event)
        except Exception:
            _report(listener)


def _listeners(kind: type[Event]) -> tuple[Subscriber, ...]:
    """Return who wants *kind*, each once, even if subscribed to the class and to its base."""
    found: list[Subscriber] = []
    for wanted, subscriber in _subscribers:
        if issubclass(kind, wanted) and subscriber not in found:
            found.append(subscriber)
    return tuple(found)


def _report(listener: Subscriber) -> None:
    """Log a broken subscriber once: a loop of failures must not become a flood of lines."""
    if id(listener) not in _broken:
        _broken.add(id(listener))
        _log.exception("an event subscriber raised; further errors of %r are not logged", listener)
