"""A wrong field is named, and nothing of what was sent is said: with the real pydantic and FastAPI."""

import base64
import datetime
import decimal
import enum
import ipaddress
import random
import re
import string
import uuid
from typing import Annotated, Any, Literal, get_args

import pydantic
import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError, core_schema
from starlette.exceptions import HTTPException

from resilient_agents.errors import Origin, ValidationFailed
from resilient_agents.errors.refusals import _SAFE, _UNSAFE, refusal, wrong_fields
from resilient_agents.errors.responses import error_response

SECRET = "hunter2-XYZZY"


class Colour(enum.Enum):
    """A colour."""

    RED = "red"


class Cat(pydantic.BaseModel):
    """A cat."""

    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    """A dog."""

    kind: Literal["dog"]


def shout(value: str) -> str:
    """Refuse a value, and repeat it."""
    raise ValueError(f"{value.upper()} is not acceptable, nor is {value}")


def insist(value: str) -> str:
    """Refuse a value in another way."""
    raise AssertionError(value)


def invent(value: str) -> str:
    """Refuse a value with a type of one's own."""
    raise PydanticCustomError("phone_format", "{value} is no phone number", {"value": value})


def lie(value: str) -> str:
    """Refuse a value with a type that is the value."""
    raise PydanticCustomError(value, "no")


class Strict(pydantic.BaseModel):
    """Takes nothing else."""

    model_config = pydantic.ConfigDict(extra="forbid")

    password: str


class Broken:
    """Has an attribute that cannot be read."""

    @property
    def kind(self) -> str:
        """Raise."""
        raise RuntimeError(SECRET)


class FromAttributes(pydantic.BaseModel):
    """Reads attributes."""

    model_config = pydantic.ConfigDict(from_attributes=True)

    kind: str


KINDS: list[tuple[Any, Any, str]] = [
    (Literal["a"], SECRET, "literal_error"),
    (Colour, SECRET, "enum"),
    (uuid.UUID, SECRET, "uuid_parsing"),
    (datetime.datetime, SECRET, "datetime_from_date_parsing"),
    (datetime.date, SECRET, "date_from_datetime_parsing"),
    (datetime.time, SECRET, "time_parsing"),
    (datetime.timedelta, SECRET, "time_delta_parsing"),
    (decimal.Decimal, SECRET, "decimal_parsing"),
    (int, SECRET, "int_parsing"),
    (int, "9" * 5000, "int_parsing_size"),
    (float, SECRET, "float_parsing"),
    (bool, SECRET, "bool_parsing"),
    (complex, SECRET, "complex_type"),
    (bytes, 5, "bytes_type"),
    (str, {"password": SECRET}, "string_type"),
    (list[int], {"password": SECRET}, "list_type"),
    (pydantic.HttpUrl, SECRET, "url_parsing"),
    (pydantic.HttpUrl, f"ftp://u:{SECRET}@h", "url_scheme"),
    (pydantic.PostgresDsn, f"mysql://u:{SECRET}@h/d", "url_scheme"),
    (pydantic.Json, SECRET, "json_invalid"),
    (pydantic.Base64Bytes, f"{SECRET}A", "base64_decode"),
    (pydantic.ByteSize, f"12{SECRET}", "byte_size_unit"),
    (pydantic.ImportString, SECRET, "import_error"),
    (ipaddress.IPv4Address, SECRET, "ip_v4_address"),
    (re.Pattern[str], f"[{SECRET}", "pattern_regex"),
    (pydantic.FilePath, f"/{SECRET}", "path_not_file"),
    (Annotated[str, pydantic.Field(pattern="^a$")], SECRET, "string_pattern_mismatch"),
    (Annotated[str, pydantic.Field(max_length=3)], SECRET, "string_too_long"),
    (Annotated[Cat | Dog, pydantic.Field(discriminator="kind")], {"kind": SECRET}, "union_tag_invalid"),
    (Annotated[str, pydantic.AfterValidator(shout)], SECRET, "value_error"),
    (Annotated[str, pydantic.AfterValidator(insist)], SECRET, "assertion_error"),
    (Annotated[str, pydantic.AfterValidator(invent)], SECRET, "phone_format"),
    (Annotated[str, pydantic.AfterValidator(lie)], f"{SECRET} !", "invalid"),
    (FromAttributes, Broken(), "get_attribute_error"),
    (Strict, {"password": [SECRET]}, "string_type"),
    (Strict, {"password": "x", f"{SECRET} is my password": 1}, "extra_forbidden"),
    (dict[str, int], {f"{SECRET} as a key": "x"}, "int_parsing"),
    (dict[int, int], {f"{SECRET} as a key": 1}, "int_parsing"),
]


@pytest.mark.parametrize(("kind", "value", "type_"), KINDS, ids=[one for _, _, one in KINDS])
def test_nothing_is_echoed(kind: Any, value: Any, type_: str) -> None:
    """Whatever pydantic refuses, its kind is told, and nothing of the value, nor in capitals."""
    with pytest.raises(pydantic.ValidationError) as raised:
        pydantic.TypeAdapter(kind).validate_python(value)
    direct = error_response(raised.value, origin=Origin.INBOUND)
    errors = [dict(error) for error in raised.value.errors()]
    wrapped = error_response(RequestValidationError(errors, body=value))

    for answer in (direct, wrapped):
        assert (422, type_) == (answer.status, answer.body["errors"][0]["type"])
        assert {"loc", "msg", "type"} == set(answer.body["errors"][0])
        assert SECRET.lower() not in answer.encoded().decode().lower()


KEYS_THAT_ARE_TOKENS = [
    "d41d8cd98f00b204e9800998ecf8427e",
    "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
    "ghp_xRkTqLmNbVcZaSdFgHjKlPoIuYtReWqMnBv",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0",
    "AbCdEfGhIjKlMnOpQrStUvWx",
    "correcthorsebatterystaple",
    "phone_15551234567",
]


@pytest.mark.parametrize("key", KEYS_THAT_ARE_TOKENS)
def test_key_that_is_a_token_is_not_told(key: str) -> None:
    """A secret that was sent as a key of a mapping is not in the place of the error."""
    with pytest.raises(pydantic.ValidationError) as raised:
        pydantic.TypeAdapter(dict[str, int]).validate_python({key: "x"})

    assert ["…"] == wrong_fields(raised.value)[0]["loc"]


def test_random_tokens_are_not_told() -> None:
    """Of a thousand random tokens, written in each usual way, at most one in fifty passes for a name."""
    given = random.Random(7)  # noqa: S311 - they protect nothing
    tokens = [given.randbytes(16) for _ in range(1000)]
    letters = [*string.ascii_letters, *string.digits]
    for written in (
        [token.hex() for token in tokens],
        [base64.urlsafe_b64encode(token).decode().rstrip("=") for token in tokens],
        [base64.b32encode(token).decode().rstrip("=") for token in tokens],
        ["".join(given.choices(letters, k=24)) for _ in tokens],
    ):
        error = {"type": "int_parsing", "msg": "bad"}
        exc = RequestValidationError([{**error, "loc": (f"k_{token}",)} for token in written])
        told = [place for field in wrong_fields(exc) for place in field["loc"] if place != "…"]
        assert len(told) <= 20, told


NAMES = [
    *("text", "phone", "user_id", "userId", "X-Request-ID", "address_line_1", "oauth2_token", "HTTPServer"),
    *(
        "items",
        "address2Line",
        "utm_source",
        "responsible_user_id",
        "list[str]",
        "constrained-str",
        "year_2024",
    ),
    *("a1b2", "_", "p50", "x", "customFieldsValues", "model_attributes_type", "is_ab_test"),
]


@pytest.mark.parametrize("name", NAMES)
def test_name_of_a_field_is_told(name: str) -> None:
    """What reads like the name of a field stays, so that its caller can mend it."""
    exc = RequestValidationError([{"type": "missing", "msg": "Field required", "loc": ("body", name)}])

    assert ["body", name] == wrong_fields(exc)[0]["loc"]


def test_messages_that_say_what_the_schema_says_stay() -> None:
    """Where pydantic's message holds nothing of the value, it is told as it is."""
    told = {"type": "greater_than_equal", "msg": "Input should be at least 1"}
    exc = RequestValidationError([{**told, "loc": ("body", "limit"), "input": 0}])

    assert [{**told, "loc": ["body", "limit"]}] == wrong_fields(exc)


def test_every_kind_is_known() -> None:
    """Each kind of pydantic's own is in one of our lists, but for those of which nothing is to be told."""
    known = _SAFE | set(_UNSAFE)
    of_programs = {"date_from_datetime_inexact", "ellipsis_error"}

    assert set() == set(get_args(core_schema.ErrorType)) - known - of_programs
    assert set() == _SAFE & set(_UNSAFE)


secrets = st.text().map(lambda text: f"{SECRET} {text}")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | secrets | st.fixed_dictionaries({"kind": secrets}),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


class Order(pydantic.BaseModel):
    """Has fields of many kinds."""

    model_config = pydantic.ConfigDict(extra="forbid")

    id: uuid.UUID
    at: datetime.datetime
    colour: Colour
    lines: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]
    notes: dict[str, int]


@given(st.dictionaries(st.sampled_from(["id", "at", "colour", "lines", "notes", "more"]), json_values))
def test_no_value_is_echoed(value: dict[str, Any]) -> None:
    """Nothing of any value is in the answer, in whatever field and however deep it is."""
    with pytest.raises(pydantic.ValidationError) as raised:
        Order.model_validate({"at": "no", **value})

    assert SECRET not in error_response(raised.value, origin=Origin.INBOUND).encoded().decode()


def test_errors_of_ones_own() -> None:
    """The fields that a `ValidationFailed` names are told as they are, without what else is there."""
    told = {"msg": "must start with +", "type": "phone"}
    exc = ValidationFailed("bad", errors=[{**told, "loc": ("body", 0, "phone"), "input": SECRET}])

    assert [{**told, "loc": ["body", 0, "phone"]}] == wrong_fields(exc)


def test_errors_that_are_none() -> None:
    """Nothing is made of what is no error."""
    assert [] == wrong_fields(KeyError())
    assert [] == wrong_fields(RequestValidationError(["nonsense"]))
    assert [{"loc": [], "msg": "Value is not acceptable", "type": "invalid"}] == (
        wrong_fields(RequestValidationError([{}]))
    )


class _Headerless(Exception):
    """A refusal like werkzeug's, whose headers cannot be read."""

    code = 405
    description = "no"

    def get_headers(self) -> list[tuple[str, str]]:
        """Raise."""
        raise RuntimeError


_Headerless.__module__, _Headerless.__qualname__ = "werkzeug.exceptions", "HTTPException"


def test_headers_that_cannot_be_read() -> None:
    """A refusal without headers is a refusal all the same."""
    refused = refusal(_Headerless())

    assert refused is not None
    assert (405, "no", {}) == (refused.failure.status, refused.text, dict(refused.headers))


@pytest.mark.parametrize("exc", [KeyError(), HTTPException(302), HTTPException(600)])
def test_no_refusal(exc: Exception) -> None:
    """Redirects are no refusals, nor is anything else."""
    assert refusal(exc) is None
