"""What the caller of a service is answered."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jsonschema_rs
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from resilient_agents import correlation
from resilient_agents.errors import (
    Advice,
    ApiError,
    AuthFailed,
    Blocked,
    Category,
    CircuitOpen,
    ConfigurationError,
    Conflict,
    InternalFailure,
    NotFound,
    Origin,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ReauthRequired,
    StorageBusy,
    StorageFull,
    Unreachable,
    ValidationFailed,
    classify,
    register,
)
from resilient_agents.errors.responses import ErrorResponse, error_response, media_type, success_response
from resilient_agents.errors.schema import COMPONENT, document_errors, error_component, error_schema
from resilient_agents.testing import FakeClock

SECRET = "hunter2"
VALIDATOR = jsonschema_rs.validator_for(error_schema())


def test_body() -> None:
    """The body is what a front end reads and problem details in one."""
    exc = Unreachable("the CRM is down", retry_after=4.2)
    with FakeClock() as clock:
        clock.advance(0.0419)
        answer = error_response(exc, instance="/leads", request_id="r")

    assert {
        "success": False,
        "error": "the CRM is down",
        "code": "external.unreachable",
        "timestamp": "2026-01-01T00:00:00.041Z",
        "category": "external",
        "type": "urn:resilient-agents:error:external.unreachable",
        "title": "A dependency cannot be reached",
        "status": 503,
        "detail": "the CRM is down",
        "retryable": True,
        "instance": "/leads",
        "request_id": "r",
        "retry_after": 5,
    } == answer.body
    assert (503, {"Content-Type": "application/json", "Vary": "Accept", "Retry-After": "5"}) == (
        answer.status,
        answer.headers,
    )
    assert answer.body == json.loads(answer.encoded())
    assert Category.EXTERNAL == answer.failure.category


def test_code_of_ones_own() -> None:
    """A finer code is in the type too."""
    body = error_response(NotFound("no such agent"), code="not_found.agent").body

    assert ("not_found.agent", "urn:resilient-agents:error:not_found.agent") == (body["code"], body["type"])


def test_success() -> None:
    """What went well says so, with the id that is bound."""
    with FakeClock():
        assert {"success": True, "data": 1, "timestamp": "2026-01-01T00:00:00.000Z"} == success_response(1)
        with correlation.bind(request_id="r"):
            assert "r" == success_response()["request_id"] == error_response(KeyError()).body["request_id"]
    assert "given" == success_response(request_id="given")["request_id"]


@pytest.mark.parametrize(
    ("exc", "shown"),
    [
        (KeyError(SECRET), "A defect in this program"),
        (ConfigurationError(f"{SECRET} is set wrong"), "Wrong configuration"),
        (ConnectionRefusedError(SECRET), "A dependency cannot be reached"),
        (HTTPException(500, SECRET), "A defect in this program"),
        (HTTPException(503, SECRET), "A dependency is overloaded"),
        (HTTPException(404, "No such agent"), "No such agent"),
        (HTTPException(404, {"password": SECRET}), "Not found"),  # type: ignore[arg-type]
        (Conflict("taken by another agent"), "taken by another agent"),
        (ReauthRequired("Kommo refuses our token"), "Kommo refuses our token"),
    ],
)
def test_texts(exc: Exception, shown: str) -> None:
    """A text is shown where it was written for callers, and no other is."""
    answer = error_response(exc)

    assert shown == answer.body["error"] == answer.body["detail"]
    assert SECRET not in answer.encoded().decode() + str(answer.headers)


@pytest.mark.parametrize("exc", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
def test_what_is_no_failure(exc: BaseException) -> None:
    """Ctrl-C is not answered."""
    with pytest.raises(type(exc)):
        error_response(exc)


@pytest.mark.parametrize(
    ("exc", "headers"),
    [
        (AuthFailed(), {"WWW-Authenticate": "Bearer"}),
        (PermissionDenied(), {}),
        (HTTPException(401), {"WWW-Authenticate": "Bearer"}),
        (HTTPException(401, headers={"www-authenticate": "Basic"}), {"www-authenticate": "Basic"}),
        (HTTPException(405, headers={"Allow": "GET, POST"}), {"Allow": "GET, POST"}),
        (HTTPException(429, headers={"retry-after": "7"}), {"Retry-After": "7"}),
        (
            HTTPException(
                400, headers={"Content-Type": "text/html", "Content-Length": "9", "X-Request-ID": "x"}
            ),
            {},
        ),
        (RateLimited(retry_after=0.001), {"Retry-After": "1"}),
        (RateLimited(retry_after=0.0), {"Retry-After": "0"}),
        (Blocked(), {}),
    ],
)
def test_headers(exc: Exception, headers: dict[str, str]) -> None:
    """Retry-After is in whole seconds, a 401 says how to log in, and a framework's own headers are kept."""
    own = {"Content-Type": "application/json", "Vary": "Accept"}

    assert own | headers == error_response(exc).headers


def test_wait_that_is_none() -> None:
    """A wait that makes no sense is not passed on."""
    register(KeyError, category=Category.RATE_LIMIT, retry_after=1.5)
    assert 2 == error_response(KeyError()).body["retry_after"]
    answer = error_response(RateLimited(retry_after=float("inf")))
    assert "Retry-After" not in answer.headers
    assert "retry_after" not in answer.body


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, "json"),
        ("*/*", "json"),
        ("text/html", "json"),
        ("application/json", "json"),
        ("application/problem+json", "problem+json"),
        ("Application/Problem+JSON", "problem+json"),
        ("application/problem+json, */*", "problem+json"),
        ("text/html, application/problem+json;q=0.9, */*;q=0.8", "problem+json"),
        ("application/problem+json; q=0.5, application/json", "json"),
        ("application/problem+json;q=0.5, application/json;q=0.5", "problem+json"),
        ("application/problem+json;q=0.5, application/*", "json"),
        ("application/problem+json;q=0", "json"),
        ("application/problem+json;q=nonsense", "json"),
        ("application/problem+json;charset=utf-8;q=1", "problem+json"),
    ],
)
def test_negotiation(accept: str | None, expected: str) -> None:
    """Problem details are for those who ask for them and do not like JSON better."""
    assert f"application/{expected}" == error_response(NotFound(), accept=accept).headers["Content-Type"]


@given(st.text())
def test_any_accept_header(accept: str) -> None:
    """Whatever the header holds, there is an answer."""
    assert media_type(accept) in ("application/json", "application/problem+json")


@pytest.mark.parametrize(
    ("status", "code", "category"),
    [
        (400, "validation.malformed", "validation"),
        (401, "auth.unauthenticated", "auth"),
        (403, "auth.forbidden", "auth"),
        (404, "not_found.missing", "not_found"),
        (405, "validation.method", "validation"),
        (409, "conflict.state", "conflict"),
        (418, "validation.malformed", "validation"),
        (422, "validation.invalid", "validation"),
        (429, "rate_limit.exceeded", "rate_limit"),
        (499, "validation.malformed", "validation"),
        (500, "internal.bug", "internal"),
        (501, "internal.unimplemented", "internal"),
        (502, "external.server_error", "external"),
        (503, "external.overloaded", "external"),
        (504, "external.timeout", "external"),
        (599, "internal.unexpected", "internal"),
    ],
)
def test_framework_statuses(status: int, code: str, category: str) -> None:
    """A framework's refusal keeps its status, whatever caused it."""
    exc = HTTPException(status)
    exc.__cause__ = ConnectionRefusedError()
    answer = error_response(exc)

    assert (status, status, code, category) == (
        answer.status,
        answer.body["status"],
        answer.body["code"],
        answer.body["category"],
    )


def test_rule_goes_first() -> None:
    """What a user registered decides about a framework's exception too."""
    register(HTTPException, category=Category.CONFLICT)

    assert 409 == error_response(HTTPException(404)).status


def test_origin() -> None:
    """A 401 of a dependency is no 401 for our caller."""
    assert 502 == error_response(AuthFailed(), origin=Origin.DEPENDENCY).status


@pytest.mark.parametrize(
    ("path", "instance"), [("/a b", "/a%20b"), ("/é\n", "/%C3%A9%0A"), ("/\udc80", "/%3F")]
)
def test_instance_is_a_reference(path: str, instance: str) -> None:
    """Whatever is in a path, the instance is a URI reference."""
    assert instance == error_response(NotFound(), instance=path).body["instance"]


EXCEPTIONS: list[Callable[[], Exception]] = [
    *ApiError.__subclasses__(),
    lambda: ValidationFailed(
        "bad", errors=[{"loc": ("body", 0), "msg": "bad", "type": "x", "input": SECRET}]
    ),
    lambda: RateLimited(retry_after=3),
    *(lambda status=status: HTTPException(status) for status in (400, 404, 429, 500, 503)),
    KeyError,
    TimeoutError,
    lambda: ExceptionGroup("", [KeyError(), TimeoutError()]),
]


@pytest.mark.parametrize(
    ("exc", "retryable"),
    [
        (CircuitOpen("left alone", retry_after=9.2), True),
        (CircuitOpen("left alone"), True),
        (StorageBusy(), True),
        (StorageFull(), True),
        (RateLimited(retry_after=3), True),
        (psycopg.errors.DeadlockDetected(), True),
        (Conflict(), False),
        (QuotaExhausted(retry_after=86_400), True),
        (QuotaExhausted(), False),
        (InternalFailure(), False),
        (NotFound(), False),
    ],
    ids=repr,
)
def test_retryable_is_for_the_caller(exc: Exception, retryable: bool) -> None:
    """What we do not try again may still work for a caller that comes later: where we say when, or a 503."""
    answer = error_response(exc)

    assert retryable is answer.body["retryable"]
    assert retryable or "Retry-After" not in answer.headers


@pytest.mark.parametrize("make", EXCEPTIONS)
def test_schema_holds(make: Callable[[], Exception]) -> None:
    """Every body is as the schema says, and says what `classify` says."""
    answer = error_response(make(), request_id="r", instance="/x")

    VALIDATOR.validate(json.loads(answer.encoded()))
    assert SECRET not in str(answer.body)
    assert answer.failure.advice in (Advice.NEVER, Advice.TRANSACTION) or answer.body["retryable"]
    datetime.fromisoformat(answer.body["timestamp"])


@pytest.mark.parametrize("missing", error_schema()["required"])
def test_schema_is_strict(missing: str) -> None:
    """A body that lacks something is not valid."""
    body = error_response(NotFound()).body
    del body[missing]

    assert not VALIDATOR.is_valid(body)


@given(st.text(), st.text(), st.text())
def test_any_text_can_be_sent(detail: str, request_id: str, path: str) -> None:
    """Whatever is in the texts, the body is JSON, and the headers can be sent."""
    answer = error_response(Conflict(detail), request_id=request_id, instance=path)

    assert (detail or "Conflict") == json.loads(answer.encoded())["detail"]
    assert all(value.isprintable() for value in answer.headers.values())


def test_openapi() -> None:
    """Each operation has the errors; what was documented by hand stays."""
    theirs = {"description": "None here"}
    fastapi = {"$ref": "#/components/schemas/HTTPValidationError"}
    document: dict[str, Any] = {
        "paths": {
            "/a": {
                "summary": "not an operation",
                "get": {"responses": {"404": theirs, "4XX": theirs}},
                "post": {"responses": {"422": {"content": {"application/json": {"schema": fastapi}}}}},
            }
        },
        "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}}},
    }
    once = json.dumps(document_errors(document))

    reference = {"$ref": f"#/components/responses/{COMPONENT}"}
    assert {"404": theirs, "4XX": theirs, "5XX": reference} == document["paths"]["/a"]["get"]["responses"]
    assert dict.fromkeys(("422", "4XX", "5XX"), reference) == document["paths"]["/a"]["post"]["responses"]
    assert {
        "schemas": {COMPONENT: error_schema()},
        "responses": {COMPONENT: error_component()},
    } == document["components"]
    assert once == json.dumps(document_errors(document))


def test_openapi_schemas_in_use_stay() -> None:
    """FastAPI's own schemas are taken out only where nothing refers to them."""
    used = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}}
    document: dict[str, Any] = {
        "paths": {"/a": {"get": {"responses": {"400": used}}}},
        "components": {"schemas": {"HTTPValidationError": {}, "ValidationError": {}}},
    }
    assert {"HTTPValidationError", "ValidationError", COMPONENT} == {
        *document_errors(document)["components"]["schemas"]
    }
    other = {"$ref": "#/components/schemas/ValidationError"}
    document = {"paths": {}, "components": {"schemas": {"Mine": other, "ValidationError": {}}}}
    assert "ValidationError" in document_errors(document)["components"]["schemas"]


def test_answer_is_a_value() -> None:
    """Answers are compared by what they say."""
    failure = classify(NotFound())
    one, other = (ErrorResponse(body={}, status=404, headers={}, failure=failure) for _ in range(2))

    assert one == other
    assert b"{}" == one.encoded()
