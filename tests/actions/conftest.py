"""A message, a queue in a file of its own, and a record."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.actions.parts import Records

from resilient_agents import DeadLetterQueue
from resilient_agents.actions import Message
from resilient_agents.testing import FakeClock


@pytest.fixture(autouse=True)
def clock() -> Iterator[FakeClock]:
    """Put a clock in force that moves only when told to."""
    with FakeClock() as fake:
        yield fake


@pytest.fixture
def records() -> Records:
    """Return an empty record."""
    return Records()


@pytest.fixture
def message() -> Message:
    """Return a message."""
    return Message(id="m-1", organization_id="org-7", agent_id="a-42", text="Where is my order?")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DeadLetterQueue]:
    """Open an empty queue."""
    with DeadLetterQueue(f"sqlite:///{tmp_path}/actions.db") as opened:
        yield opened
