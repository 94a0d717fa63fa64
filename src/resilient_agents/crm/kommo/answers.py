"""What Kommo's answers mean (developers.kommo.com, "HTTP codes" and "Limitations").

Status, content type and body count together: a 403 in JSON is a missing right, a 403 in HTML is a block of
all traffic; a 204 means "nothing", for lists and for unknown ids; a 5xx leaves open whether a write was done.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from resilient_agents._clock import clock
from resilient_agents.crm.transport import Answer, Request
from resilient_agents.errors import (
    ApiError,
    Blocked,
    Origin,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ReauthRequired,
    Unreachable,
    ValidationFailed,
)
from resilient_agents.errors.hints import retry_after
from resilient_agents.redaction import redact

BLOCK_WAIT: Final = 600.0
"""Time in seconds between two looks whether a block is over. Kommo names none: "minutes to hours"."""

THROTTLE_WAIT: Final = 1.0
"""Time in seconds to wait after a 429 without a hint: the limit counts requests a second."""

QUOTA_WAIT: Final = 900.0
"""Time in seconds between two looks whether the account has been paid."""


class Refused(ValidationFailed):
    """Kommo refuses what it was sent.

    Args:
        detail: What it refuses.
        errors: One mapping for each wrong field; the first part of its ``loc`` is the item's request id.
    """

    origin = Origin.DEPENDENCY
    code = "validation.refused"
    status = 502
    title = "Kommo refuses the data"


class BatchTooLarge(Refused):
    """Kommo takes fewer or smaller items in one request."""

    code = "validation.batch_too_large"
    title = "Too many items in one request to Kommo"


def read(host: str, request: Request, answer: Answer) -> Any:
    """Return the JSON of a good *answer*, or raise what a bad one means.

    Args:
        host: Kommo's host name, for messages.
        request: What was asked.
        answer: What came back.

    Returns:
        The parsed body; *None* for a 204.

    Raises:
        ApiError: The answer is an error, or no answer of Kommo's at all.
    """
    if answer.status == 204:
        return None
    if answer.status < 300:
        return _parsed(host, request, answer)
    raise _error(host, request, answer)


def _parsed(host: str, request: Request, answer: Answer) -> Any:
    try:
        if not answer.media_type.endswith("json"):
            raise ValueError
        body = json.loads(answer.content)
        if body is None:  # would pass for a 204
            raise ValueError
        return body
    except ValueError:
        what = answer.media_type or "no content type"
        raise OutcomeUnknown(
            f"{_asked(host, request)} answered {answer.status} with an unreadable body ({what})",
            code="external.bad_body",
        ) from None


def _error(host: str, request: Request, answer: Answer) -> ApiError:
    asked, problem = _asked(host, request), _problem(answer)
    hint = retry_after(answer.headers, problem, now=clock().time())
    if answer.status >= 500:
        status = 504 if answer.status == 504 else 502
        code = "external.timeout" if answer.status == 504 else "external.server_error"
        return OutcomeUnknown(f"{asked} answered {answer.status}", code=code, status=status, retry_after=hint)
    if answer.status == 403 and problem is None:
        detail = f"{host} has blocked this address or account; if it lasts, ask Kommo's support to lift it"
        return Blocked(detail, retry_after=hint or BLOCK_WAIT)
    if problem is None and _is_a_proxys(request, answer.status):
        return Unreachable(f"{asked} answered {answer.status} with no JSON: is there a proxy in between?")
    meaning = _MEANINGS.get(answer.status)
    if meaning is None:
        return ReauthRequired(f"{asked} answered {answer.status}: is this the host of your Kommo account?")
    return meaning(asked, problem or {}, hint)


def _is_a_proxys(request: Request, status: int) -> bool:
    """Tell whether a refusal without reasons is no word of Kommo's: it must not be blamed on the data.

    Of several items a 413 may be about their number; fewer of them may pass.
    """
    several = isinstance(request.body, list) and len(request.body) > 1
    return status in (400, 422) or (status == 413 and not several)


def _invalid(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    errors = [
        {
            "loc": [str(item.get("request_id", "")), str(error.get("path", ""))],
            "type": str(error.get("code", "")),
        }
        for item in _mappings(problem.get("validation-errors"))
        for error in _mappings(item.get("errors"))
    ]
    fields = sorted({f"{error['loc'][1]} ({error['type']})" for error in errors})
    reason = ", ".join(fields) or str(problem.get("detail", "no reason given"))
    return Refused(f"{asked} refuses the data: {redact(reason, limit=300)}", errors=errors)


def _unauthorized(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    return ReauthRequired(f"{asked} refuses the token (401): it is wrong, expired or revoked; set a new one")


def _unpaid(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    return QuotaExhausted(f"{asked}: the account is not paid for (402)", retry_after=hint or QUOTA_WAIT)


def _forbidden(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    detail = f"{asked}: the token lacks the right to do this (403); grant it in Kommo's integration settings"
    return PermissionDenied(detail, origin=Origin.DEPENDENCY, status=502)


def _no_such_path(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    return ReauthRequired(f"{asked} is not known there (404, 405): is this the host of your Kommo account?")


def _too_many_items(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    return BatchTooLarge(f"{asked} takes less in one request (413, 422)")


def _throttled(asked: str, problem: Mapping[str, Any], hint: float | None) -> ApiError:
    wait = THROTTLE_WAIT if hint is None else hint
    return RateLimited(f"{asked}: too many requests (429)", retry_after=wait)


_MEANINGS: Final[Mapping[int, Callable[[str, Mapping[str, Any], float | None], ApiError]]] = {
    400: _invalid,
    401: _unauthorized,
    402: _unpaid,
    403: _forbidden,
    404: _no_such_path,
    405: _no_such_path,
    413: _too_many_items,
    422: _too_many_items,
    429: _throttled,
}


def _asked(host: str, request: Request) -> str:
    return f"{request.method} {host}{request.path}"


def _problem(answer: Answer) -> Mapping[str, Any] | None:
    """Return the body of an error as a mapping, or *None* when it is no JSON object."""
    try:
        body = json.loads(answer.content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _mappings(value: object) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


__all__ = ["BatchTooLarge", "Refused", "read"]
