"""What the caller of a service is answered: one body for every failure and one for every success.

The body of a failure is two things at once: ``success, error, code, timestamp``, which a front end reads, and
problem details, which RFC 9457 defines (``type, title, status, detail, instance``).
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from resilient_agents import correlation
from resilient_agents._clock import clock
from resilient_agents.errors.evidence import classify
from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Advice, Category, Failure, Origin

PROBLEM = "application/problem+json"
JSON = "application/json"


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


def success_response(data: Any = None, *, request_id: str | None = None) -> dict[str, Any]:
    """Return the body of an answer to a request that went well.

    Args:
        data: What was asked for. The default is *None*.
        request_id: The default is the one that is bound.
    """
    body: dict[str, Any] = {"success": True, "data": data, "timestamp": _timestamp()}
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

    Args:
        exc: What was raised.
        code: A finer code than the one that `classify` finds.
        request_id: The default is the one that is bound.
        instance: The path of the request, without its query.
        accept: The request's ``Accept`` header. Who asks for problem details gets their media type.
        origin: As for `classify`.

    Returns:
        Body, status and headers.
    """
    failure = classify(exc, origin=origin)
    headers = {"Content-Type": PROBLEM if accept and PROBLEM in accept else JSON}
    if failure.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(failure.retry_after))
    if failure.status == 401 and failure.category is Category.AUTH:
        headers["WWW-Authenticate"] = "Bearer"
    detail = failure.detail if isinstance(exc, ApiError) else failure.title
    code = code or failure.code
    body: dict[str, Any] = {
        "success": False,
        "error": detail,
        "code": code,
        "timestamp": _timestamp(),
        "category": str(failure.category),
        "type": f"urn:resilient-agents:error:{code}",
        "title": failure.title,
        "status": failure.status,
        "detail": detail,
        "retryable": failure.advice not in (Advice.NEVER, Advice.TRANSACTION),
    }
    optional: dict[str, Any] = {
        "instance": instance,
        "request_id": request_id or correlation.current().get("request_id"),
        "retry_after": failure.retry_after,
        "errors": [dict(error) for error in exc.errors] if isinstance(exc, ApiError) and exc.errors else None,
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    return ErrorResponse(body=body, status=failure.status, headers=headers, failure=failure)


def _timestamp() -> str:
    moment = datetime.fromtimestamp(clock().time(), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
