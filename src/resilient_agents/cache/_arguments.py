"""The arguments of a call, however they are given."""

from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

_MANY, _REST = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD
_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_MISSING: Any = object()


class Arguments:
    """The values of a call's arguments, each at its place in the signature."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._signature = signature(fn)
        parameters = list(self._signature.parameters.values())
        kinds = [parameter.kind for parameter in parameters]
        self._names = [parameter.name for parameter in parameters]
        self.places = {name: place for place, name in enumerate(self._names)}
        self._positional = sum(kind in _BY_PLACE for kind in kinds)
        self._named = {name: place for name, place in self.places.items() if kinds[place] in _BY_NAME}
        self._many = kinds.index(_MANY) if _MANY in kinds else None
        self._rest = kinds.index(_REST) if _REST in kinds else None
        self._defaults = [
            _MISSING if parameter.default is Parameter.empty else parameter.default
            for parameter in parameters
        ]
        self._required = sum(default is _MISSING for default in self._defaults)
        self.count = len(kinds) if set(kinds) <= {Parameter.POSITIONAL_OR_KEYWORD} else -1
        """How many arguments, all given by position, are the values themselves; -1 where none are."""
        self._by_name = [frozenset(self._names[place:]) for place in range(len(kinds) + 1)]

    def values(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[Any]:
        """Return the values.

        Raises:
            TypeError: The function cannot be called like that; the error is the one of `inspect`.
        """
        if not kwargs and self._required <= len(args) <= self.count:
            return [*args, *self._defaults[len(args) :]]
        if len(args) + len(kwargs) == self.count and kwargs.keys() == self._by_name[len(args)]:
            return [*args, *map(kwargs.__getitem__, self._names[len(args) :])]
        by_place = args[: self._positional]
        values = [*by_place, *self._defaults[len(by_place) :]]
        if self._many is not None:
            values[self._many] = args[len(by_place) :]
        rest = {}
        for name, value in kwargs.items():
            place = self._named.get(name, -1)
            if place >= len(by_place):
                values[place] = value
            else:
                rest[name] = value
        if self._rest is not None and rest.keys().isdisjoint(self._named):
            values[self._rest] = rest
            rest = {}
        wrong = rest or (self._many is None and len(args) > len(by_place))
        if wrong or any(value is _MISSING for value in values):
            self._signature.bind(*args, **kwargs)
        return values
