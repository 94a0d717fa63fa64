"""How settings are checked: one rule a name, and whoever breaks it is told which name and why."""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from resilient_agents.errors import ValidationFailed

Rule: TypeAlias = tuple[Callable[[Any], bool], str]
"""Whether a value is good, and what a good value is in words."""


def is_text(value: Any) -> bool:
    """Return whether *value* is a string with something in it."""
    return isinstance(value, str) and bool(value)


def is_flag(value: Any) -> bool:
    """Return whether *value* is a bool."""
    return isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Return whether *value* is a whole number from 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_number(value: Any) -> bool:
    """Return whether *value* is a finite number from 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


TEXT: Rule = (is_text, "a string that is not empty")
FLAG: Rule = (is_flag, "true or false")
SECONDS: Rule = (is_number, "a number of seconds, 0 or more")


def optional(rule: Rule) -> Rule:
    """Return *rule*, opened to *None*."""
    holds, words = rule
    return (lambda value: value is None or holds(value), f"{words}, or none")


def one_of(*choices: str) -> Rule:
    """Return the rule that a value is one of *choices*."""
    return (lambda value: isinstance(value, str) and value in choices, f"one of {', '.join(choices)}")


def invalid(subject: str, name: str, complaint: str) -> ValidationFailed:
    """Return the error that the field *name* of *subject* has a *complaint*."""
    error = {"loc": (name,), "msg": complaint, "type": "fake_kommo.setting"}
    return ValidationFailed(f"{subject}: {name!r} {complaint}", errors=[error])


def check(subject: str, values: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Hold every one of *values* against its rule.

    Args:
        subject: What the values belong to, for the message.
        values: Values by name.
        rules: Rules by name; a value without a rule is unknown.

    Raises:
        ValidationFailed: A name is unknown or a value breaks its rule; the message names it.
    """
    for name, value in values.items():
        if name not in rules:
            raise invalid(subject, name, f"is unknown; known are {', '.join(rules)}")
        holds, words = rules[name]
        if not holds(value):
            raise invalid(subject, name, f"must be {words}")
