"""How a value is spelled in a key: typed, one spelling for one value, the same in every process.

=====================  =========================================================================
value                  spelling
=====================  =========================================================================
``"42"``, ``""``       ``42``, ``""``; in other text all of ASCII but letters, digits and ``-._@+``
                       becomes ``%`` and two hexadecimal digits
``42``, ``4.2``        ``#42``, ``#4.2``
``None``, ``True``     ``#None``, ``#True``
``(1, "a")``           ``#(#1,a)``
``{"a": [1]}``         ``#dict(a=#[#1])``, sorted; a set likewise
``Decimal("1.0")``     ``#Decimal(1.0)``
an enum's member       ``#shop.Color(RED)``
a model or dataclass   ``#shop.Page(number=#1,size=#20)``
=====================  =========================================================================

Each spelling shows where it ends before a character that it escapes, so that spellings can stand in a row.
"""

import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import fields
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum, Flag
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

SMALL = 1 << 63
"""Integers below it are spelled in decimal; a process may limit the digits of larger ones."""

NESTING_LIMIT = 50

# What is a letter outside of ASCII differs between versions of Unicode, so all of it stays as it is.
ESCAPED = re.compile(r"[^\w.@+\-\u00a0-\ud7ff\ue000-\U0010ffff]", re.ASCII)


class Unfit(Exception):
    """A value has no spelling; the text says what it is, in words."""


def spell(value: Any, depth: int = 0) -> str:
    """Return the spelling of *value*.

    Args:
        value: Anything of the types in the table above, nested too.
        depth: How many containers it is in.

    Raises:
        Unfit: *value* is, or holds, something that two processes would not spell alike.
    """
    kind = type(value)
    if kind is str:
        plain = value.isalnum() or value.replace("-", "").isalnum()
        return value if plain else _text(value)
    speller = _SPELLERS.get(kind)
    if depth > NESTING_LIMIT:
        raise Unfit(f"a {kind.__name__} nested more than {NESTING_LIMIT} deep")
    if speller is not None:
        return "#" + speller(value, depth + 1)
    return "#" + _of_a_class(value, depth + 1)


def _text(value: str) -> str:
    return ESCAPED.sub(_escape, value) or '""'


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"%{code:02X}" if code < 256 else f"%u{code:04X}"


def _integer(value: int, _: int) -> str:
    return format(value, "d") if -SMALL < value < SMALL else format(value, "#x")


def _row(values: Iterable[Any], depth: int) -> str:
    return ",".join([spell(value, depth) for value in values])


def _sorted_row(values: Iterable[Any], depth: int) -> str:
    return ",".join(sorted([spell(value, depth) for value in values]))


def _pairs(pairs: Iterable[tuple[str, Any]], depth: int) -> str:
    return ",".join([f"{_text(name)}={spell(value, depth)}" for name, value in pairs])


def _mapping(value: dict[Any, Any], depth: int) -> str:
    rows = sorted([f"{spell(key, depth)}={spell(item, depth)}" for key, item in value.items()])
    return f"dict({','.join(rows)})"


def _zone(value: tzinfo | None) -> str:
    """Return the spelling of a time zone that is more than the offset in the time itself."""
    if isinstance(value, ZoneInfo) and value.key:
        return f",{_text(value.key)}"
    if value is None or (not isinstance(value, ZoneInfo) and value.utcoffset(None) is not None):
        return ""
    raise Unfit(f"a time whose zone is a {type(value).__qualname__} (use zoneinfo or datetime.timezone)")


def _moment(value: datetime | time, _: int) -> str:
    fold = ",fold" if value.fold else ""
    return f"{type(value).__name__}({value.isoformat()}{fold}{_zone(value.tzinfo)})"


def _of_a_class(value: Any, depth: int) -> str:
    """Spell what is told by its class and what is in it."""
    kind = type(value)
    if isinstance(value, Enum):
        member = _integer(value._value_, 0) if isinstance(value, Flag) else _text(value.name)
        return f"{_name(kind)}({member})"
    if isinstance(value, UUID):
        return f"UUID({UUID.__str__(value)})"
    if isinstance(value, type) and "<locals>" not in value.__qualname__:
        return f"type({_name(value)})"
    if "__dataclass_fields__" in vars(kind):
        pairs = [(field.name, getattr(value, field.name)) for field in fields(value)]
        return f"{_name(kind)}({_pairs(pairs, depth)})"
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return f"{_name(kind)}({_pairs(zip(kind._fields, value, strict=True), depth)})"
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(value, pydantic.BaseModel):
        return f"{_name(kind)}({_pairs(_model(value), depth)})"
    for plain, exact in _EXACT.items():
        if isinstance(value, plain) and not getattr(value, "__dict__", None):
            return f"{_name(kind)}({spell(exact(value), depth)})"
    raise Unfit(f"a {_name(kind).removeprefix('builtins.')}")


def _model(value: Any) -> list[tuple[str, Any]]:
    """Return what makes two pydantic models equal: fields, extras, private attributes."""
    parts = {**value.__dict__, **(value.__pydantic_extra__ or {}), **(value.__pydantic_private__ or {})}
    return sorted(parts.items())


def _name(kind: type) -> str:
    return _text(f"{kind.__module__}.{kind.__qualname__}")


_EXACT: dict[type, Callable[[Any], Any]] = {str: str.__str__, int: int.__pos__, float: float.__pos__}
"""What turns a value of a subclass into one of the class itself, whatever the subclass overrides."""

_SPELLERS: dict[type, Callable[[Any, int], str]] = {
    type(None): lambda value, _: "None",
    bool: lambda value, _: str(value),
    int: _integer,
    float: lambda value, _: repr(value),
    complex: lambda value, depth: f"complex({spell(value.real, depth)},{spell(value.imag, depth)})",
    bytes: lambda value, _: f"bytes({value.hex()})",
    bytearray: lambda value, _: f"bytearray({value.hex()})",
    tuple: lambda value, depth: f"({_row(value, depth)})",
    list: lambda value, depth: f"[{_row(value, depth)}]",
    set: lambda value, depth: f"set({_sorted_row(value, depth)})",
    frozenset: lambda value, depth: f"frozenset({_sorted_row(value, depth)})",
    dict: _mapping,
    # The case of an exponent is a setting of the context.
    Decimal: lambda value, _: f"Decimal({str(value).upper()})",
    datetime: _moment,
    time: _moment,
    date: lambda value, _: f"date({value.isoformat()})",
    timedelta: lambda value, _: f"timedelta({value.days},{value.seconds},{value.microseconds})",
}
