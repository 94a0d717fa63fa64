"""`fallback` and `degrade`: what a caller gets instead, when a call that is not critical fails."""

from collections.abc import Awaitable, Callable
from functools import partial, wraps
from inspect import isawaitable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from resilient_agents import events
from resilient_agents._flow import Flow, arun, run
from resilient_agents.errors import Category, classify
from resilient_agents.policies._filters import Filter, check_filter, matches
from resilient_agents.policies._functions import must_be_awaited, name_of, refuse_class
from resilient_agents.policies._parameters import text

P = ParamSpec("P")
R = TypeVar("R")

_OUR_OWN = frozenset({Category.INTERNAL, Category.VALIDATION})


class Fallback:
    """A decorator: when the call fails, its caller gets something else; ``fallback`` is its other name.

    For calls that are not critical as a whole: a recommendation, a badge, a second opinion. The failure is
    still an event, `FellBack`, so that a service that has lived on fallbacks for a week knows it::

        @fallback(lambda user_id: default_offers())
        async def offers(user_id): ...

        @degrade(default=())
        def badges(user_id): ...

    Failures of our own, *internal* and *validation*, are not covered unless *on* says so: a defect that hides
    behind a fallback is never found. What `classify` does not know is *internal*: `register` the exceptions
    of your SDKs, or name them with *on*. Cancellation and Ctrl-C pass through.

    Args:
        instead: A function that is called with the same arguments, ``def`` or, for an ``async def``, also
            ``async def``. Any other value is returned as it is.
        on: Which failures are covered: an exception type, a `Category`, a regular expression, a predicate,
            or a list of them, as for `RetryPolicy`. The default is all but our own.
        name: What events call it. The default is an empty text.

    Raises:
        TypeError: *on* is no filter, *name* is no text, or a plain function has a coroutine function for its
            fallback.
        ValueError: A regular expression cannot be read.
    """

    kind: ClassVar[str] = "fallback"

    def __init__(self, instead: Any, *, on: Filter | None = None, name: str = "") -> None:
        if on is not None:
            check_filter(on)
        self._instead = instead
        self._on = on
        self.name = text("name", name)

    def __repr__(self) -> str:
        what = name_of(self._instead) if callable(self._instead) else type(self._instead).__name__
        return f"Fallback({what})"

    def describe(self) -> str:
        """Return what it does, as a clause."""
        what = f"what {name_of(self._instead)} returns" if callable(self._instead) else "a default"
        which = "failures that are not our own" if self._on is None else "some failures"
        return f"after {which}, {what} instead"

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* with the fallback: a ``def`` for a ``def``, an ``async def`` for an ``async def``."""
        refuse_class(fn, "fallback")
        awaited = must_be_awaited(fn, "fallback")
        if not awaited and callable(self._instead) and must_be_awaited(self._instead, "fallback"):
            raise TypeError(
                f"{name_of(fn)} is a plain function, and its fallback {name_of(self._instead)} must be "
                "awaited"
            )
        target = name_of(fn)
        if awaited:

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                try:
                    return await cast("Callable[P, Awaitable[Any]]", fn)(*args, **kwargs)
                except Exception as exc:
                    if not self._covers(exc, target):
                        raise
                return await arun(self._other(args, kwargs, _asettled))

            return cast("Callable[P, R]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return fn(*args, **kwargs)
            except Exception as exc:
                if not self._covers(exc, target):
                    raise
            other: Flow[R] = self._other(args, kwargs, _settled)
            return run(other)

        return blocking

    def _covers(self, exc: Exception, target: str) -> bool:
        """Tell whether a failure is covered, and say so to whoever listens."""
        failure = classify(exc)
        covered = failure.category not in _OUR_OWN if self._on is None else matches(self._on, exc, failure)
        if covered:
            events.emit(events.FellBack, target=target, failure=failure, name=self.name)
        return covered

    def _other(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], settle: Callable[[Callable[[], Any]], Any]
    ) -> Flow[Any]:
        if not callable(self._instead):
            return self._instead
        return (yield partial(settle, partial(self._instead, *args, **kwargs)))


fallback = Fallback


def degrade(*, default: Any, on: Filter | None = None, name: str = "") -> Fallback:
    """Return a decorator that makes a failed call return *default*.

    Args:
        default: What is returned. It is never called and never copied: use `fallback` for a fresh list.
        on: As for `Fallback`.
        name: As for `Fallback`.

    Returns:
        The decorator.

    Raises:
        TypeError: *on* is no filter, or *name* is no text.
        ValueError: A regular expression cannot be read.
    """
    return Fallback(_Constant(default) if callable(default) else default, on=on, name=name)


class _Constant:
    """A value that can be called and is not meant to be."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._value


def _settled(call: Callable[[], Any]) -> Any:
    return call()


async def _asettled(call: Callable[[], Any]) -> Any:
    result = call()
    return await result if isawaitable(result) else result
