"""`Pipeline`: several policies as one, in an order that makes sense."""

import warnings
from collections.abc import Awaitable, Callable
from functools import wraps
from itertools import groupby
from threading import RLock
from typing import Any, ParamSpec, Protocol, TypeVar, cast
from weakref import WeakSet

from resilient_agents import events
from resilient_agents.errors import ConfigurationError
from resilient_agents.policies._functions import must_be_awaited, refuse_class
from resilient_agents.policies._gate import Gate, in_a_row
from resilient_agents.policies._order import PolicyOrderWarning, objections

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Pipeline", "Policy", "PolicyOrderWarning"]


class Policy(Protocol):
    """What a pipeline is made of: a decorator that can say what it does."""

    def __call__(self, fn: Callable[..., Any], /) -> Callable[..., Any]:
        """Return *fn* with the policy."""
        ...

    def describe(self) -> str:
        """Return what it does, as a clause: ``"at most 20 calls at a time"``."""
        ...


class _Slot:
    """A decorated function and what it is composed of right now."""

    __slots__ = ("__weakref__", "composed", "fn")

    def __init__(self, fn: Callable[..., Any], composed: Callable[..., Any]) -> None:
        self.fn = fn
        self.composed = composed


class Pipeline:
    """Several policies as one decorator: the first is outermost, the last is next to the function.

    The order that makes sense for most calls, from the outside in::

        fallback · timeout · retry · hedge · breaker · limiter · bulkhead · timeout (of one attempt) · chaos

    Each may be missing. An order that cannot work is refused; one that seldom does is warned of
    (`PolicyOrderWarning`)::

        crm = Pipeline("kommo", timeout(30), RetryPolicy(attempts=3), CircuitBreaker(), RateLimiter(7))

        @crm
        async def create_lead(...): ...

    Policies keep what they know: a breaker in two pipelines is one breaker.

    Args:
        name: What events and messages call it. Breakers, limiters and bulkheads without a name take it.
        *policies: The policies, from the outside in. At least one.

    Raises:
        ConfigurationError: There is no policy, something else among them, or the order cannot work.
    """

    def __init__(self, name: str, *policies: Policy) -> None:
        if type(name) is not str or not name:
            raise ConfigurationError('a pipeline begins with its name: Pipeline("kommo", timeout(30), …)')
        self.name = name
        self._slots: WeakSet[_Slot] = WeakSet()
        self._lock = RLock()
        self._policies = self._checked(policies)

    def __repr__(self) -> str:
        return f"Pipeline({', '.join(map(repr, (self.name, *self._policies)))})"

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The policies in force, from the outside in."""
        return self._policies

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* behind all policies: a ``def`` for a ``def``, an ``async def`` for an ``async def``.

        Raises:
            TypeError: *fn* is a class, a generator function or no function, or a policy cannot be put on it.
        """
        refuse_class(fn, f"Pipeline {self.name!r}")
        awaited = must_be_awaited(fn, "Pipeline")
        with self._lock:
            slot = _Slot(fn, _composed(self._policies, fn))
            self._slots.add(slot)
        if awaited:

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await cast("Callable[P, Awaitable[Any]]", slot.composed)(*args, **kwargs)

            return cast("Callable[P, R]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            return cast("Callable[P, R]", slot.composed)(*args, **kwargs)

        return blocking

    def call(self, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call *fn* behind all policies, for a function that cannot be decorated.

        Returns:
            What *fn* returns; for an ``async def``, an awaitable of it.
        """
        return _composed(self._policies, fn)(*args, **kwargs)

    def reconfigure(self, *policies: Policy) -> None:
        """Put other policies in force, for every function that is decorated already.

        Calls under way end as they began. A policy that is handed in again keeps what it knows.

        Args:
            *policies: The policies, from the outside in. At least one.

        Raises:
            ConfigurationError: They make no pipeline. The old ones stay in force.
            TypeError: One of them cannot be put on a decorated function. The old ones stay in force.
        """
        try:
            checked = self._checked(policies)
            with self._lock:
                composed = [(slot, _composed(checked, slot.fn)) for slot in tuple(self._slots)]
                self._policies = checked
                for slot, fn in composed:
                    slot.composed = fn
        except Exception as exc:
            events.emit(events.PipelineReconfigured, name=self.name, accepted=False, reason=str(exc))
            raise
        events.emit(events.PipelineReconfigured, name=self.name, accepted=True, reason="")

    def explain(self) -> str:
        """Return in words what happens to a call, one line a policy, from the outside in."""
        lines = [f"A call through {self.name!r} passes, in this order:"]
        lines += [f"{number}. {policy.describe()}" for number, policy in enumerate(self._policies, 1)]
        return "\n".join([*lines, f"{len(self._policies) + 1}. the function itself"])

    def _checked(self, policies: tuple[Policy, ...]) -> tuple[Policy, ...]:
        if not policies:
            raise ConfigurationError(f"pipeline {self.name!r} has no policies: it would do nothing")
        for policy in policies:
            kind = policy if isinstance(policy, type) else type(policy)
            if kind is policy or not hasattr(policy, "describe"):
                raise ConfigurationError(
                    f"pipeline {self.name!r} is made of policies such as timeout(30) or CircuitBreaker(), "
                    f"and this is {kind.__qualname__}"
                )
        wrong, doubtful = objections(policies)
        if wrong:
            raise ConfigurationError(f"pipeline {self.name!r} cannot work: {wrong[0]}")
        for objection in doubtful:
            warnings.warn(f"pipeline {self.name!r}: {objection}", PolicyOrderWarning, stacklevel=3)
        for policy in policies:
            if isinstance(policy, Gate) and not policy.name:
                policy.name = self.name
        return policies


def _composed(policies: tuple[Policy, ...], fn: Callable[P, R]) -> Callable[P, R]:
    """Return *fn* behind *policies*, each wrapped around the next."""
    composed: Callable[..., Any] = fn
    for is_gate, group in groupby(reversed(policies), key=lambda policy: isinstance(policy, Gate)):
        if is_gate:
            composed = in_a_row(cast("list[Gate]", [*group])[::-1], composed)
        else:
            for policy in group:
                composed = policy(composed)
    return cast("Callable[P, R]", composed)
