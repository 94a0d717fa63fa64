"""What a policy is told when it is made, checked: the same words for the same mistake."""

from math import inf
from typing import Any


def whole(parameter: str, value: Any, unit: str, *, least: int = 1) -> int:
    """Return *value*, the *parameter*, if it is a whole number of *least* or more.

    Raises:
        TypeError: It is no whole number.
        ValueError: It is too small.
    """
    if type(value) is not int:
        raise TypeError(f"{parameter} must be a whole number of {unit}, not {value!r}")
    if value < least:
        raise ValueError(f"{parameter} must be {least} or more {unit}, not {value}")
    return value


def number(parameter: str, value: Any, what: str) -> float:
    """Return *value*, the *parameter*, if it is a number.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{parameter} must be {what}, not {value!r}")
    return value


def patience(parameter: str, value: Any, *, zero: bool = False) -> float | None:
    """Return *value*, the *parameter*, if it is a time in seconds, more than 0 or also *zero*, or *None*.

    Raises:
        TypeError: It is no number.
        ValueError: It is out of range.
    """
    if value is None:
        return None
    seconds = number(parameter, value, "a time in seconds, or None")
    if not 0 <= seconds < inf or not (seconds or zero):
        least = "0 or more" if zero else "more than 0"
        raise ValueError(f"{parameter} must be {least} seconds, or None, not {value!r}")
    return seconds


def text(parameter: str, value: Any) -> str:
    """Return *value*, the *parameter*, if it is a text.

    Raises:
        TypeError: It is none.
    """
    if not isinstance(value, str):
        raise TypeError(f"{parameter} must be a text, not {value!r}")
    return value
