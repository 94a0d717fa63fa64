"""`RedisStore` on a real cluster of two masters: names are found where they are, or have moved to."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from tests.cache.redis_servers import a_port, started
from tests.cache.redis_stores import Stores, a_key, back, refused
from tests.policies.redis_server import PATIENT, until

from resilient_agents.cache._redis_wire import Refusal
from resilient_agents.cache.redis import RedisStore

SLOTS = 16384
Masters = tuple[redis.Redis, redis.Redis]


def is_ready(master: Any) -> bool:
    """Tell whether a server knows where all names are."""
    known = len(master.execute_command("CLUSTER", "SLOTS")) == 2
    return known and b"cluster_state:ok" in master.execute_command("CLUSTER", "INFO")


@pytest.fixture(scope="module")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Masters]:
    """Start a cluster; the second master is killed by the last test."""
    folder, ports = tmp_path_factory.mktemp("cluster"), [a_port(), a_port()]
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(
                started(
                    folder,
                    'save ""',
                    "cluster-enabled yes",
                    f"cluster-config-file nodes-{port}.conf",
                    "cluster-node-timeout 60000",
                    "cluster-require-full-coverage no",
                    port=port,
                )
            )
            for port in ports
        )
        first.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS // 2))  # type: ignore[no-untyped-call]
        second.execute_command("CLUSTER", "ADDSLOTS", *range(SLOTS // 2, SLOTS))  # type: ignore[no-untyped-call]
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[1])  # type: ignore[no-untyped-call]
        for it in (first, second):
            with suppress(AssertionError):  # a master that was just born waits for two seconds
                until(partial(is_ready, it))
            until(partial(is_ready, it))
        yield first, second


@pytest.fixture
def client(masters: Masters) -> Iterator[Any]:
    """Return a client of the cluster."""
    port = masters[0].connection_pool.connection_kwargs["port"]
    one = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)])  # type: ignore[no-untyped-call]
    yield one
    one.close()


@pytest.fixture(params=["blocking", "awaiting"])
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Make stores in one half and the other."""
    made = Stores(request.param)
    yield made
    made.close()


def test_names_are_found_on_all_masters(stores: Stores, client: Any, masters: Masters) -> None:
    """Entries, marks and leases of many slots are read, written and invalidated together."""
    ask, keys = stores.ask(stores.make(client)), [a_key() for _ in range(40)]
    for key in keys:
        ask.put(key, key.encode(), 60, PATIENT)
    assert [key.encode() for key in keys] == ask.get(keys, PATIENT)
    assert all(master.dbsize() >= 5 for master in masters)

    won, values = ask.claim(keys, "a", 60, PATIENT)
    assert (True, keys[0].encode()) == (won, values[0])
    assert ask.fill(keys[0], b"filled", 60, "a", PATIENT)
    assert [b"filled"] == ask.get(keys[:1], PATIENT)
    marks = {a_key(): b"m" for _ in range(10)}
    ask.invalidate(keys, marks, 60, PATIENT)
    assert 40 * [None] == ask.get(keys, PATIENT)
    assert all(ask.get(list(marks), PATIENT))


def test_names_that_move_are_followed(stores: Stores, client: Any, masters: Masters) -> None:
    """While a slot moves, a name is asked for where it is; afterwards at its new master."""
    first, second = masters
    ask = stores.ask(stores.make(client))
    key = next(key for key in (a_key() for _ in range(100)) if key_slot(key.encode()) < SLOTS // 2)
    slot = key_slot(key.encode())
    ask.put(key, b"v", 60, PATIENT)
    ids = [it.execute_command("CLUSTER", "MYID") for it in masters]  # type: ignore[no-untyped-call]
    second.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])  # type: ignore[no-untyped-call]
    first.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])  # type: ignore[no-untyped-call]
    port = second.connection_pool.connection_kwargs["port"]
    first.migrate("127.0.0.1", port, key, 0, 5000)
    assert [b"v"] == ask.get([key], PATIENT)
    for it in (second, first):
        it.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])  # type: ignore[no-untyped-call]

    assert [b"v"] == ask.get([key], PATIENT)
    ask.put(key, b"w", 60, PATIENT)
    assert b"w" == second.get(key)


def test_invalidations_are_delivered_to_all_masters(stores: Stores, client: Any, masters: Masters) -> None:
    """What was missed is made on each master; more than can be kept empties each."""
    store, keys = stores.make(client), [a_key() for _ in range(40)]
    ask = stores.ask(store)
    for key in keys:
        ask.put(key, b"old", 60, PATIENT)
    store.postpone(keys, {}, 60)
    refused(ask.get, keys, PATIENT)
    back(store)
    assert 40 * [None] == ask.get(keys, PATIENT)

    for key in keys:
        ask.put(key, b"old", 60, PATIENT)
    store.postpone([f"svc:{number}" for number in range(10_001)], {}, 60)
    back(store)
    assert 40 * [None] == ask.get(keys, PATIENT)


def test_one_master_that_takes_no_writes(stores: Stores, client: Any, masters: Masters) -> None:
    """It is told once, not again and again while the other one is well."""
    store = stores.make(client)
    ask = stores.ask(store)
    keys = [a_key() for _ in range(40)]
    for key in keys:
        ask.put(key, b"v", 60, PATIENT)
    masters[1].config_set("maxmemory", 1)
    for key in keys:
        ask.put(key, b"w", 60, PATIENT)
    assert not store._outage.writes
    assert {b"w", None} == set(ask.get(keys, PATIENT))
    masters[1].config_set("maxmemory", 0)
    back(store)


def test_others_hear_wherever_they_listen(stores: Stores, client: Any) -> None:
    """A cluster passes on to all its servers what is published at one."""
    store, other, heard = stores.make(client), stores.make(client), list[Any]()
    other.listen(heard.append)
    until(lambda: heard)
    keys = [a_key() for _ in range(8)]
    for key in keys:
        stores.ask(store).put(key, b"v", 60, PATIENT)
    until(lambda: set(keys) == {name for names in heard if names for name in names})


def test_a_forked_child_and_a_closed_store(client: Any) -> None:
    """The connections of a child are its own, and those of a store end with it."""
    store, key = RedisStore(client, prefix="svc", budget=PATIENT), a_key()
    store.blocking.put(key, b"v", 60, PATIENT)
    child = store._wires.anew()
    assert type(child) is type(store._wires)
    assert [b"v"] == asyncio.run(store.awaiting.get([key], PATIENT))
    asyncio.run(store.aclose())
    refused(store.blocking.get, [key], PATIENT)


@pytest.mark.parametrize("text", ["MOVED 3999 127.0.0.1:6381", "ASK 3999 :6381", "MOVED nonsense"])
def test_where_to_is_read_from_the_answer(text: str) -> None:
    """MOVED and ASK name a slot, a host, which may be missing, and a port."""
    expected = {"MOVED 3999 127.0.0.1:6381": ("127.0.0.1", 6381, 3999), "ASK 3999 :6381": ("", 6381, 3999)}
    assert expected.get(text) == Refusal(text).moved_to


def test_lost_master_is_an_outage(client: Any, masters: Masters) -> None:
    """One of the masters is killed: the store is left alone as a whole, and no call waits for it."""
    store, keys = RedisStore(client, prefix="svc", budget=0.2), [a_key() for _ in range(40)]
    store.blocking.get(keys, PATIENT)
    masters[1].shutdown(nosave=True)
    refused(store.blocking.get, keys, 0.2)
    assert not store.usable()
    refused(store.blocking.get, keys, 1000)
    store.close()
