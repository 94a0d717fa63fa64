"""Keys: one for one call, spelled as it may be, and never one for two."""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, localcontext
from functools import partial
from inspect import signature
from itertools import product
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr
from tests.cache.typed_values import Agent, Color, Number, Page, Point, Rights, Word, identity, texts, values

from resilient_agents.cache.keys import (
    UnfitKey,
    compile_key,
    compile_tag,
    key_part,
    lease_key,
    literal_key,
    literal_tag,
)
from resilient_agents.errors import ConfigurationError


def one(agent_id: Any) -> None:
    """Take one argument."""


def two(org_id: Any, agent_id: Any = "7") -> None:
    """Take two, one by default."""


def rich(a: Any, /, b: Any = 2, *rest: Any, c: Any = None, **more: Any) -> None:
    """Take arguments of every kind."""


def slot(key: str) -> str:
    """Return of what Redis Cluster makes the slot of *key* (Redis Cluster specification, hash tags)."""
    _, brace, rest = key.partition("{")
    tag, closing, _ = rest.partition("}")
    return tag if brace and closing and tag else key


GOLDEN = [
    ("agent:{agent_id}", "42", "svc:{agent:42}"),
    ("agent:{agent_id}", 42, "svc:{agent:#42}"),
    ("agent:{agent_id}", -(2**70), "svc:{agent:#-0x400000000000000000}"),
    ("agent:{agent_id}", "", 'svc:{agent:""}'),
    ("agent:{agent_id}", "a b:{c}%é\ud800", "svc:{agent:a%20b%3A%7Bc%7D%25é%uD800}"),
    ("agent:{agent_id}", None, "svc:{agent:#None}"),
    ("agent:{agent_id}", True, "svc:{agent:#True}"),
    ("agent:{agent_id}", 1.0, "svc:{agent:#1.0}"),
    ("agent:{agent_id}", -0.0, "svc:{agent:#-0.0}"),
    ("agent:{agent_id}", float("nan"), "svc:{agent:#nan}"),
    ("agent:{agent_id}", 1 + 2j, "svc:{agent:#complex(#1.0,#2.0)}"),
    ("agent:{agent_id}", b"\x00\xff", "svc:{agent:#bytes(00ff)}"),
    ("agent:{agent_id}", Decimal("1.0E+3"), "svc:{agent:#Decimal(1.0E+3)}"),
    ("agent:{agent_id}", UUID(int=1), "svc:{agent:#UUID(00000000-0000-0000-0000-000000000001)}"),
    ("agent:{agent_id}", date(2026, 1, 2), "svc:{agent:#date(2026-01-02)}"),
    ("agent:{agent_id}", timedelta(1, 2, 3), "svc:{agent:#timedelta(1,2,3)}"),
    (
        "agent:{agent_id}",
        datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        "svc:{agent:#datetime(2026-10-25T02:30:00+01:00,fold,Europe%2FParis)}",
    ),
    ("agent:{agent_id}", (1, ["a"], {2, 10}), "svc:{agent:#(#1,#[a],#set(#10,#2))}"),
    ("agent:{agent_id}", {"b": 1, "a": None}, "svc:{agent:#dict(a=#None,b=#1)}"),
    ("agent:{agent_id}", Color.RED, "svc:{agent:#tests.cache.typed_values.Color(RED)}"),
    ("agent:{agent_id}", Rights(3), "svc:{agent:#tests.cache.typed_values.Rights(3)}"),
    ("agent:{agent_id}", Point(1, "y"), "svc:{agent:#tests.cache.typed_values.Point(x=#1,y=y)}"),
    ("agent:{agent_id}", Page(1), "svc:{agent:#tests.cache.typed_values.Page(number=#1,order=#None)}"),
    (
        "agent:{agent_id}",
        Agent(id="a"),
        "svc:{agent:#tests.cache.typed_values.Agent(id=a,limits=#dict(),parent=#None)}",
    ),
    ("agent:{agent_id}", Agent, "svc:{agent:#type(tests.cache.typed_values.Agent)}"),
    ("agent:{agent_id.real}", 42, "svc:{agent:#42}"),
    (None, "42", f"svc:{{{one.__module__}.one(agent_id=42)}}"),
    (
        "agent:{agent_id}",
        "x" * 300,
        f"svc:{{agent:{'x' * 58}~919acacf9aef068b9f0c7427118fe538a421446d}}",
    ),
]


@pytest.mark.parametrize(("template", "value", "key"), GOLDEN)
def test_keys_stay_what_they_are(template: str | None, value: Any, key: str) -> None:
    """A key does not change from one version to the next: caches would be cold, invalidations lost."""
    assert key == compile_key(one, template, prefix="svc")((value,), {})


@given(values, values)
def test_different_values_have_different_keys(first: Any, second: Any) -> None:
    """Two values have the same spelling if and only if they are the same."""
    assert (identity(first) == identity(second)) == (key_part(first) == key_part(second))


SHORT = ["".join(letters) for length in range(3) for letters in product(':%#a,"(', repeat=length)]
TRICKY: list[Any] = [
    *(
        "1",
        1,
        True,
        1.0,
        1 + 0j,
        Decimal(1),
        Decimal("1.0"),
        Number.ONE,
        Word.ONE,
        b"1",
        (1,),
        [1],
        {1},
        {"1"},
    ),
    *(
        "None",
        None,
        "",
        (),
        [],
        {},
        set(),
        frozenset(),
        b"",
        bytearray(),
        ("",),
        ("", ""),
        (((),),),
        ((), ()),
    ),
    *(
        0.0,
        -0.0,
        0,
        False,
        Rights(0),
        timedelta(0),
        "red",
        Color.RED,
        Word.RED,
        frozenset({1}),
        {1: 2},
        {"1": 2},
    ),
    *("#1", "#None", "#(#1)", '""', "a,b", ("a,b",), ("a", "b"), {"a": "b,c=d"}, {"a": "b", "c": "d"}),
    *(
        Point(1, 2),
        (1, 2),
        Page(1, 2),
        {"x": 1, "y": 2},
        Point,
        Page,
        Agent(id="1"),
        float("nan"),
        float("inf"),
    ),
]


@pytest.mark.parametrize(
    "template", ["{org_id}:{agent_id}", "a/{org_id}({agent_id})", "{org_id}#{agent_id}", None]
)
@pytest.mark.parametrize("pool", [SHORT, TRICKY])
def test_no_two_calls_share_a_key(template: str | None, pool: list[Any]) -> None:
    """Whatever two arguments are, with separators in them or not: other arguments, another key."""
    key_of = compile_key(two, template)

    calls = {key_of(pair, {}) for pair in product(pool, repeat=2)}

    assert len(pool) ** 2 == len(calls)


@given(st.lists(st.tuples(texts, values), min_size=2, max_size=8))
def test_no_two_argument_lists_share_a_key(calls: list[tuple[Any, Any]]) -> None:
    """Keys are as many as there are different argument lists."""
    key_of = compile_key(two, "org:{org_id}:{agent_id}")

    assert len({identity(call) for call in calls}) == len({key_of(call, {}) for call in calls})


arguments = st.lists(values, min_size=1, max_size=4).map(tuple)
by_name = st.dictionaries(st.sampled_from(["b", "c", "a", "other", "self"]), values, max_size=3)


@given(arguments, by_name, arguments, by_name)
def test_rich_signatures_do_not_share_keys(
    args: tuple[Any, ...], kwargs: dict[str, Any], other_args: tuple[Any, ...], other_kwargs: dict[str, Any]
) -> None:
    """Arguments by place alone, more of them, by name alone and others: one key for one binding."""
    key_of = compile_key(rich, None)
    for call in ((args, kwargs), (other_args, other_kwargs)):
        if len(call[0]) > 1:
            call[1].pop("b", None)

    def bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        binding = signature(rich).bind(*args, **kwargs)
        binding.apply_defaults()
        return identity(binding.arguments)

    same = bound(args, kwargs) == bound(other_args, other_kwargs)
    assert same == (key_of(args, kwargs) == key_of(other_args, other_kwargs))


SPELLINGS: list[tuple[Callable[..., Any], list[tuple[tuple[Any, ...], dict[str, Any]]]]] = [
    (two, [((1, "7"), {}), ((1,), {}), ((1,), {"agent_id": "7"}), ((), {"agent_id": "7", "org_id": 1})]),
    (rich, [((1,), {}), ((1, 2), {}), ((1,), {"b": 2}), ((1,), {"c": None, "b": 2})]),
    (rich, [((1,), {"x": 1, "y": 2}), ((1,), {"y": 2, "x": 1})]),
    (rich, [((1, 2, 3), {"a": 4}), ((1, 2, 3), {"a": 4, "c": None})]),
]


@pytest.mark.parametrize("template", [None, "x"])
@pytest.mark.parametrize(("fn", "calls"), SPELLINGS)
def test_one_call_has_one_key(
    fn: Callable[..., Any], calls: list[tuple[tuple[Any, ...], dict[str, Any]]], template: str | None
) -> None:
    """By position, by name or by default makes no difference."""
    key_of = compile_key(fn, template)

    assert 1 == len({key_of(args, kwargs) for args, kwargs in calls})


@pytest.mark.parametrize("template", [None, "{org_id}", "{org_id}:{agent_id}", "x"])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((), {}),
        ((1, 2, 3), {}),
        ((1,), {"org_id": 1}),
        ((1,), {"other": 2}),
        ((1, 2), {"agent_id": 2}),
        ((), {"x": 1}),
    ],
)
def test_wrong_calls_fail_like_calls(
    template: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """A call that the function would refuse gets the same error as always, not a cached value."""
    with pytest.raises(TypeError) as expected:
        signature(two).bind(*args, **kwargs)
    with pytest.raises(TypeError) as actual:
        compile_key(two, template)(args, kwargs)

    assert (TypeError, str(expected.value)) == (type(actual.value), str(actual.value))


class Shop:
    """Objects that differ in their organisation."""

    def __init__(self, org_id: Any) -> None:
        self.org_id = org_id

    def price(self, item: Any) -> None:
        """Take an argument besides the object."""


def test_methods_name_what_tells_objects_apart() -> None:
    """A template follows attributes, and may leave the object out."""
    key_of = compile_key(Shop.price, "{self.org_id}:{item}")

    assert ["{1:x}", "{2:x}"] == [key_of((Shop(org), "x"), {}) for org in ("1", "2")]
    assert "{item:x}" == compile_key(Shop.price, "item:{item}")((Shop("1"), "x"), {})


def test_methods_have_no_automatic_key() -> None:
    """Without a template it is not clear whether two objects give the same answers, so it must be said."""
    with pytest.raises(ConfigurationError, match=r"Shop\.price is a method.*self\.org_id"):
        compile_key(Shop.price, None)


def test_class_methods_are_told_apart_by_class() -> None:
    """A class stands in the key by its name, so that subclasses do not share what they inherit."""

    def load(cls: type, number: int) -> None: ...

    key_of = compile_key(load, None)

    assert key_of((Page, 1), {}) != key_of((Point, 1), {})


WRONG = {
    "{": "cannot be read",
    "{agent_id!r}": "may hold",
    "{agent_id:>5}": "may hold",
    "{agent_id[0]}": "may hold",
    "{}": "may hold",
    "{0}": "may hold",
    "{agent_id.}": "may hold",
    "{user_id}": "names 'user_id', which is no argument",
    "{org_id}{agent_id}": "needs a separator",
    "{org_id}and{agent_id}": "needs a separator",
    "{org_id}-{agent_id}": "needs a separator",
    "{org_id}%{agent_id}": "needs a separator",
    "{{agent}}:{agent_id}": "has a brace",
    "agent~{agent_id}": "has a brace, a ~",
    "agent\n{agent_id}": "control character",
    "": "is not empty",
}


@pytest.mark.parametrize(("template", "problem"), WRONG.items())
def test_wrong_templates_are_refused_at_once(template: str, problem: str) -> None:
    """What is wrong with a template is said when the function is decorated."""
    with pytest.raises(ConfigurationError, match=problem):
        compile_key(two, template)


def test_prefix_has_no_braces() -> None:
    """The braces of a key are those of its body."""
    with pytest.raises(ConfigurationError, match="prefix"):
        compile_key(one, None, prefix="{svc}")


@pytest.mark.parametrize("fn", [lambda agent_id: None, partial(one)])
def test_nameless_functions_need_a_template(fn: Callable[..., Any]) -> None:
    """Two lambdas of one module have the same name, so it is no key."""
    with pytest.raises(ConfigurationError, match="without a name"):
        compile_key(fn, None)
    assert "{x:1}" == compile_key(fn, "x:{agent_id}")(("1",), {})


@pytest.mark.parametrize(
    ("fn", "template"), [(one, None), (one, "{agent_id}"), (two, "{agent_id}"), (two, "x")]
)
def test_tenant_must_be_in_every_key(fn: Callable[..., Any], template: str | None) -> None:
    """A function without the tenant, or a template that leaves it out, is refused at decoration."""
    with pytest.raises(ConfigurationError, match="org_id"):
        compile_key(fn, template, tenant="org_id")


@pytest.mark.parametrize("nobody", [None, ""])
def test_tenant_is_somebody(nobody: Any) -> None:
    """What belongs to no tenant is not shared by all who forgot to name one."""
    for key_of in (compile_key(two, t, tenant="org_id") for t in (None, "{org_id}:{agent_id}", "{org_id}")):
        assert key_of(("1",), {}) != key_of(("2",), {})
        with pytest.raises(UnfitKey, match="empty tenant"):
            key_of((nobody,), {})
    with pytest.raises(UnfitKey, match="empty tenant"):
        compile_key(Shop.price, "{self.org_id}:{item}", tenant="org_id")((Shop(nobody), "x"), {})


class Opaque:
    """Something of which nothing is known."""


class Loud(str):
    """A text with something of its own."""

    __slots__ = ("__dict__",)


class Strange(tzinfo):
    """A zone of which nothing is known."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        """Return an offset where there is a time."""
        return None if moment is None else timedelta(hours=1)

    dst = utcoffset

    def tzname(self, moment: datetime | None) -> str:
        """Return its name."""
        return "CET"


class Drawn(Page):
    """A class below a dataclass that is none itself."""


def unfit() -> dict[str, Any]:
    """Return what cannot be a key, by what the message says of it."""
    loud = Loud("secret")
    loud.volume = 11  # type: ignore[attr-defined]
    cycle: list[Any] = []
    cycle.append(cycle)
    return {
        "Opaque": Opaque(),
        "Loud": loud,
        "Strange": datetime(2026, 1, 1, tzinfo=Strange()),
        "nested more than 50 deep": cycle,
        "function": one,
        "type": type("Local", (), {"__qualname__": "f.<locals>.Local"}),
        "Drawn": Drawn(1),
        "memoryview": memoryview(b"secret"),
        "generator": (_ for _ in ()),
    }


@pytest.mark.parametrize(("name", "value"), unfit().items())
def test_unfit_arguments_are_named(name: str, value: Any) -> None:
    """An argument that cannot be a key is named with its type; its value is not."""
    for nest in (value, [value], {"k": (value,)}):
        with pytest.raises(UnfitKey, match=rf"(?s)'agent_id' of \S+\.two .*{name}") as caught:
            compile_key(two, "{org_id}:{agent_id}")(("1", nest), {})
        assert "secret" not in str(caught.value)
    with pytest.raises(UnfitKey, match=name):
        key_part(value)


def test_missing_attributes_are_named() -> None:
    """A template's attribute that an argument does not have is an error about the key, not about the code."""
    with pytest.raises(UnfitKey, match=r"'agent_id' of .* is or has no id"):
        compile_key(one, "{agent_id.id}")((None,), {})


def test_subclasses_are_told_from_their_class() -> None:
    """A subclass of text or number is another type, as long as it has nothing else of its own."""

    class Safe(str): ...

    class Exact(float): ...

    class Count(int): ...

    for base in (Safe("1"), Exact(-0.0), Count(1)):
        exact = next(kind(base) for kind in (str, int, float) if isinstance(base, kind))
        assert key_part(base) != key_part(exact)
        assert key_part(base).endswith(f"({key_part(exact)})")


def test_private_attributes_tell_models_apart() -> None:
    """Models that are not equal have different keys: extra and private attributes count."""

    class Lead(BaseModel, extra="allow"):
        id: int
        _token: str = PrivateAttr("")

    first, second = Lead(id=1), Lead(id=1)
    second._token = "x"

    assert 3 == len({key_part(first), key_part(second), key_part(Lead(id=1, note="x"))})  # type: ignore[call-arg]


def test_enum_aliases_are_one() -> None:
    """A member is one value, whatever it is called."""

    class Size(enum.Enum):
        BIG = 1
        LARGE = BIG

    assert key_part(Size.BIG) == key_part(Size.LARGE)


def test_settings_of_the_process_do_not_matter() -> None:
    """The spelling of a decimal does not depend on the context in force."""
    with localcontext(capitals=0):
        assert "#Decimal(1E+9)" == key_part(Decimal("1E+9"))


def test_zones_of_equal_offset_are_two() -> None:
    """The same hour in two places is two values: a month later it may not be the same hour."""
    moment = datetime(2026, 1, 1)
    parts = {key_part(moment.replace(tzinfo=ZoneInfo(zone))) for zone in ("Europe/Paris", "Europe/Berlin")}
    parts.add(key_part(moment.replace(tzinfo=timezone(timedelta(hours=1)))))

    assert 3 == len(parts)


@given(values)
def test_everything_about_a_key_is_in_one_slot(value: Any) -> None:
    """The lease of an entry lives where the entry lives, whatever braces the arguments have."""
    key = compile_key(two, "{org_id}:{agent_id}", prefix="svc")((value, value), {})

    assert key[len("svc:{") : -1] == slot(key) == slot(lease_key(key))
    assert key.encode().decode() == key


@given(values, texts)
def test_long_keys_are_short_and_different(value: Any, more: str) -> None:
    """A long key ends in a hash of all of it."""
    key_of = compile_key(two, "agent:{org_id}:{agent_id}")
    first, second = (key_of(("x" * 300, each), {}) for each in (value, [value, more]))

    assert first != second
    assert len("{}") + 64 + len("~") + 40 == len(first)
    assert first.startswith("{agent:xxxx")


def test_literal_keys_are_those_of_templates() -> None:
    """An entry can be named by hand, with `key_part` for what is not plain text."""
    for value in ("42", 42, "a:b", "x" * 300, None):
        assert compile_key(one, "agent:{agent_id}", prefix="svc")((value,), {}) == literal_key(
            f"agent:{key_part(value)}", prefix="svc"
        )
        assert compile_tag(one, "org:{agent_id}", prefix="svc")((value,), {}) == literal_tag(
            f"org:{key_part(value)}", prefix="svc"
        )


@pytest.mark.parametrize("body", ["", "a{b", "a}b", "a\x00b"])
def test_literal_keys_have_no_braces(body: str) -> None:
    """A body that no template could make is refused."""
    with pytest.raises(ConfigurationError, match="no brace"):
        literal_key(body)


def test_tags_are_no_entries() -> None:
    """A tag, an entry and a lease with the same body are three keys."""
    entry, tag = literal_key("x"), literal_tag("x")

    assert 4 == len({entry, tag, lease_key(entry), lease_key(tag)})


def test_no_arguments_one_key() -> None:
    """A function without arguments has one key."""

    def config() -> None: ...

    assert "config()}" == compile_key(config, None)((), {})[-9:]
    assert "{config}" == compile_key(config, "config")((), {})
    assert "{config}:tag" == compile_tag(config, "config")((), {})


def test_dataclass_with_slots() -> None:
    """A dataclass with slots has no dictionary, and is a key all the same."""

    @dataclass(slots=True)
    class Box:
        size: int

    assert key_part(Box(1)) != key_part(Box(2))
