"""What can be no `RetryPolicy`: refused while the person who wrote it is looking."""

from math import inf
from typing import TYPE_CHECKING, Any

from resilient_agents.policies._functions import is_awaited

if TYPE_CHECKING:
    from resilient_agents.policies.retries import RetryPolicy


def check_policy(policy: "RetryPolicy") -> None:
    """Refuse parameters that are out of range, of a wrong kind, or contradict each other.

    Raises:
        TypeError: One is of the wrong kind, or the parentheses of ``@retry()`` are missing.
        ValueError: A number is out of range, or contradicts another one.
    """
    _check_attempts(policy.attempts)
    _check_numbers(policy)
    _check_functions(policy)


def _check_attempts(attempts: Any) -> None:
    if callable(attempts):
        raise TypeError("write @retry() with parentheses: what is inside them is the policy")
    if type(attempts) is not int:
        raise TypeError(f"attempts must be a whole number, not {attempts!r}")
    if attempts < 1:
        raise ValueError(f"attempts must be 1 or more, not {attempts}: 1 is a call without retries")


def _check_numbers(policy: "RetryPolicy") -> None:
    for name in ("wait_initial", "wait_max"):
        if not 0 <= getattr(policy, name) < inf:
            raise ValueError(f"{name} must be a time in seconds, not {getattr(policy, name)!r}")
    if policy.jitter not in ("full", "equal", "decorrelated", "none"):
        raise ValueError(f"jitter must be 'full', 'equal', 'decorrelated' or 'none', not {policy.jitter!r}")
    for name in ("deadline", "timeout"):
        seconds = getattr(policy, name)
        if seconds is not None and not 0 < seconds < inf:
            raise ValueError(f"{name} must be more than 0 seconds, or None, not {seconds!r}")
    if policy.timeout is not None and policy.deadline is not None and policy.timeout > policy.deadline:
        raise ValueError(
            f"timeout={policy.timeout} for each attempt is longer than deadline={policy.deadline} for all of "
            "them: raise the deadline, or set it to None"
        )


def _check_functions(policy: "RetryPolicy") -> None:
    if policy.idempotent not in (None, True, False):
        raise TypeError(f"idempotent must be True, False or None, not {policy.idempotent!r}")
    for name in ("on_result", "stop", "wait"):
        function = getattr(policy, name)
        if function is not None and (not callable(function) or is_awaited(function)):
            raise TypeError(f"{name} must be a plain function, not {function!r}")
    if policy.budget is not None and not callable(getattr(policy.budget, "take", None)):
        raise TypeError(f"budget must be a RetryBudget, not {policy.budget!r}")
