"""Memory in front of a real Redis: what one process changes, the memory of the others loses."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.policies.redis_server import PATIENT, Server, running, until

from resilient_agents.cache import Cache
from resilient_agents.cache.redis import RedisStore
from resilient_agents.cache.store import Store


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that a test may treat badly."""
    with running(tmp_path) as one:
        yield one


class Process:
    """What stands for a process: a store, a cache with memory, and a function.

    Args:
        server: The Redis.
        origin: What the function returns, by number.
    """

    def __init__(self, server: Server, origin: dict[int, str]) -> None:
        redis = RedisStore(server.url, prefix="svc", budget=PATIENT, longest_pause=0.1)
        self.store: Store = redis
        self.cache = Cache(redis, prefix="svc", local_ttl=600, budget=PATIENT)

        @self.cache.cached("value:{number}", ttl=600, tags=["all"])
        def get(number: int) -> str:
            return origin[number]

        self.get = get

    def hits(self) -> int:
        """How many calls memory has answered."""
        return self.cache.stats().memory_hits


@pytest.fixture
def origin() -> dict[int, str]:
    """Return what is cached."""
    return {1: "old", 2: "old"}


@pytest.fixture
def processes(server: Server, origin: dict[int, str]) -> Iterator[tuple[Process, Process]]:
    """Make two processes that share a Redis, and have the same in memory."""
    one, other = Process(server, origin), Process(server, origin)
    until(lambda: server.client.pubsub_numsub("svc:invalidations") == [(b"svc:invalidations", 2)])
    for process in (one, other):
        until(partial(remembers, process, "old"))  # a channel that begins distrusts memory
    yield one, other
    for process in (one, other):
        process.cache.close()


def remembers(process: Process, value: str) -> bool:
    """Tell whether a value is in memory."""
    before = process.hits()
    assert value == process.get(1) == process.get(2)
    return process.hits() == before + 2


@pytest.mark.parametrize("how", ["key", "tag"])
def test_memory_of_others_is_invalidated(
    processes: tuple[Process, Process], origin: dict[int, str], how: str
) -> None:
    """An invalidation reaches the memory of another process long before its copies end."""
    one, other = processes
    origin.update({1: "new", 2: "new"})
    assert remembers(other, "old")
    if how == "tag":
        assert one.cache.invalidate_tag("all")
    else:
        assert one.get.invalidate(1)
        assert one.get.invalidate(2)

    assert ("new", "new") == (one.get(1), one.get(2))
    until(lambda: (other.get(1), other.get(2)) == ("new", "new"))


def test_lost_channel_is_no_licence_for_old_values(
    processes: tuple[Process, Process], server: Server, origin: dict[int, str]
) -> None:
    """What was invalidated while the channel was down is looked up again, not answered from memory."""
    one, other = processes
    origin.update({1: "new", 2: "new"})
    server.client.client_kill_filter(_type="pubsub")
    one.get.invalidate(1)
    one.get.invalidate(2)

    until(lambda: (other.get(1), other.get(2)) == ("new", "new"))
    until(lambda: remembers(other, "new"))


def test_memory_stands_in_while_redis_is_gone(
    processes: tuple[Process, Process], server: Server, origin: dict[int, str]
) -> None:
    """With Redis gone calls are answered, and what this process invalidates is gone at once."""
    one, _ = processes
    server.kill()
    until(lambda: one.get(1) and not one.store.usable())
    origin[1] = "new"
    assert not one.get.invalidate(1)
    assert "new" == one.get(1)
    server.start()
    until(one.store.usable)
    assert "new" == one.get(1)
