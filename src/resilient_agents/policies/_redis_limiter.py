"""`RedisRateLimiter`: never more than so many starts in any stretch of time, in all processes together."""

import os
from contextlib import suppress
from functools import partial
from math import inf
from weakref import WeakSet

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import ApiError, Category, DeadlineExceeded, LimitReached, Origin, classify
from resilient_agents.policies._deadline import check, remaining
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._redis import duration, label, whole
from resilient_agents.policies._redis_window import SharedWindow, Turn
from resilient_agents.policies._waiting import AWAITING, BLOCKING, Waiting, pause
from resilient_agents.policies._waits import note_wait


class RedisRateLimiter(Gate):
    """Never more than *limit* starts in any *per* seconds, in all processes together.

    The window slides, and is exact on Redis's own clock: the next start begins *per* seconds after the
    oldest of the last *limit* starts at the earliest, first come, first served. Each call costs one round
    trip. It is a decorator, a ``with`` block, and has `acquire` and `aacquire`::

        kommo = RedisRateLimiter(7, key="kommo", redis="redis://localhost/0")

        @kommo
        async def fetch_deal(deal_id): ...

    When a dependency answers 429 and names a time, every caller in every process waits for it.

    When Redis does not answer within *timeout*, this process decides by itself, with a window of
    *local_limit*, and no caller waits for Redis until it is back. Redis is looked for in the background.

    Starts are counted when they are booked. Who is cancelled while he waits leaves his start unused.

    Args:
        limit: How many starts are allowed in all processes together, 1 or more.
        per: The length of the window in seconds. The default is 1.0.
        key: What is limited. All limiters of one key must have the same *limit* and *per*.
        redis: The address, as in ``redis://localhost/0``, or a blocking ``redis.Redis`` whose settings are
            taken over, but for its timeouts and retries.
        timeout: Time in seconds for each step on the socket. The default is 0.05.
        local_limit: How many starts this process allows itself while Redis does not answer, *limit* at most.
            The default is *limit*; divide it by the number of processes if the other side is strict.
        max_wait: The longest wait in seconds that a call accepts; 0 refuses whatever may not start at once.
            The default is *None*: as long as the deadline allows.
        name: What events and messages call it. The default is *key*.

    Raises:
        MissingExtra: The package ``redis`` is not installed.
        TypeError: A parameter is of a wrong type.
        ValueError: A parameter is out of range, or the address cannot be read.
    """

    kind = "limiter"

    def __init__(
        self,
        limit: int,
        *,
        per: float = 1.0,
        key: str,
        redis: object,
        timeout: float = 0.05,
        local_limit: int | None = None,
        max_wait: float | None = None,
        name: str = "",
    ) -> None:
        self.limit = whole("limit", limit, "starts")
        self.per = duration("per", per)
        self.key = label("key", key)
        self.local_limit = limit if local_limit is None else whole("local_limit", local_limit, "starts")
        if self.local_limit > limit:
            raise ValueError(
                f"local_limit is for one process and limit for all: {local_limit} is more than {limit}"
            )
        if max_wait is not None and not max_wait >= 0:
            raise ValueError(f"max_wait must be 0 or more seconds, or None, not {max_wait!r}")
        self.max_wait = max_wait
        self.name = name or key
        self._window = SharedWindow(
            limit,
            per,
            key=key,
            redis=redis,
            timeout=duration("timeout", timeout),
            local_limit=self.local_limit,
            name=self.name,
        )
        _limiters.add(self)

    def __repr__(self) -> str:
        return f"RedisRateLimiter({self.limit}, per={self.per}, key={self.key!r})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        wait = "waits for its start" if self.max_wait is None else f"waits {self.max_wait:g} s for its start"
        return (
            f"at most {self.limit} starts in any {self.per:g} s, in all processes together; a call {wait}, "
            f"and while Redis does not answer {self.local_limit} are for this process"
        )

    def acquire(self) -> None:
        """Block the thread until it may start.

        Raises:
            LimitReached: The start lies further off than *max_wait*. Nothing was booked.
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
        """
        if self.try_enter() is None:
            run(self.enter(BLOCKING))

    async def aacquire(self) -> None:
        """Suspend the task until it may start.

        Raises:
            LimitReached: The start lies further off than *max_wait*. Nothing was booked.
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
        """
        if self.try_enter() is None:
            await arun(self.enter(AWAITING))

    def try_acquire(self) -> bool:
        """Book a start if one is free now, and tell whether it was. Blocks for one round trip at most."""
        turn = None
        with suppress(Exception):
            turn = self._window.ask(0.0, None)
        return (turn or self._window.decide(0.0, None)).granted

    def park(self, seconds: float) -> None:
        """Let nobody start for *seconds*, in any process, as a server demands with 429 and ``Retry-After``.

        This process obeys at once; Redis is told in the background, and the other processes obey from then
        on. Those who wait already line up anew. A shorter time never replaces a longer one.

        Args:
            seconds: Time in seconds from now.

        Raises:
            ValueError: *seconds* is negative or no number.
        """
        if not 0 <= seconds < inf:
            raise ValueError(f"callers are parked for 0 or more seconds, not {seconds!r}")
        self._park(seconds)

    def try_enter(self) -> float | None:
        """Return *None*: Redis must be asked. While it is lost, book a start of this process if one is free.

        Raises:
            DeadlineExceeded: The deadline in force has passed.
        """
        if self._window.link.up:
            return None
        check()
        return 0.0 if self._window.decide(0.0, None).granted else None

    def enter(self, waiting: Waiting) -> Flow[float]:
        """Book the next free start and wait for it; for another one if callers were parked meanwhile.

        Returns:
            The start, in seconds on Redis's clock, or 0 if this process decided.

        Raises:
            LimitReached: The start lies further off than *max_wait*. Nothing was booked.
            DeadlineExceeded: The start lies past the deadline in force. Nothing was booked.
        """
        arrived, turn = clock().monotonic(), None
        check()
        while True:
            left = remaining()
            patience = (
                inf if self.max_wait is None else max(0.0, arrived + self.max_wait - clock().monotonic())
            )
            within = patience if left is None else min(patience, left)
            turn = yield from self._next_turn(waiting, within, turn)
            if not turn.granted:
                raise self._refusal(turn.wait, impatient=left is None or turn.wait > patience)
            if not turn.wait:
                return turn.start / 1e6
            self._tell_of_wait(turn)
            yield pause(waiting, turn.wait)

    def _next_turn(self, waiting: Waiting, within: float, before: Turn | None) -> Flow[Turn]:
        """Let Redis decide, or this process where Redis is lost or was when the call booked its start."""
        turn: Turn | None = None
        if before is None or before.start:
            with suppress(Exception):  # the link has told of it
                turn = yield partial(waiting.call, partial(self._window.ask, within, before))
        return turn or self._window.decide(within, before)

    def leave(self, permit: object, exc: BaseException | None) -> None:
        """Park every caller if a dependency says that there were too many, and for how long that is so."""
        if isinstance(exc, Exception):
            failure = classify(exc)
            of_a_dependency = failure.origin is Origin.DEPENDENCY and failure.category is Category.RATE_LIMIT
            if of_a_dependency and failure.retry_after and failure.retry_after < inf:
                self._park(failure.retry_after)

    def _refusal(self, wait: float, *, impatient: bool) -> ApiError:
        """Return the error for a start that lies too far off."""
        events.emit(events.CallRefused, policy="limiter", name=self.name, wait=wait)
        allows = f"{self!r} allows the next start in {wait:.1f} s, which is"
        if impatient:
            return LimitReached(f"{allows} more than the {self.max_wait:g} s of max_wait", retry_after=wait)
        return DeadlineExceeded(f"{allows} past the deadline")

    def _tell_of_wait(self, turn: Turn) -> None:
        dictated_by = "server" if turn.parked else "rate"
        note_wait("limiter", self.name, turn.wait, dictated_by)
        events.emit(
            events.CallWaited, policy="limiter", name=self.name, seconds=turn.wait, dictated_by=dictated_by
        )

    def _park(self, seconds: float) -> None:
        if self._window.park(seconds):
            events.emit(events.CallersParked, policy="limiter", name=self.name, wait=seconds)


_limiters: WeakSet[RedisRateLimiter] = WeakSet()


def _begin_anew() -> None:
    """Give a forked child its own locks and sockets: nobody in it releases what was held."""
    for limiter in list(_limiters):
        limiter._window.renew()


os.register_at_fork(after_in_child=_begin_anew)
