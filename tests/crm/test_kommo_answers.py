"""What an answer of Kommo's leads to, status by status."""

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.crm.loopback import FIXTURES

from resilient_agents.crm.kommo.answers import (
    BLOCK_WAIT,
    QUOTA_WAIT,
    THROTTLE_WAIT,
    BatchTooLarge,
    Refused,
    read,
)
from resilient_agents.crm.transport import Answer, Request
from resilient_agents.errors import (
    Advice,
    ApiError,
    Blocked,
    Category,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ReauthRequired,
    Unreachable,
    classify,
)
from resilient_agents.testing import FakeClock

TOKEN = "eyJ-top-secret"
HOST = "acme.kommo.com"
REQUEST = Request(
    method="POST",
    path="/api/v4/leads/complex",
    body=[{"name": "Ann Secret", "phone": "+15550100002"}],
    headers={"authorization": f"Bearer {TOKEN}"},
)
HTML = b"<html><body><h1>nginx</h1></body></html>"
PROBLEM = {"title": "A title", "type": "https://httpstatus.es", "detail": "A detail"}
ITEMS = {
    "validation-errors": [
        {"request_id": "3", "errors": [{"code": "InvalidType", "path": "price", "detail": "Ann Secret"}]}
    ]
}


def problem(**members: Any) -> bytes:
    """Return an error's body in the vendor's form."""
    return json.dumps({**PROBLEM, **members}).encode()


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """What an answer leads to."""

    kind: type[ApiError]
    code: str
    status: int = 502
    advice: Advice = Advice.NEVER
    retry_after: float | None = None


REFUSED = Meaning(kind=Refused, code="validation.refused")
TOO_LARGE = Meaning(kind=BatchTooLarge, code="validation.batch_too_large")
REAUTH = Meaning(kind=ReauthRequired, code="auth.needs_reauth")
PROXY = Meaning(kind=Unreachable, code="external.unreachable", status=503, advice=Advice.SAFE)
UNPAID = Meaning(kind=QuotaExhausted, code="rate_limit.quota", status=503, retry_after=QUOTA_WAIT)
FORBIDDEN = Meaning(kind=PermissionDenied, code="auth.forbidden")
SERVER_ERROR = Meaning(kind=OutcomeUnknown, code="external.server_error", advice=Advice.IDEMPOTENT)
TIMEOUT = Meaning(kind=OutcomeUnknown, code="external.timeout", status=504, advice=Advice.IDEMPOTENT)
BAD_BODY = Meaning(kind=OutcomeUnknown, code="external.bad_body", advice=Advice.IDEMPOTENT)


def throttled(wait: float, kind: type[ApiError] = RateLimited, code: str = "rate_limit.throttled") -> Meaning:
    """Return the meaning of a demand to wait."""
    return Meaning(kind=kind, code=code, status=503, advice=Advice.AFTER, retry_after=wait)


BLOCKED = throttled(BLOCK_WAIT, Blocked, "rate_limit.blocked")

TABLE: list[tuple[str, int, bytes, dict[str, str], Meaning]] = [
    ("200 as a page", 200, HTML, {}, BAD_BODY),
    ("200 cut short", 200, b'[{"id": 1', {}, BAD_BODY),
    ("200 in no charset", 200, b'["\xff"]', {}, BAD_BODY),
    ("200 that says nothing", 200, b"null", {}, BAD_BODY),
    ("202 without a body", 202, b"", {}, BAD_BODY),
    ("301", 301, HTML, {"location": "https://www.kommo.com/"}, REAUTH),
    ("400 with items", 400, problem(**ITEMS), {}, REFUSED),
    ("400 without items", 400, problem(), {}, REFUSED),
    ("400 with odd items", 400, problem(**{"validation-errors": [3, {"errors": "no"}]}), {}, REFUSED),
    ("400 as a page", 400, HTML, {}, PROXY),
    ("400 without a body", 400, b"", {}, PROXY),
    ("400 with a bare list", 400, b"[]", {}, PROXY),
    ("401", 401, problem(), {}, REAUTH),
    ("401 as a page", 401, HTML, {}, REAUTH),
    ("402", 402, problem(), {}, UNPAID),
    ("403 in JSON", 403, problem(), {}, FORBIDDEN),
    ("403 as a page", 403, HTML, {}, BLOCKED),
    ("404", 404, problem(), {}, REAUTH),
    ("405", 405, problem(), {}, REAUTH),
    ("413", 413, problem(), {}, TOO_LARGE),
    ("413 as a page", 413, HTML, {}, PROXY),
    ("418", 418, b"", {}, REAUTH),
    ("422", 422, problem(), {}, TOO_LARGE),
    ("422 as a page", 422, HTML, {}, PROXY),
    ("429 with a hint", 429, problem(retry_after=300), {}, throttled(300)),
    ("429 with a hint of 0", 429, problem(retry_after=0), {}, throttled(0)),
    ("429 with a header", 429, problem(), {"retry-after": "17"}, throttled(17)),
    ("429 without a hint", 429, problem(), {}, throttled(THROTTLE_WAIT)),
    ("429 as a page", 429, HTML, {}, throttled(THROTTLE_WAIT)),
    ("500", 500, problem(trace_id="1"), {}, SERVER_ERROR),
    ("502 as a page", 502, HTML, {}, SERVER_ERROR),
    ("503 as a page", 503, HTML, {}, SERVER_ERROR),
    ("504 as a page", 504, HTML, {}, TIMEOUT),
]


def verdict(answer: Answer) -> tuple[ApiError, Meaning]:
    """Return what *answer* raises, and what that means."""
    with FakeClock(), pytest.raises(ApiError) as caught:
        read(HOST, REQUEST, answer)
    failure = classify(caught.value)
    return caught.value, Meaning(
        kind=type(caught.value),
        code=failure.code,
        status=failure.status,
        advice=failure.advice,
        retry_after=failure.retry_after,
    )


def answer_of(status: int, content: bytes, headers: dict[str, str] | None = None) -> Answer:
    """Return an answer with the content type that its body looks like."""
    looks = "text/html; charset=utf-8" if content.startswith(b"<") else "application/problem+json"
    return Answer(status=status, headers={"content-type": looks, **(headers or {})}, content=content)


@pytest.mark.parametrize(
    ("status", "content", "headers", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_every_answer_has_a_meaning(
    status: int, content: bytes, headers: dict[str, str], expected: Meaning
) -> None:
    """Status, content type and body together decide; the message names the host and leaks nothing."""
    exc, found = verdict(answer_of(status, content, headers))

    assert expected == found
    assert exc.code.partition(".")[0] == classify(exc).category
    assert HOST in exc.detail
    for secret in (TOKEN, "Ann", "5550100002"):
        assert secret not in exc.detail + json.dumps(exc.errors)


@pytest.mark.parametrize("status", range(300, 600))
def test_no_error_passes_for_an_answer(status: int) -> None:
    """Whatever status is not a success raises, with a category that a caller can act on."""
    exc, _ = verdict(answer_of(status, problem()))

    assert classify(exc).category is not Category.INTERNAL


@pytest.mark.parametrize(
    "media_type", ["application/hal+json", "application/json; charset=utf-8", "text/json"]
)
def test_a_good_answer_is_its_json(media_type: str) -> None:
    """A success in any kind of JSON is parsed."""
    answer = Answer(status=200, headers={"content-type": media_type}, content=b'[{"id": 1}]')

    assert [{"id": 1}] == read(HOST, REQUEST, answer)


def test_a_204_is_nothing() -> None:
    """An empty list and an unknown id are answered with 204, which is never parsed."""
    assert read(HOST, REQUEST, Answer(status=204, headers={}, content=b"")) is None


def test_a_page_about_the_size_of_several_items_may_be_about_their_number() -> None:
    """A proxy's 413 to many leads is answered with fewer of them, and not with waiting."""
    several = replace(REQUEST, body=[{"name": "Ann"}, {"name": "Bob"}])

    with pytest.raises(BatchTooLarge):
        read(HOST, several, answer_of(413, HTML))


def test_a_refusal_tells_which_item_and_which_field() -> None:
    """The errors of a 400 carry request id, path and code; the message carries path and code."""
    exc, _ = verdict(answer_of(400, problem(**ITEMS)))

    assert ({"loc": ["3", "price"], "type": "InvalidType"},) == exc.errors
    assert "price (InvalidType)" in exc.detail


def test_a_refusal_does_not_pass_on_what_looks_private() -> None:
    """What Kommo says about the data is cut and redacted, since it may repeat the data."""
    exc, _ = verdict(answer_of(400, problem(detail="bad value ann@example.com " + "x" * 5000)))

    assert "bad value" in exc.detail
    assert "ann@example.com" not in exc.detail
    assert len(exc.detail) < 500


def test_a_date_in_retry_after_is_read_against_the_clock() -> None:
    """A 503 with a moment in its header is waited for as long as it says."""
    exc, _ = verdict(answer_of(503, HTML, {"retry-after": "Thu, 01 Jan 2026 00:02:00 GMT"}))

    assert 120.0 == exc.retry_after


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("400_empty.json", REFUSED),
        ("400_validation.json", REFUSED),
        ("401.json", REAUTH),
        ("402.json", UNPAID),
        ("403_block.html", BLOCKED),
        ("403_scope.json", FORBIDDEN),
        ("404.json", REAUTH),
        ("422_limit_250.json", TOO_LARGE),
        ("429_gateway.html", throttled(THROTTLE_WAIT)),
        ("504_gateway.html", TIMEOUT),
    ],
)
def test_the_vendors_own_errors_mean_the_same(name: str, expected: Meaning) -> None:
    """The documented bodies of errors are understood as the table says."""
    sample = FIXTURES / "errors" / name
    if not sample.exists():
        pytest.skip("KOMMO_SAMPLES names no folder with real bodies")

    assert expected == verdict(answer_of(int(name[:3]), sample.read_bytes()))[1]


def test_a_request_does_not_show_what_it_carries() -> None:
    """The repr of a request, as error trackers record it, holds neither token nor lead."""
    assert TOKEN not in repr(REQUEST)
    assert "Ann" not in repr(REQUEST)
