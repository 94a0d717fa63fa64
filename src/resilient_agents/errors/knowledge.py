"""What is known about a class of exceptions: what the tables say of its name, and the user's rules."""

import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from threading import Lock
from typing import Any, TypeAlias

from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Advice, Category, Failure, Level, Origin
from resilient_agents.errors.hints import wait_in_seconds
from resilient_agents.errors.names import DECISIVE, INNER, NAMES, STATUS, TELLING, TO_OUR_CALLER
from resilient_agents.errors.tables import (
    DEFAULTS,
    SEEN_FROM,
    SILENT,
    STATUS_FROM,
    UNEXPECTED,
    VAGUE,
    VERDICTS,
    Verdict,
)

STRUCTURED = ("sqlstate", "pgcode", "sqlite_errorname", "response", "status_code", "body")
"""Attributes that say more than a class does, in the order in which they are asked."""

_ASKED = {
    "builtins.OSError": "errno",
    "grpc.RpcError": "grpc",
    "psycopg.OperationalError": "libpq",
    "psycopg2.OperationalError": "libpq",
}
"""Classes that say more when they are asked in their own way."""

_MOST_CLASSES = 4096
_log = logging.getLogger("resilient_agents.errors")

Match: TypeAlias = type[Exception] | str | re.Pattern[str] | Callable[[Exception], bool]


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """What a user said with `register`."""

    match: type[Exception] | re.Pattern[str] | Callable[[Exception], bool]
    verdict: Verdict
    retry_after: float | None

    def may_match(self, cls: type) -> bool:
        """Return whether an instance of *cls* can match."""
        return not isinstance(self.match, type) or issubclass(cls, self.match)

    def matches(self, exc: Exception) -> bool:
        """Return whether *exc* matches. A predicate that raises does not match."""
        if isinstance(self.match, type):
            return True
        try:
            if isinstance(self.match, re.Pattern):
                return self.match.search(f"{type(exc).__name__}: {exc}") is not None
            return bool(self.match(exc))
        except Exception:
            if self not in _broken:  # a loop of failures must not become a flood of lines
                _broken.add(self)
                _log.exception("a rule of errors.register() raised and is passed over: %r", self.match)
            return False


@dataclass(frozen=True, slots=True, eq=False)
class Knowledge:
    """What is known about a class of exceptions.

    Attributes:
        name: Its qualified name.
        rules: The user's rules that may match, the newest first.
        verdict: What the name says, or *None*.
        vague: Whether the cause may say more.
        decisive: Whether the name says more than the attributes.
        attributes: Which of `STRUCTURED` the class itself declares.
        status: The attribute that holds an HTTP status, if the class has one of its own.
        to_our_caller: Whether that status is the one with which we refuse our own caller.
        asks: In which way of its own the class is asked, see `attributes`.
        has_request: Whether the class itself declares ``request``.
        inner: The attribute that holds the cause.
        plain: The failure of an instance without attributes and cause, or *None* where it depends.
        scoped: The same in the blocks of dependencies, by their names, as far as it was asked for.
        told_by: The attributes on which alone the failure of an instance depends, as far as that is known.
        tell: How to ask an instance for them, or *None*.
        told: The failures of such instances, by their answers, as far as they were seen.
    """

    name: str
    rules: tuple[Rule, ...]
    verdict: Verdict | None
    vague: bool
    decisive: bool
    attributes: tuple[str, ...]
    status: str
    to_our_caller: bool
    asks: str
    has_request: bool
    inner: str
    plain: Failure | None
    told_by: tuple[str, ...]
    tell: Callable[[Any], object] | None
    scoped: dict[str, Failure] = field(default_factory=dict)
    told: dict[object, Failure] = field(default_factory=dict)


_rules: tuple[Rule, ...] = ()
_broken: set[Rule] = set()
_lock = Lock()


def _renew_lock() -> None:
    """Give a forked child its own lock: nobody in it releases one that was held."""
    global _lock
    _lock = Lock()


os.register_at_fork(after_in_child=_renew_lock)

CACHE: dict[type, Knowledge] = {}
"""What `knowledge` has found out. Emptied whenever the rules change."""


def knowledge(cls: type[BaseException]) -> Knowledge:
    """Return what is known about *cls*, from the cache if it was asked for before."""
    found = CACHE.get(cls)
    if found is None:
        with _lock:
            if len(CACHE) >= _MOST_CLASSES:  # classes made at run time must not fill the memory
                CACHE.clear()
            found = CACHE[cls] = _study(cls)
    return found


def _study(cls: type[BaseException]) -> Knowledge:
    names = [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]
    telling = next((name for name in names if name in NAMES), "")
    verdict = VERDICTS[NAMES[telling]] if telling else None
    rules = tuple(rule for rule in _rules if rule.may_match(cls))
    attributes = tuple(attribute for attribute in STRUCTURED if hasattr(cls, attribute))
    carrier = next((name for name in names if name in STATUS), "")
    inner = next((INNER[name] for name in names if name in INNER), "")
    asks = _ASKED.get(telling, "")
    told_by = next((TELLING[name].split() for name in names if name in TELLING), [])
    if rules or telling in DECISIVE or (told_by == ["errno"] and cls is not OSError):
        told_by = []
    depends = any((rules, attributes, carrier, asks, inner, told_by))
    depends = depends or issubclass(cls, (ApiError, BaseExceptionGroup))
    name = names[0].removeprefix("builtins.")
    return Knowledge(
        name=name,
        rules=rules,
        verdict=verdict,
        vague=verdict is not None and (bool(inner) or verdict.code in VAGUE),
        decisive=telling in DECISIVE,
        attributes=attributes,
        status=STATUS.get(carrier, ""),
        to_our_caller=carrier in TO_OUR_CALLER,
        asks=asks,
        has_request=hasattr(cls, "request") or hasattr(cls, "request_info"),
        inner=inner or "__cause__",
        plain=None if depends else failure(verdict or VERDICTS[UNEXPECTED], name),
        told_by=tuple(path.partition(".")[0] for path in told_by),
        tell=attrgetter(*told_by) if told_by else None,
    )


@lru_cache(maxsize=1024)
def failure(
    verdict: Verdict,
    name: str,
    host: str = "",
    origin: Origin | None = None,
    dependency: str = "",
    fact: str = "",
    status: int | None = None,
    wait: float | None = None,
    advice: Advice | None = None,
) -> Failure:
    """Return the failure that follows from *verdict*.

    Args:
        verdict: What the evidence said.
        name: The class of the exception that was the evidence.
        host: The host that the failed request went to.
        origin: Another origin than the verdict's; it brings its own status with it.
        dependency: In whose block it was raised.
        fact: What the exception carried, as ``"HTTP 503"``.
        status: Another HTTP status than the verdict's.
        wait: Time in seconds that the other side asked us to wait.
        advice: Another advice than the verdict's.
    """
    if origin is None and dependency and verdict.code in SILENT and VERDICTS[verdict.code] is verdict:
        origin = Origin.DEPENDENCY
    if origin is not None:
        verdict = VERDICTS.get(SEEN_FROM.get((verdict.code, origin), ""), verdict)
        if status is None and origin is not verdict.origin:
            status = STATUS_FROM.get((verdict.category, origin))
    origin = origin or verdict.origin
    dependency = dependency if origin is Origin.DEPENDENCY else ""
    facts = ", ".join(part for part in (name, fact, host) if part)
    return Failure(
        category=verdict.category,
        origin=origin,
        code=verdict.code,
        status=status or verdict.status,
        advice=advice or verdict.advice,
        retry_after=wait,
        level=verdict.level,
        title=verdict.title,
        detail=f"{dependency}: {verdict.title}: {facts}" if dependency else f"{verdict.title}: {facts}",
        dependency=dependency,
    )


def register(
    match: Match,
    *,
    category: Category,
    code: str | None = None,
    origin: Origin | None = None,
    status: int | None = None,
    advice: Advice | None = None,
    retry_after: float | None = None,
    level: Level | None = None,
    title: str | None = None,
) -> Callable[[], None]:
    """Say what an exception means; it goes before everything that the package knows by itself.

    What is left out comes from *code*, if it is one of the package's own codes, else from *category*. Of two
    rules that match, the one registered later decides.

    Args:
        match: Which exceptions are meant. A class brings its subclasses too. A regular expression, as text
            or compiled, is searched for in ``"TypeName: message"``; messages change with every release, so
            take it where there is nothing better. A predicate is called with the exception; it must be
            quick, and if it raises, that is logged and the rule passed over.
        category: Who must act.
        code: What happened, as ``category.reason``. The default is the category's own.
        origin: Whose failure it is. The default is a dependency's, for *internal* our own.
        status: The HTTP status that a caller of ours should see.
        advice: Whether the same call may be made again.
        retry_after: Time in seconds after which it may be made. The default is not to say.
        level: How loud it is in the logs.
        title: The kind of failure in a few words.

    Returns:
        A function that takes the rule back. Calling it twice is harmless.

    Raises:
        TypeError: *match* is none of these, or a class that is no `Exception`.
        ValueError: *match* is no regular expression, *code* does not begin with *category* and a dot,
            *category* is none, or *retry_after* is no time.
    """
    global _rules
    meant = _checked(match)
    category = Category(category)
    if code is not None and code.partition(".")[0] != category:
        raise ValueError(f"the code {code!r} must begin with its category: {category}.…")
    if retry_after is not None and wait_in_seconds(retry_after) is None:
        raise ValueError(f"retry_after must be a time in seconds, a year at most, not {retry_after!r}")
    known = VERDICTS.get(code or "") or VERDICTS[DEFAULTS[category]]
    if status is None and origin is not None and origin is not known.origin:
        status = STATUS_FROM.get((category, origin))
    verdict = Verdict(
        code or known.code,
        origin or known.origin,
        status or known.status,
        advice or known.advice,
        level or known.level,
        title or known.title,
    )
    rule = Rule(meant, verdict, retry_after)
    with _lock:
        _rules = (rule, *_rules)
        CACHE.clear()

    def unregister() -> None:
        global _rules
        with _lock:
            _rules = tuple(other for other in _rules if other is not rule)
            _broken.discard(rule)
            CACHE.clear()

    return unregister


def _checked(match: Match) -> type[Exception] | re.Pattern[str] | Callable[[Exception], bool]:
    """Return *match* with a text compiled; refuse what can match nothing."""
    if isinstance(match, str):
        try:
            return re.compile(match)
        except re.error as exc:
            raise ValueError(f"register({match!r}): this is no regular expression: {exc}") from exc
    if isinstance(match, type):
        usable = issubclass(match, Exception)
    else:
        usable = isinstance(match, re.Pattern) or callable(match)
    if not usable:
        raise TypeError(
            f"register() takes a subclass of Exception, a regular expression or a predicate, not {match!r}"
        )
    return match
