"""The key of a call, made of its arguments."""

import re
from collections.abc import Callable, Hashable
from inspect import Parameter, signature
from string import Formatter
from typing import Any, TypeAlias

from resilient_agents.errors import ConfigurationError, ValidationFailed
from resilient_agents.policies._functions import name_of

Read: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], Hashable]
"""What reads the key off the positional and the keyword arguments of a call."""


def reader(key: str | Callable[..., Hashable], fn: Callable[..., Any]) -> Read:
    """Return what reads the key of each call of *fn*.

    Args:
        key: A template of the arguments, as ``"{host}"``, or a function that is called with them.
        fn: Whose calls they are.

    Raises:
        ConfigurationError: The template names an argument that *fn* does not have.
    """
    if not isinstance(key, str):
        return lambda args, kwargs: key(*args, **kwargs)
    parameters = list(signature(fn).parameters.values())
    by_name = {
        parameter.name: (place, parameter)
        for place, parameter in enumerate(parameters)
        if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }
    wanted = []
    for root in _roots(key):
        if root not in by_name:
            raise ConfigurationError(
                f"key {key!r} names {root!r}, which is no argument of {name_of(fn)}: name one, or "
                "give a function of the arguments"
            )
        wanted.append(by_name[root])

    def read(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        return _fill(
            key, {parameter.name: _value(place, parameter, args, kwargs) for place, parameter in wanted}
        )

    return read


def _roots(template: str) -> list[str]:
    """Return the names of the arguments in a template, without what is looked up in them."""
    fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    return list(dict.fromkeys(re.split(r"[.\[]", field)[0] for field in fields))


def _value(place: int, parameter: Parameter, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if parameter.kind is not Parameter.KEYWORD_ONLY and place < len(args):
        return args[place]
    if parameter.kind is not Parameter.POSITIONAL_ONLY and parameter.name in kwargs:
        return kwargs[parameter.name]
    if parameter.default is Parameter.empty:
        raise TypeError(f"missing an argument: {parameter.name!r}")
    return parameter.default


def _fill(template: str, arguments: dict[str, Any]) -> str:
    try:
        return template.format_map(arguments)
    except (LookupError, AttributeError, ValueError, TypeError):
        problem = f"cannot be made of the arguments as {template!r}"
        raise ValidationFailed(
            f"key {problem}", errors=[{"loc": ["key"], "msg": problem, "type": "key"}]
        ) from None
