"""`RedisStore` through TLS."""

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trustme
from tests.cache.redis_stores import Stores, a_key
from tests.policies.redis_server import PATIENT, Server, running

from resilient_agents.cache.redis import RedisStore


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return an authority for certificates."""
    return trustme.CA()


@pytest.fixture
def address(tmp_path: Path, authority: trustme.CA) -> Iterator[str]:
    """Run a Redis, and in front of it a server that speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    certificate = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(certificate)
    with running(tmp_path) as server, Tunnel(server, context) as port:
        yield f"rediss://localhost:{port}?ssl_ca_certs={certificate}"


class Tunnel:
    """Passes on what comes through TLS."""

    def __init__(self, server: Server, context: ssl.SSLContext) -> None:
        self._path = server.path
        self._context = context
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> int:
        self._server: Any = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        )
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        loop: Any = self._loop
        while len(loop._selector.get_map()) > 1:  # one is the loop's own
            loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()

    async def _end(self) -> None:
        """Leave nothing open, nor what is just being opened: a later test would be blamed for it."""
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._path)
            try:
                await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
            finally:
                inner_writer.transport.abort()
        finally:
            writer.transport.abort()


async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends."""
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


@pytest.mark.parametrize("half", ["blocking", "awaiting"])
def test_tls(address: str, half: str) -> None:
    """Small and large values go through, whatever the size of TLS's own records."""
    stores = Stores(half)
    store = stores.make(address, budget=20.0)
    ask = stores.ask(store)
    for size in (0, 1, 16_383, 16_384, 100_000, 3_000_000):
        key, value = a_key(), bytes(range(256)) * (size // 256 + 1)
        ask.put(key, value, 60, 20.0)
        assert [value, None] == ask.get([key, a_key()], 20.0)
    assert store.usable()
    stores.close()


def test_many_tasks_through_tls(address: str) -> None:
    """Many at once, each with its own value."""

    async def work() -> None:
        store, keys = RedisStore(address, prefix="svc", budget=20.0), [a_key() for _ in range(200)]
        await asyncio.gather(*(store.awaiting.put(key, key.encode() * 500, 60, 20.0) for key in keys))
        answers = await asyncio.gather(*(store.awaiting.get([key], 20.0) for key in keys))
        assert [[key.encode() * 500] for key in keys] == answers
        await store.aclose()

    asyncio.run(work())


def test_stranger_is_refused(address: str) -> None:
    """A certificate that nobody vouches for is an outage, not a risk."""
    store = RedisStore(address.partition("?")[0], prefix="svc", budget=PATIENT)
    with pytest.raises(Exception, match="Redis did not answer"):
        store.blocking.get([a_key()], PATIENT)
    assert not store.usable()
    store.close()
