"""A cache in several real processes: one load for all of them, whoever is killed or forked."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.policies.redis_server import Server, until

from resilient_agents.cache import MISS, Cache

BUDGET = 20.0
"""A budget in seconds for tests in which Redis is well, and the machine may be slow."""

WORKER = """
import asyncio, json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from resilient_agents.cache import Cache

url, mode = sys.argv[1:]
cache, loads = Cache(url, budget=20.0, lease=20.0), []

@cache.cached("tasks", ttl=60)
async def for_tasks() -> str:
    loads.append(1)
    await asyncio.sleep(0.05)
    return "loaded"

@cache.cached("threads", ttl=60)
def for_threads() -> str:
    loads.append(1)
    threading.Event().wait(0.05)
    return "loaded"

async def crowd():
    values = await asyncio.gather(*[for_tasks() for _ in range(50)])
    await cache.aclose()
    return values

print("ready", flush=True)
sys.stdin.readline()
if mode == "tasks":
    values = asyncio.run(crowd())
else:
    with ThreadPoolExecutor(50) as pool:
        values = list(pool.map(lambda _: for_threads(), range(50)))
print(json.dumps([len(loads), values == 50 * ["loaded"]]))
"""


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a Redis."""
    started = Server(tmp_path_factory.mktemp("redis"))
    yield started
    started.kill()


def begin(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a process, and wait until it is ready."""
    command = [sys.executable, "-c", code, *arguments]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    assert "ready\n" == worker.stdout.readline()
    return worker


@pytest.mark.parametrize("mode", ["tasks", "threads"])
def test_four_processes_of_fifty_make_one_call(server: Server, mode: str) -> None:
    """200 callers in 4 processes miss at once: the origin is called once, and nobody gets an error."""
    workers = [begin(WORKER, server.url, mode) for _ in range(4)]
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate()[0]) for worker in workers]

    assert 1 == sum(loads for loads, _ in told)
    assert all(right for _, right in told)


HOLDER = """
import sys, threading
from resilient_agents.cache import Cache

@Cache(sys.argv[1], budget=20.0, lease=0.5).cached("k", ttl=60)
def get() -> str:
    print("ready", flush=True)
    threading.Event().wait(600)
    return "never"

get()
"""


def test_a_process_that_is_killed_while_it_loads_delays_nobody_for_long(server: Server) -> None:
    """The lease of the dead ends by itself; then another process loads, and keeps what it has loaded."""
    holder = begin(HOLDER, server.url)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    cache = Cache(server.url, budget=BUDGET, lease=0.5)
    try:

        @cache.cached("k", ttl=60)
        def get() -> str:
            return "loaded"

        assert "loaded" == get()
        assert 1 == cache.stats().loads
    finally:
        cache.close()


def test_copies_in_other_processes_are_dropped(server: Server) -> None:
    """What one process invalidates, by key or by tag, is gone from the memory of another one."""
    changes = """
import sys
from resilient_agents.cache import Cache

cache = Cache(sys.argv[1], budget=20.0)
print("ready", flush=True)
for line in sys.stdin:
    cache.invalidate_tag("all") if line == "tag\\n" else cache.invalidate("k")
    print("done", flush=True)
"""
    other = begin(changes, server.url)
    cache, loads = Cache(server.url, budget=BUDGET, local_ttl=600), []

    @cache.cached("k", ttl=600, tags=["all"])
    def get() -> str:
        loads.append(1)
        return f"value {len(loads)}"

    def kept_in_memory() -> bool:
        before = cache.stats().memory_hits
        get()
        return cache.stats().memory_hits > before

    try:
        for how in ("tag", "key"):
            until(kept_in_memory)  # the first copies are looked up again when the channel is there
            value = get()
            assert other.stdin
            assert other.stdout
            other.stdin.write(f"{how}\n")
            other.stdin.flush()
            assert "done\n" == other.stdout.readline()
            until(lambda old=value: get() != old)  # type: ignore[misc]
        assert get.peek() is not MISS
    finally:
        other.kill()
        other.communicate()
        cache.close()


def test_a_forked_child_begins_without_loads() -> None:
    """What a thread of the parent loads is nothing that a child waits for, and its locks are its own."""
    cache, gate, begun = Cache(), threading.Event(), threading.Event()
    parent = os.getpid()

    @cache.cached("k", ttl=10)
    def get() -> int:
        if os.getpid() == parent:
            begun.set()
            gate.wait(30)
        return os.getpid()

    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(get)
        assert begun.wait(30)
        with cache._tiers.flights._lock, cache._tiers.memory._lock:  # type: ignore[union-attr]
            child = os.fork()
            if child == 0:
                os._exit(0 if get() == os.getpid() else 1)
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        gate.set()
        assert parent == leader.result(30)
