"""`RedisStore` against a real Redis: what it does when all is well, and whose connections it uses."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cache.redis_stores import Stores, a_key, clients, refused
from tests.policies.redis_server import PATIENT, Server, running, until

from resilient_agents.cache.redis import RedisStore


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Start a Redis of one's own."""
    with running(tmp_path) as one:
        yield one


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start a Redis for tests that treat it well."""
    with running(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture(params=["blocking", "awaiting"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Make stores in one half and the other."""
    made = Stores(request.param)
    yield made
    made.close()


@pytest.fixture
def ask(stores: Stores, steady: Server) -> Any:
    """Return one half of a store on a Redis that is well."""
    return stores.ask(stores.make(steady.url))


# Operations


def test_what_was_put_is_read(ask: Any) -> None:
    """A value is read back as the bytes that were written; what is not there is none."""
    key, mark, value = a_key(), a_key(), bytes(range(256)) * 1000
    ask.put(key, value, 60, PATIENT)
    ask.invalidate([], {mark: b"m"}, 60, PATIENT)

    assert [value] == ask.get([key], PATIENT)
    assert [None] == ask.get([a_key()], PATIENT)
    found, absent, marked = ask.get([key, a_key(), mark], PATIENT)
    assert (value, None) == (found, absent)
    assert marked


def test_one_fills(ask: Any) -> None:
    """The lease goes to one, who may ask twice; what he stores ends it."""
    key = a_key()

    assert (True, [None]) == ask.claim([key], "a", 60, PATIENT)
    assert (False, [None]) == ask.claim([key], "b", 60, PATIENT)
    assert (True, [None]) == ask.claim([key], "a", 60, PATIENT)
    assert not ask.fill(key, b"b", 60, "b", PATIENT)
    assert ask.fill(key, b"a", 60, "a", PATIENT)
    assert (True, [b"a"]) == ask.claim([key], "b", 60, PATIENT)


def test_lease_is_given_back(ask: Any) -> None:
    """Its holder may end it without a value; nobody else can."""
    key = a_key()
    ask.claim([key], "a", 60, PATIENT)
    ask.release(key, "b", PATIENT)
    assert (False, [None]) == ask.claim([key], "b", 60, PATIENT)
    ask.release(key, "a", PATIENT)
    assert (True, [None]) == ask.claim([key], "b", 60, PATIENT)


def test_refresh_takes_the_lease_over(ask: Any) -> None:
    """A load that began earlier is not stored after one that was asked for later."""
    key = a_key()
    ask.claim([key], "old", 60, PATIENT)
    assert (True, [None]) == ask.claim([key], "new", 60, PATIENT, take_over=True)

    assert not ask.fill(key, b"old", 60, "old", PATIENT)
    assert ask.fill(key, b"new", 60, "new", PATIENT)


ACTIONS = st.sampled_from(["claim", "take", "fill", "release", "put", "invalidate"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=st.lists(st.tuples(ACTIONS, st.sampled_from("ab")), max_size=12))
def test_no_load_overwrites_what_is_newer(ask: Any, actions: list[tuple[str, str]]) -> None:
    """Two fill, write and invalidate in any order; entry and lease are those of the model."""
    key, entry, holder = a_key(), None, ""
    for number, (action, who) in enumerate(actions):
        value = f"{who}{number}".encode()
        if action in ("claim", "take"):
            won = action == "take" or holder in ("", who)
            holder = who if won else holder
            told = ask.claim([key], who, 60, PATIENT, take_over=action == "take")
            assert (won, [entry]) == told
        elif action == "fill":
            stored = holder == who
            assert stored == ask.fill(key, value, 60, who, PATIENT)
            entry, holder = (value, "") if stored else (entry, holder)
        elif action == "release":
            ask.release(key, who, PATIENT)
            holder = "" if holder == who else holder
        elif action == "put":
            ask.put(key, value, 60, PATIENT)
            entry, holder = value, ""
        else:
            ask.invalidate([key], {}, 60, PATIENT)
            entry, holder = None, ""
        assert [entry] == ask.get([key], PATIENT)


def test_everything_expires(ask: Any, steady: Server) -> None:
    """Nothing is written without an end: an entry, a lease, a mark."""
    put, filled, claimed, mark = a_key(), a_key(), a_key(), a_key()
    ask.put(put, b"v", 60, PATIENT)
    ask.claim([filled], "a", 60, PATIENT)
    ask.fill(filled, b"v", 60, "a", PATIENT)
    ask.claim([claimed], "a", 60, PATIENT)
    ask.invalidate([], {mark: b"m"}, 60, PATIENT)

    for name in (put, filled, claimed + ":lease", mark):
        assert 0 < steady.client.pttl(name) <= 60_000


def test_a_mark_is_never_written_twice(ask: Any) -> None:
    """Each invalidation of a tag gives it a version that it never had, whatever the caller says."""
    mark, seen = a_key(), set()
    for _ in range(20):
        ask.invalidate([], {mark: b"the same"}, 60, PATIENT)
        seen.add(ask.get([mark], PATIENT)[0])

    assert 20 == len(seen)


def test_a_mark_is_made_before_a_load(ask: Any, steady: Server) -> None:
    """What is loaded always remembers a mark: one that is evicted later brings nothing back to life."""
    key, mark = a_key(), a_key()
    _, (_, seen) = ask.claim([key, mark], "a", 60, PATIENT)
    assert (True, [None, seen]) == ask.claim([key, mark], "a", 60, PATIENT)
    assert [seen] == ask.get([mark], PATIENT)
    assert steady.client.pttl(mark) > 0
    steady.client.delete(mark)
    _, (_, other) = ask.claim([key, mark], "a", 60, PATIENT)

    assert len({None, seen, other}) == 3


def test_scripts_that_redis_has_forgotten_are_sent_again(ask: Any, steady: Server) -> None:
    """A restart or SCRIPT FLUSH costs a round trip, and nothing else."""
    key = a_key()
    for token in ("a", "b"):
        steady.client.script_flush()
        assert ask.claim([key], token, 60, PATIENT)[0]
        assert ask.fill(key, b"v", 60, token, PATIENT)
    assert [b"v"] == ask.get([key], PATIENT)


def test_flushed_redis_is_an_empty_one(stores: Stores, server: Server) -> None:
    """FLUSHALL removes entries and leases, and no fill goes through that began before."""
    ask, key = stores.ask(stores.make(server.url)), a_key()
    ask.put(key, b"v", 60, PATIENT)
    ask.claim([key], "a", 60, PATIENT)
    server.client.flushall()

    assert [None] == ask.get([key], PATIENT)
    assert not ask.fill(key, b"old", 60, "a", PATIENT)


def test_garbage_under_our_names_is_healed(ask: Any, steady: Server) -> None:
    """A list where an entry, a lease or a mark should be is none of ours, and is overwritten."""
    key, mark = a_key(), a_key()
    for name in (key, key + ":lease", mark):
        steady.client.rpush(name, "garbage")

    assert [None] == ask.get([key], PATIENT)
    assert [None, None] == ask.get([key, mark], PATIENT)
    assert (True, [None]) == ask.claim([key], "a", 60, PATIENT)
    assert ask.fill(key, b"v", 60, "a", PATIENT)
    ask.invalidate([], {mark: b"m"}, 60, PATIENT)
    value, marked = ask.get([key, mark], PATIENT)
    assert b"v" == value
    assert marked


# Connections


def test_connection_that_was_closed_while_idle_is_replaced(stores: Stores, server: Server) -> None:
    """A server that closes idle connections is no outage."""
    store, key = stores.make(server.url), a_key()
    ask = stores.ask(store)
    ask.put(key, b"v", 60, PATIENT)
    for _ in range(3):
        server.client.client_kill_filter(_type="normal", skipme=True)
        assert [b"v"] == ask.get([key], PATIENT)
        assert store.usable()


def test_burst_of_threads(server: Server) -> None:
    """200 threads at once are all answered, through no more connections than allowed."""
    store, key = RedisStore(server.url, budget=PATIENT, max_connections=8), a_key()
    store.blocking.put(key, b"v", 60, PATIENT)
    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(lambda _: store.blocking.get([key], 10 * PATIENT), range(1000)))

    assert 1000 * [[b"v"]] == answers
    assert 8 >= clients(server)
    store.close()
    until(lambda: not clients(server))


async def test_burst_of_tasks(server: Server) -> None:
    """1000 tasks at once are all answered, each with its own value, through one connection."""
    store, keys = RedisStore(server.url, budget=PATIENT), [a_key() for _ in range(1000)]
    await asyncio.gather(*(store.awaiting.put(key, key.encode(), 60, 10 * PATIENT) for key in keys))
    answers = await asyncio.gather(*(store.awaiting.get([key], 10 * PATIENT) for key in keys))

    assert [[key.encode()] for key in keys] == answers
    assert 1 == clients(server)
    await store.aclose()


async def test_large_values_do_not_mix(server: Server) -> None:
    """Values that are larger than what a socket takes at once go out and come in whole."""
    store, keys = RedisStore(server.url, budget=PATIENT), [a_key() for _ in range(8)]
    values = [bytes([number]) * 3_000_000 for number in range(8)]
    puts = (store.awaiting.put(key, it, 60, 10 * PATIENT) for key, it in zip(keys, values, strict=True))
    await asyncio.gather(*puts)
    answers = await asyncio.gather(*(store.awaiting.get([key], 10 * PATIENT) for key in keys))

    assert [[value] for value in values] == answers
    await store.aclose()


async def test_cancelled_tasks_leave_no_answer_to_others(server: Server) -> None:
    """Tasks are cancelled while their answers are on the way: the others get theirs, over and over."""
    store, keys = RedisStore(server.url, budget=30.0), [a_key() for _ in range(100)]
    await asyncio.gather(*(store.awaiting.put(key, key.encode() * 500, 60, 30.0) for key in keys))
    for round_ in range(10):
        server.hang()
        tasks = [asyncio.create_task(store.awaiting.get([key], 30.0)) for key in keys]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks[round_::2]:
            task.cancel()
        server.go_on()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (key, answer) in enumerate(zip(keys, answers, strict=True)):
            if number >= round_ and not (number - round_) % 2:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert [key.encode() * 500] == answer
        assert [keys[round_].encode() * 500] == await store.awaiting.get([keys[round_]], 30.0)
    assert 1 == clients(server)
    await store.aclose()


async def test_invalidation_is_done_though_its_caller_is_cancelled(server: Server) -> None:
    """A browser that hangs up does not leave the old value in place."""
    store, key = RedisStore(server.url, budget=30.0), a_key()
    await store.awaiting.put(key, b"old", 60, 30.0)
    await store.awaiting.invalidate([a_key()], {}, 60, 30.0)  # from now on Redis knows the script
    server.hang()
    task = asyncio.create_task(store.awaiting.invalidate([key], {}, 60, 30.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    server.go_on()

    assert [None] == await store.awaiting.get([key], 30.0)
    await store.aclose()


def test_each_loop_has_its_own_connection(server: Server) -> None:
    """Two loops in two threads work side by side; loops that are closed leave no connection behind."""
    store, key = RedisStore(server.url, budget=PATIENT), a_key()

    async def work() -> Any:
        for _ in range(20):
            await store.awaiting.put(key, b"v", 60, PATIENT)
        return await store.awaiting.get([key], PATIENT)

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: asyncio.run(work()), range(10)))
    assert 10 * [[b"v"]] == answers
    assert [b"v"] == asyncio.run(work())
    gc.collect()
    until(lambda: clients(server) <= 1)
    store.close()
    until(lambda: not clients(server))


def test_a_loop_that_is_closed_while_it_waits_harms_nobody(server: Server) -> None:
    """A loop that was closed in the middle of a question is let go of, by the next one and by close()."""
    store, key = RedisStore(server.url, budget=PATIENT), a_key()
    for _ in range(2):
        loop = asyncio.new_event_loop()
        assert [None] == loop.run_until_complete(store.awaiting.get([key], PATIENT))
        server.hang()
        asking = loop.create_task(store.awaiting.get([key], PATIENT))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        server.go_on()
        asking._log_destroy_pending = False  # type: ignore[attr-defined]
    assert [None] == asyncio.run(store.awaiting.get([key], PATIENT))
    assert store.usable()
    store.close()
    until(lambda: not clients(server))


def test_forgotten_store_leaves_nothing_behind(server: Server) -> None:
    """Who forgets to close a store leaks neither connections nor warnings."""
    store = RedisStore(server.url, budget=PATIENT)
    store.listen(list[Any]().append)
    store.blocking.get([a_key()], PATIENT)
    asyncio.run(store.awaiting.get([a_key()], PATIENT))
    del store

    until_gone(server)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_forked_child_opens_connections_of_its_own(server: Server) -> None:
    """Parent and child ask at the same time, and each hears its own answers."""
    store, key = RedisStore(server.url, budget=PATIENT), a_key()
    store.blocking.put(key, b"of the parent", 60, PATIENT)
    child = os.fork()
    if not child:
        status = 1
        try:
            store.blocking.put(a_key() + "child", b"of the child", 60, PATIENT)
            answers = [store.blocking.get([key], PATIENT) for _ in range(200)]
            status = int(answers != 200 * [[b"of the parent"]])
        finally:
            os._exit(status)
    answers = [store.blocking.get([key], PATIENT) for _ in range(200)]
    assert (child, 0) == os.waitpid(child, 0)
    assert 200 * [[b"of the parent"]] == answers
    store.close()


def test_child_begins_anew(stores: Stores, server: Server) -> None:
    """What a child does at its birth: it shares no connection, and hears what its parent says."""
    store, heard = listening(stores, server)
    ask, key, before = stores.ask(store), a_key(), store._source
    ask.put(key, b"v", 60, PATIENT)
    store._begin_anew()
    until(lambda: heard == [None, None])
    server.client.publish("svc:invalidations", json.dumps({"from": before, "names": ["of the parent"]}))
    until(heard.names)

    assert ["of the parent"] == heard.names()
    assert [b"v"] == stores.ask(store).get([key], PATIENT)


def test_closed_store_is_asked_nothing(stores: Stores, server: Server) -> None:
    """After the end, operations are refused, and no connection is left."""
    store = stores.make(server.url)
    ask = stores.ask(store)
    ask.get([a_key()], PATIENT)
    stores.runner.run(store.aclose())

    assert not store.usable()
    refused(ask.get, [a_key()], PATIENT)
    refused(ask.put, a_key(), b"v", 60, PATIENT)
    until(lambda: not clients(server))


# Where connections come from


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis])
@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
def test_client_stays_as_it_is(stores: Stores, steady: Server, kind: Any, pool: str) -> None:
    """The settings of a client are taken over, but for retries and timeouts; it is not touched."""
    module = redis if kind is redis.Redis else redis.asyncio
    its = getattr(module, pool).from_url(
        steady.url, db=3, socket_timeout=77, client_name="ours", decode_responses=True
    )
    client = kind(connection_pool=its)
    ask, key = stores.ask(stores.make(client)), a_key()
    ask.put(key, b"\xff", 60, PATIENT)

    assert [b"\xff"] == ask.get([key], PATIENT)
    names = [(it["name"], it["db"]) for it in steady.client.client_list()]
    assert ("ours", "3") in names
    assert 77 == its.connection_kwargs["socket_timeout"]
    assert not getattr(its, "_created_connections", 0)
    assert not getattr(its, "_in_use_connections", ())


def test_password_and_database_are_used(stores: Stores, server: Server) -> None:
    """An address says who we are; who is nobody is refused, and told so once."""
    server.client.config_set("requirepass", "s3cret")
    known = stores.ask(stores.make(f"unix://:s3cret@{server.path}?db=2"))
    known.put(a_key(), b"v", 60, PATIENT)
    unknown = stores.make(server.url)

    refused(stores.ask(unknown).get, [a_key()], PATIENT)
    assert not unknown.usable()


def test_what_is_no_redis_is_refused() -> None:
    """What cannot be used is refused at once, in words."""
    with pytest.raises(TypeError, match=r"takes the address of a Redis server.*not builtins\.int"):
        RedisStore(6379)
    with pytest.raises(ValueError, match="Redis URL must specify"):
        RedisStore("localhost:6379")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"budget": 0}, "budget must be a time of more than 0 seconds, not 0"),
        ({"longest_pause": float("inf")}, "longest_pause must be a time of more than 0 seconds, not inf"),
        ({"max_connections": 0}, "max_connections must be 1 or more, not 0"),
    ],
)
def test_bad_settings_are_refused(setting: dict[str, Any], words: str) -> None:
    """A parameter that is out of range is named."""
    with pytest.raises(ValueError, match=words):
        RedisStore("redis://localhost", **setting)


# Processes

WORKER = """
import asyncio, json, secrets, sys
from resilient_agents.cache.redis import RedisStore

async def call(store, key, loads):
    token = secrets.token_hex(4)
    while True:
        won, (value,) = await store.awaiting.claim([key], token, 20.0, 20.0)
        if value is not None:
            return value
        if won:
            loads.append(1)
            await asyncio.sleep(0.05)
            await store.awaiting.fill(key, b"loaded", 60.0, token, 20.0)
            return b"loaded"
        await asyncio.sleep(0.005)

async def main(url, key):
    store, loads = RedisStore(url, budget=20.0), []
    print("ready", flush=True)
    sys.stdin.readline()
    values = await asyncio.gather(*(call(store, key, loads) for _ in range(50)))
    await store.aclose()
    print(json.dumps([len(loads), values == 50 * [b"loaded"]]))

asyncio.run(main(*sys.argv[1:]))
"""


def test_four_processes_of_fifty_tasks_load_once(steady: Server) -> None:
    """200 callers in 4 processes want the same key: one of them loads it."""
    command = [sys.executable, "-c", WORKER, steady.url, a_key()]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for worker in workers:
        assert worker.stdout
        assert "ready\n" == worker.stdout.readline()
    for worker in workers:
        assert worker.stdin
        worker.stdin.write("go\n")
        worker.stdin.flush()
    told = [json.loads(worker.communicate()[0]) for worker in workers]

    assert 1 == sum(loads for loads, _ in told)
    assert all(right for _, right in told)


HOLDER = """
import sys, time
from resilient_agents.cache.redis import RedisStore
store = RedisStore(sys.argv[1], budget=20.0)
assert store.blocking.claim([sys.argv[2]], "killed", 0.5, 20.0)[0]
print("claimed", flush=True)
time.sleep(60)
"""


def test_lease_of_a_killed_process_ends(ask: Any, steady: Server) -> None:
    """Who is killed while he loads delays the others for the length of his lease, not longer."""
    key = a_key()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, steady.url, key], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert "claimed\n" == holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()

    until(lambda: ask.claim([key], "heir", 60, PATIENT)[0])
    assert not ask.fill(key, b"old", 60, "killed", PATIENT)
    assert ask.fill(key, b"new", 60, "heir", PATIENT)


# Other processes are told


class Heard(list[Any]):
    """What a listener heard."""

    def names(self) -> list[str]:
        """Return the names, in order."""
        return [name for names in self if names is not None for name in names]


def listening(stores: Stores, server: Server, **settings: Any) -> tuple[RedisStore, Heard]:
    """Return a store that listens already, and what it hears."""
    store, heard = stores.make(server.url, **settings), Heard()
    store.listen(heard.append)
    until(lambda: heard)
    return store, heard


def test_others_hear_of_what_changed(stores: Stores, steady: Server) -> None:
    """A put and an invalidation are heard by other stores of the prefix, a fill is not; never the value."""
    first = stores.ask(stores.make(steady.url))
    first.put(a_key(), b"v", 60, PATIENT)  # Redis knows the scripts: nothing is sent twice
    first.invalidate([a_key()], {a_key(): b"m"}, 60, PATIENT)
    (here, own), (_, theirs) = listening(stores, steady), listening(stores, steady)
    _, strangers = listening(stores, steady, prefix="other")
    ask, key, mark, filled = stores.ask(here), a_key(), a_key(), a_key()
    ask.claim([filled], "a", 60, PATIENT)
    ask.fill(filled, b"v", 60, "a", PATIENT)
    ask.put(key, b"v", 60, PATIENT)
    ask.invalidate([key], {mark: b"m"}, 60, PATIENT)
    until(lambda: len(theirs.names()) == 3)

    assert [None, [key], [key, mark]] == theirs
    assert [None] == own
    assert [None] == strangers


def test_nonsense_on_the_channel_is_passed_over(stores: Stores, steady: Server) -> None:
    """Whoever else publishes there does no harm."""
    _, heard = listening(stores, steady)
    for nonsense in ("", "{}", "[1]", "\xff", '{"from": 1, "names": 7}', "7" * 100_000):
        steady.client.publish("svc:invalidations", nonsense)
    steady.client.publish("svc:invalidations", '{"from": "x", "names": ["svc:{a}"]}')
    until(heard.names)

    assert [None, ["svc:{a}"]] == heard


@pytest.mark.parametrize("how", ["killed", "hung"])
def test_loss_of_the_channel_is_told(stores: Stores, server: Server, how: str) -> None:
    """When messages may have been missed, it is said: at the loss, and when the channel is back."""
    _, heard = listening(stores, server)
    server.stop_answering(how)
    until_heard(heard, 2)
    assert [None, None] == heard
    server.answer_again(how)
    until_heard(heard, 3)
    server.client.publish("svc:invalidations", '{"from": "x", "names": ["svc:{a}"]}')
    until(heard.names)

    assert [None, None, None, ["svc:{a}"]] == heard


def until_heard(heard: Heard, times: int) -> None:
    """Wait longer than `until` does: a silent channel is asked after a second."""
    for _ in range(3):
        with suppress(AssertionError):
            until(lambda: len(heard) >= times)
            return
    raise AssertionError(heard)


def test_quiet_channel_is_not_lost(stores: Stores, server: Server) -> None:
    """Silence is answered with PING, and the channel stays."""
    _, heard = listening(stores, server)

    def pings() -> int:
        said: dict[str, Any] = server.client.info("commandstats")
        return int(said.get("cmdstat_ping", {"calls": 0})["calls"])

    before = pings()
    until(lambda: pings() > before)

    assert [None] == heard


def test_who_hears_is_not_kept_alive(server: Server) -> None:
    """The thread ends with the owner of the method that it calls."""

    class Owner:
        def __init__(self) -> None:
            self.store = RedisStore(server.url)
            self.store.listen(self.hear)

        def hear(self, names: object) -> None:
            """Hear."""

    owner = Owner()
    until(lambda: clients(server))
    del owner
    until_gone(server)


def until_gone(server: Server) -> None:
    """Collect garbage until no connection is left; a thread that listens looks up once a second."""
    for _ in range(10):
        gc.collect()
        with suppress(AssertionError):
            until(lambda: not clients(server))
            return
    raise AssertionError(server.client.client_list())


def test_channel_is_not_needed_to_invalidate(
    stores: Stores, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A user who may not publish invalidates all the same, and is told once what is missing."""
    server.client.acl_setuser(
        "shy",
        enabled=True,
        nopass=True,
        keys=["svc:*"],
        reset_channels=True,
        categories=["+@all"],
    )
    store = stores.make(f"unix://shy:x@{server.path}")
    ask, key = stores.ask(store), a_key()
    ask.put(key, b"v", 60, PATIENT)
    ask.invalidate([key], {}, 60, PATIENT)

    assert [None] == ask.get([key], PATIENT)
    assert store.usable()
    assert 1 == len(caplog.records)
    assert "NOPERM to PUBLISH" in caplog.text
