"""Values of every supported type, and what makes two of them the same."""

import struct
from collections.abc import Hashable
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from pydantic import BaseModel


class Color(Enum):
    """An enum of text."""

    RED = "red"
    GREEN = "green"


class Word(StrEnum):
    """An enum whose members are equal to text."""

    RED = "red"
    ONE = "1"


class Number(IntEnum):
    """An enum whose members are equal to numbers."""

    ONE = 1
    TWO = 2


class Rights(IntFlag):
    """Flags, whose unions have no member of their own."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: Any


@dataclass(frozen=True)
class Page:
    """A dataclass."""

    number: int
    order: Any = None


class Agent(BaseModel):
    """A model."""

    id: str
    limits: dict[str, float] = {}
    parent: "Agent | None" = None


class Robot(BaseModel):
    """Another model of the same shape."""

    id: str
    limits: dict[str, float] = {}
    parent: Agent | None = None


def identity(value: Any) -> Hashable:
    """Return what tells *value* from every other: its types and contents, all the way down."""
    kind = type(value)
    parts: Any = value
    if kind is float:
        parts = "nan" if value != value else struct.pack(">d", value)
    elif kind is Decimal:
        parts = str(value.as_tuple())
    elif kind is dict:
        parts = frozenset((identity(key), identity(item)) for key, item in value.items())
    elif kind in (set, frozenset):
        parts = frozenset(map(identity, value))
    elif isinstance(value, list | tuple):
        parts = tuple(map(identity, value))
    elif kind in (datetime, time):
        zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else value.utcoffset()
        parts = (value.replace(tzinfo=None).isoformat(), zone, value.fold)
    elif isinstance(value, BaseModel):
        parts = identity(value.__dict__)
    elif is_dataclass(value):
        parts = tuple(identity(getattr(value, field.name)) for field in fields(value))
    elif kind is bytearray:
        parts = bytes(value)
    return kind, parts


ZONES = [None, UTC, timezone(timedelta(hours=1)), timezone(timedelta(hours=-5, minutes=-30)), ZoneInfo("UTC")]
ZONES += [ZoneInfo("Europe/Paris"), ZoneInfo("Europe/Berlin")]
zones = st.sampled_from(ZONES)

# What separates, quotes, opens and closes in keys and in JSON comes up more often than in other text.
texts = st.text(alphabet=':#%,()[]{}="~-./$t1aN \\\n\u00e9', max_size=4) | st.text(max_size=20)
numbers = st.integers() | st.integers(-3, 3)
moments = st.datetimes(timezones=zones) | st.builds(
    lambda zone, fold: datetime(2026, 10, 25, 2, 30, tzinfo=zone, fold=fold), zones, st.sampled_from([0, 1])
)
fixed_zones = st.sampled_from([zone for zone in ZONES if not isinstance(zone, ZoneInfo)])

# In a set or as a key, not-a-number is not equal to itself: no value could be compared with what was stored.
HASHABLE: dict[Any, st.SearchStrategy[Any]] = {
    None: st.none(),
    bool: st.booleans(),
    int: numbers,
    float: st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, 1.0]),
    str: texts | st.sampled_from(["1", "None", "True", "2026-01-01", "nan", ""]),
    bytes: st.binary(max_size=8),
    Decimal: st.decimals(allow_nan=False) | st.sampled_from([Decimal("1.0"), Decimal(1), Decimal("1E+30")]),
    UUID: st.uuids(),
    date: st.dates(),
    datetime: moments,
    time: st.times(timezones=fixed_zones),
    timedelta: st.timedeltas(),
    Color: st.sampled_from(Color),
    Word: st.sampled_from(Word),
    Number: st.sampled_from(Number),
    Rights: st.sampled_from([Rights.READ, Rights.WRITE, Rights.READ | Rights.WRITE, Rights(0)]),
}

LEAVES = HASHABLE | {
    float: st.floats(),
    complex: st.complex_numbers(allow_nan=False),
    Decimal: st.decimals(allow_nan=True) | st.sampled_from([Decimal("1.0"), Decimal(1), Decimal("-0")]),
    bytearray: st.builds(bytearray, st.binary(max_size=8)),
}

hashables = st.one_of(*HASHABLE.values())
leaves = st.one_of(*LEAVES.values())


ENUMS = {Color, Word, Number, Rights}

plain_hashables = st.one_of(*(strategy for kind, strategy in HASHABLE.items() if kind not in ENUMS))
plain_leaves = st.one_of(*(strategy for kind, strategy in LEAVES.items() if kind not in ENUMS))


def nested(inner: st.SearchStrategy[Any], hashables: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return containers of *inner*."""
    rows = st.lists(inner, max_size=3)
    return (
        rows
        | st.builds(tuple, rows)
        | st.dictionaries(hashables, inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$t", "a"]), inner, max_size=2)
        | st.sets(hashables, max_size=3)
        | st.frozensets(hashables, max_size=3)
    )


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects that hold *inner*, where they may."""
    agents = st.builds(Agent, id=texts, limits=st.dictionaries(texts, st.floats(), max_size=2))
    return (
        st.builds(Point, numbers, inner)
        | st.builds(Page, numbers, inner)
        | agents
        | st.builds(Agent, id=texts, parent=agents)
        | st.builds(Robot, id=texts, parent=agents)
    )


plain_values = st.recursive(plain_leaves, lambda inner: nested(inner, plain_hashables), max_leaves=6)
values = st.recursive(leaves, lambda inner: nested(inner, hashables) | objects(inner), max_leaves=6)
