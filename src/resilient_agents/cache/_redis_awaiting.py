"""How tasks talk to Redis: all tasks of an event loop through one connection, one after the other.

Answers come in the order of the questions, so each finds its own. The answer to a task that was cancelled is
read and dropped: it can never reach another one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from threading import Lock
from typing import Any
from weakref import ref

from resilient_agents.cache._redis_dialer import Dialer
from resilient_agents.cache._redis_wire import Closed, Garbage, reader

_A_READ = 65536
_LATE = 0.005
"""Time in seconds by which a loop is late that somebody blocks; timers alone are so by a millisecond."""

_NOT_NOW = (BlockingIOError, InterruptedError, SSLWantReadError, SSLWantWriteError)


class Question:
    """What was asked, and what has come of it so far."""

    __slots__ = ("answers", "count", "due", "future", "timer", "within")

    def __init__(self, count: int, within: float, due: float, future: asyncio.Future[list[Any]]) -> None:
        self.answers: list[Any] = []
        self.count = count
        self.within = within
        self.due = due
        self.future = future
        self.timer: asyncio.TimerHandle | None = None

    def fail(self, exc: Exception) -> None:
        """End the wait of who asked, if he still waits, and his loop has not ended without him."""
        if self.timer is not None:
            self.timer.cancel()
        if not self.future.done() and not self.future.get_loop().is_closed():
            self.future.set_exception(exc)


class Link:
    """The connection of one event loop. It is made when it is first needed.

    Args:
        dialer: Who makes connections.
        missed: Called with the time in seconds that was waited for an answer to a task that had left by then.

    Attributes:
        loop: A weak reference to the loop; nothing here keeps it alive.
        connected: Whether there is a connection.
        used: Whether it has answered before: one that is closed then may have been idle for too long.
    """

    def __init__(
        self, dialer: Dialer, loop: asyncio.AbstractEventLoop, missed: Callable[[float], object]
    ) -> None:
        self.loop = ref(loop)
        self.connected = self.used = False
        self._dialer = dialer
        self._missed = missed
        self._dialing = False
        self._connection: Any = None
        self._socket: Any = None
        self._asked = deque[Question]()
        self._unsent = bytearray()
        self._flushing = self._writing = False

    async def exchange(self, payload: bytes, count: int, within: float) -> list[Any]:
        """Send *payload* and return *count* answers; wait no longer than *within* seconds.

        Raises:
            Closed: The other side has closed the connection.
            TimeoutError: The time was up.
            Exception: The connection failed, or could not be made.
        """
        loop = asyncio.get_running_loop()
        question = Question(count, within, loop.time() + within, loop.create_future())
        question.timer = loop.call_at(question.due, self._expire, question)
        alone = not self._asked
        self._asked.append(question)
        if alone and self.connected and not self._unsent:
            self._unsent += payload
            self._flush()
        else:
            self._unsent += payload
            self._see_to_it(loop)
        return await question.future

    def adopt(self, connection: Any) -> None:
        """Take a new connection, or let it go where there is one already. In the loop's thread."""
        self._dialing = False
        loop = self.loop()
        if self.connected or loop is None:
            connection.disconnect()
            return
        self._connection, self._socket = connection, connection._sock
        self._socket.setblocking(False)
        self._reader = reader()
        self.connected, self.used = True, False
        loop.add_reader(self._socket.fileno(), self._receive)
        self._flush()

    def drop(self, exc: Exception) -> None:
        """Close the connection; who waits for an answer gets *exc*. In the loop's thread, or without one."""
        loop, connection = self.loop(), self._connection
        if connection is not None:
            if loop is not None and not loop.is_closed():
                loop.remove_reader(self._socket.fileno())
                loop.remove_writer(self._socket.fileno())
            connection.disconnect()
        self.connected = self._writing = False
        self._connection = self._socket = None
        asked, self._asked = self._asked, deque()
        self._unsent.clear()
        for question in asked:
            question.fail(exc)

    def from_any_thread(self, do: Callable[..., object], *args: Any) -> bool:
        """Have the loop do something soon; tell whether it still can."""
        loop = self.loop()
        if loop is None or loop.is_closed():
            return False
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(do, *args)
            return True
        return False

    def _see_to_it(self, loop: asyncio.AbstractEventLoop) -> None:
        """See that what is not sent yet will be: together with what others ask in this turn of the loop."""
        if self.connected:
            if not self._flushing and not self._writing:
                self._flushing = True
                loop.call_soon(self._flush)
        elif not self._dialing:
            self._dialing = True
            try:
                self._dialer.dial_later(self._delivered)
            except RuntimeError as exc:
                self._dialing = False
                self.drop(ConnectionError(str(exc)))

    def _delivered(self, made: Any) -> None:
        """Hear of a connection, in the thread that made it."""
        if isinstance(made, Exception):
            self.from_any_thread(self._undelivered, made)
        elif not self.from_any_thread(self.adopt, made):
            made.disconnect()

    def _undelivered(self, exc: Exception) -> None:
        self._dialing = False
        if not self.connected:
            self.drop(exc)

    def _flush(self) -> None:
        """Send as much as the socket takes now; the rest when it takes more."""
        self._flushing = False
        if not self.connected or not self._unsent:
            return
        try:
            sent = self._socket.send(self._unsent)
        except _NOT_NOW:
            sent = 0
        except OSError:
            self.drop(Closed())
            return
        del self._unsent[:sent]
        loop = self.loop()
        if loop is not None and bool(self._unsent) != self._writing:
            self._writing = not self._writing
            if self._writing:
                loop.add_writer(self._socket.fileno(), self._flush)
            else:
                loop.remove_writer(self._socket.fileno())

    def _receive(self) -> None:
        """Read what has come, and hand out the answers."""
        while True:
            try:
                data = self._socket.recv(_A_READ)
            except _NOT_NOW:
                return
            except OSError:
                data = b""
            if not data:
                self.drop(Closed())
                return
            try:
                self._hand_out(data)
            except Exception as exc:
                self.drop(exc)
                return
            if not isinstance(self._socket, SSLSocket) or not self._socket.pending():
                return

    def _hand_out(self, data: bytes) -> None:
        answers, asked = self._reader, self._asked
        answers.feed(data)
        while (answer := answers.gets()) is not False:
            if not asked:
                raise Garbage("an answer to nothing that was asked")
            question = asked[0]
            question.answers.append(answer)
            if len(question.answers) == question.count:
                asked.popleft()
                if question.timer is not None:
                    question.timer.cancel()
                if not question.future.done():
                    question.future.set_result(question.answers)
        self.used = True

    def _expire(self, question: Question) -> None:
        """End a wait. The answer may still come, and is dropped then.

        A loop that was late itself, since somebody blocked it, first waits once more for as long as it was
        late: perhaps it has not even sent the question until now.
        """
        loop = question.future.get_loop()
        late = loop.time() - question.due
        if late > _LATE:
            question.due = inf
            question.timer = loop.call_later(min(late, question.within), self._expire, question)
            return
        question.timer = None
        if question.future.done():
            self._missed(question.within)
        else:
            question.future.set_exception(TimeoutError())


class Links:
    """The links of this process, one for each event loop."""

    def __init__(self, dialer: Dialer, missed: Callable[[float], object]) -> None:
        self._dialer = dialer
        self._missed = missed
        self._links: dict[int, Link] = {}
        self._lock = Lock()

    def here(self) -> Link:
        """Return the link of the running loop."""
        loop = asyncio.get_running_loop()
        link = self._links.get(id(loop))
        if link is None or link.loop() is not loop:
            with self._lock:
                self._let_go_of_closed_loops()
                link = self._links[id(loop)] = Link(self._dialer, loop, self._missed)
        return link

    async def exchange(self, payload: bytes, count: int, within: float) -> list[Any]:
        """Send *payload* and return *count* answers, through the link of the running loop."""
        return await self.here().exchange(payload, count, within)

    def drop(self, exc: Exception) -> None:
        """Close all connections, from any thread."""
        for link in list(self._links.values()):
            if not link.from_any_thread(link.drop, exc):
                link.drop(exc)

    def prepare(self) -> None:
        """Make the connections that the loops need, so that no caller waits for them. Blocks.

        Raises:
            Exception: One could not be made.
        """
        for link in list(self._links.values()):
            loop = link.loop()
            if not link.connected and loop is not None and not loop.is_closed():
                link._delivered(self._dialer.dial())

    def _let_go_of_closed_loops(self) -> None:
        for number, link in list(self._links.items()):
            loop = link.loop()
            if loop is None or loop.is_closed():
                del self._links[number]
                link.drop(Closed())
