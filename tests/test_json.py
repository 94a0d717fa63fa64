"""Whatever is to be written becomes valid JSON: nothing raises, nothing is lost, nothing is endless."""

import enum
import json
from collections import UserDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import inf, nan
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from resilient_agents._json import CUT, LIMIT, MOST_ITEMS, encode, plain


class Colour(enum.Enum):
    """An enum."""

    RED = "red"


@dataclass
class Point:
    """A dataclass."""

    x: int
    y: Any


class Model(BaseModel):
    """A model."""

    name: str


class Raises:
    """It cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Sly(type):
    """Classes of it do not even tell their names."""

    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("no")


class Nameless(metaclass=Sly):
    """It cannot be shown, and neither can its class."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class Shrinking(Mapping[str, int]):
    """Another thread takes the keys away while they are read."""

    def __getitem__(self, key: str) -> int:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(["gone"])

    def __len__(self) -> int:
        return 1


def circular() -> Any:
    """Return a dictionary that holds itself."""
    made: dict[str, Any] = {"n": 1}
    made["self"] = made
    return made


def deep(levels: int) -> Any:
    """Return a list in a list in a list."""
    made: Any = "bottom"
    for _ in range(levels):
        made = [made]
    return made


WRITTEN = [
    ({1: "a", None: "b", False: "c", 1.5: "d"}, {"1": "a", "null": "b", "false": "c", "1.5": "d"}),
    ({(1, 2): "a", Raises(): "b"}, {"[1,2]": "a", "<Raises that cannot be shown>": "b"}),
    ({(None, 1): "a", None: 0, True: 1}, {"[null,1]": "a", "null": 0, "true": 1}),
    ("\ud800", "\\ud800"),
    ({"\ud800": 1}, {"\\ud800": 1}),
    (2**70, 2**70),
    ([10**5000], ["<int of 16610 bits>"]),
    (circular(), {"n": 1, "self": CUT}),
    ([Raises(), Nameless()], ["<Raises that cannot be shown>", "<Nameless that cannot be shown>"]),
    ([nan, inf, -inf, 1.5], ["nan", "inf", "-inf", 1.5]),
    ([b"caf\xc3\xa9", b"\xff", bytearray(b"a"), memoryview(b"b")], ["café", "\\xff", "a", "b"]),
    (Decimal("1.10"), "1.10"),
    ({"one"}, ["one"]),
    (frozenset({1}), [1]),
    (datetime(2026, 11, 25, 8, tzinfo=UTC), "2026-11-25T08:00:00+00:00"),
    ([date(2026, 11, 25), time(8), timedelta(seconds=90)], ["2026-11-25", "08:00:00", "0:01:30"]),
    (ValueError("wrong"), "ValueError: wrong"),
    ([UUID(int=1), PurePosixPath("/a")], ["00000000-0000-0000-0000-000000000001", "/a"]),
    ([Colour.RED], ["red"]),
    ([Point(1, {2}), Point], [{"x": 1, "y": [2]}, "<class 'test_json.Point'>"]),
    (Model(name="n"), {"name": "n"}),
    (UserDict({"a": 1}), {"a": 1}),
    (Shrinking(), "<Shrinking that cannot be shown>"),
    ({"ключ": "значение"}, {"ключ": "значение"}),
    ((1, (2,)), [1, [2]]),
]


@pytest.mark.parametrize(("value", "written"), WRITTEN)
def test_what_is_written(value: Any, written: Any) -> None:
    """What JSON does not have becomes the nearest that it has."""
    assert written == json.loads(encode(value))


def test_a_value_that_is_no_cycle_is_written_each_time() -> None:
    """Only what is inside itself is cut, not what stands twice."""
    twice = {1}
    assert [[1], [1]] == plain([twice, twice])


def test_depth_has_an_end() -> None:
    """A list of depth 3000 is written as far as anybody reads; some versions of Python write all of it."""
    text = encode({"deep": deep(3000)})
    assert CUT in text or 3000 == text.count("[")
    assert CUT in str(plain(deep(3000)))
    json.loads(text)


def test_an_object_without_fields_is_its_repr() -> None:
    """There is nothing else to tell of it."""
    assert encode(object()).startswith('"<object object at 0x')


def test_plain_data_is_what_the_standard_library_makes_of_it() -> None:
    """The careful way is not taken where it is not needed."""
    data = {"a": [1, 2.5, None, True, "x"], "b": {"c": "d"}}
    assert json.dumps(data, separators=(",", ":")) == encode(data)


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.datetimes()
    | st.builds(object)
    | st.builds(Raises),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.none() | st.tuples(st.integers()), inner)
        | st.builds(Point, st.integers(), inner)
    ),
)


def refuse(constant: str) -> None:
    """Refuse what RFC 8259 does not have."""
    raise AssertionError(constant)


@given(anything, st.integers(3, 300))
def test_nothing_raises_and_nothing_is_too_long(value: Any, limit: int) -> None:
    """Every value becomes JSON by RFC 8259, in UTF-8, in one line, within its limit."""
    text = encode(value, limit=limit)

    json.loads(text.encode(), parse_constant=refuse)
    assert len(text) <= limit
    assert "\n" not in text


@pytest.mark.parametrize(
    "value",
    [
        {"text": "x" * 10**6, "next": "seen"},
        {"text": "\x00" * 10**6, "next": "seen"},
        {"text": b"\xff" * 10**6, "next": "seen"},
        {"list": [{"x": "y" * 100}] * 10**4},
        {"dict": {f"key {number}": number for number in range(10**5)}},
        {"keys": {"k" * 10**6: 1}},
        ["x" * 10**5] * 100,
    ],
)
def test_size_has_an_end(value: Any) -> None:
    """What is too long loses its tail, and stays valid."""
    text = encode(value)

    assert len(text) <= LIMIT
    assert CUT in text or '"seen"' in text
    json.loads(text)


def test_a_long_text_does_not_hide_its_neighbour() -> None:
    """A text has a limit of its own, so that what stands beside it is still told."""
    assert '"next":"seen"' in encode({"text": "x" * 10**6, "next": "seen"})


def test_a_long_collection_is_cut() -> None:
    """So have collections."""
    said = plain(list(range(MOST_ITEMS + 5)))
    assert isinstance(said, list)
    assert (MOST_ITEMS + 1, CUT) == (len(said), said[-1])
