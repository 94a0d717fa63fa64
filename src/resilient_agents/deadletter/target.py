"""Who takes the work: a function of the user's, or a client that takes many entries at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from inspect import isawaitable, iscoroutine, iscoroutinefunction
from typing import Any, Protocol

from resilient_agents._flow import Flow
from resilient_agents.deadletter.entry import KEY_LIMIT, Entry
from resilient_agents.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a target made of one entry.

    Attributes:
        reference: What the target calls it (the CRM's id), or *None*.
        value: What the call returned.
        error: Why it was not delivered, or *None* when it was.
    """

    reference: str | None = None
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Traits:
    """How a target may be used.

    Attributes:
        awaiting: Whether the steps of its flows return awaitables.
        reconcilable: Whether `Target.find` can tell if an entry arrived.
        idempotent: Whether repeating an entry is harmless.
        grace: Time in seconds after a send of unknown outcome for which "not found" is not believed, since
            the target may still be at it. The default is 60.
        batch: How many entries one call takes at most. The default is 1.
        patience: Time in seconds that one call takes at most, or *None* when nothing limits it.
    """

    awaiting: bool
    reconcilable: bool
    idempotent: bool = False
    grace: float = 60.0
    batch: int = 1
    patience: float | None = None


class Target(Protocol):
    """Takes the entries of one topic."""

    @property
    def traits(self) -> Traits:
        """How it may be used right now."""
        ...

    def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
        """Send *entries*; return an outcome for each, in their order."""
        ...

    def find(self, entry: Entry) -> Flow[str | None]:
        """Return what the target calls *entry*, empty for no name; *None* when it does not have it."""
        ...


class Handler:
    """A user's function as a target.

    Args:
        call: Called with the payload.
        reconcile: Called with the payload after an unknown outcome; returns the target's reference for
            the work, or True, or *None* when it did not arrive. *None* when nobody can tell.
        idempotent: Whether repeating the work is harmless.
        grace: Time in seconds after a send of unknown outcome for which "not found" is not believed.

    Raises:
        ConfigurationError: One function is a coroutine function and the other is not.
    """

    def __init__(
        self,
        call: Callable[[Mapping[str, Any]], Any],
        *,
        reconcile: Callable[..., Any] | None = None,
        idempotent: bool = False,
        grace: float = 60.0,
    ) -> None:
        awaiting = iscoroutinefunction(call)
        if reconcile is not None and iscoroutinefunction(reconcile) is not awaiting:
            raise ConfigurationError(
                "a handler and its reconcile function must both be def, or both async def"
            )
        self._call = call
        self._reconcile = reconcile
        self.traits = Traits(
            awaiting=awaiting, reconcilable=reconcile is not None, idempotent=idempotent, grace=grace
        )

    def deliver(self, entries: Sequence[Entry]) -> Flow[Sequence[Outcome]]:
        """Call the function with each payload."""
        outcomes = []
        for entry in entries:
            try:
                value = _settled((yield partial(self._call, entry.payload)))
                outcomes.append(Outcome(reference=_reference(value), value=value))
            except Exception as exc:
                outcomes.append(Outcome(error=exc))
        return outcomes

    def find(self, entry: Entry) -> Flow[str | None]:
        """Ask the *reconcile* function."""
        if self._reconcile is None:
            return None
        found = _settled((yield partial(self._reconcile, entry.payload)))
        return None if found is None or found is False else _reference(found) or ""


def _settled(value: Any) -> Any:
    """Return a returned *value*, unless it is work that nobody has done yet.

    Raises:
        ConfigurationError: It is an awaitable.
    """
    if not isawaitable(value):
        return value
    if iscoroutine(value):
        value.close()
    raise ConfigurationError(
        "a handler that is no coroutine function returned an awaitable: make it async def"
    )


def _reference(value: object) -> str | None:
    """Return a returned *value* as a reference: short texts and numbers are, other things are not."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if len(text) <= KEY_LIMIT and text.isprintable() else None
