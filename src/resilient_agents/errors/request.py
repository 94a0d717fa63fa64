"""Which HTTP request failed."""

from collections.abc import Iterator, Mapping
from typing import Any

from resilient_agents.errors.attributes import read
from resilient_agents.errors.evidence import cause_of
from resilient_agents.errors.knowledge import knowledge


def request_of(exc: BaseException) -> tuple[str, bool] | None:
    """Return the HTTP request that failed, as far as it matters for repeating it.

    It is looked for in *exc* and in its causes, in the redirects before a response, and in each leaf of a
    group. Of several requests the one that is most dangerous to repeat counts.

    Args:
        exc: The exception.

    Returns:
        The method in capitals and whether the request carried an ``Idempotency-Key``, or *None* where no
        request is known.
    """
    found: list[tuple[str, bool]] = []
    seen: set[int] = set()
    stack: list[BaseException | None] = [exc]
    while stack:
        link = stack.pop()
        if not isinstance(link, Exception) or id(link) in seen:
            continue
        seen.add(id(link))
        found += _requests(link)
        if isinstance(link, ExceptionGroup):
            stack.extend(link.exceptions)
        stack.append(cause_of(link, knowledge(type(link))))
    return min(found, key=_harmless, default=None)


def _harmless(request: tuple[str, bool]) -> bool:
    method, has_key = request
    return has_key or method not in ("POST", "PATCH")


def _requests(exc: Exception) -> Iterator[tuple[str, bool]]:
    """Yield the requests that *exc* itself knows of."""
    response = read(exc, "response")
    holders: list[Any] = [exc, response]
    for history in (read(exc, "history"), read(response, "history")):
        holders += history if isinstance(history, list | tuple) else ()
    for holder in holders:
        for name in ("request", "request_info"):
            request = read(holder, name)
            method = read(request, "method")
            if isinstance(method, str):
                yield method.upper(), _has_key(read(request, "headers"))


def _has_key(headers: object) -> bool:
    if not isinstance(headers, Mapping):
        return False
    return any(isinstance(name, str) and name.lower() == "idempotency-key" for name in headers)
