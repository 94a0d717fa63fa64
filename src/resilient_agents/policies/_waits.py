"""Who made a call wait, and for how long: told as an event, and to a report that is open."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """One wait of a call.

    Attributes:
        policy: The kind of policy that made it wait: ``"retry"``, ``"limiter"``, ``"bulkhead"`` …
        name: The policy's own name, or an empty text.
        seconds: For how long, in seconds.
        dictated_by: Who set the wait: ``"backoff"``, ``"server"``, ``"rate"`` or ``"queue"``.
    """

    policy: str
    name: str
    seconds: float
    dictated_by: str


collected: ContextVar[list[Wait] | None] = ContextVar("resilient_agents_waits", default=None)
"""Where the waits of the calls made here are collected; *None* where nobody asks."""


def note_wait(policy: str, name: str, seconds: float, dictated_by: str) -> None:
    """Add a wait to the report that is open here, if there is one."""
    waits = collected.get()
    if waits is not None:
        waits.append(Wait(policy=policy, name=name, seconds=seconds, dictated_by=dictated_by))
