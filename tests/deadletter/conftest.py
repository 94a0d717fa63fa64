"""A queue in a file of its own, on a clock that stands still, and an ear for what happens."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from resilient_agents import DeadLetterQueue, events
from resilient_agents.testing import FakeClock


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a file that does not exist yet."""
    return f"sqlite:///{tmp_path}/queue.db"


@pytest.fixture
def queue(url: str) -> Iterator[DeadLetterQueue]:
    """Open an empty queue."""
    with DeadLetterQueue(url) as opened:
        yield opened


@pytest.fixture
def stalled(tmp_path: Path) -> Callable[[], AbstractContextManager[None]]:
    """Return a context manager that holds the queue's file lock, as another process would in its commit."""

    @contextmanager
    def hold() -> Iterator[None]:
        with (tmp_path / "queue.db-lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    return hold


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    """Return the list to which every event is added."""
    heard: list[events.Event] = []
    events.subscribe(events.Event)(heard.append)
    yield heard
    events.unsubscribe(heard.append)
