"""How threads talk to Redis: each through a connection that is its own for one exchange."""

from math import inf
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any

from resilient_agents import _clock
from resilient_agents.cache._redis_dialer import Dialer
from resilient_agents.cache._redis_wire import Closed, Garbage, reader

_A_READ = 65536
_A_MOMENT = 0.001


class Busy(Exception):
    """All connections were in use for so long; that says nothing about Redis."""


class Line:
    """One connection, used by one thread at a time.

    Args:
        connection: A connection of redis-py, which is logged in and waits for nothing.

    Attributes:
        used: Whether it has answered before: one that is closed then may have been idle for too long.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket = connection._sock
        self._reader = reader()
        self._timeout = -1.0
        self.used = False

    def exchange(self, payload: bytes, count: int, within: float) -> list[Any]:
        """Send *payload* and return *count* answers; all of it takes no longer than *within* seconds.

        Raises:
            Closed: The other side has closed the connection.
            Garbage: What came is no answer.
            TimeoutError: The time was up.
            OSError: The connection failed in another way.
        """
        until = _clock.in_force.monotonic() + within
        self._limit(within)
        try:
            self._socket.sendall(payload)
            answers = self._answers(count, until)
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise Closed from exc
        if self._reader.has_data():
            raise Garbage("an answer to nothing that was asked")
        self.used = True
        return answers

    def close(self) -> None:
        """Close the socket."""
        self._connection.disconnect()

    def _answers(self, count: int, until: float) -> list[Any]:
        gets, answers = self._reader.gets, list[Any]()
        while True:
            data = self._socket.recv(_A_READ)
            if not data:
                raise Closed
            self._reader.feed(data)
            while (answer := gets()) is not False:
                answers.append(answer)
            if len(answers) >= count:
                break
            # Who was late himself still looks whether the answer has come.
            self._limit(max(_A_MOMENT, until - _clock.in_force.monotonic()))
        if len(answers) > count:
            raise Garbage("an answer to nothing that was asked")
        return answers

    def _limit(self, within: float) -> None:
        if within != self._timeout:
            self._timeout = within
            self._socket.settimeout(within)


class Pool:
    """The lines of this process. New ones are made as threads need them; a thread waits where all are in use.

    Args:
        dialer: Who makes connections.
        size: How many lines there are at most.
    """

    def __init__(self, dialer: Dialer, size: int) -> None:
        self._dialer = dialer
        self._idle = SimpleQueue[Line | Exception | None]()
        self._free: float = size
        self._live = 0
        self._closed = False
        self._lock = Lock()

    def exchange(self, payload: bytes, count: int, within: float) -> list[Any]:
        """Send *payload* and return *count* answers; all of it takes no longer than *within* seconds.

        Raises:
            Busy: All lines were in use.
            Closed: The other side has closed a connection that was idle.
            Exception: The connection failed, or could not be made.
        """
        try:
            line = self._idle.get_nowait()
        except Empty:
            line = None
        if not isinstance(line, Line):
            line, within = self._another(line, within)
        try:
            answers = line.exchange(payload, count, within)
        except Closed:
            self._drop(line)
            self._close_idle()  # those that were idle for as long are closed too
            raise
        except BaseException:
            self._drop(line)
            raise
        self._idle.put(line)
        if self._closed:
            self._close_idle()
        return answers

    def adopt(self, connection: Any) -> None:
        """Take a connection that was made elsewhere."""
        with self._lock:
            self._free -= 1
        self._delivered(connection)

    def close(self) -> None:
        """Close the lines that are idle; those in use are closed when their threads are done."""
        with self._lock:
            self._closed, self._free = True, -inf
        self._close_idle()

    def _close_idle(self) -> None:
        for _ in range(self._idle.qsize()):
            try:
                line = self._idle.get_nowait()
            except Empty:
                return
            if isinstance(line, Line):
                self._drop(line)
            elif line is not None:
                self._idle.put(line)

    def _another(self, found: Exception | None, within: float) -> tuple[Line, float]:
        """Return a line, be it new or returned by another thread, and the time that is left."""
        until = _clock.in_force.monotonic() + within
        while found is None:
            with self._lock:
                may, alive = self._free > 0, self._live > 0
                self._free -= may
            if may:
                self._dialer.dial_later(self._delivered)
            left = max(_A_MOMENT, until - _clock.in_force.monotonic())
            try:
                line = self._idle.get(timeout=left)
            except Empty:
                raise (Busy() if alive else TimeoutError()) from None
            if isinstance(line, Line):
                return line, max(_A_MOMENT, until - _clock.in_force.monotonic())
            found = line
        self._give_back()
        raise found

    def _delivered(self, made: Any) -> None:
        if not isinstance(made, Exception):
            with self._lock:
                self._live += 1
            made = Line(made)
        self._idle.put(made)
        if self._closed:
            self._close_idle()

    def _drop(self, line: Line) -> None:
        line.close()
        with self._lock:
            self._live -= 1
        self._give_back()

    def _give_back(self) -> None:
        """Make room for another line, and wake one who waits for one."""
        with self._lock:
            self._free += 1
        self._idle.put(None)
