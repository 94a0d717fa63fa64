"""What the attributes of an exception say: of HTTP, of databases, of gRPC, AWS and language models.

No package is imported for it: what is read is known by its name and checked for its kind. Other people's
attributes may be missing, of any type, or properties that raise; none of that gets in the way of a decision.
"""

import errno
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from resilient_agents._clock import clock
from resilient_agents.errors.codes import AWS, GRPC, LIBPQ, MODELS, QUOTAS
from resilient_agents.errors.failure import Advice, Origin
from resilient_agents.errors.hints import parsed, retry_after, wait_in_seconds
from resilient_agents.errors.knowledge import STRUCTURED, Knowledge
from resilient_agents.errors.scope import held_by
from resilient_agents.errors.tables import (
    DEPENDENCY_STATUS,
    ERRNO,
    INBOUND_STATUS,
    SQLITE,
    SQLSTATE,
    VERDICTS,
    Verdict,
)

_INBOUND, _AFTER, _NEVER, _IDEMPOTENT = Origin.INBOUND, Advice.AFTER, Advice.NEVER, Advice.IDEMPOTENT
_MAY_BE_QUOTA = frozenset((400, 403, 429))
_LONGEST_TEXT = 4096


class Finding(NamedTuple):
    """What an attribute says.

    Attributes:
        verdict: The verdict.
        fact: What was found, in words.
        status: Another HTTP status than the verdict's.
        wait: Time in seconds that the other side asked us to wait.
        advice: Another advice than the verdict's.
        varies: Whether another instance that answers `Knowledge.tell` the same may say something else.
    """

    verdict: Verdict
    fact: str
    status: int | None = None
    wait: float | None = None
    advice: Advice | None = None
    varies: bool = False


def read(holder: object, name: str) -> Any:
    """Return an attribute, or *None*: other people's properties may be missing, unset or broken."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def finding_of(exc: Exception, known: Knowledge, origin: Origin | None) -> Finding | None:
    """Return what the attributes of *exc* say, or *None*.

    Args:
        exc: The exception.
        known: What is known of its class.
        origin: Whose failure it is, where the caller knows.
    """
    held = held_by(exc)
    if held or known.attributes:
        for name in STRUCTURED:
            if name in held or name in known.attributes:
                finding = _READERS[name](exc, read(exc, name), known, origin)
                if finding is not None:
                    return finding if name in known.told_by else finding._replace(varies=True)
    if known.status:
        return _by_status(read(exc, known.status), exc, exc, known, origin)
    if known.asks:
        finding = _ASKED[known.asks](exc)
        return finding if finding is None or known.asks in known.told_by else finding._replace(varies=True)
    return None


def host_of(exc: Exception) -> str:
    """Return the name of the host that the failed request went to; nothing else of the URL."""
    url = read(read(exc, "request") or read(exc, "request_info"), "url")
    try:
        host = _host_in(url) if isinstance(url, str) else url.host
    except Exception:  # no URL, or one that cannot be read
        return ""
    return host if isinstance(host, str) else ""


def _host_in(url: str) -> str | None:
    from urllib.parse import urlsplit  # loaded for the first such failure, not for everybody

    return urlsplit(url).hostname


def _of_response(exc: Exception, response: Any, known: Knowledge, origin: Origin | None) -> Finding | None:
    if isinstance(response, Mapping):
        return _of_aws(exc, response, known, origin)
    return _by_status(read(response, "status_code"), response, exc, known, origin)


def _of_status_code(exc: Exception, status: Any, known: Knowledge, origin: Origin | None) -> Finding | None:
    return _by_status(status, exc, exc, known, origin)


def _by_status(
    status: Any, response: Any, exc: Exception, known: Knowledge, origin: Origin | None
) -> Finding | None:
    """Return what an HTTP status says, which *response* or the exception itself carried."""
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    inbound = origin is _INBOUND or (origin is None and known.to_our_caller)
    table = INBOUND_STATUS if inbound else DEPENDENCY_STATUS
    verdict = VERDICTS[table.get(status) or table[status // 100]]
    advice = None
    varies = verdict.advice is _AFTER
    if not inbound:
        varies = varies or status in _MAY_BE_QUOTA or "body" in held_by(exc)
        if status in _MAY_BE_QUOTA and not QUOTAS.isdisjoint(_codes(exc, response)):
            verdict = VERDICTS["rate_limit.quota"]
        advice = _told(exc, response, verdict.advice)
    wait = _wait(exc, response) if verdict.advice is _AFTER else None
    return Finding(verdict, f"HTTP {status:d}", status if inbound else None, wait, advice, varies)


def _told(exc: Exception, response: Any, usual: Advice) -> Advice | None:
    """Return the advice that OpenAI and Anthropic give in ``x-should-retry``; their own clients obey it."""
    if "body" not in held_by(exc):
        return None
    try:
        told = response.headers.get("x-should-retry")
    except Exception:
        return None
    if told == "false":
        return _NEVER
    return _IDEMPOTENT if told == "true" and usual is _NEVER else None


def _wait(exc: Exception, response: Any) -> float | None:
    wait = retry_after(read(response, "headers"), _body(response), now=clock().time())
    for name in ("retry_after", "wait"):
        if wait is None:
            wait = wait_in_seconds(read(exc, name))
    return wait


def _body(response: Any) -> object:
    """Return the body, if it was read already; a stream is left alone."""
    if read(response, "is_stream_consumed") is True or read(response, "_content_consumed") is True:
        return read(response, "content")
    return None


def _codes(exc: Exception, response: Any) -> Iterator[str]:
    """Yield the codes in the body of a refusal: its own, those of its ``error``, those of the details."""
    part = held_by(exc).get("body") or parsed(_body(response))
    for inner in ("error", "details", ""):
        if not isinstance(part, Mapping):
            return
        codes = (part.get("code"), part.get("error_code"), part.get("type"))
        yield from (code for code in codes if isinstance(code, str))
        part = part.get(inner)


def _of_body(exc: Exception, body: Any, known: Knowledge, origin: Origin | None) -> Finding | None:
    """Return what a body says that came without a status of its own, in the midst of a stream."""
    for code in _codes(exc, None):
        if code in QUOTAS:
            return Finding(VERDICTS["rate_limit.quota"], code)
        if code in MODELS:
            return Finding(VERDICTS[MODELS[code]], code)
    return None


def _of_aws(
    exc: Exception, response: Mapping[Any, Any], known: Knowledge, origin: Origin | None
) -> Finding | None:
    error, metadata = response.get("Error"), response.get("ResponseMetadata")
    code = error.get("Code") if isinstance(error, Mapping) else None
    facts = metadata if isinstance(metadata, Mapping) else {}
    if isinstance(code, str) and code in AWS:
        verdict = VERDICTS[AWS[code]]
        wait = None
        if verdict.advice is _AFTER:
            wait = retry_after(facts.get("HTTPHeaders"), now=clock().time())
        return Finding(verdict, code, None, wait)
    return _by_status(facts.get("HTTPStatusCode"), response, exc, known, origin)


def _of_sqlstate(exc: Exception, state: Any, known: Knowledge, origin: Origin | None) -> Finding | None:
    if not isinstance(state, str) or len(state) != 5 or not state.isalnum():
        return None
    return _by_code(SQLSTATE.get(state) or SQLSTATE.get(state[:2]), f"SQLSTATE {state}")


def _of_sqlite(exc: Exception, name: Any, known: Knowledge, origin: Origin | None) -> Finding | None:
    if not isinstance(name, str) or not name.isidentifier():
        return None
    primary = "_".join(name.split("_")[:2])
    return _by_code(SQLITE.get(name) or SQLITE.get(primary), name)


def _by_code(code: str | None, fact: str) -> Finding | None:
    return None if code is None else Finding(VERDICTS[code], fact)


def _by_errno(exc: Exception) -> Finding | None:
    number = read(exc, "errno")
    name = errno.errorcode.get(number, "") if isinstance(number, int) else ""
    return _by_code(ERRNO.get(name), name)


def _by_grpc(exc: Exception) -> Finding | None:
    try:
        name = exc.code().name  # type: ignore[attr-defined]
    except Exception:  # a bare RpcError has no code
        return None
    return _by_code(GRPC.get(name), f"gRPC {name}") if isinstance(name, str) else None


def _by_libpq(exc: Exception) -> Finding | None:
    """Return why a connection could not be opened: only the words say it, and only a server's are taken."""
    try:
        text = str(exc)[:_LONGEST_TEXT]
    except Exception:
        return None
    for source in ("FATAL:", "fe_sendauth:"):
        _, _, words = text.partition(source)
        found = next((code for phrase, code in LIBPQ if phrase in words), None)
        if found is not None:
            return _by_code(found, "")
    return None


_READERS: dict[str, Callable[[Exception, Any, Knowledge, Origin | None], Finding | None]] = {
    "sqlstate": _of_sqlstate,
    "pgcode": _of_sqlstate,
    "sqlite_errorname": _of_sqlite,
    "response": _of_response,
    "status_code": _of_status_code,
    "body": _of_body,
}
_ASKED: dict[str, Callable[[Exception], Finding | None]] = {
    "errno": _by_errno,
    "grpc": _by_grpc,
    "libpq": _by_libpq,
}
