"""The exceptions of this package, one tree; each of them *is* its category::

    ApiError
    ├── ValidationFailed            what was handed in is wrong; repeating it cannot help
    │   └── PayloadTooLarge
    ├── AuthFailed                  credentials are missing, wrong or too weak
    │   ├── ReauthRequired          only a new token helps
    │   └── PermissionDenied
    ├── NotFound
    ├── Conflict
    ├── RateLimited                 too many requests; passes by itself
    │   ├── QuotaExhausted          passes only when somebody pays or a period ends
    │   ├── Blocked                 shut out for a while
    │   ├── LimitReached            our own rate limit
    │   └── BulkheadFull            our own limit of calls at a time
    ├── ExternalFailure             the other side, or the way to it, is at fault
    │   ├── Unreachable             provably not sent
    │   ├── OutcomeUnknown          sent, and no usable answer came
    │   ├── CircuitOpen             not sent: the target failed too often
    │   ├── UnwantedResult          answered, and the caller does not accept it
    │   └── DeadlineExceeded        our own time was up
    └── InternalFailure             our own fault
        ├── ConfigurationError
        └── StorageFailure
            ├── StorageFull
            ├── StorageReadOnly
            ├── StorageCorrupt
            └── StorageBusy

Catch `ApiError` to catch them all; cancellation and Ctrl-C are not among them.
"""

from collections.abc import Mapping, Sequence
from copyreg import __newobj__ as newobj  # type: ignore[attr-defined]  # what object.__reduce_ex__ uses
from typing import Any, ClassVar

from resilient_agents.errors.failure import Advice, Category, Level, Origin
from resilient_agents.errors.hints import wait_in_seconds


class ApiError(Exception):
    """A failure with a category, a status and an advice. The base of all exceptions of this package.

    Args:
        detail: What happened, to what, what to do. The default is the class's title.
        origin: Whose failure it is. The default is the class's own.
        code: A finer code than the class's own, as ``category.reason``.
        status: Another HTTP status than the class's own.
        retry_after: Time in seconds after which it may work. What cannot be one, as a negative number or
            more than a year, counts as *None*.
        errors: One mapping for each wrong field, with ``loc``, ``msg`` and ``type``; never with the input.
    """

    category: ClassVar[Category] = Category.INTERNAL
    advice: ClassVar[Advice] = Advice.NEVER
    level: ClassVar[Level] = Level.ERROR
    title: ClassVar[str] = "Internal error"
    origin: Origin = Origin.SELF
    code: str = "internal.error"
    status: int = 500

    def __init__(
        self,
        detail: str | None = None,
        *,
        origin: Origin | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.detail = detail or self.title
        super().__init__(self.detail)
        if origin is not None:
            self.origin = origin
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        self.retry_after = wait_in_seconds(retry_after)
        self.errors = tuple(errors)

    @property
    def status_code(self) -> int:
        """The HTTP status, under the name that web frameworks and Sentry look for."""
        return self.status

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by attributes, so that an error crosses process borders whole, whatever its arguments."""
        return (newobj, (type(self), self.detail), self.__dict__)


class ValidationFailed(ApiError):
    """What was handed in is wrong; the message names the field."""

    category = Category.VALIDATION
    level = Level.INFO
    title = "Invalid input"
    origin = Origin.INBOUND
    code = "validation.invalid"
    status = 422


class PayloadTooLarge(ValidationFailed):
    """A payload is over the size limit."""

    title = "Payload too large"
    code = "validation.too_large"
    status = 413


class AuthFailed(ApiError):
    """Credentials are missing, wrong or too weak."""

    category = Category.AUTH
    level = Level.WARNING
    title = "Not authenticated"
    origin = Origin.INBOUND
    code = "auth.unauthenticated"
    status = 401


class ReauthRequired(AuthFailed):
    """A dependency refuses our token or does not know our account; only new settings help."""

    level = Level.ERROR
    title = "A dependency refuses our credentials"
    origin = Origin.DEPENDENCY
    code = "auth.needs_reauth"
    status = 502


class PermissionDenied(AuthFailed):
    """The credentials are good, but do not allow this."""

    title = "Not permitted"
    code = "auth.forbidden"
    status = 403


class NotFound(ApiError):
    """The thing asked for does not exist."""

    category = Category.NOT_FOUND
    level = Level.INFO
    title = "Not found"
    origin = Origin.INBOUND
    code = "not_found.missing"
    status = 404


class Conflict(ApiError):
    """The request contradicts what is stored."""

    category = Category.CONFLICT
    level = Level.INFO
    title = "Conflict"
    origin = Origin.INBOUND
    code = "conflict.state"
    status = 409


class RateLimited(ApiError):
    """Too many requests; it passes by itself."""

    category = Category.RATE_LIMIT
    advice = Advice.AFTER
    level = Level.WARNING
    title = "Too many requests"
    origin = Origin.DEPENDENCY
    code = "rate_limit.throttled"
    status = 503


class QuotaExhausted(RateLimited):
    """A quota is spent; only payment or the next period helps, so it is not retried."""

    advice = Advice.NEVER
    level = Level.ERROR
    title = "Quota exhausted"
    code = "rate_limit.quota"


class Blocked(RateLimited):
    """The other side has shut us out for a while, for minutes or hours."""

    level = Level.ERROR
    title = "Blocked by a dependency"
    code = "rate_limit.blocked"


class LimitReached(RateLimited):
    """Our own rate limit lets nobody start now; nothing was sent."""

    title = "Our own rate limit is reached"
    origin = Origin.SELF
    code = "rate_limit.own"


class BulkheadFull(RateLimited):
    """As many calls as we allow are under way; nothing was sent."""

    title = "Too many calls at a time"
    origin = Origin.SELF
    code = "rate_limit.bulkhead"


class ExternalFailure(ApiError):
    """The other side is at fault, and it answered so."""

    category = Category.EXTERNAL
    advice = Advice.IDEMPOTENT
    level = Level.WARNING
    title = "A dependency failed"
    origin = Origin.DEPENDENCY
    code = "external.server_error"
    status = 502


class Unreachable(ExternalFailure):
    """The request was provably not sent."""

    advice = Advice.SAFE
    title = "A dependency cannot be reached"
    code = "external.unreachable"
    status = 503


class OutcomeUnknown(ExternalFailure):
    """The request was sent and no usable answer came: it may have been executed."""

    title = "The outcome is unknown"
    code = "external.outcome_unknown"


class CircuitOpen(ExternalFailure):
    """Nothing was sent: the target has failed too often, and is left alone for a while.

    It is not retried: who waits for a target that is down only adds to the queue.
    """

    advice = Advice.NEVER
    title = "A circuit breaker is open"
    code = "external.circuit_open"
    status = 503


class UnwantedResult(ExternalFailure):
    """The other side answered with something that the caller does not accept.

    Attributes:
        value: What it answered.
    """

    value: Any = None

    title = "A result is not accepted"
    code = "external.unwanted_result"


class DeadlineExceeded(ExternalFailure):
    """Our own time was up before the work was done."""

    title = "Out of time"
    origin = Origin.SELF
    code = "external.deadline"
    status = 504


class InternalFailure(ApiError):
    """Our own fault."""


class ConfigurationError(InternalFailure):
    """A setting is missing or wrong."""

    level = Level.CRITICAL
    title = "Wrong configuration"
    code = "internal.configuration"


class StorageFailure(InternalFailure):
    """Local storage refuses to work; nothing was accepted."""

    level = Level.CRITICAL
    title = "Storage failed"
    code = "internal.storage"
    status = 503


class StorageFull(StorageFailure):
    """The disk is full."""

    title = "Storage is full"
    code = "internal.storage_full"


class StorageReadOnly(StorageFailure):
    """The file, its folder or its file system cannot be written."""

    title = "Storage is read-only"
    code = "internal.storage_read_only"


class StorageCorrupt(StorageFailure):
    """The file is damaged or is no database of ours."""

    title = "Storage is corrupt"
    code = "internal.storage_corrupt"


class StorageBusy(StorageFailure):
    """The file was not to be had in time; what was handed in may be stored yet."""

    level = Level.ERROR
    title = "Storage is busy"
    code = "internal.storage_busy"
