"""Whether what was read back is what was written: equal, and of the same types all the way down."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import datetime, time
from decimal import Decimal
from math import copysign, isnan
from typing import Any
from zoneinfo import ZoneInfo


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types, in everything they hold too.

    Stricter than ``==``: ``1`` is not ``True``, ``Decimal("1.0")`` not ``Decimal("1")``, and a time in Paris
    is not the same time at an offset of one hour. Not-a-number is the same as itself.
    """
    kind = type(one)
    if kind is not type(other):
        return False
    for sort, compare in _COMPARED.items():
        if issubclass(kind, sort):
            return compare(one, other)
    if is_dataclass(kind):
        return _attributes(one, other, [field.name for field in fields(one)])
    if hasattr(kind, "__pydantic_fields_set__"):
        return (
            _attributes(one, other, kind.model_fields)
            and same(one.__pydantic_extra__, other.__pydantic_extra__)
            and same(one.__pydantic_private__, other.__pydantic_private__)
        )
    return bool(one == other)


def _attributes(one: Any, other: Any, names: Any) -> bool:
    return all(same(getattr(one, name), getattr(other, name)) for name in names)


def _rows(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _mappings(one: Any, other: Any) -> bool:
    return _rows(list(one), list(other)) and _rows(list(one.values()), list(other.values()))


def _sets(one: Any, other: Any) -> bool:
    own = {item: item for item in one}
    return len(one) == len(other) and all(item in own and same(own[item], item) for item in other)


def _floats(one: float, other: float) -> bool:
    return (one == other and copysign(1, one) == copysign(1, other)) or (isnan(one) and isnan(other))


def _moments(one: Any, other: Any) -> bool:
    zones = (one.tzinfo, other.tzinfo)
    if any(isinstance(zone, ZoneInfo) for zone in zones) and zones[0] is not zones[1]:
        return False
    told = [(moment.replace(tzinfo=None), moment.utcoffset(), moment.fold) for moment in (one, other)]
    return told[0] == told[1]


_COMPARED: dict[type, Callable[[Any, Any], bool]] = {
    list: _rows,
    tuple: _rows,
    dict: _mappings,
    set: _sets,
    frozenset: _sets,
    float: _floats,
    Decimal: lambda one, other: str(one) == str(other),
    datetime: _moments,
    time: _moments,
}
