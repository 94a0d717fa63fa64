"""What processes that share a circuit breaker tell each other."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedView:
    """What the processes agree on.

    Attributes:
        open: Whether so many of them say that the target is down that it is open for all.
        wait: Time in seconds until it is probed; 0 when that time has come.
        known: Whether they could be asked of late; else each goes by what it sees itself.
    """

    open: bool
    wait: float
    known: bool = True


class SharedState(Protocol):
    """Where the breakers of several processes meet. Each call answers at once, and none raises.

    What travels between the processes does so behind these methods, in its own time: a breaker asks at
    every call and waits for nobody.
    """

    def vote(self, key: str, open_for: float) -> None:
        """Say that the target is down, by what this process has seen.

        Args:
            key: Name of the breaker.
            open_for: For how long the vote counts, in seconds.
        """
        ...

    def state(self, key: str) -> SharedView:
        """Return what the processes agree on, from memory."""
        ...

    def lease_probe(self, key: str) -> bool:
        """Tell whether this process may make a probe now, from memory."""
        ...

    def report_probe(self, key: str, ok: bool) -> None:
        """Say how a probe ended. One that says nothing, as a cancelled one, is not reported."""
        ...
