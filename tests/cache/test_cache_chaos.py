"""The whole cache, while Redis is treated badly in the middle of load.

Every call returns what its origin says, or what it said after the last invalidation before the call began.
Nothing is ever raised, and when Redis is back it is used again.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from threading import Lock, Thread
from typing import Self

import pytest
import redis
from tests.policies.redis_server import Server, running, until

from resilient_agents.cache import Cache
from resilient_agents.cache.keys import key_part
from resilient_agents.cache.redis import RedisStore

BUDGET = 0.2
THREADS, TASKS, KEYS = 4, 20, 12
PART_OF_CHANGES = 0.1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that a test may treat badly."""
    with running(tmp_path) as one:
        yield one


class Origin:
    """What is cached: a version of each key, and which of them everybody must know by now."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(range(KEYS), 0)
        self.known = dict.fromkeys(range(KEYS), 0)
        self.loads = 0
        self._lock = Lock()

    def load(self, number: int) -> str:
        """Return the value of a key."""
        self.loads += 1
        return f"{number}:{self.versions[number]}"

    def change(self, number: int) -> int:
        """Give a key a new value; return its version."""
        with self._lock:
            self.versions[number] += 1
            return self.versions[number]

    def announce(self, number: int, version: int) -> None:
        """Note that a version was announced: from now on nobody may be given an older one."""
        with self._lock:
            self.known[number] = max(self.known[number], version)

    def fits(self, number: int, known: int, value: str) -> bool:
        """Tell whether a value is right for a call that began when so much was known."""
        key, _, version = value.partition(":")
        return key == str(number) and known <= int(version) <= self.versions[number]


class Load:
    """Threads and tasks that call cached functions, and invalidate what they have changed.

    Args:
        cache: The cache.
    """

    def __init__(self, cache: Cache) -> None:
        self.calls = {"blocking": 0, "awaiting": 0}
        self.wrong: list[object] = []
        self.blocking, self.awaiting = Origin(), Origin()
        self._end = threading.Event()

        @cache.cached("blocking:{number}", ttl=600)
        def get(number: int) -> str:
            return self.blocking.load(number)

        @cache.cached("awaiting:{number}", ttl=600, tags=["number:{number}"])
        async def aget(number: int) -> str:
            await asyncio.sleep(0)
            return self.awaiting.load(number)

        self._cache, self._get, self._aget = cache, get, aget
        self._workers = [Thread(target=self._work, args=(seed,), daemon=True) for seed in range(THREADS)]
        self._workers.append(Thread(target=asyncio.run, args=(self._tasks(),), daemon=True))

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for worker in self._workers:
            worker.join(30)

    @property
    def loads(self) -> int:
        """How often the origins were asked."""
        return self.blocking.loads + self.awaiting.loads

    def goes_on(self) -> None:
        """Wait until calls of both kinds have been answered."""
        before = dict(self.calls)
        until(lambda: self.wrong or all(self.calls[kind] > before[kind] + 300 for kind in before))
        assert [] == self.wrong

    def is_cached(self) -> bool:
        """Tell whether most calls are answered without their origin, of late."""
        loads, calls = self.loads, sum(self.calls.values())
        self.goes_on()
        return self.loads - loads < (sum(self.calls.values()) - calls) / 2

    def _work(self, seed: int) -> None:
        draw, origin = Random(seed), self.blocking  # noqa: S311 - no secret
        while not self._end.wait(0.0005):
            number = draw.randrange(KEYS)
            try:
                if draw.random() < PART_OF_CHANGES:
                    version = origin.change(number)
                    self._get.invalidate(number)
                    origin.announce(number, version)
                known = origin.known[number]
                value = self._get(number)
            except Exception as exc:
                self.wrong.append(exc)
            else:
                self._judge("blocking", origin.fits(number, known, value), ("blocking", number, known, value))

    async def _tasks(self) -> None:
        await asyncio.gather(*(self._task(Random(seed)) for seed in range(TASKS)))  # noqa: S311 - no secret

    async def _task(self, draw: Random) -> None:
        origin = self.awaiting
        while not self._end.is_set():
            number = draw.randrange(KEYS)
            try:
                if draw.random() < PART_OF_CHANGES:
                    version = origin.change(number)
                    await self._cache.ainvalidate_tag(f"number:{key_part(number)}")
                    origin.announce(number, version)
                known = origin.known[number]
                call = asyncio.ensure_future(self._aget(number))
                if draw.random() < PART_OF_CHANGES:  # a browser that hangs up
                    await asyncio.sleep(0)
                    call.cancel()
                value = await call
            except asyncio.CancelledError:
                continue
            except Exception as exc:
                self.wrong.append(exc)
            else:
                self._judge("awaiting", origin.fits(number, known, value), ("awaiting", number, known, value))
            await asyncio.sleep(0.002)

    def _judge(self, kind: str, right: bool, said: object) -> None:
        self.calls[kind] += 1
        if not right:
            self.wrong.append(said)


def killed(server: Server) -> None:
    """Kill Redis; a new one, which is empty, takes its place."""
    server.kill()


def hung(server: Server) -> None:
    """Let Redis accept connections and answer nothing."""
    server.hang()


def flushed(server: Server) -> None:
    """Empty Redis, and let it forget its scripts."""
    server.client.flushall()
    server.client.script_flush()


def out_of_memory(server: Server) -> None:
    """Let Redis be full."""
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", 1)


def read_only(server: Server) -> None:
    """Let Redis be the replica of a server that is gone."""
    server.client.replicaof("127.0.0.1", 1)


def full_of_garbage(server: Server) -> None:
    """Write nonsense under every name there is."""
    draw = Random(7)  # noqa: S311 - no secret
    for name in server.client.keys("*"):
        kind = draw.randrange(4)
        with suppress(redis.exceptions.ResponseError):  # the load goes on meanwhile
            if kind == 0:
                server.client.set(name, draw.randbytes(draw.randrange(200)), px=60_000)
            elif kind == 1:
                server.client.setrange(name, draw.randrange(60), "garbage")
            else:
                server.client.delete(name)
                server.client.rpush(name, "garbage")


def without_connections(server: Server) -> None:
    """Close all connections but that of the test."""
    server.client.client_kill_filter(_type="normal", skipme=True)
    server.client.client_kill_filter(_type="pubsub")


def slow(server: Server) -> None:
    """Let Redis answer everything late, and some of it too late."""
    for seconds in (0.05, 0.1, 0.3):
        server.client.execute_command("DEBUG", "SLEEP", str(seconds))  # type: ignore[no-untyped-call]


def password_changed(server: Server) -> None:
    """Close all connections, and let nobody in who does not know the password."""
    server.client.config_set("requirepass", "another")
    without_connections(server)


def healed(server: Server, fault: Callable[[Server], None]) -> None:
    """Undo whatever was done."""
    if fault is killed:
        server.start()
    server.go_on()
    server.client.config_set("maxmemory", 0)
    server.client.config_set("requirepass", "")
    server.client.replicaof("NO", "ONE")


FAULTS = (
    *(killed, hung, flushed, out_of_memory, read_only, full_of_garbage),
    *(without_connections, slow, password_changed),
)


@pytest.mark.parametrize("local_ttl", [None, 60.0], ids=["redis", "memory and redis"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_nothing_but_right_answers(
    server: Server, fault: Callable[[Server], None], local_ttl: float | None
) -> None:
    """In the middle of load something happens to Redis, twice: each call is answered, and none too old."""
    store = RedisStore(server.url, prefix="svc", budget=BUDGET, longest_pause=0.1)
    cache = Cache(store, prefix="svc", local_ttl=local_ttl, budget=BUDGET)
    with Load(cache) as load:
        for _ in range(2):
            load.goes_on()
            fault(server)
            load.goes_on()
            healed(server, fault)
            until(lambda: store.usable() and store._outage.writes)
            load.goes_on()
        until(load.is_cached)

    assert [] == load.wrong
    cache.close()
