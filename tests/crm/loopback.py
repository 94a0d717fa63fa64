"""Hand-made servers, and one way to use either client."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from pathlib import Path
from typing import Any

from resilient_agents.crm.kommo import AsyncKommoClient
from resilient_agents.deadletter import DeadLetterQueue, Delivered, Pass, Queued, Replayer, State
from resilient_agents.testing import FakeClock

FIXTURES = Path(os.environ.get("KOMMO_SAMPLES", "no-such-folder"))

COMPLEX = "/api/v4/leads/complex"

PATIENCE = 60.0
"""Time in seconds after which a test gives up."""


def finish_with(runner: asyncio.Runner | None) -> Callable[[Any], Any]:
    """Return what makes a result of a call: the call's value, or what *runner* awaits in our context."""
    if runner is None:
        return lambda value: value
    return lambda awaitable: runner.run(awaitable, context=copy_context())


class Driver:
    """Uses a `KommoClient` or an `AsyncKommoClient`, whichever it was given, in the same blocking way."""

    def __init__(self, client: Any, queue: DeadLetterQueue, finish: Callable[[Any], Any]) -> None:
        self.client = client
        self.queue = queue
        self._finish = finish
        self._awaiting = isinstance(client, AsyncKommoClient)

    def submit(self, lead: Any, **options: Any) -> Delivered[int] | Queued:
        """Hand a lead in."""
        receipt: Delivered[int] | Queued = self._finish(self.client.submit(lead, **options))
        return receipt

    def find_lead(self, key: str) -> int | None:
        """Look a lead up."""
        found: int | None = self._finish(self.client.find_lead(key))
        return found

    def create_lead(self, lead: Any, key: str) -> int:
        """Create a lead without the queue."""
        lead_id: int = self._finish(self.client.create_lead(lead, key=key))
        return lead_id

    def replay(self) -> Pass:
        """Let a worker pass over the queue once."""
        replayer = Replayer(self.queue)
        passed: Pass = self._finish(replayer.arun_once() if self._awaiting else replayer.run_once())
        return passed

    def replay_until_empty(self, clock: FakeClock) -> None:
        """Let workers pass over the queue, a minute apart, until nothing waits; give up in the end."""
        end = time.monotonic() + PATIENCE
        while self.queue.stats().waiting and time.monotonic() < end:
            clock.advance(61)
            self.replay()

    def count(self, state: State) -> int:
        """Count the entries in a state."""
        return self.queue.stats().states[state]

    def close(self) -> None:
        """Close the connections."""
        self._finish(self.client.aclose() if self._awaiting else self.client.close())


class Server:
    """A TCP server on loopback whose every connection is handled by a function.

    Attributes:
        url: Its address.
        connections: How many connections it has taken.
    """

    def __init__(self, handle: Callable[[socket.socket], object]) -> None:
        self._handle = handle
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.add(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self._handle(connection)

    def close(self) -> None:
        """Stop listening, and end the connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()


def saying(head: str, body: bytes = b"") -> Callable[[socket.socket], None]:
    """Return a handler that reads a request and gives the same answer to each."""

    def handle(connection: socket.socket) -> None:
        for _ in iter(partial(connection.recv, 65_536), b""):
            lines = f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall(lines.encode() + body)

    return handle
