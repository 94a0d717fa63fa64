"""`RedisStore` behind a real Sentinel: it finds the master, and the new one after a failover."""

from pathlib import Path

from redis.sentinel import Sentinel
from tests.cache.redis_servers import a_port, started
from tests.cache.redis_stores import a_key, back, refused
from tests.policies.redis_server import PATIENT, until

from resilient_agents.cache.redis import RedisStore


def test_failover_is_followed(tmp_path: Path) -> None:
    """What was demoted takes no writes; soon the store has connections to the new master."""
    first, second, guard = a_port(), a_port(), a_port()
    with (
        started(tmp_path, 'save ""', port=first) as old,
        started(tmp_path, 'save ""', f"replicaof 127.0.0.1 {first}", port=second) as new,
        started(tmp_path, f"sentinel monitor main 127.0.0.1 {first} 1", port=guard, sentinel=True) as watcher,
    ):
        until(lambda: new.info()["master_link_status"] == "up")
        sentinel = Sentinel([("127.0.0.1", guard)])  # type: ignore[no-untyped-call]
        client = sentinel.master_for("main")  # type: ignore[no-untyped-call]
        store, key = RedisStore(client, prefix="svc", budget=PATIENT, longest_pause=0.1), a_key()
        store.blocking.put(key, b"old", 600, PATIENT)
        until(lambda: new.exists(key))

        new.replicaof("NO", "ONE")
        old.replicaof("127.0.0.1", second)
        watcher.sentinel_remove("main")
        watcher.sentinel_monitor("main", "127.0.0.1", second, 1)
        refused(store.blocking.invalidate, [key], {}, 600, PATIENT)
        back(store)

        assert [None] == store.blocking.get([key], PATIENT)
        store.blocking.put(key, b"new", 600, PATIENT)
        assert b"new" == new.get(key)
        store.close()
        for it in (client, *sentinel.sentinels):
            it.close()
