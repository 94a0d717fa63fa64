"""Functions whose arguments are stored before they are called."""

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, iscoroutinefunction, signature
from string import Formatter
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, overload

from resilient_agents._flow import Flow, arun, run
from resilient_agents.deadletter.entry import Receipt
from resilient_agents.errors import ConfigurationError, ValidationFailed

if TYPE_CHECKING:
    from resilient_agents.deadletter.delivery import Perform
    from resilient_agents.deadletter.queue import DeadLetterQueue
    from resilient_agents.deadletter.target import Target

P = ParamSpec("P")
R = TypeVar("R")


class Protector(Protocol):
    """A decorator for ``def`` and ``async def``: the function returns a receipt instead of its value."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # an async def is a def that returns an awaitable
        self, function: Callable[P, Awaitable[R]], /
    ) -> Callable[P, Awaitable[Receipt[R]]]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, Receipt[R]]: ...


def protected(
    queue: "DeadLetterQueue",
    topic: str,
    key: str,
    target: "Callable[[Callable[[Mapping[str, Any]], Any]], Target]",
    function: Callable[P, R],
) -> Callable[P, Any]:
    """Return *function* such that its arguments are stored before it is called.

    Args:
        queue: Where they are stored.
        topic: A name for this work.
        key: Idempotency key, as a template of the arguments.
        target: Makes the queue's target of a function that takes the arguments as one mapping.
        function: A ``def`` or ``async def``.

    Raises:
        ConfigurationError: An argument has no name, or *key* names none of them.
    """
    parameters = _checked_signature(function, key)
    queue.attach(topic, target(_unpacking(function)))

    def hand_in(perform: "Perform", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow[Receipt[R]]:
        bound = parameters.bind(*args, **kwargs)
        bound.apply_defaults()
        return queue.hand_in(perform, topic, bound.arguments, key=_key(key, bound.arguments))

    @wraps(function)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> Receipt[R]:
        return run(hand_in(queue.blocking, args, kwargs))

    @wraps(function)
    async def awaiting(*args: P.args, **kwargs: P.kwargs) -> Receipt[R]:
        return await arun(hand_in(queue.awaiting, args, kwargs))

    return awaiting if iscoroutinefunction(function) else blocking


def _key(template: str, arguments: Mapping[str, Any]) -> str:
    try:
        return template.format_map(arguments)
    except (LookupError, AttributeError, TypeError, ValueError):
        problem = f"cannot be made of the arguments as {template!r}"
        raise ValidationFailed(
            f"key {problem}", errors=[{"loc": ["key"], "msg": problem, "type": "key"}]
        ) from None


def _checked_signature(function: Callable[..., Any], key: str) -> Signature:
    """Return the signature of *function*, if its arguments can be stored and make a *key*.

    Raises:
        ConfigurationError: An argument has no name, or *key* names none of them.
    """
    parameters = signature(function)
    by_name = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    if not all(parameter.kind in by_name for parameter in parameters.parameters.values()):
        raise ConfigurationError("a protected function takes named arguments only: no /, *args or **kwargs")
    for _, field, _, _ in Formatter().parse(key):
        if field is not None and re.split(r"[.\[]", field)[0] not in parameters.parameters:
            raise ConfigurationError(
                f"key {key!r} names an argument that the protected function does not have"
            )
    return parameters


def _unpacking(function: Callable[..., Any]) -> Callable[[Mapping[str, Any]], Any]:
    """Return *function* as a handler, called with a mapping of its arguments."""
    if iscoroutinefunction(function):

        async def acall(arguments: Mapping[str, Any]) -> Any:
            return await function(**arguments)

        return acall
    return lambda arguments: function(**arguments)
