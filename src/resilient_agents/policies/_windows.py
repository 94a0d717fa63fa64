"""How the last calls went: of the last so many, or of the last so many seconds."""

from collections import deque
from math import floor, inf
from threading import Lock
from typing import NamedTuple

from resilient_agents._clock import clock

OK, FAILED, SLOW = 0, 1, 2
"""How a call ended, as bits: a failure may be slow too."""

BUCKETS = 10
"""In how many steps a time window moves on."""

MOST_PENDING = 256
"""After how many calls a time window adds up, so that its memory is bounded."""


class Counts(NamedTuple):
    """How many calls a window holds, and how many of them failed or were slow."""

    calls: int
    failed: int
    slow: int

    @property
    def failure_rate(self) -> float:
        """What part of the calls failed, from 0 to 1."""
        return self.failed / self.calls if self.calls else 0.0

    @property
    def slow_rate(self) -> float:
        """What part of the calls was slow, from 0 to 1."""
        return self.slow / self.calls if self.calls else 0.0


def count(outcomes: "deque[int]") -> Counts:
    """Add up outcomes that nobody changes meanwhile."""
    both = outcomes.count(FAILED | SLOW)
    return Counts(len(outcomes), outcomes.count(FAILED) + both, outcomes.count(SLOW) + both)


class CountWindow(deque[int]):
    """The last so many calls.

    A ring that drops the oldest outcome for each new one. Appending to it is one step that no thread can
    interrupt, so that recording needs no lock.
    """

    record = deque.append

    def counts(self) -> Counts:
        """Add up what is in the window now."""
        return count(self.copy())

    def renew_lock(self) -> None:
        """Do nothing: there is none."""


class TimeWindow:
    """The calls of the last so many seconds.

    It moves on in steps of a tenth of its length, and holds the step under way and the nine before it.
    Outcomes of the step under way are appended, which needs no lock, and added up at its end.

    Args:
        seconds: Length of the window in seconds.
    """

    __slots__ = ("_ends", "_lock", "_pending", "_step", "_steps", "_width")

    def __init__(self, seconds: float) -> None:
        self._width = seconds / BUCKETS
        self._lock = Lock()
        self._pending: deque[int] = deque()
        self._steps: dict[int, Counts] = {}
        self._step = 0
        self._ends = -inf

    def record(self, outcome: int) -> None:
        """Add an outcome to the step under way."""
        if clock().monotonic() >= self._ends or len(self._pending) >= MOST_PENDING:
            self._add_up()
        self._pending.append(outcome)

    def counts(self) -> Counts:
        """Add up what is in the window now."""
        with self._lock:
            self._move_on()
            return Counts(*map(sum, zip(*self._steps.values(), strict=True)))

    def renew_lock(self) -> None:
        """Replace a lock that nobody may be left to release."""
        self._lock = Lock()

    def _add_up(self) -> None:
        with self._lock:
            self._move_on()

    def _move_on(self) -> None:
        """Add up the pending outcomes, begin the step that is due, and drop those that are too old."""
        pending = [self._pending.popleft() for _ in range(len(self._pending))]
        before = self._steps.get(self._step, Counts(0, 0, 0))
        self._steps[self._step] = Counts(*map(sum, zip(before, count(deque(pending)), strict=True)))
        self._step = floor(clock().monotonic() / self._width)
        self._ends = (self._step + 1) * self._width
        self._steps.setdefault(self._step, Counts(0, 0, 0))
        for step in [step for step in self._steps if step <= self._step - BUCKETS]:
            del self._steps[step]
