"""What goes into a message's handling and what comes out of it: plain frozen values, and three protocols."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

OTHER = "other"
"""The intent of a message that could not be analysed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What somebody wrote to an agent. Its ``repr`` shows no text.

    Attributes:
        id: What the channel calls it; a second message with this id to the same agent starts no critical
            action twice. Where a channel counts by chat, make the chat a part of it.
        organization_id: For which organisation.
        agent_id: To which agent.
        text: What was written.
        data: What else is known of it, as JSON values.
    """

    id: str
    organization_id: str
    agent_id: str
    text: str = field(repr=False)
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """What a message asks for.

    Attributes:
        name: Which action it asks for.
        data: What the action needs to know, as JSON values.
    """

    name: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)


class IntentAnalyzer(Protocol):
    """Finds out what a message asks for; ``def`` or ``async def``."""

    def __call__(self, message: Message, /) -> Any:
        """Return an `Intent`, or its name."""
        ...


class ContextSource(Protocol):
    """Looks up what is known, such as the deal that a message is about; ``def`` or ``async def``."""

    def __call__(self, message: Message, intent: Intent, /) -> Any:
        """Return a mapping of JSON values."""
        ...


class ActionHandler(Protocol):
    """Does what is asked for; ``def`` or ``async def``."""

    def __call__(self, message: Message, intent: Intent, context: Mapping[str, Any] | None, /) -> Any:
        """Return whatever its caller wants to know. *context* is *None* where there is none."""
        ...


class Recorder(Protocol):
    """Keeps a record of what happened: an `ActivityLog`, or anything with this method."""

    def record(
        self,
        action: str,
        *,
        organization_id: str,
        agent_id: str | None,
        metadata: Mapping[str, Any],
        status: str,
        duration_ms: float | None,
        error: BaseException | None,
    ) -> object:
        """Take a record, and return at once."""
        ...


class Status(StrEnum):
    """What became of an action."""

    DONE = "done"
    """It was done, now or under the same message id before."""
    QUEUED = "queued"
    """A critical one that failed: it is safe on disk, and will be done or parked by a `Replayer`."""
    SKIPPED = "skipped"
    """One that is not critical failed: it was left out."""
    UNHANDLED = "unhandled"
    """Nothing is registered for the intent."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Degradation:
    """A step that went wrong, and was done without.

    Attributes:
        step: ``"intent"``, ``"context"`` or ``"action"``.
        code: Why, as a failure's code like ``"external.timeout"``.
        detail: Why, in words.
    """

    step: str
    code: str
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of a message.

    Attributes:
        intent: What it asked for.
        status: What became of the action.
        result: What the action's handler returned, or *None*.
        degraded: What was done without, in the order of the steps; empty when all went well.
        entry_id: The number of a critical action in its dead-letter queue, or *None*.
        duration_ms: How long it all took, in milliseconds.
    """

    intent: Intent
    status: Status
    result: Any
    degraded: tuple[Degradation, ...]
    entry_id: int | None
    duration_ms: float
