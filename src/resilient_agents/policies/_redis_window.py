"""One sliding window that several processes share, and what each does by itself while Redis is lost."""

from math import ceil, inf
from threading import Lock, Thread
from typing import NamedTuple

from resilient_agents._clock import clock
from resilient_agents.policies._redis import Link
from resilient_agents.policies._redis_scripts import WINDOW
from resilient_agents.policies._window import Window

_FIRST_PAUSE = 1.0
"""Time in seconds before the first new look at a Redis that is lost."""

_A_ROUNDING_ERROR = 1e-6

_HOWEVER_LONG, _BOOK_NOTHING = -1, -2
_NO_PARK = -1
_NOTHING_BOOKED = 0


class Turn(NamedTuple):
    """A start.

    Attributes:
        granted: Whether it was booked.
        wait: Time in seconds until then.
        begins: When that is, on the monotonic clock of this process.
        start: The same in whole microseconds on Redis's clock; 0 if this process decided.
        parked: Whether a server's demand dictates the wait.
    """

    granted: bool
    wait: float
    begins: float
    start: int
    parked: bool


class SharedWindow:
    """The window of one key.

    Args:
        limit: How many starts are allowed in all processes together.
        per: The length of the window in seconds.
        key: What is limited.
        redis: The address or a client.
        timeout: Time in seconds for each step on the socket.
        local_limit: How many starts this process allows itself while Redis is lost.
        name: What events call the limiter.
    """

    def __init__(
        self,
        limit: int,
        per: float,
        *,
        key: str,
        redis: object,
        timeout: float,
        local_limit: int,
        name: str,
    ) -> None:
        self.link = Link(
            redis,
            WINDOW,
            timeout=timeout,
            first_pause=_FIRST_PAUSE,
            policy="limiter",
            name=name,
            feature="RedisRateLimiter",
        )
        self._keys = tuple(f"resilient-agents:limiter:{{{key}}}:{part}" for part in ("starts", "parked"))
        self._rule = limit, ceil(per * 1e6)
        self._local = Window(local_limit, per)
        self._told_until = -inf
        self._renew_lock()

    def renew(self) -> None:
        """Begin anew in a forked child, with no socket and no lock of the parent's."""
        self.link.renew()
        self._renew_lock()

    def _renew_lock(self) -> None:
        self._lock = Lock()
        self._on_errand = False

    def ask(self, within: float, before: Turn | None) -> Turn | None:
        """Let Redis decide: one round trip. *None* if it is lost, which may be since the caller looked.

        Args:
            within: The longest wait in seconds for which a start is booked.
            before: The start that the caller has waited for, if he has; it is his unless it is parked by now.

        Raises:
            Exception: Whatever the client raises. Redis is lost then.
        """
        if not self.link.up:
            return None
        now, park, until = self._untold_park()
        booked = before.start if before else _NOTHING_BOOKED
        patience = _HOWEVER_LONG if within == inf else int(within * 1e6)
        try:
            answer = self.link.call(self._keys, (*self._rule, patience, park, booked))
        except Exception as exc:
            self.link.lost(exc)
            raise
        granted, wait, start, parked = answer
        turn = Turn(bool(granted), wait / 1e6, now + wait / 1e6, start, bool(parked))
        with self._lock:
            self._told_until = max(self._told_until, until)
            if granted and not booked:
                self._local.note(turn.begins)
            if parked and self._local.park(turn.begins):  # a park outlives the loss of Redis
                self._told_until = max(self._told_until, turn.begins)
        return turn

    def decide(self, within: float, before: Turn | None) -> Turn:
        """Decide as this process alone, in the same way, and have somebody look whether Redis is back."""
        if self.link.due():
            self._send_errand()
        with self._lock:
            now, parked_until = clock().monotonic(), self._local.parked_until
            if before and before.begins >= parked_until - _A_ROUNDING_ERROR:
                return Turn(True, 0.0, before.begins, before.start, parked=False)
            wait = self._local.book(now, within)
            parked = wait <= parked_until - now + _A_ROUNDING_ERROR
            return Turn(wait <= within, wait, now + wait, 0, parked)

    def park(self, seconds: float) -> bool:
        """Let nobody start for *seconds*, here and in all other processes; tell whether that is news."""
        with self._lock:
            news = self._local.park(clock().monotonic() + seconds)
        if news and (self.link.up or self.link.due()):
            self._send_errand()
        return news

    def _untold_park(self) -> tuple[float, int, float]:
        """Return the time, the park in microseconds that Redis does not know of, and its end."""
        with self._lock:
            now, until = clock().monotonic(), self._local.parked_until
            untold = until > max(now, self._told_until)
            return now, ceil((until - now) * 1e6) if untold else _NO_PARK, until

    def _send_errand(self) -> None:
        """Have a thread tell Redis of a park, or look whether it is back; nobody waits for it."""
        with self._lock:
            if self._on_errand:
                return
            self._on_errand = True
        try:
            Thread(target=self._run_errand, name="resilient-agents-errand", daemon=True).start()
        except RuntimeError:  # no more threads, or the process ends
            self._on_errand = False

    def _run_errand(self) -> None:
        while True:
            until = self._local.parked_until
            park = max(0, ceil((until - clock().monotonic()) * 1e6)) if until > -inf else 0
            try:
                self.link.call(self._keys, (*self._rule, _BOOK_NOTHING, park, _NOTHING_BOOKED))
                self.link.answered()
            except Exception as exc:
                self.link.lost(exc)
            with self._lock:
                if self.link.up:
                    self._told_until = max(self._told_until, until)
                if not self.link.up or self._local.parked_until <= self._told_until:
                    self._on_errand = False
                    return
