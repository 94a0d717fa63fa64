"""What a tier holds for a key, and the settings by which it ages."""

from collections.abc import Callable, Sequence
from math import inf, log
from typing import Any, Final, NamedTuple

from resilient_agents import _clock
from resilient_agents.errors import Advice, Category, Failure


class Miss:
    """The type of `MISS`."""

    def __repr__(self) -> str:
        return "MISS"

    def __bool__(self) -> bool:
        return False


MISS: Final = Miss()
"""What is returned where a cache holds nothing; *None* is a value like any other. It counts as false."""


class Missing(NamedTuple):
    """What is kept in place of a value: the thing does not exist. No exception is kept, only what it said."""

    code: str
    detail: str


class Entry:
    """A value and its age. All times are on this process's monotonic clock.

    Attributes:
        value: The value, or a `Missing`.
        born: When its load began.
        soft: When it is no longer fresh.
        quiet_until: Until when a call is answered from memory without any further look.
        cost: How long its load took, in seconds.
        tags: The marks of its tags, by name.
        marks: The versions of these marks that were seen before its load began.
        visited: Whether it was used since the memory tier last looked for room.
    """

    __slots__ = ("born", "cost", "marks", "quiet_until", "soft", "tags", "value", "visited")

    def __init__(
        self,
        value: Any,
        *,
        born: float,
        soft: float,
        cost: float = 0.0,
        tags: Sequence[str] = (),
        marks: Sequence[bytes] = (),
    ) -> None:
        self.value = value
        self.born = born
        self.soft = soft
        self.quiet_until = -inf
        self.cost = cost
        self.tags = tags
        self.marks = marks
        self.visited = False


class Freshness(NamedTuple):
    """How the entries of one function age. All times in seconds; `Cache.cached` documents them."""

    ttl: float
    jitter: float
    stale: float
    stale_if_error: float
    early: float
    negative_ttl: float | None
    throttle: float
    chance: Callable[[], float]

    def lifetime(self, value: Any) -> float:
        """Return for how long *value* is fresh: a little less than it could be, never more.

        Entries that were loaded together then do not end together.
        """
        absent = self.negative_ttl is not None and (value is None or isinstance(value, Missing))
        ttl = self.negative_ttl if absent and self.negative_ttl is not None else self.ttl
        return ttl * (1.0 - self.jitter * self.chance())

    def grace(self, value: Any) -> float:
        """Return for how long *value* is kept after that."""
        return 0.0 if isinstance(value, Missing) else max(self.stale, self.stale_if_error)

    def due(self, entry: Entry, now: float) -> bool:
        """Tell whether one call should load a fresh value anew already, so that it never ends under load.

        XFetch: ``now - cost * beta * log(random) >= end``. A. Vattani, F. Chierichetti, K. Lowenstein,
        "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015; *early* is its beta.
        """
        if not self.early or isinstance(entry.value, Missing):
            return False
        return now - entry.cost * self.early * log(1.0 - self.chance()) >= entry.soft

    def quiet(self, entry: Entry) -> float:
        """Return when `due` begins to say yes: before that its chance is less than one in a billion."""
        if isinstance(entry.value, Missing):
            return -inf
        return entry.soft - 20.7 * entry.cost * self.early


def may_pass(failure: Failure) -> bool:
    """Tell whether a failure ends by itself, so that an old value may stand in until it does.

    Outages and limits do. What does not exist, is not allowed, is wrong or is our own defect does not: there
    an old value would hide the answer.
    """
    return failure.category in _PASSING or failure.advice is Advice.TRANSACTION


_PASSING = frozenset({Category.EXTERNAL, Category.RATE_LIMIT})


def monotonic() -> float:
    """Return the monotonic time in force."""
    return _clock.in_force.monotonic()
