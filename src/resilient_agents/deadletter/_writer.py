"""One writer thread a process: concurrent callers share a commit, and so its fsync (group commit).

`Writer.perform` returns only when the operation's transaction is durable. All access to the file, reads
included, goes through the writer's one connection. While a commit is under way new operations gather, and
the next transaction takes them all.
"""

import os
import sqlite3
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from resilient_agents.deadletter._file import DatabaseFile
from resilient_agents.errors import (
    ApiError,
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageReadOnly,
)

if TYPE_CHECKING:
    import asyncio

    Turn: TypeAlias = list[tuple["_Request", asyncio.Future[None]]]

T = TypeVar("T")
Operation = Callable[[sqlite3.Connection], T]
"""A part of a transaction. It raises an `ApiError` only before it has written anything."""

STRAGGLER_WAIT = 0.0003
"""Time in seconds to wait for a caller who is likely to be back in a moment."""

_SHARED_FATE = (StorageFull, StorageReadOnly, StorageCorrupt, StorageBusy)


class _Request:
    """An operation on its way to the writer and its result on the way back."""

    __slots__ = ("abandoned", "done", "error", "operation", "result")

    def __init__(self, operation: Operation[Any]) -> None:
        self.operation = operation
        self.result: Any = None
        self.error: Exception | None = None
        self.abandoned = False
        self.done = False

    def outcome(self) -> Any:
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None
        return self.result


class _Crowd(NamedTuple):
    """Requests that are handed in and answered together: a thread's one, or those of a turn of a loop."""

    requests: list[_Request]
    answer: Callable[[], object]


class Writer:
    """The one connection of this process to one file.

    Args:
        path: The database file. It is created, readable by its owner only, where there is none.
        prepare: Called with each new connection, under the file lock, to bring the schema up to date.
        patience: Time in seconds that a caller waits for its commit before it gets a `StorageBusy`.

    Raises:
        StorageFailure: The file cannot be opened, written or understood.
    """

    largest_group = 256

    def __init__(self, path: Path, prepare: Operation[None], *, patience: float) -> None:
        self.path = path.resolve()  # one lock file for one database, by whatever name
        self._prepare = prepare
        self._patience = patience
        self._reset()
        _writers.add(self)
        try:
            self.perform(lambda _: None)
        except Exception:
            self.close()
            raise

    def _reset(self) -> None:
        self._gate = threading.Lock()
        self._arrival = threading.Condition(self._gate)
        self._line: deque[_Crowd] = deque()
        self._waiting = 0
        self._wanted = self._last_group = 1
        self._turns: dict[asyncio.AbstractEventLoop, Turn] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._file = DatabaseFile(self.path, self._prepare)
        self._at_work = threading.Lock()

    def perform(self, operation: Operation[T]) -> T:
        """Run *operation* in a transaction and return its result once it is durable.

        Raises:
            ApiError: What the operation refused.
            StorageFailure: Nothing of the operation was stored; as `StorageBusy`, it may be stored yet.
        """
        latch = threading.Lock()
        latch.acquire()
        request = _Request(operation)
        self._hand_in(_Crowd([request], latch.release))
        if not latch.acquire(timeout=self._patience):
            raise self._overdue(request)
        return request.outcome()  # type: ignore[no-any-return]

    async def aperform(self, operation: Operation[T]) -> T:
        """Do what `perform` does, without blocking the event loop."""
        import asyncio

        loop = asyncio.get_running_loop()
        request, future = _Request(operation), loop.create_future()
        turn = self._turns.setdefault(loop, [])
        turn.append((request, future))
        if len(turn) == 1:
            loop.call_soon(self._end_turn, loop)
        if len(turn) >= self.largest_group:
            self._end_turn(loop)
        try:
            await future
        except asyncio.CancelledError:
            request.abandoned = True
            raise
        if not request.done:
            raise self._overdue(request)
        return request.outcome()  # type: ignore[no-any-return]

    def close(self) -> None:
        """Finish what is under way and release the file. A later call opens it again."""
        with self._gate:
            thread = self._thread
            self._closing = thread is not None
            self._arrival.notify()
        if thread is not None:
            thread.join()

    def _end_turn(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Hand in together what the tasks of *loop* asked for since its last turn; set one alarm for all."""
        turn = self._turns.pop(loop, None)
        if turn is None:
            return
        futures = [future for _, future in turn]
        alarm = loop.call_later(self._patience, _resolve, futures)

        def answer() -> None:
            alarm.cancel()
            _resolve(futures)

        self._hand_in(_Crowd([request for request, _ in turn], lambda: loop.call_soon_threadsafe(answer)))

    def _overdue(self, request: _Request) -> StorageBusy:
        request.abandoned = True
        return StorageBusy(
            f"{self.path.name}: no commit within {self._patience:g} s; another process may hold "
            f"{self.path.name}-lock. The work may be stored or not: submit it again with the same key."
        )

    def _hand_in(self, crowd: _Crowd) -> None:
        with self._gate:
            if self._thread is None or not self._thread.is_alive():
                self._thread = self._started()
            self._line.append(crowd)
            self._waiting += len(crowd.requests)
            if self._waiting >= self._wanted:
                self._arrival.notify()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, name="dead-letter-writer", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            raise StorageFailure(f"{self.path.name}: no thread could be started to write it: {exc}") from exc
        return thread

    def _work(self) -> None:
        while True:
            while crowds := self._gather():
                self._serve(crowds)
            with self._gate:
                if not self._line:  # nobody came while the door was being closed
                    self._thread, self._closing = None, False
                    break
        with self._at_work:
            self._file.close(within=self._patience)

    def _serve(self, crowds: "list[_Crowd]") -> None:
        group = [request for crowd in crowds for request in crowd.requests]
        with self._at_work:
            self._commit(group)
        for request in group:
            request.done = True
        for crowd in crowds:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                crowd.answer()

    def _gather(self) -> list[_Crowd]:
        """Wait for work; return it with what is about to come, or nothing when asked to stop.

        The callers of the last group have just been answered, and are likely to be back in a moment.
        """
        with self._gate:
            self._wanted = 1
            while not self._line and not self._closing:
                self._arrival.wait()
            self._wanted = self._last_group  # not to be woken for each of them
            seen = 0
            while seen < self._waiting < self._last_group:
                seen = self._waiting
                self._arrival.wait(STRAGGLER_WAIT)
            crowds: list[_Crowd] = []
            size = 0
            while self._line and (not size or size + len(self._line[0].requests) <= self.largest_group):
                crowds.append(self._line.popleft())
                size += len(crowds[-1].requests)
            self._waiting = sum(len(crowd.requests) for crowd in self._line)
            self._last_group = size
            return crowds

    def _commit(self, group: list[_Request]) -> None:
        try:
            with self._file.transaction() as connection:
                for request in group:
                    if request.abandoned:
                        continue
                    try:
                        request.result = request.operation(connection)
                    except ApiError as exc:
                        request.error = exc
        except Exception as exc:
            if len(group) == 1 or isinstance(exc, _SHARED_FATE):
                for request in group:
                    request.error = copy(exc)
            else:
                for request in group:
                    request.error = None
                    self._commit([request])


def _resolve(futures: "list[asyncio.Future[None]]") -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


_writers: "weakref.WeakSet[Writer]" = weakref.WeakSet()
_at_rest: list[Writer] = []
_inherited: list[object] = []

REST_WAIT = 1.0
"""Time in seconds that a fork waits for a commit under way, here and in another process."""


def _before_fork() -> None:
    """Close the connections: SQLite keeps its locks by process, and a child must not inherit their state."""
    for writer in list(_writers):
        if writer._at_work.acquire(timeout=REST_WAIT):
            _at_rest.append(writer)
            writer._file.close(within=REST_WAIT)


def _after_fork_in_parent() -> None:
    while _at_rest:
        _at_rest.pop()._at_work.release()


def _after_fork_in_child() -> None:
    """Give the child its own thread, connection and lock; its parent's must not be touched.

    A connection that was open across the fork would spoil every other one of the child to this file, and
    what it commits would be lost: SQLite remembers locks by process, and the child does not have them.
    """
    _at_rest.clear()
    for writer in _writers:
        inherited = writer._file.leave_to_parent()
        writer._reset()
        if inherited is not None:
            _inherited.append(inherited)
            writer._file.bar()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
