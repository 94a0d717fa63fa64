"""No accepted lead is ever lost or duplicated, whatever is killed.

This module holds the doors; nothing behind a door is loaded before it is opened.

General layout, from the ground up; a floor imports only from the floors below it:

- floor 0, truths: `_flow` (perform a decision, blocking or awaiting), `_clock`, `_extras`, `_json` (any value
  as JSON), `correlation` (whom the current work belongs to), `errors` (one decision about each failure, and
  how it is answered), `events` (what the library says happened), `redaction`
- floor 1, policies: `policies`, one strategy a module, and `policies.pipeline`, which composes them
- floor 2, things that remember: `deadletter` (work that must arrive, and the proof that it did), `cache`,
  `activity` (what the agents did)
- floor 3, the outside world: `crm.kommo`
- floor 4, services made of the above: `actions` (what an agent does with a message)
- floor 5, doors to other people's software: `integrations` (one file a library), `cli` (the
  `resilient-agents` command), `migrations` (tables in PostgreSQL), `testing` (doubles for your tests and
  ours: a clock, a store that breaks, a whole Kommo)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from resilient_agents.actions import AgentActions
    from resilient_agents.activity import ActivityLog
    from resilient_agents.cache import Cache
    from resilient_agents.deadletter import (
        DeadLetterQueue,
        Delivered,
        Queued,
        Replayer,
    )
    from resilient_agents.errors import (
        ApiError,
        Category,
        Failure,
        ValidationFailed,
        classify,
        dependency,
        explain,
    )
    from resilient_agents.errors.handling import handle_errors
    from resilient_agents.errors.responses import error_response, success_response
    from resilient_agents.policies import (
        AdaptiveConcurrency,
        Bulkhead,
        Chaos,
        CircuitBreaker,
        PerKey,
        Pipeline,
        RateLimiter,
        RetryBudget,
        RetryPolicy,
        deadline,
        degrade,
        fallback,
        hedge,
        retry,
        retry_call,
        retrying,
        set_active,
        timeout,
    )

_DOORS = {
    "ActivityLog": "activity",
    "AdaptiveConcurrency": "policies",
    "AgentActions": "actions",
    "ApiError": "errors",
    "Bulkhead": "policies",
    "Cache": "cache",
    "Category": "errors",
    "Chaos": "policies",
    "CircuitBreaker": "policies",
    "DeadLetterQueue": "deadletter",
    "Delivered": "deadletter",
    "Failure": "errors",
    "PerKey": "policies",
    "Pipeline": "policies",
    "Queued": "deadletter",
    "RateLimiter": "policies",
    "Replayer": "deadletter",
    "RetryBudget": "policies",
    "RetryPolicy": "policies",
    "ValidationFailed": "errors",
    "classify": "errors",
    "deadline": "policies",
    "degrade": "policies",
    "dependency": "errors",
    "error_response": "errors.responses",
    "explain": "errors",
    "fallback": "policies",
    "handle_errors": "errors.handling",
    "hedge": "policies",
    "retry": "policies",
    "retry_call": "policies",
    "retrying": "policies",
    "set_active": "policies",
    "success_response": "errors.responses",
    "timeout": "policies",
}

__all__ = [
    "ActivityLog",
    "AdaptiveConcurrency",
    "AgentActions",
    "ApiError",
    "Bulkhead",
    "Cache",
    "Category",
    "Chaos",
    "CircuitBreaker",
    "DeadLetterQueue",
    "Delivered",
    "Failure",
    "PerKey",
    "Pipeline",
    "Queued",
    "RateLimiter",
    "Replayer",
    "RetryBudget",
    "RetryPolicy",
    "ValidationFailed",
    "classify",
    "deadline",
    "degrade",
    "dependency",
    "error_response",
    "explain",
    "fallback",
    "handle_errors",
    "hedge",
    "retry",
    "retry_call",
    "retrying",
    "set_active",
    "success_response",
    "timeout",
]


def __getattr__(name: str) -> Any:
    """Open a door: load the module behind *name* when it is first asked for (PEP 562)."""
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_DOORS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
