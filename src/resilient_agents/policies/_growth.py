"""How many calls at a time a target takes, by how long they take."""

_WINDOW = 1.0
"""Time in seconds over which durations are averaged before the limit moves."""

_SAMPLES = 10
"""How many calls it takes before an average is trusted."""

_LONG = 600
"""Over how many windows the usual duration is averaged."""

_WARM_UP = 10
"""In how many first windows it is the plain average."""

_DRIFT, _CATCH_UP = 2.0, 0.9
"""From which ratio on the usual duration is too long to be true, and what is left of it then."""

_STEEPEST = 0.5
"""What is left of a limit at least, however slow the target has become."""

_QUEUE = 4
"""How many calls more than the target seems to take are tried."""

_SMOOTHING = 0.2
"""What part of the way to the new estimate is taken at once."""


class Gradient:
    """A limit that shrinks when calls begin to take longer than usual, before any of them fails.

    Gradient2 of Netflix's concurrency-limits (``Gradient2Limit.java``), with its defaults: in each window of
    time the limit becomes::

        gradient = max(0.5, min(1, usual duration / duration now))
        estimate = limit * gradient + 4
        limit    = 0.8 * limit + 0.2 * estimate

    The usual duration is an exponential average over 600 windows. While fewer than half of the places are in
    use the limit stays, for nothing shows then what the target can take.

    Not for several threads at once: the policy holds its lock.
    """

    __slots__ = ("_busiest", "_calls", "_ends", "_seconds", "_usual", "_windows")

    def __init__(self) -> None:
        self._usual = 0.0
        self._windows = 0
        self._ends: float | None = None
        self._calls = 0
        self._seconds = 0.0
        self._busiest = 0

    def after_success(self, limit: float, running: int, seconds: float, now: float) -> float:
        """Return the limit that follows from a call.

        Args:
            limit: The limit until now.
            running: How many calls were under way, this one included.
            seconds: How long the call took, in seconds.
            now: The time in seconds on the monotonic clock.
        """
        if self._ends is None:
            self._ends = now + _WINDOW
        self._calls += 1
        self._seconds += seconds
        self._busiest = max(self._busiest, running)
        if now < self._ends or self._calls < _SAMPLES:
            return limit
        duration, busiest = self._seconds / self._calls, self._busiest
        self._ends, self._calls, self._seconds, self._busiest = now + _WINDOW, 0, 0.0, 0
        self._learn(duration)
        if busiest < limit / 2:
            return limit
        gradient = 1.0 if duration <= self._usual else max(_STEEPEST, self._usual / duration)
        return limit * (1 - _SMOOTHING) + (limit * gradient + _QUEUE) * _SMOOTHING

    def _learn(self, duration: float) -> None:
        """Let the usual duration follow the one of a window."""
        self._windows += 1
        weight = 1 / self._windows if self._windows <= _WARM_UP else 2 / (_LONG + 1)
        self._usual += (duration - self._usual) * weight
        if self._usual > _DRIFT * duration:  # the target has recovered from a long time of trouble
            self._usual *= _CATCH_UP


class Additive:
    """A limit that grows by one in each round of calls, while it is in use.

    As a congestion window does (RFC 5681, section 3.1): each success adds one part in *limit*. While fewer
    than half of the places are in use it stays, as in ``AIMDLimit.java`` of Netflix's concurrency-limits.
    """

    __slots__ = ()

    def after_success(self, limit: float, running: int, seconds: float, now: float) -> float:
        """Return the limit that follows from a call; see `Gradient.after_success`."""
        return limit + 1 / limit if 2 * running >= int(limit) else limit
