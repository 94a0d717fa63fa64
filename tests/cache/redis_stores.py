"""Stores on a real Redis for tests, in both halves; and servers that answer nonsense."""

import asyncio
import socketserver
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from threading import Thread
from typing import Any

import pytest
from tests.policies.redis_server import PATIENT, Server, until

from resilient_agents.cache.redis import RedisStore
from resilient_agents.cache.store import StoreUnavailable

BUDGET = 0.2
"""A budget in seconds for tests in which Redis does not answer."""

_numbers = count()


def a_key() -> str:
    """Return a name that no other test uses."""
    return f"svc:{{key-{next(_numbers)}}}"


class Blocking:
    """The blocking half of a store."""

    def __init__(self, store: RedisStore) -> None:
        self.get: Callable[..., Any] = store.blocking.get
        self.claim: Callable[..., Any] = store.blocking.claim
        self.fill: Callable[..., Any] = store.blocking.fill
        self.release: Callable[..., Any] = store.blocking.release
        self.put: Callable[..., Any] = store.blocking.put
        self.invalidate: Callable[..., Any] = store.blocking.invalidate


class Awaited:
    """The awaiting half of a store, awaited in a loop of its own."""

    def __init__(self, store: RedisStore, runner: asyncio.Runner) -> None:
        def awaited(operation: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args, **kwargs: runner.run(operation(*args, **kwargs))

        self.get = awaited(store.awaiting.get)
        self.claim = awaited(store.awaiting.claim)
        self.fill = awaited(store.awaiting.fill)
        self.release = awaited(store.awaiting.release)
        self.put = awaited(store.awaiting.put)
        self.invalidate = awaited(store.awaiting.invalidate)


class Stores:
    """Makes stores, hands out the half that is tested, and closes them."""

    def __init__(self, half: str) -> None:
        self.half = half
        self.runner = asyncio.Runner()
        self._made: list[RedisStore] = []

    def make(self, redis: object, **settings: Any) -> RedisStore:
        """Return a store that is patient with a slow machine, and soon looks again."""
        store = RedisStore(redis, **{"prefix": "svc", "budget": PATIENT, "longest_pause": 0.1, **settings})
        self._made.append(store)
        return store

    def ask(self, store: RedisStore) -> Any:
        """Return the half that is tested."""
        return Blocking(store) if self.half == "blocking" else Awaited(store, self.runner)

    def close(self) -> None:
        """Close all stores and the loop."""
        for store in self._made:
            self.runner.run(store.aclose())
        self.runner.close()


def back(store: RedisStore) -> None:
    """Wait until the store is used again, for reads and writes."""
    until(lambda: store.usable() and store._outage.writes)


def refused(operation: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Perform an operation that must be refused."""
    with pytest.raises(StoreUnavailable):
        operation(*args, **kwargs)


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """Run a server that answers everything with *reply*; without one it closes the connection."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65536) and reply:
                self.request.sendall(reply)

    class Quiet(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Say nothing when a client has left."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"redis://127.0.0.1:{server.server_address[1]}/0"
        server.shutdown()


def clients(server: Server) -> int:
    """Return how many connections the server has beside that of the test."""
    return len(server.client.client_list()) - 1
