"""Strategies against failures: one module each, and a decorator for each.

- `retries`: try again, if that can help; `budget`: how many extra calls a dependency can bear.
- `timeouts`: deadlines that everything below obeys.
- `breaker`: leave a target alone that fails too often.
- `limiter`: never more than so many starts in any stretch of time.
- `bulkhead`: never more than so many calls at a time; `adaptive`: as many as the target can take.
- `redis`: what several processes decide together.
- `keyed`: one of these for each host or tenant.
- `hedges`: ask once more beside a call that takes long.
- `fallbacks`: what the caller gets instead.
- `chaos`: faults on purpose.
- `pipeline`: all of them in one, in an order that makes sense.
"""

from resilient_agents.policies._waits import Report, Wait, report
from resilient_agents.policies.adaptive import AdaptiveConcurrency
from resilient_agents.policies.breaker import BreakerStats, CircuitBreaker
from resilient_agents.policies.budget import RetryBudget
from resilient_agents.policies.bulkhead import Bulkhead
from resilient_agents.policies.chaos import Chaos
from resilient_agents.policies.fallbacks import Fallback, degrade, fallback
from resilient_agents.policies.hedges import Hedge, hedge
from resilient_agents.policies.keyed import PerKey
from resilient_agents.policies.limiter import RateLimiter
from resilient_agents.policies.pipeline import Pipeline, PolicyOrderWarning
from resilient_agents.policies.redis import RedisRateLimiter, RedisState
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
    "AdaptiveConcurrency",
    "BreakerStats",
    "Bulkhead",
    "Chaos",
    "CircuitBreaker",
    "Fallback",
    "Hedge",
    "PerKey",
    "Pipeline",
    "PolicyOrderWarning",
    "RateLimiter",
    "RedisRateLimiter",
    "RedisState",
    "Report",
    "RetryBudget",
    "RetryPolicy",
    "Timeout",
    "Wait",
    "attempt_number",
    "check",
    "deadline",
    "degrade",
    "fallback",
    "hedge",
    "overriding",
    "remaining",
    "report",
    "retry",
    "retry_call",
    "retrying",
    "set_active",
    "timeout",
]
