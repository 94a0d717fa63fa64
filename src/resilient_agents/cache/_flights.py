"""Loads under way in this process, one for each key: who leads one, and who waits for it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from resilient_agents._flow import Flow
from resilient_agents.cache._entry import Entry
from resilient_agents.policies._deadline import put_back
from resilient_agents.policies._waiting import Bell, Waiting

if TYPE_CHECKING:
    import asyncio


class Outcome(NamedTuple):
    """How a load ended: with an entry, or with what it raised.

    Attributes:
        entry: What was loaded, or found in the store by then.
        failure: What the origin raised.
        herd: Who had loaded it by then: ``"process"``, ``"processes"``, or an empty text.
        refused: Whether the store did not take it, for something newer happened to the key since it began.
    """

    entry: Entry | None = None
    failure: Exception | None = None
    herd: str = ""
    refused: bool = False


class Flight:
    """One load of one key, in one thread or event loop.

    Attributes:
        key: What is loaded.
        tags: The marks of its tags.
        place: The event loop of a task; *None* for a thread.
        void: Whether the key was written or invalidated since it began: what it brings is not kept.
        background: Whether it was begun without anybody waiting for it.
        lasting: Whether it goes on when nobody waits for it any more.
        ended: Whether it is over.
        outcome: How it ended; *None* where it was abandoned.
        task: The task that performs it.
        waits_for: The loads that this one waits for.
    """

    __slots__ = (
        "__weakref__",
        "_bells",
        "background",
        "ended",
        "key",
        "lasting",
        "outcome",
        "place",
        "tags",
        "task",
        "void",
        "waits_for",
    )

    def __init__(self, key: str, tags: Sequence[str], place: object) -> None:
        self.key = key
        self.tags = tags
        self.place = place
        self.void = self.background = self.lasting = self.ended = False
        self.outcome: Outcome | None = None
        self.task: asyncio.Task[Any] | None = None
        self.waits_for: set[Flight] = set()
        self._bells: list[Bell] = []


class Flights:
    """The loads under way. Threads share theirs, and so do the tasks of one event loop; loops share none."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._under_way: dict[str, dict[object, Flight]] = {}
        _all.add(self)

    def __len__(self) -> int:
        return sum(map(len, tuple(self._under_way.values())))

    def join(self, key: str, tags: Sequence[str], place: object) -> tuple[Flight, bool]:
        """Return the load of *key*, and whether it is a new one, which the caller must lead."""
        with self._lock:
            here = self._under_way.setdefault(key, {})
            flight = here.get(place)
            if flight is not None:
                return flight, False
            flight = here[place] = Flight(key, tags, place)
            return flight, True

    def invalidate(self, names: Iterable[str]) -> None:
        """Void the loads of keys or tags that are called so; who comes from now on begins a new one."""
        with self._lock:
            if not self._under_way:
                return
            gone = set(names)
            for flight in [flight for here in self._under_way.values() for flight in here.values()]:
                if flight.key in gone or not gone.isdisjoint(flight.tags):
                    flight.void = True
                    self._forget(flight)

    def close(self, flight: Flight) -> None:
        """Let nobody join a load any more: what it brings may be old by the time at which he begins."""
        with self._lock:
            self._forget(flight)

    def end(self, flight: Flight, outcome: Outcome | None) -> None:
        """Tell those who wait how a load ended."""
        with self._lock:
            if flight.ended:
                return
            flight.ended, flight.outcome, flight.task = True, outcome, None
            self._forget(flight)
            bells, flight._bells = flight._bells, []
        for bell in bells:
            bell.ring()

    def wait(self, flight: Flight, waiting: Waiting, seconds: float | None) -> Flow[bool]:
        """Wait for the end of a load, for so many *seconds* at most, and tell whether it came.

        A task that leaves harms nobody who stays; the last one to leave takes the load with it.
        """
        bell = waiting.bell()
        with self._lock:
            if flight.ended:
                return True
            flight._bells.append(bell)
        try:
            yield partial(bell.wait, seconds)
        finally:
            self._leave(flight, bell)
        return flight.ended

    def _leave(self, flight: Flight, bell: Bell) -> None:
        with self._lock:
            if flight.ended:
                return
            flight._bells.remove(bell)
            task = flight.task
            if flight._bells or flight.background or flight.lasting or task is None:
                return
            self._forget(flight)
        task.cancel()

    def _forget(self, flight: Flight) -> None:
        here = self._under_way.get(flight.key)
        if here is not None and here.get(flight.place) is flight:
            del here[flight.place]
            if not here:
                del self._under_way[flight.key]


_leading: ContextVar[tuple[Flight, ...]] = ContextVar("resilient_agents_loads", default=())
"""The loads that the current code is a part of, the innermost last."""

_waits = RLock()


@contextmanager
def leading(flight: Flight) -> Iterator[None]:
    """Make what happens in a ``with`` block a part of the load *flight*."""
    outer = () if flight.background else _leading.get()
    token = _leading.set((*outer, flight))
    try:
        yield
    finally:
        put_back(_leading, token)


@contextmanager
def waiting_for(flight: Flight) -> Iterator[bool]:
    """Note who waits for *flight* in a ``with`` block, which is told whether it would wait for itself.

    It would where the load waits, over however many others, for one that the current code is a part of.
    """
    own = _leading.get()
    if not own:
        yield False
        return
    with _waits:
        circular = _reaches(flight, own)
        added = not circular and flight not in own[-1].waits_for
        if added:
            own[-1].waits_for.add(flight)
    try:
        yield circular
    finally:
        if added:
            with _waits:
                own[-1].waits_for.discard(flight)


def _reaches(flight: Flight, targets: Sequence[Flight]) -> bool:
    seen: set[Flight] = set()
    stack = [flight]
    while stack:
        one = stack.pop()
        if one in targets:
            return True
        if one not in seen:
            seen.add(one)
            stack.extend(one.waits_for)
    return False


_all: WeakSet[Flights] = WeakSet()


def _begin_anew() -> None:
    """Begin without loads in a forked child: the threads and tasks of its parent are not in it."""
    global _waits
    _waits = RLock()
    for flights in list(_all):
        flights._lock = RLock()
        flights._under_way = {}


os.register_at_fork(after_in_child=_begin_anew)
