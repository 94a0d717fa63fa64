"""What a circuit breaker is told when it is made, checked."""

from dataclasses import dataclass
from math import inf
from typing import Any

from resilient_agents.policies._filters import Filter, check_filter
from resilient_agents.policies._shared import SharedState


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The parameters of `CircuitBreaker`, which documents them."""

    failure_rate: float
    window: int
    window_seconds: float | None
    minimum_calls: int
    slow_call: float | None
    slow_rate: float
    open_for: float
    probes: int
    counts: Filter | None
    mode: str
    shared: SharedState | None
    name: str

    def __post_init__(self) -> None:
        for parameter in ("window", "minimum_calls", "probes"):
            _check_whole(parameter, getattr(self, parameter))
        for parameter in ("failure_rate", "slow_rate"):
            _check_rate(parameter, getattr(self, parameter))
        for parameter in ("window_seconds", "slow_call", "open_for"):
            if parameter == "open_for" or getattr(self, parameter) is not None:
                _check_seconds(parameter, getattr(self, parameter))
        if self.counts is not None:
            check_filter(self.counts, "counts", "cancellation and Ctrl-C say nothing about a target")
        if self.mode not in ("enforce", "observe"):
            raise ValueError(f"mode must be 'enforce' or 'observe', not {self.mode!r}")
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a text, not {self.name!r}")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse parameters that contradict each other."""
        if self.window_seconds is None and self.minimum_calls > self.window:
            raise ValueError(
                f"minimum_calls={self.minimum_calls} are never in a window of {self.window} calls, so that "
                "the breaker could not open: make one smaller or the other larger"
            )
        if self.slow_call is None and self.slow_rate != 1.0:
            raise ValueError("slow_rate needs slow_call: from how many seconds on is a call slow?")
        if self.shared is not None:
            methods = ("vote", "state", "lease_probe", "report_probe")
            if not all(callable(getattr(self.shared, method, None)) for method in methods):
                raise TypeError(f"shared must have the methods {', '.join(methods)}, not be {self.shared!r}")
            if not self.name:
                raise ValueError(
                    "a shared breaker needs a name: by it the processes know that they mean the same"
                )


def _check_whole(parameter: str, value: Any) -> None:
    if type(value) is not int:
        raise TypeError(f"{parameter} must be a whole number of calls, not {value!r}")
    if value < 1:
        raise ValueError(f"{parameter} must be 1 or more calls, not {value}")


def _check_rate(parameter: str, value: Any) -> None:
    if not _is_number(value):
        raise TypeError(f"{parameter} must be a number, not {value!r}")
    if not 0 < value <= 1:
        raise ValueError(f"{parameter} must be a part of the calls, above 0 and up to 1, not {value!r}")


def _check_seconds(parameter: str, value: Any) -> None:
    if not _is_number(value):
        raise TypeError(f"{parameter} must be a time in seconds, not {value!r}")
    if not 0 < value < inf:
        raise ValueError(f"{parameter} must be more than 0 seconds, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
