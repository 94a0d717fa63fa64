"""`RedisState`: the circuit breakers of several processes decide together."""

import os
from collections.abc import Sequence
from math import ceil, inf
from random import random
from threading import Event, Lock, Thread, current_thread
from weakref import ReferenceType, WeakSet, ref

from resilient_agents._clock import clock
from resilient_agents.policies._agreement import SHUT, Memory, Message
from resilient_agents.policies._redis import Link, duration, label, whole
from resilient_agents.policies._redis_scripts import AGREEMENT
from resilient_agents.policies._shared import SharedView

_LONGEST_VOTE = 86_400.0
_AT_A_TIME = 100
"""How many targets one message to Redis speaks of."""


class RedisState:
    """Where the circuit breakers of several processes decide together.

    Each process votes for the targets that it holds for down. A target is down for all once enough of the
    processes that call it say so; one process with a bad network cannot shut out the others. When the
    time comes, so many probes as *probes* says are made, by all processes together. If they are good the
    target is up again for all.

    Nothing here waits for Redis: one thread of its own talks to it, and what is asked is answered from
    memory, at most a few *refresh* old. While Redis does not answer, no target is down by agreement: each
    process has its own breaker's word alone.

    Args:
        url_or_client: The address, as in ``redis://localhost/0``, or a blocking ``redis.Redis`` whose
            settings are taken over, but for its timeouts and retries.
        prefix: What the names of the keys begin with. Processes with the same prefix decide together.
        quorum: What part of the processes that call a target must hold it for down, more than 0 and at
            most 1. The default is 0.5: with three processes two of them, with one itself.
        minimum_votes: How many must hold it for down at least. The default is 1.
        probes: How many probes are made at a time, and how many of them must be good. The default is 1.
        lease: Time in seconds that a process has for a probe, before another one may. The default is 10.
        refresh: Time in seconds between two looks at Redis. The default is 1.0.
        timeout: Time in seconds for each step on the socket. The default is 0.05.
        name: What events call it. The default is an empty text.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        TypeError: A parameter is of a wrong type.
        ValueError: A parameter is out of range, or the address cannot be read.
    """

    def __init__(
        self,
        url_or_client: object,
        *,
        prefix: str = "resilient-agents",
        quorum: float = 0.5,
        minimum_votes: int = 1,
        probes: int = 1,
        lease: float = 10.0,
        refresh: float = 1.0,
        timeout: float = 0.05,
        name: str = "",
    ) -> None:
        if not 0 < quorum <= 1:
            raise ValueError(
                f"quorum must be more than 0 and at most 1, a part of the processes, not {quorum!r}"
            )
        self.prefix = label("prefix", prefix)
        self.quorum = quorum
        self.minimum_votes = whole("minimum_votes", minimum_votes, "votes")
        self.probes = whole("probes", probes, "probes")
        self.lease = duration("lease", lease)
        self.refresh = duration("refresh", refresh)
        self.timeout = duration("timeout", timeout)
        self.name = name
        self._link = Link(
            url_or_client,
            AGREEMENT,
            timeout=timeout,
            first_pause=refresh,
            policy="breaker",
            name=name,
            feature="RedisState",
        )
        self._closed = False
        self._renew()
        _states.add(self)

    def __repr__(self) -> str:
        return f"RedisState(prefix={self.prefix!r}, quorum={self.quorum})"

    def _renew(self) -> None:
        self._node = os.urandom(8).hex()
        self._memory = Memory()
        self._lock = Lock()
        self._wake = Event()
        self._thread: Thread | None = None

    def vote(self, key: str, open_for: float) -> None:
        """Say that this process holds a target for down. Never waits and never raises.

        Args:
            key: The target.
            open_for: Time in seconds for which the vote counts, and after which the target is probed.
        """
        if open_for > 0:
            self._follow(key)
            self._memory.vote(key, clock().monotonic() + min(open_for, _LONGEST_VOTE))
            self._wake.set()

    def state(self, key: str) -> SharedView:
        """Return what the processes agree on about a target, from memory.

        Args:
            key: The target.

        Returns:
            Whether it is down, and the time in seconds until it is probed. While Redis does not answer, and
            after `close`, no target is.
        """
        if key not in self._memory:
            self._follow(key)
            return SHUT
        return self._memory.view(key, clock().monotonic())

    def lease_probe(self, key: str) -> bool:
        """Tell whether this process may probe a target now, from memory.

        The first *False* asks for a lease, which is there a moment later unless other processes hold all.

        Args:
            key: The target.
        """
        leased, news = self._memory.take_lease(key, clock().monotonic())
        if news:
            self._wake.set()
        return leased

    def report_probe(self, key: str, ok: bool) -> None:
        """Say how a probe ended that `lease_probe` allowed. Never waits and never raises.

        Args:
            key: The target.
            ok: Whether it answered as it should.
        """
        if self._memory.end_probe(key, ok):
            self._wake.set()

    def close(self) -> None:
        """Leave the other processes, and tell them if Redis answers.

        From now on no target is down by agreement, and nothing is passed on.
        """
        with self._lock:
            self._closed, thread = True, self._thread
        self._memory.good_until = -inf
        self._wake.set()
        if thread is not None and thread is not current_thread():
            thread.join(self.timeout * 4)

    def _follow(self, key: str) -> None:
        """Take part in the decisions about *key* from now on."""
        if self._memory.follow(key):
            self._wake.set()
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            thread = Thread(target=_work, args=(ref(self),), name=f"{self.prefix}-shared-state", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the process ends: it decides by itself
                return
            self._thread = thread

    def _exchange(self) -> float | None:
        """Talk to Redis if it is time to. Return the seconds until the next time, *None* for never."""
        self._wake.clear()
        now = clock().monotonic()
        messages = self._memory.messages(now)
        if self._closed:
            self._take_leave(messages, now)
            return None
        if not self._link.up and not self._link.due():
            return self._link.retry_at - now
        if not messages:
            return self.refresh
        try:
            for place in range(0, len(messages), _AT_A_TIME):
                group = messages[place : place + _AT_A_TIME]
                answers = self._tell(group, now, alive=3 * self.refresh + 2 * self.timeout)
                self._memory.learn(group, answers, clock().monotonic())
        except Exception as exc:
            self._memory.good_until = -inf
            self._link.lost(exc)
            return self._link.retry_at - now
        self._memory.good_until = now + 3 * self.refresh + 2 * self.timeout
        self._link.answered()
        return self.refresh * (1 - random() / 10)  # noqa: S311 - a wait is no secret

    def _tell(self, messages: Sequence[Message], now: float, *, alive: float) -> Sequence[Sequence[int]]:
        """Tell Redis what this process has to say, and return what all agree on."""
        keys = [
            f"{{{self.prefix}}}:breaker:{message.key}:{part}"
            for message in messages
            for part in ("state", "nodes", "votes", "leases")
        ]
        said = [argument for message in messages for argument in message.arguments(now)]
        lease = ceil(self.lease * 1000)
        settings = (self._node, ceil(alive * 1000), self.quorum, self.minimum_votes, self.probes, lease)
        answers: Sequence[Sequence[int]] = self._link.call(keys, [*settings, *said])
        return answers

    def _take_leave(self, messages: Sequence[Message], now: float) -> None:
        """Be counted no longer."""
        self._memory.good_until = -inf
        try:
            if self._link.up and messages:
                self._tell(messages[:_AT_A_TIME], now, alive=0)
        except Exception as exc:
            self._link.lost(exc)
        self._link.close()


def _work(state: ReferenceType[RedisState]) -> None:
    """Talk to Redis for as long as the state is in use, and keep it alive no longer than that."""
    while (worker := state()) is not None:
        wait, wake = worker._exchange(), worker._wake
        if wait is None:
            return
        del worker
        wake.wait(max(0.001, wait))


_states: WeakSet[RedisState] = WeakSet()


def _begin_anew() -> None:
    """Make a forked child a process of its own: with its own vote, thread, locks and sockets."""
    for state in list(_states):
        state._link.renew()
        state._renew()


os.register_at_fork(after_in_child=_begin_anew)
