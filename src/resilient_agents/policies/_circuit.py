"""The states of a circuit breaker, and what leads from one to the other."""

from collections.abc import Callable
from math import inf
from random import random
from threading import RLock
from typing import Any, Literal, TypeAlias

from resilient_agents import events
from resilient_agents._clock import clock
from resilient_agents.errors import CircuitOpen
from resilient_agents.policies._breaker_settings import Settings
from resilient_agents.policies._gate import Gate
from resilient_agents.policies._probation import Probation, Probe
from resilient_agents.policies._shared import SharedView
from resilient_agents.policies._verdicts import NOTHING, verdict
from resilient_agents.policies._windows import OK, SLOW, Counts, CountWindow, TimeWindow

State: TypeAlias = Literal["closed", "open", "half_open"]

Permit: TypeAlias = Callable[[int], object]
"""What lets a call in; it is called with how the call ended. In a closed breaker it is the window's own
method, so that a call which began in an earlier state counts in a window at which nobody looks any more."""

News: TypeAlias = tuple[type[events.PolicyEvent], dict[str, Any]]
"""An event to be emitted once the lock is free, for its subscribers may ask the breaker."""

_JITTER = 0.1
"""How much later than said a breaker is probed at most, as a part of the time: not all processes at once."""


def _uncounted(outcome: int) -> None:
    """Let a call pass that is not counted."""


class Circuit(Gate):
    """The machinery of `CircuitBreaker`.

    Args:
        settings: What the user said.
    """

    kind = "breaker"

    def __init__(self, settings: Settings) -> None:
        self.name = settings.name
        self._settings = settings
        self._enforced = settings.mode == "enforce"
        # What an observer finds out must not open the breakers of others.
        self._partners = settings.shared if self._enforced else None
        self._agreed = False
        self._forced = False
        self._last = Counts(0, 0, 0)
        self._why = ""
        self._until = 0.0
        # Reentrant: a call that nobody awaits any more is collected as garbage, and leaves, at any moment.
        self._lock = RLock()
        self._slowest = inf if settings.slow_call is None else settings.slow_call
        if settings.slow_call is not None:
            self.try_enter = self._enter_timed  # type: ignore[method-assign]
            self.leave = self._leave_timed  # type: ignore[method-assign]
        self._enter_state("closed")

    def try_enter(self) -> Permit:
        """Let a call in, or refuse it.

        Returns:
            A permit for `leave`.

        Raises:
            CircuitOpen: The breaker is open, or enough probes are under way.
        """
        record = self._record
        return self._knock() if record is None else record

    def leave(self, permit: Permit, exc: BaseException | None) -> None:
        """Hear how a call ended that was let in. Never raises and never waits."""
        if exc is None:
            permit(OK)
        else:
            self._note(permit, verdict(exc, self._settings.counts))

    def _enter_timed(self) -> Any:
        """Let a call in whose time counts: `try_enter` of a breaker that looks at slow calls."""
        record = self._record
        return (self._knock() if record is None else record), clock().monotonic()

    def _leave_timed(self, permit: Any, exc: BaseException | None) -> None:
        """Hear how a call ended whose time counts: `leave` of a breaker that looks at slow calls."""
        record, started = permit
        quick = clock().monotonic() - started < self._slowest
        if quick and exc is None:
            record(OK)
            return
        outcome = OK if exc is None else verdict(exc, self._settings.counts)
        self._note(record, outcome if quick or outcome == NOTHING else outcome | SLOW)

    def _note(self, permit: Permit, outcome: int) -> None:
        if isinstance(permit, Probe):
            permit(outcome)
        elif outcome != NOTHING:
            permit(outcome)
            self._judge(permit)

    def _judge(self, record: Permit) -> None:
        """Open if too many of the last calls failed or were slow."""
        with self._lock:
            # Only the window in use is judged: any other belongs to an earlier state.
            if getattr(record, "__self__", None) is not self._window or self._state != "closed":
                return
            counts = self._window.counts()
            reason = self._reason_to_open(counts)
            if reason is None:
                return
            wait = self._draw_wait()
            news = self._open(wait, reason, counts, self._in_words(reason, counts))
        if self._partners is not None:
            self._partners.vote(self.name, wait)
        self._tell(news)

    def _reason_to_open(self, counts: Counts) -> str | None:
        settings = self._settings
        if counts.calls < settings.minimum_calls:
            return None
        if counts.failure_rate >= settings.failure_rate:
            return "failures"
        if settings.slow_call is not None and counts.slow_rate >= settings.slow_rate:
            return "slow"
        return None

    def _in_words(self, reason: str, counts: Counts) -> str:
        if reason == "failures":
            return f"{counts.failed} of the last {counts.calls} calls failed"
        return f"{counts.slow} of the last {counts.calls} calls took {self._settings.slow_call:g} s or more"

    def _draw_wait(self) -> float:
        return self._settings.open_for * (1 + _JITTER * random())  # noqa: S311 - a wait is no secret

    def _knock(self) -> Permit:
        """Let a call in that does not simply pass: it is timed, the state is shared, or it is not closed."""
        shared = self._settings.shared
        view = None if shared is None or self._forced else shared.state(self.name)
        if self._state == "closed" and not (view is not None and view.open):
            return self._closed_permit()
        now = clock().monotonic()
        news: list[News] = []
        with self._lock:
            if not self._forced:
                self._agree(now, view, news)
            permit, wait = self._admit(now, view, news)
        for each in news:
            self._tell(each)
        return self._refuse(wait) if permit is None else permit

    def _closed_permit(self) -> Permit:
        if self._forced:
            return _uncounted
        return self._window.record

    def _agree(self, now: float, view: SharedView | None, news: list[News]) -> None:
        """Follow what the processes agree on."""
        if view is not None and view.open:
            self._agreed = True
            if self._state == "closed":
                counts = self._window.counts()
                news.append(self._open(view.wait, "shared", counts, "other processes found it down"))
        elif self._agreed and view is not None and not view.known:
            self._agreed = False  # from now on by ourselves: it stays open for as long as was said
        elif self._agreed:
            news.append(self._close())

    def _admit(
        self, now: float, view: SharedView | None, news: list[News]
    ) -> tuple[Permit | None, float | None]:
        """Return a permit, or *None* and the seconds until there may be one."""
        if self._state == "closed":
            return self._closed_permit(), None
        if self._forced:
            return None, None
        wait = self._until - now if self._state == "open" else 0.0
        if view is not None and view.open:
            wait = max(wait, view.wait)
        if wait > 0:
            return None, wait
        if self._state == "half_open" and not self._probation.has_room(now):
            return None, None
        if self._agreed and (self._partners is None or not self._partners.lease_probe(self.name)):
            return None, None
        if self._state == "open":
            self._enter_state("half_open")
            news.append((events.BreakerHalfOpened, {}))
        return self._probation.begin(now, self._settle), None

    def _settle(self, probe: Probe, outcome: int) -> None:
        """Hear how a probe ended."""
        news = None
        with self._lock:
            if probe.probation is not self._probation:
                return
            self._probation.end(probe)
            if outcome == NOTHING:
                return
            ok = outcome == OK
            agreed, wait = self._agreed, self._draw_wait()
            if not ok:
                news = self._open(wait, "probe", self._last, "a probe of its target failed")
            elif self._probation.passes() and not agreed:
                news = self._close()
        if self._partners is not None:
            if agreed:
                self._partners.report_probe(self.name, ok)
            elif not ok:
                self._partners.vote(self.name, wait)
        self._tell(news)

    def _refuse(self, wait: float | None) -> Permit:
        """Refuse a call, unless the breaker only observes."""
        events.emit(events.CallRefused, policy="breaker", name=self.name, wait=wait)
        if not self._enforced:
            return _uncounted
        if self._forced:
            when = ""
        elif wait is None:
            when = "; it is being probed now"
        else:
            when = f"; it is probed in {wait:.1f} s"
        name = f" {self.name!r}" if self.name else ""
        raise CircuitOpen(
            f"circuit breaker{name} is open and nothing was sent: {self._why}{when}", retry_after=wait
        )

    def _open(self, wait: float, reason: str, counts: Counts, why: str) -> News:
        """Open, with the lock held; *why* completes the message of those who are refused."""
        self._enter_state("open")
        self._until = clock().monotonic() + wait
        self._last = counts
        self._why = why
        attributes = {
            "wait": wait,
            "failure_rate": counts.failure_rate,
            "slow_rate": counts.slow_rate,
            "reason": reason,
            "enforced": self._enforced,
        }
        return events.BreakerOpened, attributes

    def _close(self) -> News:
        """Close with an empty window, with the lock held."""
        self._enter_state("closed")
        return events.BreakerClosed, {}

    def _enter_state(self, state: State) -> None:
        """Begin a new state, in which nothing counts that began in the one before."""
        settings = self._settings
        self._state: State = state
        self._window: CountWindow | TimeWindow = (
            CountWindow(maxlen=settings.window)
            if settings.window_seconds is None
            else TimeWindow(settings.window_seconds)
        )
        self._probation = Probation(settings.probes, settings.open_for)
        if state == "closed":
            self._agreed = False
        simple = state == "closed" and settings.shared is None and not self._forced
        self._record: Permit | None = self._window.record if simple else None

    def _tell(self, news: News | None) -> None:
        if news is not None:
            events.emit(news[0], policy="breaker", name=self.name, **news[1])

    def _renew_locks(self) -> None:
        self._lock = RLock()
        self._window.renew_lock()
