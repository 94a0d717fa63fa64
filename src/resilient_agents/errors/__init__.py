"""What can go wrong, and what follows from it.

Every failure is looked at once, by `classify`. The `Failure` it returns decides everything else: whether to
try again and when, which HTTP status the caller sees, how loud the log line is, whether work is kept for
later or for a person.

- `failure`: the vocabulary: seven categories, three origins, the advice, the `Failure`.
- `exceptions`: the tree of this package's own exceptions.
- `evidence`, `attributes`: how `classify` reads an exception it did not raise.
- `scope`: which dependency the code at hand talks to.
- `explanations`: a failure in plain words.
- `request`: which HTTP request failed.
- `hints`: how long the other side asks us to wait.
- `knowledge`: what is known about a class of exceptions; the rules of `register`.
- `names`, `codes`, `tables`: what is known about other people's exceptions, as data.
"""

from resilient_agents.errors.evidence import classify
from resilient_agents.errors.exceptions import (
    ApiError,
    AuthFailed,
    Blocked,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    Conflict,
    DeadlineExceeded,
    ExternalFailure,
    InternalFailure,
    LimitReached,
    NotFound,
    OutcomeUnknown,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ReauthRequired,
    StorageBusy,
    StorageCorrupt,
    StorageFailure,
    StorageFull,
    StorageReadOnly,
    Unreachable,
    UnwantedResult,
    ValidationFailed,
)
from resilient_agents.errors.explanations import explain
from resilient_agents.errors.failure import Advice, Category, Failure, Level, Origin
from resilient_agents.errors.hints import retry_after
from resilient_agents.errors.knowledge import register
from resilient_agents.errors.request import request_of
from resilient_agents.errors.scope import dependency

__all__ = [
    "Advice",
    "ApiError",
    "AuthFailed",
    "Blocked",
    "BulkheadFull",
    "Category",
    "CircuitOpen",
    "ConfigurationError",
    "Conflict",
    "DeadlineExceeded",
    "ExternalFailure",
    "Failure",
    "InternalFailure",
    "Level",
    "LimitReached",
    "NotFound",
    "Origin",
    "OutcomeUnknown",
    "PayloadTooLarge",
    "PermissionDenied",
    "QuotaExhausted",
    "RateLimited",
    "ReauthRequired",
    "StorageBusy",
    "StorageCorrupt",
    "StorageFailure",
    "StorageFull",
    "StorageReadOnly",
    "Unreachable",
    "UnwantedResult",
    "ValidationFailed",
    "classify",
    "dependency",
    "explain",
    "register",
    "request_of",
    "retry_after",
]
