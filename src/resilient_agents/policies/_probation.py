"""The probes of a half-open breaker: never more than so many at a time, and none is waited for forever."""

from collections.abc import Callable


class Probe:
    """One call that shows whether the target works again. It is called with how it ended.

    Attributes:
        probation: What it belongs to.
        started: When it began, in seconds on the monotonic clock.
    """

    __slots__ = ("_settle", "probation", "started")

    def __init__(
        self, probation: "Probation", started: float, settle: "Callable[[Probe, int], object]"
    ) -> None:
        self.probation = probation
        self.started = started
        self._settle = settle

    def __call__(self, outcome: int) -> None:
        self._settle(self, outcome)


class Probation:
    """The time in which a breaker is half-open. Not for several threads at once: the breaker holds its lock.

    Args:
        cap: How many probes are under way at a time, and how many of them must succeed.
        lease: Time in seconds after which a probe that has not come back makes room for another one.
    """

    __slots__ = ("_cap", "_lease", "_passed", "_under_way")

    def __init__(self, cap: int, lease: float) -> None:
        self._cap = cap
        self._lease = lease
        self._passed = 0
        self._under_way: list[Probe] = []

    def under_way(self, now: float) -> int:
        """Return how many slots are taken at *now*."""
        self._under_way = [probe for probe in self._under_way if now < probe.started + self._lease]
        return len(self._under_way)

    def has_room(self, now: float) -> bool:
        """Tell whether another probe may begin at *now*."""
        return self.under_way(now) < self._cap

    def begin(self, now: float, settle: Callable[[Probe, int], object]) -> Probe:
        """Begin a probe, for which there must be room."""
        probe = Probe(self, now, settle)
        self._under_way.append(probe)
        return probe

    def end(self, probe: Probe) -> None:
        """Give back the slot of a probe; one that came back late has none any more."""
        self._under_way = [other for other in self._under_way if other is not probe]

    def passes(self) -> bool:
        """Note a success, and tell whether there were enough of them."""
        self._passed += 1
        return self._passed >= self._cap
