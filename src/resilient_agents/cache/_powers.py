"""What a cached function can do besides being called, bound as the function is; see `Cached`."""

import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from resilient_agents._flow import arun, run
from resilient_agents.cache._calls import glimpsed, renewed
from resilient_agents.cache._functions import Function
from resilient_agents.cache._ways import AWAITING_WAY, BLOCKING_WAY


def with_powers(function: Function, fn: Callable[..., Any], call: Callable[..., Any]) -> Any:
    """Return *call* in the clothes of *fn*, with what a cached function can do besides; see `Cached`."""
    way = AWAITING_WAY if function.awaited else BLOCKING_WAY
    perform: Any = arun if function.awaited else run
    tiers, key_of = function.tiers, function.key_of

    def key_for(*args: Any, **kwargs: Any) -> str:
        return key_of(args, kwargs)

    def invalidate(*args: Any, **kwargs: Any) -> Any:
        return perform(tiers.invalidate((key_of(args, kwargs),), (), way))

    def refresh(*args: Any, **kwargs: Any) -> Any:
        return perform(renewed(tiers, function.begun(*args, **kwargs), way))

    def peek(*args: Any, **kwargs: Any) -> Any:
        return perform(glimpsed(tiers, function.begun(*args, **kwargs), way))

    powered: Any = wraps(fn)(call)
    powered.key_for, powered.invalidate = key_for, invalidate
    powered.refresh, powered.peek = refresh, peek
    return Method(powered) if _is_in_class(fn) else powered


def _is_in_class(fn: Callable[..., Any]) -> bool:
    owner = getattr(fn, "__qualname__", "").rpartition(".")[0]
    return bool(owner) and not owner.endswith("<locals>")


class Method(partial[Any]):
    """A cached function in a class: bound to an object, what it can do is bound too.

    `inspect` sees through a ``partial``, to whether it must be awaited.
    """

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(partial(self.func, *self.args))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self.func if instance is None else Method(self.func, instance)

    def __getattr__(self, name: str) -> Any:
        if name in _POWERS:
            power = getattr(self.func, name)
            if self.args or next(iter(inspect.signature(self.func).parameters), "") != "cls":
                return partial(power, *self.args)
            return partial(_of_a_class, power)
        if name in _CLOTHES:
            return getattr(self.func, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def _of_a_class(power: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Use a power of a class method that is not bound: below ``@classmethod`` none is, since Python 3.13."""
    if not isinstance(kwargs.get("cls", *args[:1]), type):
        raise TypeError(
            f"{power.__name__}() is not told which class it is for: put @cache.cached above @classmethod"
        )
    return power(*args, **kwargs)


class ClassMethod(Method):
    """A cached class method: bound to a class, what it can do is bound too."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return Method(self.func, type(instance) if owner is None else owner)


_POWERS = frozenset({"invalidate", "key_for", "peek", "refresh"})
_CLOTHES = frozenset({"__name__", "__qualname__"})
