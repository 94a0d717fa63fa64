"""JSON that says what its values were: what JSON has no word for is an object with the single key ``$t``.

``Decimal("1.0")`` is written as ``{"$t": ["Decimal", "1.0"]}``, and a dictionary that looks like that, or
whose keys are not all text, as ``{"$t": ["dict", [[key, value], ...]]}``. Objects of classes are written
only where the reader knows the class by itself: no class is ever loaded because of what is read.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

TAG = "$t"

NESTING_LIMIT = 150
"""How deep the JSON may be; pydantic reads 200."""

DIGITS_LIMIT = 13_000
"""How many bits an integer may have, so that every process reads its digits (4300 by default)."""

Classes = Mapping[str, type]
"""The classes whose objects may be restored, by name."""


class Unfit(Exception):
    """A value cannot be restored as what it is; the text says what it is."""


class UnfitClass(Unfit):
    """A value is of a class that the annotation does not name."""


def is_plain(value: Any, depth: int = 0) -> bool:
    """Tell whether JSON restores *value* exactly as it is."""
    kind = type(value)
    if kind is str or kind is bool or value is None or kind is float:
        return True
    if kind is int:
        return bool(value.bit_length() <= DIGITS_LIMIT)
    if depth >= NESTING_LIMIT:
        return False
    if kind is list:
        return all(is_plain(item, depth + 1) for item in value)
    if kind is not dict:
        return False
    return all(type(key) is str and is_plain(item, depth + 1) for key, item in value.items())


def tagged(value: Any, classes: Classes, depth: int = 0) -> Any:
    """Return *value* as JSON has it.

    Args:
        value: What to write.
        classes: Of which classes there may be objects in it.
        depth: How deep in the JSON it is.

    Raises:
        Unfit: *value* is, or holds, something that `restored` could not restore.
    """
    kind = type(value)
    if depth >= NESTING_LIMIT:
        raise Unfit(f"a value nested more than {NESTING_LIMIT} deep")
    if value is None or kind in (str, bool, float):
        return value
    if kind is int:
        if value.bit_length() > DIGITS_LIMIT:
            raise Unfit("an integer of more than 3900 digits")
        return value
    if kind is list:
        return [tagged(item, classes, depth + 1) for item in value]
    if kind is dict and TAG not in value and all(type(key) is str for key in value):
        return {key: tagged(item, classes, depth + 1) for key, item in value.items()}
    name, parts = _parts(value, kind, classes)
    return {TAG: [name, tagged(parts, classes, depth + 2)]}


def _parts(value: Any, kind: type, classes: Classes) -> tuple[str, Any]:
    """Return the tag of *value* and what it is made of."""
    writer = _WRITERS.get(kind)
    if writer is not None:
        return kind.__name__, writer(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name not in classes:
        raise UnfitClass(f"a {name.removeprefix('builtins.')}")
    if isinstance(value, Enum):
        return name, value.value if isinstance(value, Flag) else value.name
    if isinstance(value, tuple):
        return name, list(value)
    if is_dataclass(value):
        return name, {field.name: getattr(value, field.name) for field in fields(value)}
    return name, {**value.__dict__, **(value.__pydantic_extra__ or {})}


def restored(tree: Any, classes: Classes) -> Any:
    """Return what `tagged` made *tree* of.

    Raises:
        Exception: *tree* was not made by `tagged` with the same classes.
    """
    if type(tree) is list:
        return [restored(item, classes) for item in tree]
    if type(tree) is not dict:
        return tree
    if TAG not in tree:
        return {key: restored(item, classes) for key, item in tree.items()}
    ((name, parts),) = tree.values()
    parts = restored(parts, classes)
    reader = _READERS.get(name)
    if reader is not None:
        return reader(parts)
    kind: Any = classes[name]
    if issubclass(kind, Enum):
        return kind(parts) if issubclass(kind, Flag) else kind[parts]
    if issubclass(kind, tuple):
        return kind(*parts)
    if hasattr(kind, "__dataclass_fields__"):
        return kind(**parts)
    if "root" in parts and kind.__pydantic_root_model__:
        return kind.model_validate(parts["root"])
    return kind.model_validate({_alias(kind, field): part for field, part in parts.items()})


def _alias(model: Any, name: str) -> str:
    """Return what a pydantic model calls its field on the way in."""
    field = model.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    for choice in getattr(alias, "choices", [alias]):
        if isinstance(choice, str):
            return choice
    return name


def _write_moment(value: datetime | time) -> list[Any]:
    zone: Any = value.tzinfo
    if isinstance(zone, ZoneInfo):
        zone = zone.key
    elif zone is not None:
        zone = zone.utcoffset(None)
    if zone is None and value.tzinfo is not None:
        raise Unfit(f"a time whose zone is a {type(value.tzinfo).__qualname__}")
    return [value.replace(tzinfo=None, fold=0).isoformat(), zone, value.fold]


def _read_moment(kind: Any, parts: list[Any]) -> Any:
    text, zone, fold = parts
    if isinstance(zone, str):
        zone = ZoneInfo(zone)
    elif zone is not None:
        zone = timezone(zone)
    return kind.fromisoformat(text).replace(tzinfo=zone, fold=fold)


_WRITERS: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: [[key, item] for key, item in value.items()],
    tuple: list,
    set: list,
    frozenset: list,
    bytes: lambda value: value.hex(),
    bytearray: lambda value: value.hex(),
    complex: lambda value: [value.real, value.imag],
    Decimal: str,
    UUID: str,
    date: lambda value: value.isoformat(),
    datetime: _write_moment,
    time: _write_moment,
    timedelta: lambda value: [value.days, value.seconds, value.microseconds],
}

_READERS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
    "complex": lambda parts: complex(*parts),
    "Decimal": Decimal,
    "UUID": UUID,
    "date": date.fromisoformat,
    "datetime": lambda parts: _read_moment(datetime, parts),
    "time": lambda parts: _read_moment(time, parts),
    "timedelta": lambda parts: timedelta(*parts),
}
