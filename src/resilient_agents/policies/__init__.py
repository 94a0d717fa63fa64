"""Strategies against failures that pass: one module each, and a decorator for each.

- `retries`: try again, if that can help.
- `timeouts`: deadlines that everything below obeys.
- `limiter`: never more than so many starts in any stretch of time.
"""

from resilient_agents.policies.limiter import RateLimiter
from resilient_agents.policies.retries import (
    RetryPolicy,
    attempt_number,
    overriding,
    retry,
    retry_call,
    retrying,
    set_active,
)
from resilient_agents.policies.timeouts import Timeout, check, deadline, remaining, timeout

__all__ = [
    "RateLimiter",
    "RetryPolicy",
    "Timeout",
    "attempt_number",
    "check",
    "deadline",
    "overriding",
    "remaining",
    "retry",
    "retry_call",
    "retrying",
    "set_active",
    "timeout",
]
