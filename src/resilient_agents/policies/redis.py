"""What several processes decide together, through Redis.

- `RedisState`: circuit breakers agree on whether a target is down; no single process decides for all.
- `RedisRateLimiter`: never more than so many starts in any stretch of time, in all processes together.

Neither makes a call depend on Redis. While it does not answer, each process decides by itself, and says so
once.
"""

from resilient_agents.policies._redis_limiter import RedisRateLimiter
from resilient_agents.policies._redis_state import RedisState

__all__ = ["RedisRateLimiter", "RedisState"]
