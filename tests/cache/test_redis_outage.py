"""`RedisStore` while Redis is killed, hung, slow, full, read-only or something else altogether.

Every operation answers within its time or raises `StoreUnavailable`, and nothing else.
"""

import asyncio
import gc
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import Any, Self

import pytest
from tests.cache.redis_stores import BUDGET, Stores, a_key, answering, back, refused
from tests.policies.redis_server import PATIENT, Server, heard, running, until

from resilient_agents import events
from resilient_agents.cache._redis_outage import MOST_KEPT, Kept, Outage
from resilient_agents.cache.redis import RedisStore
from resilient_agents.cache.store import StoreUnavailable
from resilient_agents.testing import FakeClock

TOLD = events.CacheDegraded, events.CacheRestored


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis that a test may treat badly."""
    with running(tmp_path) as one:
        yield one


@pytest.fixture(params=["blocking", "awaiting"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Make stores in one half and the other."""
    made = Stores(request.param)
    yield made
    made.close()


def operations(ask: Any, within: float) -> list[Callable[[], object]]:
    """Return every operation there is."""
    key = a_key()
    return [
        lambda: ask.get([key], within),
        lambda: ask.get([key, a_key()], within),
        lambda: ask.claim([key], "a", 1, within),
        lambda: ask.fill(key, b"v", 60, "a", within),
        lambda: ask.release(key, "a", within),
        lambda: ask.put(key, b"v", 60, within),
        lambda: ask.invalidate([key], {a_key(): b"m"}, 60, within),
    ]


# Redis does not answer


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize("how", ["killed", "hung"])
def test_lost_redis_is_left_alone_until_it_is_back(
    stores: Stores, server: Server, how: str, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever finds it out, the loss is told once, nobody waits any more, and the return is told once."""
    caplog.set_level(logging.INFO, "resilient_agents.cache")
    store, key = stores.make(server.url, budget=BUDGET), a_key()
    ask = stores.ask(store)
    ask.put(key, b"v", 60, PATIENT)
    with heard(*TOLD) as told:
        server.stop_answering(how)
        refused(operations(ask, BUDGET)[number])
        assert not store.usable()
        for operation in operations(ask, 1000):  # it is not even tried: the test would never end
            refused(operation)
        assert [events.CacheDegraded] == list(map(type, told))
        server.answer_again(how)
        back(store)
        for operation in operations(ask, PATIENT):
            operation()
        until(lambda: len(told) == 2)

    lost, restored = told
    assert ("svc", False) == (lost.cache, lost.reads)
    assert "external" == lost.failure.category
    assert restored.seconds > 0
    assert ["WARNING", "INFO"] == [record.levelname for record in caplog.records]


REPLIES = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "noise": b"\x00\xff\x13\r\n",
    "too many answers": b"+OK\r\n" * 50,
    "another answer": b":1\r\n",
    "an answer of another shape": b"*2\r\n:1\r\n*0\r\n",
    "a password is needed": b"-NOAUTH Authentication required.\r\n" * 3,
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n" * 3,
    "full of clients": b"-ERR max number of clients reached\r\n" * 3,
    "half an answer": b"$100\r\nabc",
    "a closed connection": b"",
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_nonsense_is_an_outage(stores: Stores, reply: bytes) -> None:
    """Whatever is there in place of a Redis, it is never believed, and left alone from then on."""
    with answering(reply) as url:
        store = stores.make(url, budget=BUDGET)
        ask = stores.ask(store)
        refused(ask.get, [a_key(), a_key()], BUDGET)
        assert not store.usable()
        for operation in operations(ask, 1000):
            refused(operation)


def test_nobody_there(stores: Stores) -> None:
    """A port where nothing listens refuses at once; so does a host that is not known."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        for host, port in (reserved.getsockname(), ("no-such-host.invalid", 6379)):
            store = stores.make(f"redis://{host}:{port}", budget=5.0)
            refused(stores.ask(store).get, [a_key()], 5.0)
            assert not store.usable()


def test_budget_is_for_all_small_waits_together(stores: Stores, server: Server) -> None:
    """One who had little time says little about Redis; when a budget is lost in a row it is left alone."""
    store, key = stores.make(server.url, budget=0.04), a_key()
    ask = stores.ask(store)
    ask.put(key, b"v", 60, PATIENT)
    for _ in range(2):  # an answer in between makes up for what was lost
        server.hang()
        for _ in range(3):
            refused(ask.get, [key], 0.01)
        assert store.usable()
        server.go_on()
        assert [b"v"] == ask.get([key], PATIENT)
    server.hang()
    for _ in range(3):
        refused(ask.get, [key], 0.01)
    assert store.usable()
    refused(ask.get, [key], 0.01)
    assert not store.usable()


def test_late_answer_reaches_nobody(stores: Stores, server: Server) -> None:
    """The answer to a question whose time was up is not taken for that to the next one."""
    store, keys = stores.make(server.url, budget=1000.0), [a_key() for _ in range(20)]
    ask = stores.ask(store)
    for key in keys:
        ask.put(key, key.encode(), 60, PATIENT)
    for late, next_ in pairwise(keys):
        server.hang()
        refused(ask.get, [late], 0.01)
        server.go_on()
        assert [next_.encode()] == ask.get([next_], PATIENT)


def test_hung_redis_costs_all_threads_one_budget(server: Server) -> None:
    """Those who are waiting when Redis hangs are let go together; nobody waits after them."""
    store = RedisStore(server.url, budget=BUDGET, longest_pause=0.1)
    with ThreadPoolExecutor(20) as threads, heard(*TOLD) as told:
        list(threads.map(lambda _: store.blocking.get([a_key()], PATIENT), range(40)))
        server.hang()

        def call(_: int) -> str:
            try:
                store.blocking.get([a_key()], BUDGET)
            except StoreUnavailable as exc:
                return str(exc)
            return "answered"

        said = list(threads.map(call, range(500)))
        assert "answered" not in said
        assert 20 >= sum("did not answer" in it for it in said)
        assert 1 == len(told)
    store.close()


async def test_a_loop_that_is_blocked_does_not_blame_redis(server: Server) -> None:
    """What a loop could not send or read in time, since somebody blocked it, says nothing about Redis."""
    store = RedisStore(server.url, budget=BUDGET)
    keys = [a_key() for _ in range(3)]
    await asyncio.gather(*(store.awaiting.put(key, key.encode(), 60, PATIENT) for key in keys))

    async def block() -> None:
        threading.Event().wait(2 * BUDGET)

    gets = [store.awaiting.get([key], BUDGET) for key in keys]
    *found, _ = await asyncio.gather(*gets, block())

    assert [[key.encode()] for key in keys] == found
    assert store.usable()
    await store.aclose()


async def test_tasks_that_left_are_counted(server: Server) -> None:
    """Where every caller is cancelled before his time is up, the hang is found out all the same."""
    store = RedisStore(server.url, budget=BUDGET, longest_pause=0.1)
    await store.awaiting.get([a_key()], PATIENT)
    server.hang()
    task = asyncio.create_task(store.awaiting.get([a_key()], BUDGET))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.to_thread(until, lambda: not store.usable())
    with pytest.raises(asyncio.CancelledError):
        await task
    server.go_on()
    await asyncio.to_thread(until, store.usable)
    assert [None] == await store.awaiting.get([a_key()], PATIENT)
    await store.aclose()


def test_busy_connections_say_nothing_about_redis(server: Server) -> None:
    """Who finds all connections in use is refused, and Redis is not left alone for it."""
    store = RedisStore(server.url, budget=PATIENT, max_connections=1)
    store.blocking.get([a_key()], PATIENT)
    server.hang()
    waiting = Thread(target=store.blocking.get, args=([a_key()], 10 * PATIENT))
    waiting.start()
    until(lambda: not store._wires._node.pool._idle.qsize())
    with pytest.raises(StoreUnavailable, match="all connections were in use"):
        store.blocking.get([a_key()], 0.01)
    server.go_on()
    waiting.join()
    assert store.usable()
    store.close()


class Load:
    """Threads and tasks that do whatever can be done, over and over.

    Args:
        store: The store they do it with.
    """

    def __init__(self, store: RedisStore) -> None:
        self.store = store
        self.answers = 0
        self.strange: list[Exception] = []
        self._end = threading.Event()
        self._workers = [Thread(target=self._work, daemon=True) for _ in range(8)]
        self._workers.append(Thread(target=asyncio.run, args=(self._tasks(),), daemon=True))

    def __enter__(self) -> Self:
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for worker in self._workers:
            worker.join()

    def goes_on(self) -> None:
        """Wait until operations have been answered."""
        before = self.answers
        until(lambda: self.answers > before + 200)

    def _note(self, exc: Exception | None) -> None:
        if exc is None:
            self.answers += 1
        elif not isinstance(exc, StoreUnavailable):
            self.strange.append(exc)

    def _work(self) -> None:
        while not self._end.wait(0.001):
            for operation in operations(self.store.blocking, BUDGET):
                try:
                    operation()
                    self._note(None)
                except Exception as exc:
                    self._note(exc)

    async def _tasks(self) -> None:
        await asyncio.gather(*(self._task() for _ in range(50)))

    async def _task(self) -> None:
        while not self._end.is_set():
            for operation in operations(self.store.awaiting, BUDGET):
                try:
                    await operation()  # type: ignore[misc]
                    self._note(None)
                except Exception as exc:
                    self._note(exc)
            await asyncio.sleep(0.001)


def test_restart_in_the_middle_of_load(server: Server) -> None:
    """Redis is killed, hung and restarted under the hands of 8 threads and 50 tasks: answers, or refusals."""
    store = RedisStore(server.url, budget=BUDGET, longest_pause=0.1)
    with Load(store) as load:
        for how in ("killed", "hung", "killed"):
            load.goes_on()
            server.stop_answering(how)
            until(lambda: not store.usable())
            server.answer_again(how)
            back(store)
        load.goes_on()

    assert not load.strange
    store.close()


# Redis answers, but takes no writes


def out_of_memory(server: Server) -> None:
    """Let Redis be full."""
    server.client.config_set("maxmemory-policy", "noeviction")
    server.client.config_set("maxmemory", 1)


def read_only(server: Server) -> None:
    """Let Redis be the replica of a server that is gone."""
    server.client.replicaof("127.0.0.1", 1)


def takes_writes(server: Server) -> None:
    """Undo both."""
    server.client.config_set("maxmemory", 0)
    server.client.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("refuse", "code"), [(out_of_memory, "external.full"), (read_only, "external.read_only")]
)
def test_redis_without_writes_is_read(
    stores: Stores, server: Server, refuse: Callable[[Server], None], code: str
) -> None:
    """Hits go on; what would have to be written is refused without asking, until writes are possible."""
    store, key = stores.make(server.url), a_key()
    ask = stores.ask(store)
    ask.put(key, b"v", 60, PATIENT)
    with heard(*TOLD) as told:
        refuse(server)
        refused(ask.claim, [a_key()], "a", 60, PATIENT)
        refused(ask.fill, key, b"w", 60, "a", 1000)
        assert [b"v"] == ask.get([key], PATIENT)
        assert store.usable()
        assert [(code, True)] == [(it.failure.code, it.reads) for it in told]
        takes_writes(server)
        back(store)
        until(lambda: len(told) == 2)
        assert list(TOLD) == list(map(type, told))
    assert ask.claim([a_key()], "a", 60, PATIENT)[0]


def test_full_redis_forgets_what_it_cannot_replace(stores: Stores, server: Server) -> None:
    """A new value for which there is no room removes the old one, and invalidations go through."""
    store, changed, invalid, mark = stores.make(server.url), a_key(), a_key(), a_key()
    ask = stores.ask(store)
    for key in (changed, invalid):
        ask.put(key, b"old", 60, PATIENT)
    out_of_memory(server)
    ask.put(changed, b"new", 60, PATIENT)
    ask.invalidate([invalid], {mark: b"m"}, 60, PATIENT)

    gone, also_gone, marked = ask.get([changed, invalid, mark], PATIENT)
    assert (None, None) == (gone, also_gone)
    assert marked
    assert store.usable()


def test_no_stale_read_from_a_read_only_redis(stores: Stores, server: Server) -> None:
    """What cannot be removed is not read either, until it could be."""
    store, key = stores.make(server.url), a_key()
    ask = stores.ask(store)
    ask.put(key, b"old", 60, PATIENT)
    read_only(server)
    refused(ask.invalidate, [key], {}, 60, PATIENT)
    refused(ask.get, [key], PATIENT)
    takes_writes(server)
    back(store)

    assert [None] == ask.get([key], PATIENT)


# What could not be delivered


@pytest.mark.parametrize("change", ["invalidate", "put", "postpone"])
def test_invalidation_during_an_outage_holds_afterwards(stores: Stores, server: Server, change: str) -> None:
    """The old entry in the Redis that comes back is gone before anybody reads."""
    store, key, mark = stores.make(server.url, budget=BUDGET), a_key(), a_key()
    ask = stores.ask(store)
    ask.put(key, b"old", 60, PATIENT)
    ask.invalidate([], {mark: b"m"}, 60, PATIENT)
    (before,) = ask.get([mark], PATIENT)
    server.hang()
    if change == "invalidate":
        refused(ask.invalidate, [key], {mark: b"m"}, 60, BUDGET)
    elif change == "put":
        refused(ask.put, key, b"new", 60, BUDGET)
    else:
        store.postpone([key], {mark: b"m"}, 60)
    refused(ask.get, [key], 1000)
    with heard(*TOLD) as restored:
        server.go_on()
        back(store)
        until(lambda: restored)

    assert [None] == ask.get([key], PATIENT)
    assert (change == "put") == (ask.get([mark], PATIENT) == [before])
    assert [1 if change == "put" else 2] == [it.replayed for it in restored]


def test_only_what_still_matters_is_delivered(stores: Stores, server: Server) -> None:
    """An invalidation is kept for as long as an old entry could live."""
    with FakeClock() as clock:
        store, old, new = stores.make(server.url, budget=BUDGET), a_key(), a_key()
        server.kill()
        store.postpone([old], {}, 10)
        store.postpone([new], {}, 30)
        clock.advance(20)
        server.start()
        server.client.set(old, b"v")
        server.client.set(new, b"v")
        back(store)

    assert (1, 0) == (server.client.exists(old), server.client.exists(new))


def test_too_many_invalidations_remove_everything(stores: Stores, server: Server) -> None:
    """More than can be kept is not forgotten: all entries of this cache go, and those of no other."""
    store = stores.make(server.url, budget=BUDGET, prefix="s*c")
    server.client.mset(
        {"s*c:{a}": "old", "svc:{a}": "of another"} | {f"s*c:{{{n}}}": "" for n in range(3000)}
    )
    server.hang()
    store.postpone([f"s*c:{{{number}}}" for number in range(MOST_KEPT + 1)], {}, 60)
    server.go_on()
    back(store)

    assert [b"svc:{a}"] == server.client.keys("*{*")


def test_invalidation_that_comes_during_the_replay_is_delivered_too(stores: Stores, server: Server) -> None:
    """Threads go on invalidating while Redis comes back: nothing that was invalidated is read."""
    store, keys = stores.make(server.url, budget=BUDGET), [a_key() for _ in range(400)]
    ask = stores.ask(store)
    for key in keys:
        ask.put(key, b"old", 60, PATIENT)
    server.hang()
    store.postpone(keys[:1], {}, 60)

    def change() -> None:
        for key in keys:
            store.postpone([key], {}, 60)

    changing = Thread(target=change)
    changing.start()
    server.go_on()
    changing.join()
    back(store)

    assert [None] * 400 == ask.get(keys, PATIENT)


class Looker:
    """Stands for a Redis that is back; while it is looked at, something is invalidated."""

    def __init__(self) -> None:
        self.outage = Outage("svc", "nowhere", 1.0, 0.1, self.look, self.let_go)
        self.seen: list[tuple[list[str], bool, bool]] = []

    def look(self, kept: Kept, anew: bool) -> bool:
        """Note what is delivered, and whether the next change may go to Redis at once."""
        self.seen.append((kept.keys, anew, self.outage.keeps_back([f"during look {len(self.seen)}"], [], 60)))
        if len(self.seen) == 2:
            raise TimeoutError
        return True

    def let_go(self) -> None:
        """Let go of nothing."""


def test_changes_go_through_before_reads_do() -> None:
    """Once Redis was told what it missed, it is told of changes at once: what is kept comes to an end."""
    looker = Looker()
    looker.outage.postpone(["first"], [], 60)
    until(lambda: looker.outage.reads)

    assert [
        (["first"], True, True),
        (["during look 0"], False, False),  # and it fails once more
        (["during look 0"], True, True),
        (["during look 2"], False, False),
    ] == looker.seen


# What goes wrong in this process


def test_no_more_threads(stores: Stores, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, callers are refused; as soon as one can, Redis is looked after."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    store = stores.make(server.url, budget=BUDGET)
    ask = stores.ask(store)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", refuse)
        refused(ask.get, [a_key()], BUDGET)
        assert not store.usable()
    back(store)
    assert [None] == ask.get([a_key()], PATIENT)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_delivers_what_its_parent_could_not(server: Server) -> None:
    """A child reads nothing that was invalidated before it was born."""
    import os

    store, key = RedisStore(server.url, budget=BUDGET, longest_pause=0.1), a_key()
    store.blocking.put(key, b"old", 60, PATIENT)
    server.hang()
    with pytest.raises(StoreUnavailable):
        store.blocking.invalidate([key], {}, 60, BUDGET)
    child = os.fork()
    if not child:
        status = 1
        try:
            back(store)
            status = int(store.blocking.get([key], PATIENT) != [None])
        finally:
            os._exit(status)
    server.go_on()
    assert (child, 0) == os.waitpid(child, 0)
    store.close()


def test_store_that_is_forgotten_is_looked_after_no_longer(server: Server) -> None:
    """The thread ends with the store."""
    before = threading.active_count()
    server.kill()
    store = RedisStore(server.url, budget=BUDGET, longest_pause=0.1)
    with pytest.raises(StoreUnavailable):
        store.blocking.get([a_key()], BUDGET)
    until(lambda: threading.active_count() > before)
    del store
    until(lambda: gc.collect() >= 0 and threading.active_count() <= before)
