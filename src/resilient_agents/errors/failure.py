"""The vocabulary of the one decision: category, origin, advice, level, and the `Failure` they make."""

from dataclasses import dataclass
from enum import StrEnum


class Category(StrEnum):
    """Who must act. Seven, closed; the open part is the failure's code."""

    VALIDATION = "validation"
    AUTH = "auth"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    RATE_LIMIT = "rate_limit"
    EXTERNAL = "external"
    INTERNAL = "internal"


class Origin(StrEnum):
    """Whose failure it is: our caller's, a dependency's, or our own."""

    INBOUND = "inbound"
    DEPENDENCY = "dependency"
    SELF = "self"


class Advice(StrEnum):
    """Whether the same call may be made again."""

    NEVER = "never"
    """Repeating it cannot help."""
    SAFE = "safe"
    """It was provably not executed: repeat it freely."""
    IDEMPOTENT = "idempotent"
    """It may have been executed: repeat it only if doing it twice is harmless."""
    AFTER = "after"
    """It was refused for now: repeat it once *retry_after* has passed."""
    TRANSACTION = "transaction"
    """Repeat the whole transaction, not the one statement."""


class Level(StrEnum):
    """How loud a failure is in the logs."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


# Looked up once: reading a member from its enum takes longer than all else here (before Python 3.12).
_IDEMPOTENT = Advice.IDEMPOTENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """The one decision about an exception.

    Attributes:
        category: Who must act.
        origin: Whose failure it is.
        code: What happened, as a stable ``category.reason``, like ``"external.timeout"``.
        status: The HTTP status that a caller of ours should see.
        advice: Whether the same call may be made again.
        retry_after: Time in seconds that the other side asked us to wait, or *None*.
        level: How loud it is in the logs.
        title: The kind of failure in a few words; the same for every failure of this code.
        detail: What a reader at night needs. Never holds input, SQL, secrets or the text of an unknown
            exception.
        dependency: Whose failure it is, by the name that `dependency` gave it; empty where it is no
            dependency's, or one without a name.
    """

    category: Category
    origin: Origin
    code: str
    status: int
    advice: Advice
    retry_after: float | None
    level: Level
    title: str
    detail: str
    dependency: str = ""

    @property
    def outcome_unknown(self) -> bool:
        """Whether the failed call may have been executed all the same."""
        return self.advice is _IDEMPOTENT

    @property
    def outage(self) -> bool:
        """Whether the target as a whole cannot serve us, whatever the call was.

        True for failures of the network, of the target's servers, of its rate limit and of our
        credentials for it: waiting may help, and the work itself is not to blame.
        """
        if self.origin is not Origin.DEPENDENCY:
            return False
        return self.category in (Category.EXTERNAL, Category.RATE_LIMIT, Category.AUTH)
