"""What the end of a call says about its target."""

import logging

from resilient_agents.errors import (
    BulkheadFull,
    Category,
    CircuitOpen,
    Failure,
    LimitReached,
    Origin,
    classify,
)
from resilient_agents.policies._deadline import remaining
from resilient_agents.policies._filters import Filter, matches
from resilient_agents.policies._windows import FAILED, OK

NOTHING = 4
"""The call says nothing about its target."""

_NOT_SENT = (CircuitOpen, LimitReached, BulkheadFull)
_NOT_SENT_CODES = {kind.code for kind in _NOT_SENT}
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
    cut_off = _cut_off(exc, failure)
    if failure.code in _NOT_SENT_CODES or (failure.code == "external.deadline" and not cut_off):
        return NOTHING
    if counts is not None:
        targets_own = matches(counts, exc, failure)
    else:
        targets_own = failure.category is Category.EXTERNAL and (
            cut_off or failure.origin is Origin.DEPENDENCY
        )
    if targets_own:
        return FAILED
    silent = failure.category is Category.INTERNAL or failure.origin is Origin.SELF
    return NOTHING if silent and not cut_off else OK


def _cut_off(exc: Exception, failure: Failure) -> bool:
    """Tell whether a `timeout` around the target cut the call off, and our own callers had time left.

    The target had its time then and did not answer in it. Where the deadline of our callers was up, nothing
    is known: they may have come late.
    """
    return (
        failure.code == "external.deadline" and isinstance(exc.__cause__, TimeoutError) and remaining() != 0
    )
