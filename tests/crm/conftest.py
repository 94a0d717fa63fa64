"""A fake account for the whole run, and what connects to it."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.crm.loopback import Driver, Server, finish_with

from resilient_agents.crm.kommo import AsyncKommoClient, KommoClient
from resilient_agents.deadletter import DeadLetterQueue
from resilient_agents.testing import FakeClock, FakeKommo


@pytest.fixture(scope="session")
def account() -> Iterator[FakeKommo]:
    """The one fake account of the run."""
    with FakeKommo(rate=None) as fake:
        yield fake


@pytest.fixture
def fake(account: FakeKommo) -> FakeKommo:
    """The fake account, as good as new and without a rate limit."""
    account.reset()
    return account


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DeadLetterQueue]:
    """An empty queue."""
    with DeadLetterQueue(f"sqlite:///{tmp_path}/leads.db") as queue:
        yield queue


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """A clock that moves only when told to; the fake account, in its own process, keeps the real time."""
    with FakeClock() as clock:
        yield clock


@pytest.fixture(params=[KommoClient, AsyncKommoClient])
def connect(
    request: pytest.FixtureRequest, queue: DeadLetterQueue, fake: FakeKommo
) -> Iterator[Callable[..., Driver]]:
    """A function that connects a client to the fake account; each test runs with both kinds of client."""
    drivers: list[Driver] = []
    with asyncio.Runner() as runner:

        def connect(host: str = "", **settings: Any) -> Driver:
            settings = {"tokens": fake.token, "queue": queue, "rate": 1000, **settings}
            client = request.param(host or fake.url, **settings)
            finish = finish_with(runner if request.param is AsyncKommoClient else None)
            drivers.append(Driver(client, queue, finish))
            return drivers[-1]

        yield connect
        for driver in drivers:
            driver.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[socket.socket], object]], Server]]:
    """A function that starts a server on loopback."""
    servers: list[Server] = []

    def serve(handle: Callable[[socket.socket], object]) -> Server:
        servers.append(Server(handle))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()
