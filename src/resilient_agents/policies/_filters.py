"""Which failures a policy means: types, categories, regular expressions, predicates."""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

from resilient_agents.errors import Category, Failure
from resilient_agents.policies._functions import is_awaited
from resilient_agents.policies._tenacity import is_tenacitys_retry

Criterion: TypeAlias = type[Exception] | Category | str | re.Pattern[str] | Callable[[Any], object]
Filter: TypeAlias = Criterion | tuple[Criterion, ...] | list[Criterion]
"""Which failures are meant: an exception type, a category, a regular expression (searched for in
``"TypeName: message"``), a predicate that is given the exception; or several of them."""


def check_filter(
    on: Any, parameter: str = "on", reason: str = "cancellation and Ctrl-C are never caught"
) -> None:
    """Refuse what can be no filter, while the person who wrote it is looking.

    Args:
        on: What was handed in.
        parameter: What the caller calls it, for the message. The default is ``"on"``.
        reason: Why it cannot hold what is no `Exception`, for the message.

    Raises:
        TypeError: It is none of the things that a filter can be.
        ValueError: It is no regular expression.
    """
    for criterion in on if isinstance(on, tuple | list) else (on,):
        if isinstance(criterion, str):
            try:
                re.compile(criterion)
            except re.error as exc:
                raise ValueError(f"{parameter}={criterion!r} is no regular expression: {exc}") from exc
        elif isinstance(criterion, type) and not issubclass(criterion, Exception):
            raise TypeError(
                f"{parameter}= cannot hold {criterion.__qualname__}: it takes subclasses of Exception; "
                f"{reason}"
            )
        elif is_awaited(criterion):
            raise TypeError(f"{parameter}= cannot wait for {criterion!r}: a predicate is a plain function")
        elif not (isinstance(criterion, re.Pattern) or callable(criterion)):
            raise TypeError(
                f"{parameter}= takes exception types, categories, regular expressions, predicates or a list "
                f"of these, not a value of type {type(criterion).__name__}"
            )


def matches(on: Filter, exc: Exception, failure: Failure, state: Any = None) -> bool:
    """Tell whether a filter names a failure.

    Args:
        on: The filter.
        exc: What was raised.
        failure: What `classify` says of it.
        state: What a condition of tenacity's is given in place of *exc*.
    """
    if isinstance(on, tuple | list):
        return any(matches(criterion, exc, failure, state) for criterion in on)
    if isinstance(on, Category):
        return failure.category is on
    if isinstance(on, str | re.Pattern):
        return re.search(on, f"{type(exc).__name__}: {exc}") is not None
    if isinstance(on, type):
        return isinstance(exc, on)
    return bool(on(state if is_tenacitys_retry(on) else exc))
