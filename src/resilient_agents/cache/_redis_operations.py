"""What is asked of Redis, and what the answers mean: decided once, for threads and for tasks."""

import logging
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from resilient_agents import _clock
from resilient_agents._flow import Flow
from resilient_agents.cache._redis_blocking import Busy
from resilient_agents.cache._redis_outage import Outage
from resilient_agents.cache._redis_scripts import CLAIM, FILL, MARK, PUT, RELEASE, SEE, VOID, Call
from resilient_agents.cache._redis_wire import Closed, Garbage, Refusal, encoded, pack
from resilient_agents.cache._redis_wires import Exchange, Part
from resilient_agents.cache.store import StoreUnavailable

Command: TypeAlias = tuple[bytes, bytes | Call]
"""A name, and a command that is about it."""

_log = logging.getLogger("resilient_agents.cache")

_DAMAGED = frozenset({"WRONGTYPE"})
"""Errors that speak of one name, under which somebody put what is no value."""

_NOSCRIPT = "NOSCRIPT"
_GET = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n"
_LEASE = b":lease"
_MARKS_LAST = 7 * 86_400_000
"""How long a mark that was missing is kept, in milliseconds; entries that outlive it count as invalidated."""

_AT_A_TIME = 100
_A_MOMENT = 0.001


class Operations:
    """The operations of a store, as flows.

    Args:
        outage: The breaker in front of them.
        announcement: Makes of names the command that tells other processes of them.
        clustered: Whether each name is asked for by itself.
    """

    def __init__(
        self, outage: Outage, announcement: Callable[[Sequence[str]], Part], *, clustered: bool
    ) -> None:
        self._clustered = clustered
        self._outage = outage
        self._announcement = announcement
        self._untold = False

    def get(self, exchange: Exchange, names: Sequence[str], within: float) -> Flow[list[bytes | None]]:
        """Read."""
        self._check(self._outage.usable())
        answers = yield from self._ask(exchange, self._reading(names), within)
        return self._values(answers, names)

    def claim(
        self, exchange: Exchange, names: Sequence[str], token: str, seconds: float, within: float, again: bool
    ) -> Flow[tuple[bool, list[bytes | None]]]:
        """Take the lease, and read."""
        self._check(self._outage.usable() and self._outage.writes)
        lease = _lease(names[0])
        claim = lease, CLAIM.call((lease,), token, _milliseconds(seconds), int(again))
        marks = [(it, SEE.call((it,), secrets.token_bytes(8), _MARKS_LAST)) for it in map(encoded, names[1:])]
        commands = (claim, *self._reading(names[:1]), *marks)
        won, *values = yield from self._ask(exchange, commands, within)
        return self._checked(won) == 1, self._values(values, names)

    def fill(
        self, exchange: Exchange, key: str, value: bytes, ttl: float, token: str, within: float
    ) -> Flow[bool]:
        """Store what was loaded."""
        self._check(self._outage.usable() and self._outage.writes)
        name = encoded(key)
        fill = FILL.call((name, _lease(key)), token, value, _milliseconds(ttl))
        answers = yield from self._ask(exchange, ((name, fill),), within)
        return bool(self._checked(answers[0]))

    def release(self, exchange: Exchange, key: str, token: str, within: float) -> Flow[None]:
        """End a lease."""
        self._check(self._outage.usable())
        lease = _lease(key)
        answers = yield from self._ask(exchange, ((lease, RELEASE.call((lease,), token)),), within)
        self._checked(answers[0])

    def put(self, exchange: Exchange, key: str, value: bytes, ttl: float, within: float) -> Flow[None]:
        """Write; where there is no room for the new value, the old one goes."""
        name = encoded(key)
        put = PUT.call((name, _lease(key)), value, _milliseconds(ttl))
        answers = yield from self._change(exchange, [(name, put)], [key], (), ttl, within)
        if answers[0] == 0:
            self._outage.failed(Refusal("OOM"), 0.0, self._outage.epoch)

    def invalidate(
        self, exchange: Exchange, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float
    ) -> Flow[None]:
        """Remove keys and write marks."""
        if keys or marks:
            commands = changes(keys, dict.fromkeys(marks, ttl))
            yield from self._change(exchange, commands, keys, marks, ttl, within)

    def _change(
        self,
        exchange: Exchange,
        commands: list[Command],
        keys: Iterable[str],
        marks: Iterable[str],
        ttl: float,
        within: float,
    ) -> Flow[list[Any]]:
        """Do what other processes must hear of; what cannot be done is postponed."""
        if self._outage.keeps_back(keys, marks, ttl):
            raise StoreUnavailable("Redis does not answer: the change is kept, and made before it is read")
        try:
            announcement = self._announcement([*keys, *marks])
            answers = yield from self._ask(exchange, [*commands, announcement], within)
            for answer in answers[:-1]:
                self._checked(answer)
        except BaseException:
            self._outage.postpone(keys, marks, ttl)
            raise
        if isinstance(answers[-1], Refusal) and not self._untold:
            self._untold = True
            _log.warning(
                "cache %r: Redis answered %s to PUBLISH: what other processes keep in memory is not "
                "invalidated, it expires; let the user of this cache publish to its channel",
                self._outage.name,
                answers[-1].code,
            )
        return answers

    def _ask(self, exchange: Exchange, commands: Sequence[Command], within: float) -> Flow[list[Any]]:
        """Ask within the time; once more where an idle connection was closed, or a script is not known."""
        outage = self._outage
        epoch, until = outage.epoch, _clock.in_force.monotonic() + within
        parts = [(name, it if isinstance(it, bytes) else it.short()) for name, it in commands]
        try:
            answers: list[Any]
            try:
                answers = yield partial(exchange, parts, within)
            except Closed:
                answers = yield partial(exchange, parts, _left(until))
            if _NOSCRIPT in map(_code, answers):
                answers = yield partial(exchange, in_full(commands), _left(until))
        except Busy:
            raise StoreUnavailable("Redis was not asked: all connections were in use") from None
        except Exception as exc:
            outage.failed(exc, within, epoch)
            raise StoreUnavailable(f"Redis did not answer: {type(exc).__name__}") from exc
        outage.answered()
        return answers

    def _check(self, may: bool) -> None:
        if not may:
            raise StoreUnavailable("Redis was not asked: it does not answer, or takes no writes")

    def _checked(self, answer: Any) -> Any:
        """Return *answer*, if it is no error."""
        if isinstance(answer, Refusal):
            if answer.code not in _DAMAGED:
                self._outage.failed(answer, 0.0, self._outage.epoch)
            raise StoreUnavailable(f"Redis answered {answer.code}")
        return answer

    def _reading(self, names: Sequence[str]) -> list[Command]:
        """Return the commands that read *names*."""
        if len(names) == 1 or self._clustered:
            return [(name, _GET % (len(name), name)) for name in map(encoded, names)]
        return [(encoded(names[0]), pack("MGET", *names))]

    def _values(self, answers: list[Any], names: Sequence[str]) -> list[bytes | None]:
        """Return the values of *names*; what is no value is none."""
        found: Any = answers
        if len(answers) != len(names):
            (found,) = answers  # of MGET
        if isinstance(found, list) and len(found) == len(names):
            values = [None if _code(it) in _DAMAGED else it for it in found]
            if all(it is None or it.__class__ is bytes for it in values):
                return values
            found = next(it for it in values if it is not None and it.__class__ is not bytes)
        self._checked(found)
        self._outage.failed(Garbage("an answer to something else"), 0.0, self._outage.epoch)
        raise StoreUnavailable("Redis answered something else than was asked")


def changes(keys: Iterable[str], marks: Mapping[str, float]) -> list[Command]:
    """Return the commands that remove *keys* and write *marks* for so many seconds each."""
    commands: list[Command] = [(it, VOID.call((it, it + _LEASE))) for it in map(encoded, keys)]
    for mark, ttl in marks.items():
        name = encoded(mark)
        commands.append((name, MARK.call((name,), secrets.token_bytes(8), _milliseconds(ttl))))
    return commands


def deliver(exchange: Exchange, commands: Sequence[Command], within: float) -> None:
    """Perform *commands*, blocking, within so many seconds for a hundred of them.

    Raises:
        Exception: One of them was not performed.
    """
    for place in range(0, len(commands), _AT_A_TIME):
        for answer in exchange(in_full(commands[place : place + _AT_A_TIME]), within):
            if isinstance(answer, Refusal):
                raise answer


def in_full(commands: Sequence[Command]) -> list[Part]:
    """Return *commands* with the scripts' texts."""
    return [(name, it if isinstance(it, bytes) else it.long()) for name, it in commands]


def _code(answer: Any) -> str | None:
    return answer.code if answer.__class__ is Refusal else None


def _left(until: float) -> float:
    return max(_A_MOMENT, until - _clock.in_force.monotonic())


def _lease(key: str) -> bytes:
    return encoded(key) + _LEASE


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
