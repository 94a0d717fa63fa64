"""The cache that never hurts: fast while Redis is up, free while it is down.

- `cache`: `Cache`, what you make; `cached`: what a cached function can do; `entity`: things by id;
  `invalidation`: what a function changes is loaded anew; `stats`: how it fares.
- `keys`, `codec`, `encryption`: how a call becomes a key, and a value bytes.
- `store`: what is asked of a store that processes share; `redis`: such a store.
"""

from resilient_agents.cache._entry import MISS, Miss
from resilient_agents.cache.cache import Cache
from resilient_agents.cache.cached import AsyncCached, Cached
from resilient_agents.cache.entity import Entity
from resilient_agents.cache.keys import UnfitKey
from resilient_agents.cache.stats import CacheStats
from resilient_agents.cache.store import Half, Store, StoreUnavailable

__all__ = [
    "MISS",
    "AsyncCached",
    "Cache",
    "CacheStats",
    "Cached",
    "Entity",
    "Half",
    "Miss",
    "Store",
    "StoreUnavailable",
    "UnfitKey",
]
