"""How long to wait is understood in every form in use, and no nonsense is believed or raised."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_agents.errors.hints import LONGEST, retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("+3", 3.0),
        ("86400", 86_400.0),
        ("2592000", 2_592_000.0),
        ("31536000", 31_536_000.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:14:20 UTC", 60.0),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60.0),
        ("Tue Nov 14 22:14:20 2023", 60.0),
        ("Fri Dec  1 22:13:20 2023", 17 * 86_400.0),
        ("Tue, 14 Nov 2023 22:13:60 GMT", 39.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
    ],
)
def test_retry_after_is_read_in_every_form(value: str, expected: float) -> None:
    """Whole and fractional seconds and the three forms of dates of RFC 9110 count; the past means now."""
    assert expected == retry_after({"Retry-After": value}, now=NOW)


@pytest.mark.parametrize(
    "value",
    [
        "", "soon", "-5", "-0.5", "nan", "inf", "Infinity", "1e3", "1_000", "٣", "1,5", "0x10",
        "999999999999", "1700000060", "9" * 40, "Tue, 32 Nov 2023 22:14:20 GMT",
        "Tue, 14 Foo 2023 22:14:20 GMT",
        "Tue, 14 Nov 2023 25:14:20 GMT", "Tue, 14 Nov 2099 22:14:20 GMT", "Tue, 14 Nov 2023 22:14:20 +0300",
        "2023-11-14T22:14:20Z", "Tue, 14 Nov 0000 22:14:20 GMT",
    ],
)  # fmt: skip
def test_nonsense_is_not_a_hint(value: str) -> None:
    """What is negative, not finite, beyond a year or not understood is ignored."""
    assert retry_after({"Retry-After": value}, now=NOW) is None


@given(st.datetimes(datetime(2023, 11, 14, 22, 13, 21), datetime(2024, 11, 13)))
def test_any_date_within_a_year_is_read(moment: datetime) -> None:
    """A date in the form that servers must send comes out as the seconds until it."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert moment.timestamp() - NOW == retry_after(
        {"Retry-After": format_datetime(moment, usegmt=True)}, now=NOW
    )


def test_a_short_year_is_completed_as_the_standard_says() -> None:
    """A two-digit year more than fifty years ahead was in the century before."""
    then = datetime(2060, 1, 1, tzinfo=UTC).timestamp()
    assert 0.0 == retry_after({"Retry-After": "Friday, 01-Jan-59 00:00:00 GMT"}, now=then)
    assert 0.0 == retry_after({"Retry-After": "Sunday, 31-Dec-11 00:00:00 GMT"}, now=then)


def test_a_clock_beyond_all_dates_is_no_reason_to_raise() -> None:
    """A broken clock of ours makes a date meaningless, not fatal."""
    assert retry_after({"Retry-After": "Friday, 01-Jan-59 00:00:00 GMT"}, now=1e30) is None


@pytest.mark.parametrize("name", ["Retry-After", "retry-after", "RETRY-AFTER"])
@pytest.mark.parametrize("build", [dict, httpx.Headers])
def test_headers_are_found_in_any_case(name: str, build: Any) -> None:
    """The case of letters does not matter, whatever mapping the headers are in."""
    assert 7.0 == retry_after(build({name: "7"}), now=NOW)


def test_raw_headers_of_bytes_are_read() -> None:
    """Names and values may be bytes, as servers see them."""
    assert 7.0 == retry_after({b"Retry-After": b"7"}, now=NOW)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("30", 30.0),
        ("2.5", 2.5),
        ("1700000060", 60.0),
        ("1700000060000", 60.0),
        ("1600000000", 0.0),
        ("31622401", None),
        ("1900000000", None),
        ("-1", None),
        ("later", None),
    ],
)
@pytest.mark.parametrize("name", ["X-RateLimit-Reset", "RateLimit-Reset"])
def test_a_reset_is_seconds_or_a_moment(name: str, value: str, expected: float | None) -> None:
    """Small numbers are seconds from now, large ones a moment in seconds or milliseconds."""
    assert expected == retry_after({name: value}, now=NOW)


def test_a_reset_does_not_count_while_something_is_left() -> None:
    """A window that is not used up is no reason to wait for its end."""
    headers = {"X-RateLimit-Reset": "1700003600", "X-RateLimit-Remaining": "4999"}
    assert retry_after(headers, now=NOW) is None
    assert 3600.0 == retry_after(headers | {"X-RateLimit-Remaining": "0"}, now=NOW)


def test_milliseconds_go_first() -> None:
    """The finer header decides."""
    assert 0.25 == retry_after({"Retry-After-Ms": "250", "Retry-After": "1"}, now=NOW)


def test_an_ununderstood_hint_gives_way_to_the_next_one() -> None:
    """A broken header does not hide a good hint elsewhere."""
    headers = {"Retry-After-Ms": "x", "Retry-After": "soon", "X-RateLimit-Reset": "9"}
    assert 9.0 == retry_after(headers, now=NOW)
    assert 300.0 == retry_after(headers, {"retry_after": 300}, now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        {"retry_after": 300},
        {"retry_after": "300"},
        {"error": {"retry_after": 300.0}},
        {"ok": False, "parameters": {"retry_after": 300}},
        {"retry_after": None, "error": "slow down", "parameters": {"retry_after": 300}},
    ],
)
@pytest.mark.parametrize("encode", [lambda body: body, json.dumps, lambda body: json.dumps(body).encode()])
def test_a_body_may_hold_the_hint(body: object, encode: Any) -> None:
    """JSON with retry_after is read, also nested, parsed or raw."""
    assert 300.0 == retry_after({}, encode(body), now=NOW)
    assert 300.0 == retry_after(None, encode(body), now=NOW)


@pytest.mark.parametrize(
    "body",
    [
        None, "", "<html>429</html>", b"\xff", [300], {"retry_after": True}, {"retry_after": [1]},
        {"retry_after": -1}, {"retry_after": 10**400}, {"retry_after": float("nan")},
        "[" * 60_000, '{"retry_after": ' + "1" * 70_000 + "}",
    ],
)  # fmt: skip
def test_a_body_without_a_hint_gives_none(body: object) -> None:
    """HTML, nonsense, deep nesting and huge bodies are passed over."""
    assert retry_after({}, body, now=NOW) is None


class Hostile(Mapping[str, str]):
    """Headers that fail while they are read."""

    def __getitem__(self, key: str) -> str:
        raise RuntimeError("hostile")

    def __iter__(self) -> Iterator[str]:
        return iter(["Retry-After"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("headers", [None, 7, "Retry-After: 7", [("Retry-After", "7")], Hostile()])
def test_what_is_no_mapping_holds_no_hint(headers: object) -> None:
    """Headers of an unknown kind are passed over, not fatal."""
    assert retry_after(headers, now=NOW) is None


names = st.sampled_from(
    ["Retry-After", "retry-after-ms", "X-RateLimit-Reset", "RateLimit-Reset", "X-RateLimit-Remaining"]
)
numbers = st.integers().map(str) | st.floats().map(str)
values = st.text() | numbers | st.binary() | st.integers() | st.none()
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.dictionaries(st.sampled_from(["retry_after", "error", "parameters"]), inner) | st.lists(inner)
    ),
)


@given(st.dictionaries(names, values), documents | st.text() | st.binary(), st.floats(0, 1e12))
def test_no_garbage_raises_and_every_hint_is_a_wait(
    headers: dict[str, Any], body: object, now: float
) -> None:
    """Whatever comes in, the result is nothing or a time from zero to a year."""
    wait = retry_after(headers, body, now=now)
    assert wait is None or 0.0 <= wait <= LONGEST
