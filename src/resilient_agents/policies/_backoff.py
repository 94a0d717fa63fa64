"""How long to wait between two attempts, and who says so."""

from random import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_agents.policies.retries import RetryPolicy

BACKOFF = "backoff"
SERVER = "server"


def next_wait(
    policy: "RetryPolicy",
    attempt: int,
    hint: float | None,
    *,
    previous: float = 0.0,
    asked: float | None = None,
) -> tuple[float, str]:
    """Return the seconds between a failed attempt and the next one, and who dictated them.

    Exponential backoff, doubling from *wait_initial* up to *wait_max*, with the jitter of the AWS
    Architecture Blog, "Exponential Backoff And Jitter" (2015). A server's hint is a floor: it is never
    shortened, not by *wait_max* either, and the jitter lies above it, so that not all callers come back at
    the same moment.

    Args:
        policy: The waits and the kind of jitter.
        attempt: The number of the attempt that failed, from 1.
        hint: How long the server asked us to wait, in seconds, or *None*.
        previous: The wait before that attempt, in seconds; the decorrelated jitter goes by it.
        asked: What the policy's own *wait* function says, in seconds, or *None* for the backoff.
    """
    jitter = policy.jitter
    if asked is not None:
        shortest = longest = asked
    elif jitter == "decorrelated":
        shortest = min(policy.wait_initial, policy.wait_max)
        longest = min(policy.wait_max, max(previous, policy.wait_initial) * 3.0)
    else:
        longest = policy.wait_initial * 2.0 ** (attempt - 1 if attempt < 64 else 63)
        if longest > policy.wait_max:
            longest = policy.wait_max
        shortest = 0.0 if jitter == "full" else longest / 2 if jitter == "equal" else longest
    dictated_by = BACKOFF
    if hint is not None:
        dictated_by = SERVER if hint > shortest else BACKOFF
        spread = 0.0 if jitter == "none" else policy.wait_initial
        shortest, longest = max(shortest, hint), max(longest, hint + spread)
    return shortest + (longest - shortest) * random(), dictated_by  # noqa: S311 - a wait is no secret
