"""`RedisStore`: what processes share of a cache, in a Redis that may be slow, full, hung or gone."""

import asyncio
import json
import os
import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from resilient_agents._flow import arun, run
from resilient_agents.cache._redis_cluster import ClusterWires
from resilient_agents.cache._redis_dialer import CONNECT_PATIENCE, Dialer
from resilient_agents.cache._redis_listener import Listener
from resilient_agents.cache._redis_operations import Operations, changes, deliver
from resilient_agents.cache._redis_outage import WRITES_REFUSED, Kept, Outage
from resilient_agents.cache._redis_wire import Closed, Refusal, pack
from resilient_agents.cache._redis_wires import Exchange, Part, Wires

if TYPE_CHECKING:
    from resilient_agents.cache.store import Half

__all__ = ["RedisStore"]

_A_SWEEP = 1000


class RedisStore:
    """What processes share of a cache, in Redis.

    Whatever state Redis is in, an operation answers within its time or raises `StoreUnavailable`. A breaker
    stands in front of every operation: once callers have lost a whole *budget*, nobody asks Redis any more,
    until a thread in the background has found that it answers, and has delivered the invalidations that it
    missed.

    Threads use a pool of connections, tasks one connection for each event loop. They are made when they are
    first needed, with the settings of *redis*, but without its retries and timeouts. A client that is given
    stays as it is, and none of its connections is used. In a cluster this holds for each of its masters.

    Args:
        redis: The address, as in ``redis://localhost/0``, or a client of redis-py: ``Redis``, blocking or
            awaiting, a blocking one of a Sentinel, or a ``RedisCluster``.
        prefix: What the names of this cache begin with; names its channel, and the cache in events. The
            default is ``"cache"``.
        budget: Time in seconds that callers may lose to a Redis that does not answer before it is left
            alone. The default is 0.05.
        longest_pause: Time in seconds that the pauses between two looks at a lost Redis grow to, from 0.1.
            The default is 5.0.
        max_connections: How many connections the threads of this process open at most. Who finds all of them
            in use waits for one. The default is 100.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        TypeError: *redis* is neither an address nor a client that can be used.
        ValueError: A parameter is out of range, or the address cannot be read.
    """

    def __init__(
        self,
        redis: object,
        *,
        prefix: str = "cache",
        budget: float = 0.05,
        longest_pause: float = 5.0,
        max_connections: int = 100,
    ) -> None:
        for name, seconds in (("budget", budget), ("longest_pause", longest_pause)):
            if not 0 < seconds < inf:
                raise ValueError(f"{name} must be a time of more than 0 seconds, not {seconds!r}")
        if max_connections < 1:
            raise ValueError(f"max_connections must be 1 or more, not {max_connections!r}")
        self.prefix = prefix
        self._budget = budget
        dialer = Dialer(redis)
        kind = ClusterWires if dialer.is_cluster else Wires
        self._outage = Outage(prefix, dialer.where, budget, longest_pause, self._look, self._let_go)
        self.usable = self._outage.usable
        """Tell without any waiting whether Redis is asked at all."""
        self._source = secrets.token_hex(8)
        self._channel = f"{prefix}:invalidations"
        self._listener: Listener | None = None
        self._wires = kind(dialer, max_connections, self._outage.missed)
        operations = Operations(self._outage, self._announcement, clustered=kind.clustered)
        self._blocking, self._awaiting = BlockingHalf(operations), AwaitingHalf(operations)
        self.blocking: Half = self._blocking
        self.awaiting: Half = self._awaiting
        self._forgotten: finalize[Any, Any] = finalize(self, int)
        self._connect(self._wires)
        _stores.add(self)

    def __repr__(self) -> str:
        return f"RedisStore({self._wires.where!r}, prefix={self.prefix!r})"

    def postpone(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float) -> None:
        """Keep an invalidation that could not be delivered, and deliver it before anything is read again.

        Args:
            keys: Entries that must go.
            marks: Marks that must be written, by name.
            ttl: Time in seconds for which an entry that should be gone could live.
        """
        self._outage.postpone(keys, marks, ttl)

    def listen(self, heard: Callable[[Sequence[str] | None], None]) -> None:
        """Have a thread call *heard* with the names that another process has invalidated or written.

        Args:
            heard: Takes the names, or *None* where messages may have been missed. It must be quick.
        """
        if self._listener is not None:
            self._listener.close()
        self._listener = Listener(self._wires.dial, self._channel, self._source, heard)

    def close(self) -> None:
        """Close the connections and end the threads. What is asked afterwards is refused."""
        self._outage.close()
        if self._listener is not None:
            self._listener.close()
        self._let_go()

    async def aclose(self) -> None:
        """Close the connections, those of the running loop at once, and end the threads."""
        self.close()
        self._wires.leave()

    def _connect(self, wires: Wires) -> None:
        self._wires = wires
        # Whoever forgets to close a store leaves no socket open; in a child the sockets are its parent's.
        self._forgotten.detach()
        self._forgotten = finalize(self, wires.let_go, Closed())
        self._forgotten.atexit = False
        self._blocking.exchange, self._awaiting.exchange = wires.exchange, wires.aexchange

    def _let_go(self) -> None:
        """Close all connections; new ones may lead to another server."""
        reads = self._outage.reads
        self._wires.let_go(Closed() if reads else ConnectionError("Redis is left alone"))

    def _look(self, kept: Kept, anew: bool) -> bool:
        """Deliver what was *kept*, see whether Redis answers in time, and tell whether it takes writes.

        Where it is back, be it from a loss or from refusing writes, everybody gets new connections.

        Raises:
            Exception: It is not back.
        """
        if not anew:
            return self._catch_up(self._wires.exchange, kept)
        fresh = self._wires.fresh()
        try:
            writes = self._catch_up(fresh.exchange, kept)
        except BaseException:
            fresh.close()
            raise
        if writes or not self._outage.reads:
            self._let_go()
            fresh.adopt()
        else:
            fresh.close()
        return writes

    def _catch_up(self, exchange: Exchange, kept: Kept) -> bool:
        if kept.everything:
            self._remove_everything(exchange)
        deliver(exchange, changes(kept.keys, kept.marks), CONNECT_PATIENCE)
        if kept.keys or kept.marks:
            exchange([self._announcement([*kept.keys, *kept.marks])], CONNECT_PATIENCE)
        takes = [self._takes_writes(exchange, name) for name in self._wires.probes(self.prefix)]
        return all(takes)

    def _takes_writes(self, exchange: Exchange, name: bytes) -> bool:
        (answer,) = exchange([(name, pack("GET", name))], self._budget)
        if isinstance(answer, Refusal):
            raise answer
        (answer,) = exchange([(name, pack("SET", name, "", "PX", 1000))], self._budget)
        if isinstance(answer, Refusal) and answer.code not in WRITES_REFUSED:
            raise answer
        return not isinstance(answer, Refusal)

    def _remove_everything(self, exchange: Exchange) -> None:
        """Remove all entries: more was invalidated than could be kept."""
        pattern = "".join(f"\\{it}" if it in "*?[]^-\\" else it for it in self.prefix) + ":*"
        for server in self._wires.probes(self.prefix):
            cursor: Any = None
            while cursor != b"0":
                command = pack("SCAN", cursor or "0", "MATCH", pattern, "COUNT", _A_SWEEP)
                (answer,) = exchange([(server, command)], CONNECT_PATIENCE)
                if isinstance(answer, Refusal):
                    raise answer
                cursor, names = answer
                deliver(exchange, [(name, pack("UNLINK", name)) for name in names], CONNECT_PATIENCE)

    def _announcement(self, names: Sequence[str]) -> Part:
        message = json.dumps({"from": self._source, "names": list(names)}, separators=(",", ":"))
        return self._channel.encode(), pack("PUBLISH", self._channel, message)

    def _begin_anew(self) -> None:
        """Share no socket and no thread with the parent process."""
        self._connect(self._wires.anew())
        self._source = secrets.token_hex(8)
        if self._listener is not None:
            self._listener = self._listener.anew(self._source)


class BlockingHalf:
    """The operations, for threads."""

    exchange: Exchange

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def get(self, names: Sequence[str], within: float) -> list[bytes | None]:
        """Return the values of *names*."""
        return run(self._operations.get(self.exchange, names, within))

    def claim(
        self, names: Sequence[str], token: str, seconds: float, within: float, *, take_over: bool = False
    ) -> tuple[bool, list[bytes | None]]:
        """Take the lease on filling the first of *names*, for *seconds*, and look again."""
        return run(self._operations.claim(self.exchange, names, token, seconds, within, take_over))

    def fill(self, key: str, value: bytes, ttl: float, token: str, within: float) -> bool:
        """Store what was loaded under the lease *token*; return whether it was stored."""
        return run(self._operations.fill(self.exchange, key, value, ttl, token, within))

    def release(self, key: str, token: str, within: float) -> None:
        """End the lease *token* without a value."""
        run(self._operations.release(self.exchange, key, token, within))

    def put(self, key: str, value: bytes, ttl: float, within: float) -> None:
        """Write *value*, and void any lease."""
        run(self._operations.put(self.exchange, key, value, ttl, within))

    def invalidate(self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float) -> None:
        """Remove *keys*, void their leases, and write marks."""
        run(self._operations.invalidate(self.exchange, keys, marks, ttl, within))


class AwaitingHalf:
    """The operations, for tasks."""

    exchange: Exchange

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def get(self, names: Sequence[str], within: float) -> list[bytes | None]:
        """Return the values of *names*."""
        return await arun(self._operations.get(self.exchange, names, within))

    async def claim(
        self, names: Sequence[str], token: str, seconds: float, within: float, *, take_over: bool = False
    ) -> tuple[bool, list[bytes | None]]:
        """Take the lease on filling the first of *names*, for *seconds*, and look again."""
        return await arun(self._operations.claim(self.exchange, names, token, seconds, within, take_over))

    async def fill(self, key: str, value: bytes, ttl: float, token: str, within: float) -> bool:
        """Store what was loaded under the lease *token*; return whether it was stored."""
        return await arun(self._operations.fill(self.exchange, key, value, ttl, token, within))

    async def release(self, key: str, token: str, within: float) -> None:
        """End the lease *token* without a value."""
        await arun(self._operations.release(self.exchange, key, token, within))

    async def put(self, key: str, value: bytes, ttl: float, within: float) -> None:
        """Write *value*, and void any lease. It is done even if who asked is cancelled meanwhile."""
        await _to_the_end(arun(self._operations.put(self.exchange, key, value, ttl, within)))

    async def invalidate(
        self, keys: Sequence[str], marks: Mapping[str, bytes], ttl: float, within: float
    ) -> None:
        """Remove *keys*, void their leases, and write marks, even if who asked is cancelled meanwhile."""
        await _to_the_end(arun(self._operations.invalidate(self.exchange, keys, marks, ttl, within)))


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Do *work* in a task that no cancellation of the caller reaches."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(_look_at)
    await asyncio.shield(task)


def _look_at(task: "asyncio.Task[None]") -> None:
    """Look at how a task ended that perhaps nobody waits for any more."""
    if not task.cancelled():
        task.exception()


_stores: WeakSet[RedisStore] = WeakSet()


def _begin_anew() -> None:
    """Make a forked child a process of its own."""
    for store in list(_stores):
        store._begin_anew()


os.register_at_fork(after_in_child=_begin_anew)
