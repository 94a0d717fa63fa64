"""How `classify` reads an exception.

Evidence is taken in this order; the first that is conclusive decides:

1. the rules of `register`;
2. this package's own exceptions, which say it themselves;
3. structured attributes: the response's status, ``sqlstate``, ``sqlite_errorname``, ``errno``;
4. the name of the class, then those of its bases (`names.NAMES`);
5. where the name says too little (`tables.VAGUE`) or nothing, what caused the exception, read the same way;
6. nothing: ``internal.unexpected``.

No text is matched and no third-party package is imported.
"""

import errno
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from resilient_agents._clock import clock
from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Advice, Category, Failure, Level, Origin
from resilient_agents.errors.hints import retry_after
from resilient_agents.errors.knowledge import CACHE, STRUCTURED, Knowledge, failure, knowledge
from resilient_agents.errors.tables import (
    DEPENDENCY_STATUS,
    ERRNO,
    INBOUND_STATUS,
    SQLITE,
    SQLSTATE,
    STATUS_FROM,
    UNEXPECTED,
    VERDICTS,
    Verdict,
)

_DEEPEST = 8
_INBOUND, _AFTER = Origin.INBOUND, Advice.AFTER
_STRICTEST_FIRST = (Advice.NEVER, Advice.TRANSACTION, Advice.IDEMPOTENT, Advice.AFTER, Advice.SAFE)
_LOUDEST_FIRST = (Level.CRITICAL, Level.ERROR, Level.WARNING, Level.INFO)


def classify(exc: BaseException, *, origin: Origin | None = None) -> Failure:
    """Decide what *exc* means: who must act, whether to try again, what to answer, how loud to log it.

    The cause of a failure is followed through ``raise … from …`` (at most eight links) and through wrappers
    like ``tenacity.RetryError``; the mere context of an exception is not. What is provably unsent stays so:
    neither a cause that may have been executed nor one on this machine weakens it. Of an `ExceptionGroup`
    the worst leaf counts: the one that forbids repeating most (*never*, *transaction*, *idempotent*,
    *after*, *safe*), then the loudest, then the first.

    Args:
        exc: The exception. It need not have been raised.
        origin: Whose failure it is, where the caller knows better. The default is what the evidence says;
            an HTTP response then counts as a dependency's.

    Returns:
        The decision. Equal evidence often gives the same object; compare decisions, not identities.

    Raises:
        BaseException: *exc* itself, where it is no `Exception`: neither cancellation nor Ctrl-C is a failure.
    """
    known = CACHE.get(type(exc))
    if known is not None and known.plain is not None and origin is None:
        settled = exc.__cause__ is None and not exc.__dict__
        if settled:
            return known.plain
    if not isinstance(exc, Exception):
        raise exc
    return _search(exc, origin, set(), 0) or _unexpected(exc, origin)


def _unexpected(exc: Exception, origin: Origin | None) -> Failure:
    return failure(VERDICTS[UNEXPECTED], knowledge(type(exc)).name, "", origin)


def _search(exc: Exception, origin: Origin | None, seen: set[int], nesting: int) -> Failure | None:
    """Follow *exc* to what caused it, until something is conclusive. Each exception is looked at once."""
    best: Failure | None = None
    host = ""
    link: BaseException | None = exc
    for _ in range(_DEEPEST):
        if not isinstance(link, Exception) or id(link) in seen:
            break
        seen.add(id(link))
        known = knowledge(type(link))
        if not host and (known.has_request or "request" in link.__dict__):
            host = _host(link)
        found = _conclusive(link, known, host, origin)
        if found is None and isinstance(link, ExceptionGroup):
            found = _worst(link, origin, seen, nesting)
        conclusive = found is not None
        if found is None and known.verdict is not None:
            found = failure(known.verdict, known.name, host, origin)
            conclusive = not known.vague
        if found is not None and not (best and _weakens(found, best)):
            best = found
        if conclusive:
            break
        link = _cause(link, known)
    return best


def _weakens(cause: Failure, outer: Failure) -> bool:
    """Return whether *cause* would put in doubt that nothing was sent, which the *outer* layer knows.

    Why this machine could not open a connection (no free descriptor, a firewall) changes nothing about that.
    """
    doubtful = cause.advice is Advice.IDEMPOTENT or cause.category is Category.INTERNAL
    return outer.advice is Advice.SAFE and doubtful


def _worst(
    group: ExceptionGroup[Exception], origin: Origin | None, seen: set[int], nesting: int
) -> Failure | None:
    if nesting >= _DEEPEST:
        return None
    failures = [
        _search(leaf, origin, seen, nesting + 1) or _unexpected(leaf, origin)
        for leaf in _leaves(group)
        if id(leaf) not in seen
    ]
    return min(failures, key=_rank, default=None)


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    stack: list[Exception] = [group]
    while stack:
        exc = stack.pop()
        if isinstance(exc, ExceptionGroup):
            stack.extend(reversed(exc.exceptions))
        else:
            yield exc


def _rank(found: Failure) -> tuple[int, int]:
    return _STRICTEST_FIRST.index(found.advice), _LOUDEST_FIRST.index(found.level)


def _cause(exc: Exception, known: Knowledge) -> BaseException | None:
    """Return what *exc* says was its cause."""
    if known.inner == "__cause__":
        return exc.__cause__
    inner = _read(exc, known.inner)
    for candidate in (inner, _outcome(inner)):
        if isinstance(candidate, BaseException):
            return candidate
    return exc.__cause__


def _outcome(attempt: Any) -> object:
    """Return the exception of a finished future; one that still runs is not waited for."""
    try:
        return attempt.exception(timeout=0)
    except Exception:
        return None


def _conclusive(exc: Exception, known: Knowledge, host: str, origin: Origin | None) -> Failure | None:
    """Return what a rule, the exception itself or its attributes say."""
    for rule in known.rules:
        if rule.matches(exc):
            return failure(rule.verdict, known.name, host, origin, "", None, rule.retry_after)
    if isinstance(exc, ApiError):
        return _declared(exc, origin)
    finding = _structured(exc, known, origin)
    return None if finding is None else failure(finding[0], known.name, host, origin, *finding[1:])


def _declared(exc: ApiError, origin: Origin | None) -> Failure:
    status = exc.status
    if origin is not None and origin is not exc.origin:
        status = STATUS_FROM.get((exc.category, origin), status)
    return Failure(
        category=exc.category,
        origin=origin or exc.origin,
        code=exc.code,
        status=status,
        advice=exc.advice,
        retry_after=exc.retry_after,
        level=exc.level,
        title=exc.title,
        detail=exc.detail,
    )


_Finding: TypeAlias = tuple[Verdict, str, int | None, float | None]
"""What an attribute says: the verdict, the fact in words, another status, the wait in seconds."""


def _structured(exc: Exception, known: Knowledge, origin: Origin | None) -> _Finding | None:
    """Return what the attributes of *exc* say."""
    if known.attributes or exc.__dict__:
        for name in STRUCTURED:
            if name in known.attributes or name in exc.__dict__:
                finding = _READERS[name](_read(exc, name), origin)
                if finding is not None:
                    return finding
    return _of_errno(_read(exc, "errno")) if known.reads_errno else None


def _of_response(response: Any, origin: Origin | None) -> _Finding | None:
    status = _read(response, "status_code")
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    inbound = origin is _INBOUND
    table = INBOUND_STATUS if inbound else DEPENDENCY_STATUS
    verdict = VERDICTS[table.get(status) or table[status // 100]]
    wait = None
    if verdict.advice is _AFTER:
        wait = retry_after(_read(response, "headers"), _body(response), now=clock().time())
    return verdict, f"HTTP {status:d}", status if inbound else None, wait


def _body(response: Any) -> object:
    """Return the body, if it was read already; a stream is left alone."""
    return _read(response, "content") if _read(response, "is_stream_consumed") is True else None


def _of_sqlstate(state: Any, _: Origin | None) -> _Finding | None:
    if not isinstance(state, str) or len(state) != 5 or not state.isalnum():
        return None
    return _of_code(SQLSTATE.get(state) or SQLSTATE.get(state[:2]), f"SQLSTATE {state}")


def _of_sqlite(name: Any, _: Origin | None) -> _Finding | None:
    if not isinstance(name, str) or not name.isidentifier():
        return None
    primary = "_".join(name.split("_")[:2])
    return _of_code(SQLITE.get(name) or SQLITE.get(primary), name)


def _of_errno(number: Any) -> _Finding | None:
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return _of_code(ERRNO.get(name), name)


def _of_code(code: str | None, fact: str) -> _Finding | None:
    return None if code is None else (VERDICTS[code], fact, None, None)


_READERS = {"response": _of_response, "sqlstate": _of_sqlstate, "sqlite_errorname": _of_sqlite}


def _read(holder: object, name: str) -> Any:
    """Return an attribute, or *None*: other people's properties may be missing, unset or broken."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def _host(exc: Exception) -> str:
    """Return the name of the host that the failed request went to; nothing else of the URL."""
    try:
        host = exc.request.url.host  # type: ignore[attr-defined]
    except Exception:  # httpx raises where the request is not set
        return ""
    return host if isinstance(host, str) else ""


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
        stack.append(_cause(link, knowledge(type(link))))
    return min(found, key=_harmless, default=None)


def _harmless(request: tuple[str, bool]) -> bool:
    method, has_key = request
    return has_key or method not in ("POST", "PATCH")


def _requests(exc: Exception) -> Iterator[tuple[str, bool]]:
    """Yield the requests that *exc* itself knows of."""
    response = _read(exc, "response")
    history = _read(response, "history")
    earlier = history if isinstance(history, list | tuple) else ()
    for holder in (exc, response, *earlier):
        request = _read(holder, "request")
        method = _read(request, "method")
        if isinstance(method, str):
            yield method.upper(), _has_key(_read(request, "headers"))


def _has_key(headers: object) -> bool:
    if not isinstance(headers, Mapping):
        return False
    return any(isinstance(name, str) and name.lower() == "idempotency-key" for name in headers)
