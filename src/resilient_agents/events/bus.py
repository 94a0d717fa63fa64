"""Who hears of what: `subscribe`, `unsubscribe` and `emit`.

A subscriber is called in the thread that emits. Without a subscriber an event is not even built.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

_log = logging.getLogger("resilient_agents.events")


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something happened. The base of all events; subscribe to it to hear everything."""


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


def subscribed() -> bool:
    """Tell whether anybody hears of anything; for hot paths, to which the arguments of `emit` are dear."""
    return bool(_subscribers)


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
