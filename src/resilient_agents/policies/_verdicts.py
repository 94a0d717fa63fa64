"""What the end of a call says about its target."""

import logging

from resilient_agents.errors import (
    BulkheadFull,
    Category,
    CircuitOpen,
    DeadlineExceeded,
    LimitReached,
    Origin,
    classify,
)
from resilient_agents.policies._filters import Filter, matches
from resilient_agents.policies._windows import FAILED, OK

NOTHING = 4
"""The call says nothing about its target."""

_NOT_SENT = (CircuitOpen, LimitReached, BulkheadFull)
_NOT_SENT_CODES = {kind.code for kind in (*_NOT_SENT, DeadlineExceeded)}
_broken: set[int] = set()
_log = logging.getLogger("resilient_agents.policies")


def verdict(exc: BaseException, counts: Filter | None) -> int:
    """Return what a call that raised says about its target: `FAILED`, `OK` or `NOTHING`. Never raises.

    Args:
        exc: What the call raised.
        counts: Which failures are the target's, or *None* to follow `classify`.
    """
    if not isinstance(exc, Exception) or isinstance(exc, _NOT_SENT):
        return NOTHING
    try:
        return _verdict(exc, counts)
    except Exception:
        if id(counts) not in _broken:  # a loop of failures must not become a flood of lines
            _broken.add(id(counts))
            _log.exception("counts= of a breaker raised; calls of which it says nothing are not counted")
        return NOTHING


def _verdict(exc: Exception, counts: Filter | None) -> int:
    failure = classify(exc)
    if failure.code in _NOT_SENT_CODES:
        return NOTHING
    cut_off = failure.code == "external.timeout"  # by a time limit around the target, all of which it had
    if counts is not None:
        at_fault = matches(counts, exc, failure)
    else:
        theirs = failure.origin is Origin.DEPENDENCY or cut_off
        at_fault = failure.category is Category.EXTERNAL and theirs
    if at_fault:
        return FAILED
    silent = failure.category is Category.INTERNAL or (failure.origin is Origin.SELF and not cut_off)
    return NOTHING if silent else OK
