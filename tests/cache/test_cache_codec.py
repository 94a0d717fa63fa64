"""Values: stored as bytes, restored as what they were, or a miss."""

import json
import sys
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from math import inf, nan
from typing import Annotated, Any, Generic, NamedTuple, TypedDict, TypeVar, Union
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, PrivateAttr, RootModel, SecretStr, computed_field, field_serializer
from tests.cache.typed_values import (
    HASHABLE,
    LEAVES,
    Agent,
    Color,
    Page,
    Point,
    Rights,
    Robot,
    Word,
    identity,
    plain_values,
    texts,
)

from resilient_agents.cache import _envelope
from resilient_agents.cache._envelope import HEADER, SIZE_LIMIT
from resilient_agents.cache._readback import same
from resilient_agents.cache.codec import UNKNOWN, Codec, Header, UnfitValue, Unreadable, peek_header
from resilient_agents.cache.encryption import Encryption

SECRET = bytes(range(32))
KEY = "svc:{agent:42}"
TIMES: dict[str, float] = {"created": 1.5, "soft_expiry": 2.5, "hard_expiry": 9.5}


def stored(codec: Codec, value: Any) -> bytes:
    """Return *value* as an entry."""
    return codec.encode(value, KEY, **TIMES)


def there_and_back(annotation: Any, value: Any) -> Any:
    """Return *value* as it comes out of the cache."""
    codec = Codec(annotation)
    return codec.decode(stored(codec, value), KEY)


CODECS = {
    "bare": Codec(),
    "compressed": Codec(compress_over=0),
    "encrypted": Codec(cipher=Encryption(SECRET)),
    "both": Codec(compress_over=10, cipher=Encryption(SECRET)),
}


@given(plain_values, st.sampled_from(list(CODECS.values())))
def test_values_of_unknown_type_come_back_as_they_were(value: Any, codec: Codec) -> None:
    """Without an annotation too, a hit is what the miss was: equal, and of the same types."""
    assert identity(value) == identity(codec.decode(stored(codec, value), KEY))


@st.composite
def annotated(draw: st.DrawFn, depth: int = 0) -> tuple[Any, st.SearchStrategy[Any]]:
    """Return an annotation and the values that fit it."""
    leaf = st.sampled_from([*LEAVES.items()])
    if depth == 2 or draw(st.booleans()):
        found: tuple[Any, st.SearchStrategy[Any]] = draw(leaf)
        return found
    kind = draw(st.sampled_from(["list", "tuple", "dict", "set", "union", "object", "any"]))
    inner: Any
    keys: Any
    inner, values = draw(annotated(depth + 1))
    keys, key_values = draw(st.sampled_from([*HASHABLE.items()]))
    if kind == "list":
        return list.__class_getitem__(inner), st.lists(values, max_size=3)
    if kind == "tuple":
        return tuple.__class_getitem__((inner, keys)), st.tuples(values, key_values)
    if kind == "dict":
        return dict.__class_getitem__((keys, inner)), st.dictionaries(key_values, values, max_size=3)
    if kind == "set":
        return set.__class_getitem__(keys), st.sets(key_values, max_size=3)
    if kind == "union":
        return Union[inner, keys], values | key_values  # noqa: UP007  # of None and None too
    if kind == "any":
        return Any, plain_values
    return draw(
        st.sampled_from(
            [
                (Point, st.builds(Point, st.integers(), plain_values)),
                (Page, st.builds(Page, st.integers(), plain_values)),
                (Agent | Robot, agents | robots),
                (list[Robot | Agent | None], st.lists(agents | robots | st.none(), max_size=3)),
            ]
        )
    )


agents = st.builds(Agent, id=texts, limits=st.dictionaries(texts, st.floats(), max_size=2))
robots = st.builds(Robot, id=texts, parent=agents)
typed = annotated().flatmap(lambda found: st.tuples(st.just(found[0]), found[1]))


@given(typed, st.sampled_from([None, 0]), st.sampled_from([None, Encryption(SECRET)]))
def test_annotated_values_come_back_as_they_were(
    case: tuple[Any, Any], compress_over: int | None, cipher: Encryption | None
) -> None:
    """With an annotation a value comes back as what it was, whichever of a union's types it had."""
    annotation, value = case
    codec = Codec(annotation, compress_over=compress_over, cipher=cipher)

    assert identity(value) == identity(codec.decode(stored(codec, value), KEY))


T = TypeVar("T")


@dataclass
class Box(Generic[T]):
    """A generic dataclass."""

    content: T
    made: datetime = field(default_factory=lambda: datetime.now(UTC))


class Options(TypedDict, total=False):
    """A typed dictionary."""

    size: Decimal
    color: Color


class Tree(BaseModel):
    """A model of itself, with all that makes it hard."""

    name: str = Field(alias="Name")
    raw: bytes = b"\xff\x00"
    limit: float = nan
    at: datetime = datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris"))
    tags: frozenset[str] = frozenset()
    children: "list[Tree]" = []


class Lax(BaseModel, extra="allow"):
    """A model that keeps what it does not know."""

    id: int = Field(validation_alias="ID")


class Computed(BaseModel, extra="forbid"):
    """A model that writes more than it reads."""

    side: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        """Return what is not stored."""
        return self.side**2


class Names(RootModel[list[bytes]]):
    """A model of one value without a name."""


class Kept(BaseModel):
    """A model with something private."""

    id: int
    _seen: int = PrivateAttr(0)


class Rounded(BaseModel):
    """A model that writes less than it holds."""

    price: float

    @field_serializer("price")
    def round(self, price: float) -> int:
        """Return the price, roughly."""
        return int(price)


@dataclass
class Half:
    """A dataclass that is not made of its fields."""

    given: int
    derived: int = field(init=False, default=0)


class Text(RootModel[bytes]):
    """A model of one value."""


@dataclass
class Broken:
    """A dataclass with a hint that cannot be found, and one that pydantic makes nothing of."""

    size: "Nowhere"  # type: ignore[name-defined]  # noqa: F821
    raw: bytes


CASES: list[tuple[Any, Any]] = [
    (None, None),
    (int | None, None),
    (dict[str, Any], {"$t": 1, "a": {"$t": ["dict", []]}}),
    (dict[str, Any], {"at": datetime(2026, 1, 1, tzinfo=UTC), "row": (1, [Decimal("1.0")])}),
    (list[dict[str, Any]], [{"a": [1, 2.5, None, True, "é"]}]),
    (float, 1),
    (UUID | str, str(UUID(int=1))),
    (str | UUID, UUID(int=1)),
    (datetime | str, "2026-01-01T00:00:00"),
    (Annotated[Box[Tree], "meta"], Box(Tree(Name="x", children=[Tree(Name="y")]))),
    (Options, {"size": Decimal("1.50"), "color": Color.GREEN}),
    (Tree, Tree(Name="x")),
    (Lax, Lax(ID=1, note=b"\xff")),  # type: ignore[call-arg]
    (Computed, Computed(side=3)),
    (Names, Names([b"\xff", b"a"])),
    (Kept, Kept(id=1)),
    (Rounded, Rounded(price=0.5)),
    (dict[Rights, None], {Rights.READ | Rights.WRITE: None}),
    (set[datetime], {datetime(2000, 1, 1, fold=1)}),
    (Text, Text(b"\xff")),
    (Broken, Broken(1, b"\xff")),
    (Half, Half(1)),
    (list[Agent] | None, [Agent(id="1", parent=Agent(id="0"))]),
    (dict[Color, list[Page]], {Color.RED: [Page(1, (2,))]}),
    (dict[tuple[int, str], int], {(1, "a"): 2}),
    (Word | str, "red"),
    (Word | str, Word.RED),
    (Point | list[int], Point(1, 2)),
    (timedelta, timedelta(days=-1, microseconds=1)),
    (time, time(2, 30, fold=1, tzinfo=timezone(timedelta(hours=1)))),
    (Any, [inf, -inf, -0.0, 2**200, ""]),
]


@pytest.mark.parametrize(("annotation", "value"), CASES)
def test_hard_values_come_back_as_they_were(annotation: Any, value: Any) -> None:
    """Aliases, non-numbers, bytes, zones, folds, unions of look-alikes: a hit is what the miss was."""
    assert same(value, there_and_back(annotation, value))


DIFFERENT: list[tuple[Any, Any]] = [
    (1, True),
    (1, 1.0),
    (0.0, -0.0),
    (Decimal("1.0"), Decimal(1)),
    ("red", Word.RED),
    ([1], (1,)),
    ([1, 2], [1]),
    ({1: 2, 3: 4}, {3: 4, 1: 2}),
    ({1}, {True}),
    ({1}, {2}),
    ({(1, 2)}, {(1, 2.0)}),
    (Page(1, [1]), Page(1, [True])),
    (Agent(id="1"), Agent(id="1", limits={"a": 0.0})),
    (Lax(ID=1, note="1"), Lax(ID=1, note=1)),  # type: ignore[call-arg]
    (datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
    (datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))), datetime(2026, 1, 1, tzinfo=UTC)),
    (time(1), time(1, fold=1)),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_differs_is_not_the_same(one: Any, other: Any) -> None:
    """What is compared after reading back is compared more strictly than by ``==``."""
    assert not same(one, other)
    assert not same([one], [other])
    assert same([one], [one])


class Hidden(BaseModel):
    """A model that does not write what it holds."""

    token: SecretStr


class Animal(BaseModel):
    """A model with a model below."""

    name: str


class Dog(Animal):
    """The model below."""

    breed: str = "none"


def used() -> Kept:
    """Return a model whose private part has changed."""
    kept = Kept(id=1)
    kept._seen = 7
    return kept


def counted() -> Half:
    """Return a dataclass with something in it that it is not made of."""
    half = Half(1)
    half.derived = 7
    return half


def deep(levels: int) -> Any:
    """Return a list of a list of a list."""
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


UNFIT: list[tuple[Any, Any, str]] = [
    (UNKNOWN, Agent(id="secret"), "typed_values.Agent, and nothing is known of its type: annotate"),
    (Any, Page(1), "typed_values.Page, and nothing is known"),
    (object, [Color.RED], "typed_values.Color, and nothing is known"),
    (Hidden, Hidden(token=SecretStr("secret")), "Hidden is not cached.*SecretStr"),
    (Animal, Dog(name="secret"), "Dog"),
    (list[Animal], [Dog(name="secret")], "Dog, which its annotation does not name"),
    (Half, counted(), "Half is not cached"),
    (Kept, used(), "Kept is not cached.*not quite what its annotation says"),
    (UNKNOWN, object(), "a object|builtins.object"),
    (UNKNOWN, OrderedDict(secret=1), "OrderedDict"),
    (UNKNOWN, iter([1]), "list_iterator"),
    (Callable[[], int], lambda: 1, "function"),
    (UNKNOWN, deep(200), "nested more than 150 deep"),
    (UNKNOWN, (deep(200),), "nested more than 150 deep"),
    (UNKNOWN, 2**20_000, "an integer of more than 3900 digits"),
    (UNKNOWN, (2**20_000,), "an integer of more than 3900 digits"),
    (UNKNOWN, "\ud800", "str is not cached"),
    (UNKNOWN, {"a": ("\ud800",)}, "dict is not cached"),
    (UNKNOWN, {nan}, "set is not cached"),
    (
        UNKNOWN,
        datetime(2026, 1, 1, tzinfo=UTC).astimezone(type("Odd", (ZoneInfo,), {})("UTC")),
        "Odd|datetime",
    ),
]


@pytest.mark.parametrize(("annotation", "value", "problem"), UNFIT, ids=map(str, range(len(UNFIT))))
def test_what_cannot_be_restored_is_refused(annotation: Any, value: Any, problem: str) -> None:
    """What would come back as something else is not stored, and the error names the type, not the value."""
    with pytest.raises(UnfitValue, match=problem) as caught:
        stored(Codec(annotation), value)

    assert "secret" not in str(caught.value)
    assert (None, None) == (caught.value.__cause__, caught.value.__context__)


def test_too_large_is_refused() -> None:
    """What could not be read back for its size is not stored."""
    with pytest.raises(UnfitValue, match="33554432 is the limit"):
        stored(Codec(compress_over=0), "x" * SIZE_LIMIT)


def nobody() -> "Nobody":  # type: ignore[name-defined]  # noqa: F821
    """Return what is named only while types are checked."""


def somebody(size: "Nobody") -> "list[Agent]":  # type: ignore[name-defined]  # noqa: F821
    """Return what can be found, from what cannot."""
    return []


def plain(size):  # type: ignore[no-untyped-def]
    """Return what nobody knows."""


def test_annotation_of_a_function() -> None:
    """What the function returns by its annotation is restored; its other annotations need not be found."""
    codec = Codec.of(somebody)
    value = [Agent(id="1")]

    assert value == codec.decode(stored(codec, value), KEY)


def test_model_goes_before_the_annotation() -> None:
    """What is said outright is believed."""
    codec = Codec.of(nobody, model=Agent)

    assert Agent(id="1") == codec.decode(stored(codec, Agent(id="1")), KEY)


def test_annotations_that_cannot_be_found() -> None:
    """A name that is there for the type checker alone is not found, and the error says what to do."""
    codec = Codec.of(nobody)

    assert (1, {2}) == codec.decode(stored(codec, (1, {2})), KEY)
    with pytest.raises(UnfitValue, match="does not have at run time: give model="):
        stored(codec, Agent(id="1"))


def test_functions_without_annotation() -> None:
    """A function without annotations has values of unknown type."""
    codec = Codec.of(plain)

    assert {1: 2} == codec.decode(stored(codec, {1: 2}), KEY)


def test_header_is_read_alone() -> None:
    """The times of an entry are read without its value."""
    data = Codec().encode("x", KEY, created=1.0, soft_expiry=2.0, hard_expiry=inf, cost=0.5)

    assert Header(1.0, 2.0, inf, 0.5) == peek_header(data)


@pytest.mark.parametrize("data", [b"", b"rac", b"rac\x02" + bytes(44), b"x" * 100, b'{"json": 1}' * 10])
def test_other_bytes_have_no_header(data: bytes) -> None:
    """What is no entry is a miss."""
    with pytest.raises(Unreadable):
        peek_header(data)


@pytest.mark.parametrize("times", [(3.0, 2.0, 9.0), (1.0, 9.0, 2.0), (nan, 1.0, 2.0), (1.0, 2.0, nan)])
def test_impossible_times_are_no_header(times: tuple[float, float, float]) -> None:
    """An entry that is good until before it was made, or until never, is none."""
    data = bytearray(stored(Codec(), "x"))
    data[20:44] = HEADER.pack(b"", 0, 0, 0, *times, 0.0)[20:44]

    with pytest.raises(Unreadable):
        peek_header(bytes(data))


READERS = [
    *CODECS.values(),
    Codec(Tree),
    Codec(list[Agent | Robot]),
    Codec(Box[Decimal]),
    Codec(dict[datetime, set[Color]] | None),
]
ENTRIES = [
    *(stored(codec, {"a": [(1, Decimal(2), uuid4(), b"x"), {3: {4}}]}) for codec in CODECS.values()),
    stored(READERS[4], Tree(Name="x")),
    stored(READERS[5], [Agent(id="1"), Robot(id="2")]),
    stored(READERS[6], Box(Decimal(1))),
    stored(READERS[7], {datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Paris")): {Color.RED}}),
]


def read_all(data: bytes) -> None:
    """Let every reader read *data*: each returns a value or raises `Unreadable`."""
    for codec in READERS:
        try:
            codec.decode(data, KEY)
            peek_header(data)
        except Unreadable:
            pass


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"rac\x01" + data))
def test_any_bytes_are_a_value_or_a_miss(data: bytes) -> None:
    """Nothing that a store may hold raises anything else."""
    read_all(data)


@given(st.sampled_from(ENTRIES), st.data())
def test_damaged_entries_are_a_miss(entry: bytes, data: st.DataObject) -> None:
    """An entry in which a byte has changed, or the end is missing, is not read as another value."""
    place = data.draw(st.integers(8, len(entry) - 1))
    other = data.draw(st.integers(1, 255))
    damaged = entry[:place] + bytes([entry[place] ^ other]) + entry[place + 1 :]

    for changed in (damaged, entry[:place], entry + b"x"):
        for codec in READERS:
            with pytest.raises(Unreadable):
                codec.decode(changed, KEY)


def checked(entry: bytes) -> bytes:
    """Return *entry* with the checksum that it needs."""
    return entry[:4] + zlib.crc32(entry[8:]).to_bytes(4, "big") + entry[8:]


PIECES = [
    b'{"$t":',
    b'["Decimal",',
    b'["dict",[[',
    b"[",
    b"]",
    b"}",
    b"NaN",
    b"1e999",
    b'"',
    b"null",
    b"\xff",
    b",",
]
PIECES += [
    b'["datetime",["2026-01-01","../../etc/passwd",0]]',
    b'["tests.cache.typed_values.Agent",{}]',
    b'["set",[[]]',
]


@given(st.sampled_from(ENTRIES), st.data())
def test_forged_entries_are_a_value_or_a_miss(entry: bytes, data: st.DataObject) -> None:
    """Whoever can write to the store can forge an entry; it is read as a value, or it is a miss."""
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(entry) - 48)] * 2)))
    middle = b"".join(data.draw(st.lists(st.sampled_from(PIECES) | st.binary(max_size=3), max_size=6)))
    flags = data.draw(st.sampled_from([entry[8], 0, 1, 2, 3, 0x10, 0x12, 0x20, 0xFF]))
    forged = entry[:8] + bytes([flags]) + entry[9 : 48 + start] + middle + entry[48 + end :]

    read_all(checked(forged))


FORGED = {
    "deep list": (2, b"[" * 100_000 + b"]" * 100_000),
    "deep tags": (2, b'{"$t":["tuple",[' * 60 + b"]]}" * 60),
    "huge number": (0, b"9" * 100_000),
    "no such class": (2, b'{"$t":["os.system",["true"]]}'),
    "no such tag": (2, b'{"$t":["decimal","1"]}'),
    "two members": (2, b'{"$t":["set",[1]],"a":1}'),
    "no zone": (2, b'{"$t":["datetime",["2026-01-01","../../../etc/passwd",0]]}'),
    "no hash": (2, b'{"$t":["set",[[1]]]}'),
    "no enum": (2, b'{"$t":[["a"],1]}'),
    "no form": (7, b"1"),
    "no adapter": (1, b"1"),
}


def forged(form: int, payload: bytes) -> bytes:
    """Return an entry that this cache would not write."""
    return _envelope.seal(payload, form, 0, Header(1, 2, 3, 0), KEY, cipher=None, compress_over=None)


@pytest.mark.parametrize(("form", "payload"), FORGED.values(), ids=FORGED)
def test_hostile_entries_are_a_miss(form: int, payload: bytes) -> None:
    """Nesting, classes to be loaded, files to be opened: nothing happens, it is a miss."""
    if payload.startswith(b'{"$t":["tuple"'):
        assert Codec().decode(forged(form, payload), KEY) is not None
        return
    with pytest.raises(Unreadable):
        Codec().decode(forged(form, payload), KEY)


def test_reading_with_little_stack_left() -> None:
    """Where the caller has used up the stack, an entry cannot be read, and nothing else happens."""
    value: Any = []
    for _ in range(30):
        value = [(value,)]
    data = stored(Codec(), value)
    outcomes = set()

    def descend(levels: int) -> None:
        if levels:
            return descend(levels - 1)
        try:
            outcomes.add(type(Codec().decode(data, KEY)))
        except Unreadable as exc:
            outcomes.add(type(exc))

    frames, frame = 0, sys._getframe()
    while frame is not None:
        frames, frame = frames + 1, frame.f_back  # type: ignore[assignment]
    for left in (60, 400):
        descend(sys.getrecursionlimit() - frames - left)

    assert {Unreadable, list} == outcomes


def bomb(payload: bytes) -> bytes:
    """Return an entry that unpacks to *payload*."""
    entry = _envelope.seal(payload, 0, 0, Header(1, 2, 3, 0), KEY, cipher=None, compress_over=0)
    assert len(entry) < len(payload) / 100
    return entry


def test_bombs_are_a_miss() -> None:
    """A small entry is not unpacked to any size."""
    with pytest.raises(Unreadable, match="larger than a value may be"):
        Codec().decode(bomb(b" " * SIZE_LIMIT + b"1"), KEY)


@pytest.mark.parametrize("packed", [b"", b"x", zlib.compress(b"1" * 100)[:-1]])
def test_packing_that_is_none_is_a_miss(packed: bytes) -> None:
    """What cannot be unpacked is a miss."""
    with pytest.raises(Unreadable):
        Codec().decode(forged(_envelope.COMPRESSED, packed), KEY)


def test_only_what_shrinks_is_compressed() -> None:
    """Small values, and those that are dense already, are stored as they are."""
    noise = uuid4().hex
    plain, small, dense, packed = (
        stored(Codec(compress_over=over), value)
        for over, value in ((None, "a" * 1000), (1002, "a" * 1000), (0, noise), (1001, "a" * 1000))
    )

    assert plain == small
    assert len(stored(Codec(), noise)) == len(dense)
    assert len(packed) < 100


def test_compress_over_is_a_size() -> None:
    """A size below 0 is refused at once."""
    with pytest.raises(ValueError, match="0 or more"):
        Codec(compress_over=-1)


def old_and_new() -> list[tuple[Any, Any]]:
    """Return types of the same name before and after a change that matters."""

    def model(**fields: Any) -> Any:
        return type("Lead", (BaseModel,), {"__annotations__": fields})

    class Size(Enum):
        BIG = 1

    class Bigger(Enum):
        BIG = 1
        HUGE = 2

    return [
        (UNKNOWN, int),
        (int, str),
        (Agent, list[Agent]),
        (model(id=int), model(id=str)),
        (model(id=int), model(id=int, name=str | None)),
        (Page | model(id=int), Page | model(id=int, name=str)),
        (Size, Bigger),
        (list[int] | None, tuple[int, ...] | None),
        (set[int] | None, frozenset[int] | None),
        (NamedTuple("P", [("x", int)]), NamedTuple("P", [("x", int), ("y", int)])),
        (Callable[[], int], Callable[[], str]),
    ]


@pytest.mark.parametrize(("old", "new"), old_and_new())
def test_another_schema_is_a_miss(old: Any, new: Any) -> None:
    """A new version of the code does not read what an old one wrote in another shape, nor the reverse."""
    data = stored(Codec(old), None)

    assert Codec(old).decode(data, KEY) is None
    with pytest.raises(Unreadable, match="another schema"):
        Codec(new).decode(data, KEY)


def test_prose_is_no_schema() -> None:
    """A docstring may be mended without emptying the cache."""

    def model(words: str) -> Any:
        body = {
            "__doc__": words,
            "__annotations__": {"id": int},
            "id": Field(1, description=words, title=words),
        }
        return type("Lead", (BaseModel,), body)

    assert Codec(model("old")).schema.fingerprint == Codec(model("new")).schema.fingerprint


class Wide(BaseModel):
    """A model with a default that JSON has no word for."""

    made: Any = Field(default=object())


def test_any_default_has_a_schema() -> None:
    """A default that JSON has no word for is left out of the schema, without a warning."""
    assert Codec(Wide).schema.adapter is not None
    assert there_and_back(Wide, Wide(made=1)) == Wide(made=1)


@pytest.mark.parametrize("module", ["pydantic", "pydantic_core"])
def test_nothing_is_loaded_in_advance(module: str, modules_loaded_by: Callable[[str], set[str]]) -> None:
    """A decorator costs no import: pydantic is loaded for the first value."""
    made = "from resilient_agents.cache import codec, keys, encryption\ncodec.Codec.of(len)"

    assert module not in modules_loaded_by(made)


def test_plain_json_is_readable() -> None:
    """What is plain JSON stands in the store as such, after the header."""
    value = {"a": [1, 2.5, None, True, "é"]}

    assert value == json.loads(stored(Codec(), value)[HEADER.size :])
