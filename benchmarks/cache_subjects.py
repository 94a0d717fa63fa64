"""What the benchmark of the cache compares: this library, its peers, and a GET written by hand.

All of them are set up as well as they can be: no retries, one timeout, connections for everybody, locks where
they have any. Each maker takes the address of a Redis (an empty text: memory alone), the time in seconds that
Redis may take, and a function; it returns the function with a cache.
"""

import json
import logging
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import redis
import redis.asyncio

from resilient_agents.cache import Cache

OURS = "Cache"
RAW = "GET + json.loads"
BARE = "undecorated"
OWN = "redis"
"""What is no peer needs nothing else."""

TTL = 600
MOST_CONNECTIONS = 1000
AGENT = {
    "id": 4217,
    "name": "Anna-Maria Konstantinopolskaya",
    "email": "anna.maria@example.com",
    "phone": "+7 916 000-00-00",
    "team": "north-west",
    "languages": ["ru", "en", "kk"],
    "open_leads": 17,
    "rating": 4.75,
    "on_call": True,
    "manager": None,
    "note": "Takes calls from partners after six, in Russian and English.",
}
"""What is cached: 313 bytes of JSON."""

Maker = Callable[[str, float, Any], Any]


class Subject(NamedTuple):
    """A cache: what it is called, what makes it, which package it needs, and whether it locks."""

    name: str
    make: Maker
    package: str = OWN
    locks: bool = False


def installed(subjects: list[Subject], *, locks: bool = True, alone: bool = False) -> list[Subject]:
    """Return those whose packages are there, with those that have a lock or without, or with no peer."""
    there = [it for it in subjects if it.package == OWN or (find_spec(it.package) and not alone)]
    return [it for it in there if locks or not it.locks]


def quiet() -> None:
    """Let no peer spend the time of the benchmark on its log."""
    logging.disable(logging.CRITICAL)


def ours(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in this library's cache."""
    return Cache(url or None, prefix="ours", budget=within).cached("agent:{agent_id}", ttl=TTL)(fn)


def ours_in_two_tiers(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in this library's cache, with a copy in memory."""
    cache = Cache(url, prefix="tiers", budget=within, local_ttl=5.0)
    return cache.cached("agent:{agent_id}", ttl=TTL)(fn)


def ours_due(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in this library's cache, with a copy in memory that a look at Redis must confirm."""
    cache = Cache(url, prefix="due", budget=within, local_ttl=1e-6)
    return cache.cached("agent:{agent_id}", ttl=TTL)(fn)


def undecorated(_url: str, _within: float, fn: Any) -> Any:
    """Return *fn*."""
    return fn


def by_hand(url: str, within: float, fn: Any) -> Any:
    """Return the least that can be done: GET, `json.loads`, and no care for failures."""
    client = redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, **settings(within)))

    def call(agent_id: int) -> Any:
        key = f"raw:{agent_id}"
        if (data := client.get(key)) is not None:
            return json.loads(data)
        value = fn(agent_id)
        client.set(key, json.dumps(value), ex=TTL)
        return value

    return call


def by_hand_async(url: str, within: float, fn: Any) -> Any:
    """Return the least that can be done: GET, `json.loads`, and no care for failures."""
    client = async_client(url, within)

    async def call(agent_id: int) -> Any:
        key = f"raw:{agent_id}"
        if (data := await client.get(key)) is not None:
            return json.loads(data)
        value = await fn(agent_id)
        await client.set(key, json.dumps(value), ex=TTL)
        return value

    return call


def settings(within: float) -> dict[str, Any]:
    """Return the settings of a pool; one that is made by itself does not retry."""
    return {
        "socket_timeout": within,
        "socket_connect_timeout": within,
        "max_connections": MOST_CONNECTIONS,
    }


def async_client(url: str, within: float) -> Any:
    """Return a client that does not retry."""
    pool = redis.asyncio.ConnectionPool.from_url(url, **settings(within))
    return redis.asyncio.Redis(connection_pool=pool)


def cashews(url: str, within: float, fn: Any, *, lock: bool = False, **more: Any) -> Any:
    """Return *fn* in a cache of cashews."""
    from cashews import Cache as Cashews

    cache = Cashews()
    if url:
        more = {**settings(within), "pickle_type": "json", **more}
    cache.setup(url or "mem://", **more)
    return cache(ttl=TTL, key="agent:{agent_id}", prefix="locked" if lock else "", lock=lock)(fn)


def cashews_locked(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in a cache of cashews, with its lock."""
    return cashews(url, within, fn, lock=True)


def cashews_client_side(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in a cache of cashews that keeps copies in memory."""
    return cashews(url, within, fn, client_side=True, client_side_prefix="side:")


def aiocache(url: str, within: float, fn: Any, *, stampede: bool = False) -> Any:
    """Return *fn* in a cache of aiocache."""
    from aiocache import Cache as AioCache  # type: ignore[import-untyped]
    from aiocache import cached, cached_stampede
    from aiocache.serializers import JsonSerializer  # type: ignore[import-untyped]

    options: dict[str, Any] = {"ttl": TTL}
    if url:
        options |= {"cache": AioCache.REDIS, "serializer": JsonSerializer(), "timeout": within}
        options |= {"namespace": "stampede" if stampede else "aio"}
    decorated: Any = (cached_stampede(lease=2, **options) if stampede else cached(**options))(fn)
    if url:
        decorated.cache.client = async_client(url, within)
    return decorated


def aiocache_stampede(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in a cache of aiocache, with its lock."""
    return aiocache(url, within, fn, stampede=True)


def fastapi_cache(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in fastapi-cache2; its one cache of the process is set up anew."""
    from fastapi_cache import FastAPICache
    from fastapi_cache.backends.inmemory import InMemoryBackend
    from fastapi_cache.decorator import cache

    FastAPICache.reset()
    if url:
        from fastapi_cache.backends.redis import RedisBackend

        FastAPICache.init(RedisBackend(async_client(url, within)), prefix="fastapi")
    else:
        FastAPICache.init(InMemoryBackend(), prefix="fastapi")
    return cache(expire=TTL)(fn)


def dogpile(url: str, within: float, fn: Any, *, lock: bool = False) -> Any:
    """Return *fn* in a region of dogpile.cache, with values in JSON."""
    from dogpile.cache import make_region

    if not url:
        return make_region().configure("dogpile.cache.memory").cache_on_arguments()(fn)
    region = make_region(serializer=lambda value: json.dumps(value).encode(), deserializer=json.loads)
    pool = redis.ConnectionPool.from_url(url, **settings(within))
    arguments = {"connection_pool": pool, "redis_expiration_time": TTL}
    if lock:
        arguments |= {"distributed_lock": True, "thread_local_lock": False, "lock_timeout": 5}
    region.configure("dogpile.cache.redis", arguments=arguments)
    return region.cache_on_arguments(namespace="locked" if lock else None)(fn)


def dogpile_locked(url: str, within: float, fn: Any) -> Any:
    """Return *fn* in a region of dogpile.cache, with its lock in Redis."""
    return dogpile(url, within, fn, lock=True)


def in_async_lru(_url: str, _within: float, fn: Any) -> Any:
    """Return *fn* in async-lru."""
    from async_lru import alru_cache

    return alru_cache(maxsize=10_000, ttl=TTL)(fn)


def in_theine(_url: str, _within: float, fn: Any) -> Any:
    """Return *fn* in theine."""
    from datetime import timedelta

    from theine import Memoize

    return Memoize(10_000, timedelta(seconds=TTL))(fn)


def in_lru_cache(_url: str, _within: float, fn: Any) -> Any:
    """Return *fn* in `functools.lru_cache`, which has no time to live."""
    return lru_cache(maxsize=10_000)(fn)


ASYNC = [
    Subject(RAW, by_hand_async),
    Subject(OURS, ours),
    Subject("aiocache", aiocache, "aiocache"),
    Subject("aiocache stampede", aiocache_stampede, "aiocache", locks=True),
    Subject("fastapi-cache2", fastapi_cache, "fastapi_cache"),
    Subject("cashews", cashews, "cashews"),
    Subject("cashews lock", cashews_locked, "cashews", locks=True),
]
"""Caches in Redis, awaiting."""

SYNC = [
    Subject(RAW, by_hand),
    Subject(OURS, ours),
    Subject("dogpile.cache", dogpile, "dogpile"),
    Subject("dogpile.cache lock", dogpile_locked, "dogpile", locks=True),
]
"""Caches in Redis, blocking."""

TIERS = [
    Subject("Cache(local_ttl=5)", ours_in_two_tiers),
    Subject("cashews client_side", cashews_client_side, "cashews"),
]
"""Caches with copies in memory, awaiting."""

MEMORY_ASYNC = [
    Subject(BARE, undecorated),
    Subject(OURS, ours),
    Subject("async-lru", in_async_lru, "async_lru"),
    Subject("theine", in_theine, "theine"),
    Subject("aiocache", aiocache, "aiocache"),
    Subject("fastapi-cache2", fastapi_cache, "fastapi_cache"),
    Subject("cashews", cashews, "cashews"),
]
"""Caches in memory, awaiting."""

MEMORY_SYNC = [
    Subject(BARE, undecorated),
    Subject(OURS, ours),
    Subject("functools.lru_cache", in_lru_cache),
    Subject("theine", in_theine, "theine"),
    Subject("dogpile.cache", dogpile, "dogpile"),
]
"""Caches in memory, blocking."""

DOWN = [Subject(BARE, undecorated), Subject(OURS, ours), Subject("a copy in memory that is due", ours_due)]
"""What is called while Redis is known to be away."""
