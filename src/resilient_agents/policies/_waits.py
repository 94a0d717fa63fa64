"""Who made a call wait, and for how long: collected for whoever opens a report."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """One wait of a call.

    Attributes:
        policy: The kind of policy that made it wait: ``"retry"``, ``"limiter"``, ``"bulkhead"`` …
        name: The policy's own name; for a retry, that of the function.
        seconds: For how long, in seconds.
        dictated_by: Who set the wait: ``"backoff"``, ``"server"``, ``"rate"`` or ``"queue"``.
    """

    policy: str
    name: str
    seconds: float
    dictated_by: str


@dataclass(slots=True)
class Report:
    """What the calls inside a `report` block had to wait for.

    Attributes:
        waits: Each wait, in the order in which they were decided.
    """

    waits: list[Wait] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long was waited in all, in seconds."""
        return sum(wait.seconds for wait in self.waits)

    def explain(self) -> str:
        """Return the waits in words, one line each."""
        lines = [
            f"{wait.seconds:.3g} s, {wait.policy} {wait.name}".rstrip() + f", set by the {wait.dictated_by}"
            for wait in self.waits
        ]
        return "\n".join(lines or ["no waits"])


_collected: ContextVar[list[Wait] | None] = ContextVar("resilient_agents_waits", default=None)


@contextmanager
def report() -> Iterator[Report]:
    """Collect who made the calls inside a ``with`` block wait, and for how long.

    It holds for the thread or task of the block and for the tasks that it starts. A report inside a report
    takes the waits for itself::

        with report() as told:
            create_lead(lead)
        print(told.explain())
    """
    told = Report()
    token = _collected.set(told.waits)
    try:
        yield told
    finally:
        _collected.reset(token)


def note_wait(policy: str, name: str, seconds: float, dictated_by: str) -> None:
    """Add a wait to the report that is open here, if there is one."""
    waits = _collected.get()
    if waits is not None:
        waits.append(Wait(policy=policy, name=name, seconds=seconds, dictated_by=dictated_by))
