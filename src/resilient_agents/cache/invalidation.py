"""`Cache.invalidates`: what a function changes is loaded anew."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from resilient_agents._flow import Flow, arun, run
from resilient_agents.cache._names import Names
from resilient_agents.cache._tiers import Tiers
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY, Way
from resilient_agents.errors import classify
from resilient_agents.policies._functions import must_be_awaited, refuse_class

P = ParamSpec("P")
R = TypeVar("R")


class Invalidates:
    """The decorator that `Cache.invalidates` returns."""

    def __init__(self, tiers: Tiers, names: Names, keys: Sequence[str], tags: Sequence[str]) -> None:
        self._tiers = tiers
        self._names = names
        self._keys = tuple(keys)
        self._tags = tuple(tags)

    def __call__(self, fn: Callable[P, R]) -> Callable[P, R]:
        """Return *fn* such that what it changes is loaded anew.

        Raises:
            ConfigurationError: A key or a tag names no argument of *fn*, or leaves the tenant out.
            TypeError: *fn* is a class, a generator function, or no function.
        """
        refuse_class(fn, "invalidates")
        awaited = must_be_awaited(fn, "invalidates")
        key_ofs = [self._names.key_of(fn, key) for key in self._keys]
        tag_ofs = self._names.tags_of(fn, self._tags)

        def names(args: Any, kwargs: Any) -> tuple[list[str], list[str]]:
            keys = [key_of(args, kwargs) for key_of in key_ofs]
            return keys, [tag_of(args, kwargs) for tag_of in tag_ofs]

        if awaited:

            @wraps(fn)
            async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Any:
                keys, tags = names(args, kwargs)
                try:
                    result = await cast("Any", fn)(*args, **kwargs)
                except Exception as exc:
                    if classify(exc).outcome_unknown:
                        await arun(self._invalidated(keys, tags, AWAITING_WAY))
                    raise
                await arun(self._invalidated(keys, tags, AWAITING_WAY))
                return result

            return cast("Callable[P, R]", awaiting)

        @wraps(fn)
        def blocking(*args: P.args, **kwargs: P.kwargs) -> R:
            keys, tags = names(args, kwargs)
            try:
                result = fn(*args, **kwargs)
            except Exception as exc:
                if classify(exc).outcome_unknown:
                    run(self._invalidated(keys, tags, BLOCKING_WAY))
                raise
            run(self._invalidated(keys, tags, BLOCKING_WAY))
            return result

        return blocking

    def _invalidated(self, keys: Sequence[str], tags: Sequence[str], way: Way) -> Flow[bool]:
        return self._tiers.invalidate(keys, tags, way)
