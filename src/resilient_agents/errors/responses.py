"""What the caller of a service is answered: one body for every failure and one for every success.

The body of a failure is two things at once: ``success, error, code, timestamp``, which a front end reads, and
problem details, which RFC 9457 defines (``type, title, status, detail, instance``).
"""

import json
import math
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from resilient_agents import correlation
from resilient_agents._clock import clock, timestamp
from resilient_agents.errors.evidence import classify
from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Advice, Category, Failure, Origin
from resilient_agents.errors.refusals import Refusal, refusal, wrong_fields

__all__ = ["ErrorResponse", "error_response", "success_response"]

PROBLEM = "application/problem+json"
JSON = "application/json"

_ENCODER = json.JSONEncoder(separators=(",", ":"), default=str)
_NONE: dict[str, str] = {}
_LONGEST_WAIT = 366 * 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorResponse:
    """An answer to a request that failed.

    Attributes:
        body: What to send as JSON.
        status: The HTTP status.
        headers: The headers that belong to it, ``Content-Type`` among them.
        failure: The decision that it tells of.
    """

    body: dict[str, Any]
    status: int
    headers: dict[str, str]
    failure: Failure

    def encoded(self) -> bytes:
        """Return the body as JSON, in bytes."""
        return _ENCODER.encode(self.body).encode("ascii")


def success_response(data: Any = None, *, request_id: str | None = None) -> dict[str, Any]:
    """Return the body of an answer to a request that went well.

    Args:
        data: What was asked for. The default is *None*.
        request_id: The default is the one that is bound.
    """
    body: dict[str, Any] = {"success": True, "data": data, "timestamp": timestamp(clock().time())}
    request_id = request_id or correlation.current().get("request_id")
    if request_id is not None:
        body["request_id"] = request_id
    return body


def error_response(
    exc: BaseException,
    *,
    code: str | None = None,
    request_id: str | None = None,
    instance: str | None = None,
    accept: str | None = None,
    origin: Origin | None = None,
) -> ErrorResponse:
    """Return the answer to a request that failed with *exc*.

    Nothing of what was sent is in it, nor the text of an exception that is not written for callers: those
    texts are the detail of an `ApiError` that is no internal one, and that of a framework's ``HTTPException``
    below 500. The headers of an ``HTTPException`` are kept, as ``Allow`` and ``WWW-Authenticate``.

    Args:
        exc: What was raised.
        code: A finer code than the one that `classify` finds.
        request_id: The default is the one that is bound.
        instance: The path of the request, without its query.
        accept: The request's ``Accept`` header. Who asks for problem details gets their media type (RFC 9457
            section 3), everybody else JSON; the body is the same.
        origin: As for `classify`.

    Returns:
        Body, status and headers.

    Raises:
        BaseException: *exc* itself, where it is no `Exception`: neither cancellation nor Ctrl-C is a failure.
    """
    if not isinstance(exc, Exception):
        raise exc
    refused = refusal(exc)
    failure = refused.failure if refused is not None else classify(exc, origin=origin)
    code = code or failure.code
    detail = _detail(exc, failure, refused)
    wait = _whole_seconds(failure.retry_after)
    body: dict[str, Any] = {
        "success": False,
        "error": detail,
        "code": code,
        "timestamp": timestamp(clock().time()),
        "category": str(failure.category),
        "type": f"urn:resilient-agents:error:{code}",
        "title": failure.title,
        "status": failure.status,
        "detail": detail,
        "retryable": _may_work_later(failure, wait),
    }
    if instance is not None:
        body["instance"] = quote(instance, errors="replace")
    request_id = request_id or correlation.current().get("request_id")
    if request_id is not None:
        body["request_id"] = request_id
    if wait is not None:
        body["retry_after"] = wait
    if failure.category is Category.VALIDATION and (fields := wrong_fields(exc)):
        body["errors"] = fields
    headers = _headers(failure, refused, wait, accept)
    return ErrorResponse(body=body, status=failure.status, headers=headers, failure=failure)


def _detail(exc: Exception, failure: Failure, refused: Refusal | None) -> str:
    """Return what the caller may read: a text that was written for him, or the title."""
    if refused is not None:
        return refused.text or failure.title
    written = isinstance(exc, ApiError) and failure.category is not Category.INTERNAL
    return failure.detail if written else failure.title


def _may_work_later(failure: Failure, wait: int | None) -> bool:
    """Tell what the caller may hope for, who sees a whole request where `Advice` is about one call of ours.

    A 503 is for now (RFC 9110 section 15.6.4), as of an open circuit and a full disk; a spent quota stays so.
    """
    for_now = failure.status == 503 and failure.category is not Category.RATE_LIMIT
    return failure.advice is not Advice.NEVER or wait is not None or for_now


def _whole_seconds(wait: float | None) -> int | None:
    """Return *wait* as ``Retry-After`` has it (RFC 9110 section 10.2.3): whole seconds, never too early."""
    if wait is None or not 0 <= wait <= _LONGEST_WAIT:
        return None
    return math.ceil(wait)


def _headers(
    failure: Failure, refused: Refusal | None, wait: int | None, accept: str | None
) -> dict[str, str]:
    headers = {"Content-Type": media_type(accept), "Vary": "Accept"}
    brought = refused.headers if refused is not None else _NONE
    headers.update((name, value) for name, value in brought.items() if name.lower() != "retry-after")
    if wait is not None:
        headers["Retry-After"] = str(wait)
    if failure.status == 401 and not any(name.lower() == "www-authenticate" for name in brought):
        headers["WWW-Authenticate"] = "Bearer"  # RFC 9110 section 15.5.2: a 401 must have one
    return headers


def media_type(accept: str | None) -> str:
    """Return the media type of an error for who sent *accept* (RFC 9110 section 12.5.1).

    Problem details are for those who name them, unless they like JSON better.

    Args:
        accept: The request's ``Accept`` header, or *None*.
    """
    if accept is None or "problem+json" not in accept.lower():
        return JSON
    quality = dict(_quality(part) for part in accept.lower().split(","))
    problem = quality.get(PROBLEM, 0.0)
    plain = next((quality[name] for name in (JSON, "application/*", "*/*") if name in quality), 0.0)
    return PROBLEM if problem > 0 and problem >= plain else JSON


def _quality(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return name, float(parameter[2:])
            except ValueError:
                return name, 0.0
    return name, 1.0
