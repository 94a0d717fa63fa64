"""An action from its beginning to its end: how long it took, how it ended, and why."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypedDict, TypeVar, cast

from resilient_agents._clock import clock
from resilient_agents.policies._functions import must_be_awaited, refuse_class

if TYPE_CHECKING:
    from resilient_agents.activity.log import ActivityLog

P = ParamSpec("P")
R = TypeVar("R")


class Options(TypedDict, total=False):
    """What `ActivityLog.track` passes on to `ActivityLog.record`."""

    organization_id: str | None
    agent_id: str | None
    critical: bool
    priority: Literal["normal", "low"]
    on_failure: Literal["open", "closed"]


class Tracked:
    """One action that is being tracked: a ``with`` block, an ``async with`` block, or a decorator.

    Attributes:
        metadata: What else there is to say. Add to it while the action runs.
        status: How the action ends, if it ends well; set it to say it in your own word.
    """

    def __init__(
        self,
        log: "ActivityLog",
        action: str,
        metadata: Mapping[str, Any] | None,
        options: Options,
    ) -> None:
        self._log = log
        self._action = action
        self._options = options
        self._started = 0.0
        self.metadata: dict[str, Any] = dict(metadata or {})
        self.status = "ok"

    def __enter__(self) -> Self:
        if self._options.get("on_failure") == "closed":
            self._log.record(self._action, metadata=self.metadata, status="started", **self._options)
        self._started = clock().monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        duration = (clock().monotonic() - self._started) * 1000
        if exc is None:
            status, error = self.status, None
        elif isinstance(exc, Exception):
            status, error = "error", exc
        else:
            status, error = "cancelled", None
        # What the action raised matters more than that its end could not be recorded.
        with suppress(*(() if exc is None else (Exception,))):
            self._log.record(
                self._action,
                metadata=self.metadata,
                status=status,
                duration_ms=duration,
                error=error,
                **self._options,
            )

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, exc, traceback)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* such that each call is tracked: a ``def`` or an ``async def``, like *fn*.

        Raises:
            TypeError: *fn* is a class, a generator function, or no function.
        """
        refuse_class(fn, "track")
        fresh = self._fresh
        if must_be_awaited(fn, "track"):
            awaited = cast("Callable[P, Awaitable[Any]]", fn)

            @wraps(fn)
            async def acall(*args: P.args, **kwargs: P.kwargs) -> Any:
                with fresh():
                    return await awaited(*args, **kwargs)

            return cast("Callable[P, R]", acall)

        @wraps(fn)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with fresh():
                return fn(*args, **kwargs)

        return call

    def _fresh(self) -> "Tracked":
        return Tracked(self._log, self._action, self.metadata, self._options)
