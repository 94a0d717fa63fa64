"""Requests and answers as values, and the bodies in which the vendor and its gateway report errors."""

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import uuid4

HAL = "application/hal+json"
PROBLEM = "application/problem+json"
HTML = "text/html"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What a client sent.

    Attributes:
        method: The HTTP method, in capitals.
        path: The path, decoded, without the query.
        query: Names and values of the query, decoded, in order.
        token: What followed ``Bearer`` in the Authorization header, or *None*.
        body: The body as it came.
        origin: The address under which the client sees the fake, as ``http://127.0.0.1:8080``.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    token: str | None = None
    body: bytes = b""
    origin: str = "http://127.0.0.1"

    def parameter(self, name: str) -> str | None:
        """Return the last value that the query has for *name*, or *None*."""
        return dict(self.query).get(name)

    def link(self, path: str) -> dict[str, dict[str, str]]:
        """Return the ``_links`` of a thing that lives at *path*."""
        return {"self": {"href": f"{self.origin}{path}"}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the fake answers.

    Attributes:
        status: The HTTP status.
        content_type: Media type of the body.
        body: The body; empty for 204.
    """

    status: int
    content_type: str
    body: bytes


class Refusal(Exception):
    """A route's rule was broken: the request ends here, with this answer."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        super().__init__(answer.status)


EMPTY = Answer(status=204, content_type=HAL, body=b"")
"""Nothing found, or an unknown id."""


def encode(value: Any) -> bytes:
    """Return *value* as JSON bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def success(value: Any, *, status: int = 200) -> Answer:
    """Return *value* as a good answer."""
    return Answer(status=status, content_type=HAL, body=encode(value))


def problem(status: int, detail: str, **members: Any) -> Answer:
    """Return an error in the vendor's form of RFC 9457.

    Args:
        status: The HTTP status.
        detail: What went wrong.
        **members: Further members of the body.
    """
    body = {
        **members,
        "title": HTTPStatus(status).phrase,
        "type": f"https://httpstatus.es/{status}",
        "status": status,
        "detail": detail,
    }
    return Answer(status=status, content_type=PROBLEM, body=encode(body))


def server_error() -> Answer:
    """Return the vendor's 500, which has a trace and, unlike all others, no type."""
    body = {
        "title": "Internal Server Error",
        "status": 500,
        "detail": "ErrInternalServer",
        "trace_id": uuid4().hex,
    }
    return Answer(status=500, content_type=PROBLEM, body=encode(body))


def page(status: int, heading: str) -> Answer:
    """Return an HTML page as the gateway in front of the API writes it."""
    body = (
        f"<html>\r\n<head><title>{heading}</title></head>\r\n<body>\r\n"
        f"<center><h1>{heading}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return Answer(status=status, content_type=HTML, body=body.encode())


def too_many(*, retry_after: float, form: str) -> Answer:
    """Return a 429: JSON with the hint in its body, or the gateway's page. It has no Retry-After header."""
    if form == "html":
        return page(429, "429 Too Many Requests")
    return problem(429, "Too many requests", retry_after=retry_after)
