"""How a process hears what others have invalidated."""

import json
from collections.abc import Callable, Sequence
from inspect import ismethod
from random import random
from threading import Event, Thread
from typing import Any, TypeAlias
from weakref import WeakMethod, finalize

from resilient_agents import _clock
from resilient_agents.cache._redis_wire import Closed, Garbage, Refusal, pack, reader

PING_AFTER = 1.0
"""Time in seconds of silence after which it is asked whether the channel still works."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_A_READ = 65536

Heard: TypeAlias = Callable[[Sequence[str] | None], None]


class Listener:
    """A thread that hears of invalidations, through a connection of its own.

    It calls *heard* with *None* when the channel is lost, and again when it works: in between, messages were
    missed.

    Args:
        dial: Makes a connection.
        channel: Name of the channel.
        source: Who we are; our own messages are passed over.
        heard: Takes the names. A method is held weakly: the thread ends with its owner.
    """

    def __init__(self, dial: Callable[[], Any], channel: str, source: str, heard: Heard) -> None:
        self._parts = dial, channel, heard
        self._end = Event()
        finalize(self, self._end.set)
        speak: Heard = _Weakly(heard, self._end) if ismethod(heard) else heard
        Thread(
            target=_listen,
            args=(dial, channel, speak, source, self._end),
            name="resilient-agents-ear",
            daemon=True,
        ).start()

    def anew(self, source: str) -> "Listener":
        """Return one for a forked child."""
        dial, channel, heard = self._parts
        return Listener(dial, channel, source, heard)

    def close(self) -> None:
        """End the thread, soon."""
        self._end.set()


class _Weakly:
    """Calls a method for as long as its owner lives."""

    def __init__(self, method: Any, end: Event) -> None:
        self._method = WeakMethod(method, lambda _: end.set())

    def __call__(self, names: Sequence[str] | None) -> None:
        if (method := self._method()) is not None:
            method(names)


def _listen(dial: Callable[[], Any], channel: str, heard: Heard, source: str, end: Event) -> None:
    """Listen, and begin again where the channel is lost, after a pause that grows."""
    losses = 0
    while not end.is_set():
        connection = None
        try:
            connection = dial()
            ear = _Ear(connection, channel)
            ear.subscribe()
            heard(None)
            losses = 0
            while not end.is_set():
                for message in ear.messages():
                    _pass_on(message, source, heard)
        except Exception:
            if losses == 0:
                heard(None)
        finally:
            if connection is not None:
                connection.disconnect()
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**losses)
        losses = min(losses + 1, 32)
        end.wait(pause * (1 + random()) / 2)  # noqa: S311 - a wait is no secret


def _pass_on(message: bytes, source: str, heard: Heard) -> None:
    """Tell of the names in a message, unless it is one of ours, or none of a cache."""
    try:
        said: Any = json.loads(message)
        names = [str(name) for name in said["names"]]
        ours = said["from"] == source
    except (ValueError, TypeError, LookupError):
        return
    if not ours:
        heard(names)


class _Ear:
    """A connection that is subscribed."""

    def __init__(self, connection: Any, channel: str) -> None:
        self._channel = channel
        self._socket = connection._sock
        self._socket.settimeout(PING_AFTER)
        self._reader = reader()
        self._asked_at: float | None = None

    def subscribe(self) -> None:
        """Subscribe, and wait for the confirmation."""
        self._socket.sendall(pack("SUBSCRIBE", self._channel))
        while not (answers := self._answers()):
            pass
        if isinstance(answers[0], Refusal):
            raise answers[0]

    def messages(self) -> list[bytes]:
        """Wait for messages, or for a while.

        Raises:
            TimeoutError: Not even a PING is answered.
        """
        try:
            answers = self._answers()
        except TimeoutError:
            if self._asked_at is not None:
                raise
            self._asked_at = _clock.clock().monotonic()
            self._socket.sendall(pack("PING"))
            return []
        self._asked_at = None
        return [it[2] for it in answers if isinstance(it, list) and len(it) == 3 and it[0] == b"message"]

    def _answers(self) -> list[Any]:
        data = self._socket.recv(_A_READ)
        if not data:
            raise Closed
        self._reader.feed(data)
        answers = []
        while (answer := self._reader.gets()) is not False:
            if not isinstance(answer, list | Refusal):
                raise Garbage("no answer on a channel")
            answers.append(answer)
        return answers
