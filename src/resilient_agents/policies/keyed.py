"""A policy for each host, tenant or account: one that is down does not shut out the others."""

import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from functools import wraps
from string import Formatter
from threading import RLock
from typing import Any, Generic, ParamSpec, TypeVar, cast
from weakref import WeakSet

from resilient_agents._flow import arun, run
from resilient_agents.policies._functions import must_be_awaited, refuse_class
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._keys import Read, reader
from resilient_agents.policies._waiting import AWAITING, BLOCKING

P = ParamSpec("P")
R = TypeVar("R")
G = TypeVar("G", bound=Gate)


class _Place(Generic[G]):
    """The policy of one key, and how many of its calls are under way."""

    __slots__ = ("gate", "under_way")

    def __init__(self, gate: G) -> None:
        self.gate = gate
        self.under_way = 0

    @property
    def at_rest(self) -> bool:
        """Whether little is lost when the policy is forgotten."""
        return not self.under_way and bool(getattr(self.gate, "at_rest", True))


class PerKey(Generic[G]):
    """One policy for each key, as one circuit breaker for each host::

        breakers = PerKey(lambda host: CircuitBreaker(name=host), key="{host}")

        @breakers
        async def fetch(host: str, path: str): ...

        breakers["api.example.com"].state

    A decorator for ``def`` and ``async def``, alone or in a pipeline. A policy is made at the first call with
    its key. At most *limit* of them are kept. When there are more, the one goes whose last call is longest
    ago, except that a policy with calls under way, a breaker that is open or was forced and a limiter that is
    parked stay while there is another one to go. What a policy knew goes with it: a limiter that comes back
    starts with an empty window. So let *limit* be larger than the number of keys in use.

    Args:
        factory: Makes a policy: called with the key, it returns a `CircuitBreaker`, a `RateLimiter` or the
            like. Two threads that come first at the same moment may both call it; one result is kept.
        key: A template of the arguments, as ``"{host}"`` or ``"{account.id}:{region}"``, or a function that
            is called with the arguments and returns the key.
        limit: How many policies are kept. The default is 1000.
        name: What messages call it.

    Raises:
        TypeError: A parameter is of the wrong kind.
        ValueError: *limit* is less than 1, or *key* is no template that names an argument.
    """

    def __init__(
        self,
        factory: Callable[[Any], G],
        *,
        key: str | Callable[..., Hashable],
        limit: int = 1000,
        name: str = "",
    ) -> None:
        if isinstance(factory, Gate) or not callable(factory):
            raise TypeError(
                f"factory must be a function that is given a key and makes a policy, not {factory!r}: write "
                "lambda key: CircuitBreaker(name=key)"
            )
        if type(limit) is not int:
            raise TypeError(f"limit must be a whole number of policies, not {limit!r}")
        if limit < 1:
            raise ValueError(f"limit must be 1 or more policies, not {limit}")
        if not isinstance(name, str):
            raise TypeError(f"name must be a text, not {name!r}")
        _check_key(key)
        self.name = name
        self.limit = limit
        self._factory = factory
        self._key = key
        self._places: OrderedDict[Hashable, _Place[G]] = OrderedDict()
        # Reentrant: a call that nobody awaits any more is collected as garbage, and leaves, at any moment.
        self._lock = RLock()
        _all.add(self)

    def __repr__(self) -> str:
        return f"PerKey(key={self._key!r}, limit={self.limit}, name={self.name!r})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        key = self._key if isinstance(self._key, str) else "its arguments"
        return f"one policy for each {key}, {self.limit} at most"

    def __getitem__(self, key: Hashable) -> G:
        """Return the policy of *key*; it is made if there is none."""
        return self._place(key, calls=0).gate

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Hashable]:
        """Iterate over the keys that have a policy; the one whose last call is longest ago comes first."""
        with self._lock:
            return iter(list(self._places))

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* such that each call passes the policy of its key.

        Raises:
            ConfigurationError: The key names an argument that *fn* does not have.
            TypeError: *fn* is a class, a generator function, or no function.
        """
        refuse_class(fn, type(self).__name__)
        if must_be_awaited(fn, type(self).__name__):
            acall = _awaiting(self, cast("Callable[P, Awaitable[Any]]", fn), reader(self._key, fn))
            return cast("Callable[P, R]", acall)
        return _blocking(self, fn, reader(self._key, fn))

    def _place(self, key: Hashable, *, calls: int) -> _Place[G]:
        """Return the place of *key*, with so many more calls under way."""
        with self._lock:
            place = self._places.get(key)
            if place is not None:
                self._places.move_to_end(key)
                place.under_way += calls
                return place
        gate = self._factory(key)
        if not isinstance(gate, Gate):
            raise TypeError(
                f"the factory of {self!r} must return a policy that admits calls, such as a CircuitBreaker "
                f"or a RateLimiter, not a value of type {type(gate).__name__}"
            )
        with self._lock:
            place = self._places.setdefault(key, _Place(gate))
            self._places.move_to_end(key)
            place.under_way += calls
            if len(self._places) > self.limit:
                self._forget_one(key)
            return place

    def _forget_one(self, newest: Hashable) -> None:
        """Make room; the policy that was just asked for stays."""
        others = [key for key in self._places if key != newest]
        at_rest = (key for key in others if self._places[key].at_rest)
        del self._places[next(at_rest, others[0])]

    def _leave(self, place: _Place[G]) -> None:
        with self._lock:
            place.under_way = max(0, place.under_way - 1)  # a fork forgets them


def _blocking(per_key: PerKey[G], fn: Callable[P, R], read: Read) -> Callable[P, R]:
    @wraps(fn)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        place = per_key._place(read(args, kwargs), calls=1)
        try:
            gate = place.gate
            permit = gate.try_enter()
            if permit is None:
                permit = run(gate.enter(BLOCKING))
            try:
                result = fn(*args, **kwargs)
            except BaseException as exc:
                gate.leave(permit, exc)
                raise
            gate.leave(permit, None)
            return result
        finally:
            per_key._leave(place)

    return call


def _awaiting(per_key: PerKey[G], fn: Callable[P, Awaitable[Any]], read: Read) -> Callable[P, Awaitable[Any]]:
    @wraps(fn)
    async def call(*args: P.args, **kwargs: P.kwargs) -> Any:
        place = per_key._place(read(args, kwargs), calls=1)
        try:
            gate = place.gate
            permit = gate.try_enter()
            if permit is None:
                permit = await arun(gate.enter(AWAITING))
            try:
                result = await fn(*args, **kwargs)
            except BaseException as exc:
                gate.leave(permit, exc)
                raise
            gate.leave(permit, None)
            return result
        finally:
            per_key._leave(place)

    return call


def _check_key(key: Any) -> None:
    if callable(key):
        return
    if not isinstance(key, str):
        raise TypeError(f"key must be a template of the arguments, as '{{host}}', or a function, not {key!r}")
    try:
        fields = [field for _, field, _, _ in Formatter().parse(key)]
    except ValueError as exc:
        raise ValueError(f"key {key!r} is no template: {exc}") from exc
    if not any(fields):
        raise ValueError(
            f"key {key!r} names no argument, so that all calls would have the same: write '{{host}}'"
        )


_all: "WeakSet[PerKey[Any]]" = WeakSet()


def _renew_locks() -> None:
    """Give a forked child its own locks, and forget the calls of threads that it does not have."""
    for per_key in _all:
        per_key._lock = RLock()
        for place in per_key._places.values():
            place.under_way = 0


os.register_at_fork(after_in_child=_renew_locks)
