"""How `classify` reads an exception.

Evidence is taken in this order; the first that is conclusive decides:

1. the rules of `register`;
2. this package's own exceptions, which say it themselves;
3. a class that says more than its attributes (`names.DECISIVE`);
4. structured attributes (`attributes`);
5. the name of the class, then those of its bases (`names.NAMES`);
6. where the name says too little (`tables.VAGUE`, `names.INNER`) or nothing, what caused the exception, read
   the same way;
7. nothing: ``internal.unexpected``.

No text is matched, but for what libpq keeps to itself, and no third-party package is imported. What then says
nothing of whose failure it is, is that of the dependency in whose block it was raised (`scope`).
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from resilient_agents.errors.attributes import finding_of, host_of, read
from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Advice, Category, Failure, Level, Origin
from resilient_agents.errors.knowledge import CACHE, Knowledge, failure, knowledge
from resilient_agents.errors.scope import MARK, held_by, innermost, marked
from resilient_agents.errors.tables import STATUS_FROM, UNEXPECTED, VERDICTS

_DEEPEST = 8
_MOST_KEPT = 256
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
        origin: Whose failure it is, where the caller knows better. The default is what the evidence says,
            then the `dependency` in whose block it was raised; an HTTP response counts as a dependency's.

    Returns:
        The decision. Equal evidence often gives the same object; compare decisions, not identities.

    Raises:
        BaseException: *exc* itself, where it is no `Exception`: neither cancellation nor Ctrl-C is a failure.
    """
    known = CACHE.get(type(exc))
    held = held_by(exc)
    block = innermost()
    dependency = "" if block is None else block[0]
    bare = not held
    if held and type(mark := held.get(MARK)) is str:
        dependency = mark
        bare = len(held) == 1
    if known is not None and origin is None:
        if known.plain is None:
            found = _told(exc, known, held, dependency) if known.tell else None
            if found is not None:
                return found
        elif bare and exc.__cause__ is None:
            if not dependency:
                return known.plain
            return known.scoped.get(dependency) or _scoped(known, dependency)
    if not isinstance(exc, Exception):
        raise exc
    return _search(exc, origin, dependency, set(), 0) or _unexpected(exc, origin, dependency)


def _scoped(known: Knowledge, dependency: str) -> Failure:
    """Return the failure of a plain instance in the block of a dependency, and keep it for the next one."""
    found = failure(known.verdict or VERDICTS[UNEXPECTED], known.name, dependency=dependency)
    _keep(known.scoped, dependency, found)
    return found


def _told(exc: BaseException, known: Knowledge, held: dict[str, Any], dependency: str) -> Failure | None:
    """Return what was decided about an instance that answered the same."""
    if held and known.asks == "errno":  # anything that an OSError was given says more
        return None
    try:
        answer = known.tell(exc)  # type: ignore[misc]
        return known.told.get((answer, dependency) if dependency else answer)
    except Exception:  # it has no such attribute, or a strange one
        return None


def _remember(exc: Exception, known: Knowledge, dependency: str, found: Failure) -> None:
    """Keep what was decided about *exc* for the next one that answers the same."""
    with suppress(Exception):  # it has no such attribute, or a strange one
        answer = known.tell(exc)  # type: ignore[misc]
        _keep(known.told, (answer, dependency) if dependency else answer, found)


def _keep(kept: dict[Any, Failure], key: object, found: Failure) -> None:
    if len(kept) >= _MOST_KEPT:
        kept.clear()
    kept[key] = found


def _unexpected(exc: Exception, origin: Origin | None, dependency: str) -> Failure:
    link = exc
    for _ in range(_DEEPEST):
        inner = cause_of(link, knowledge(type(link)))
        if marked(link) or not isinstance(inner, Exception):
            break
        link = inner
    return failure(VERDICTS[UNEXPECTED], knowledge(type(exc)).name, "", origin, marked(link) or dependency)


def _search(
    exc: Exception, origin: Origin | None, dependency: str, seen: set[int], nesting: int
) -> Failure | None:
    """Follow *exc* to what caused it, until something is conclusive. Each exception is looked at once."""
    best: Failure | None = None
    host = ""
    link: BaseException | None = exc
    for _ in range(_DEEPEST):
        if not isinstance(link, Exception) or id(link) in seen:
            break
        seen.add(id(link))
        known = CACHE.get(type(link)) or knowledge(type(link))
        held = held_by(link)
        if MARK in held:
            dependency = marked(link) or dependency
        if not host and (known.has_request or "request" in held or "request_info" in held):
            host = host_of(link)
        remember = link is exc and origin is None and known.tell is not None
        found = _conclusive(link, known, host, origin, dependency, remember=remember)
        if found is None and isinstance(link, ExceptionGroup):
            found = _worst(link, origin, dependency, seen, nesting)
        conclusive = found is not None
        if found is None and known.verdict is not None:
            found = failure(known.verdict, known.name, host, origin, dependency)
            conclusive = not known.vague
            if conclusive and remember:
                _remember(link, known, dependency, found)
        if found is not None and not (best and _weakens(found, best)):
            best = found
        if conclusive:
            break
        link = cause_of(link, known)
    return best


def _weakens(cause: Failure, outer: Failure) -> bool:
    """Return whether *cause* would put in doubt that nothing was sent, which the *outer* layer knows.

    Why this machine could not open a connection (no free descriptor, a firewall) changes nothing about that.
    """
    doubtful = cause.advice is Advice.IDEMPOTENT or cause.category is Category.INTERNAL
    return outer.advice is Advice.SAFE and doubtful


def _worst(
    group: ExceptionGroup[Exception],
    origin: Origin | None,
    dependency: str,
    seen: set[int],
    nesting: int,
) -> Failure | None:
    if nesting >= _DEEPEST:
        return None
    failures = [
        _search(leaf, origin, dependency, seen, nesting + 1) or _unexpected(leaf, origin, dependency)
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


def cause_of(exc: Exception, known: Knowledge) -> BaseException | None:
    """Return what *exc* says was its cause."""
    if known.inner == "__cause__":
        return exc.__cause__
    inner = read(exc, known.inner)
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


def _conclusive(
    exc: Exception, known: Knowledge, host: str, origin: Origin | None, dependency: str, *, remember: bool
) -> Failure | None:
    """Return what a rule, the exception itself or its attributes say."""
    for rule in known.rules:
        if rule.matches(exc):
            return failure(rule.verdict, known.name, host, origin, dependency, wait=rule.retry_after)
    if isinstance(exc, ApiError):
        return _declared(exc, origin, dependency)
    if known.decisive:
        return None
    finding = finding_of(exc, known, origin)
    if finding is None:
        return None
    verdict, fact, status, wait, advice, varies = finding
    found = failure(verdict, known.name, host, origin, dependency, fact, status, wait, advice)
    if remember and not varies:
        _remember(exc, known, dependency, found)
    return found


def _declared(exc: ApiError, origin: Origin | None, dependency: str) -> Failure:
    status = exc.status
    if origin is not None and origin is not exc.origin:
        status = STATUS_FROM.get((exc.category, origin), status)
    origin = origin or exc.origin
    return Failure(
        category=exc.category,
        origin=origin,
        code=exc.code,
        status=status,
        advice=exc.advice,
        retry_after=exc.retry_after,
        level=exc.level,
        title=exc.title,
        detail=exc.detail,
        dependency=dependency if origin is Origin.DEPENDENCY else "",
    )
