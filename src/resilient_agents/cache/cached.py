"""What a cached function is to its users, and to type checkers."""

from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from resilient_agents.cache._entry import Miss

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")


class Cached(Protocol[P, R_co]):
    """A ``def`` that is cached. It is called as before; the methods here take the same arguments."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Return the value, from the cache or from the function."""
        ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call, as it stands in the store and in events."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Make every process load the value anew when it is next asked for.

        Returns:
            Whether the store knows; else it is told as soon as it answers again.
        """
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Load the value now, keep it and return it; loads that began before are not kept."""
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R_co | Miss:
        """Return the value that a call would get from the cache, or `MISS`. Never calls the function."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> "Cached[P, R_co]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[S, Q], R_co]", instance: S, owner: type | None = None, /
    ) -> "Cached[Q, R_co]": ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind it to an object, as a method."""
        ...


class AsyncCached(Protocol[P, R_co]):
    """An ``async def`` that is cached. It is called as before; the methods here take the same arguments."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Return the value, from the cache or from the function."""
        ...

    def key_for(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key of a call, as it stands in the store and in events."""
        ...

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, bool]:
        """Make every process load the value anew when it is next asked for.

        Returns:
            Whether the store knows; else it is told as soon as it answers again.
        """
        ...

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Load the value now, keep it and return it; loads that began before are not kept."""
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co | Miss]:
        """Return the value that a call would get from the cache, or `MISS`. Never calls the function."""
        ...

    @overload
    def __get__(self, instance: None, owner: type | None = None, /) -> "AsyncCached[P, R_co]": ...
    @overload
    def __get__(
        self: "AsyncCached[Concatenate[S, Q], R_co]", instance: S, owner: type | None = None, /
    ) -> "AsyncCached[Q, R_co]": ...
    def __get__(self, instance: Any, owner: type | None = None, /) -> Any:
        """Bind it to an object, as a method."""
        ...


class Caching(Protocol):
    """The decorator that `Cache.cached` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Cached[P, R]: ...
    def __call__(self, fn: Callable[..., Any], /) -> Any:
        """Return *fn* with a cache."""
        ...
