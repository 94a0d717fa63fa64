"""Whom and what the current work belongs to: the request, the job, the organisation, the agent.

What is bound here is on everything that is told about the work: the response and its header, log lines,
Sentry's tags, the activity log. It follows the context: into tasks and into `asyncio.to_thread`, not into
bare threads.
"""

import os
import re
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType

FIELDS = ("request_id", "job_id", "job_name", "organization_id", "agent_id")
"""What can be bound."""

_AT_A_TIME = 64
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:+/=@-]{1,128}")
_NOTHING: Mapping[str, str] = MappingProxyType({})

BOUND: ContextVar[Mapping[str, str]] = ContextVar("resilient_agents_correlation", default=_NOTHING)
"""Where it is kept; for those to whom `bind` is dear. What is set must be put back."""

current = BOUND.get
"""Return what is bound, by field; what is not bound is missing. Nobody may change the mapping."""


class Binding:
    """The block that `bind` opens."""

    __slots__ = ("_fields", "_token")

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def __enter__(self) -> Mapping[str, str]:
        bound = {**BOUND.get(), **self._fields}
        self._token: Token[Mapping[str, str]] = BOUND.set(bound)
        return bound

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:  # noqa: SIM105 - a part of every request, in which suppress() would be felt
            BOUND.reset(self._token)
        except ValueError:  # closed from another context, as a generator can be: nothing is bound there
            pass


def bind(
    *,
    request_id: str | None = None,
    job_id: str | None = None,
    job_name: str | None = None,
    organization_id: str | None = None,
    agent_id: str | None = None,
) -> Binding:
    """Say for a ``with`` block whom the work in it belongs to. A block inside a block adds to it.

    Args:
        request_id: The request that the work answers.
        job_id: The job of a worker.
        job_name: What kind of job it is.
        organization_id: For which organisation.
        agent_id: For which agent.

    Returns:
        A context manager for one ``with`` statement; it gives what is then bound. What is *None* stays as it
        was.
    """
    given = (request_id, job_id, job_name, organization_id, agent_id)
    return Binding({name: str(value) for name, value in zip(FIELDS, given, strict=True) if value is not None})


_fresh: deque[str] = deque()
os.register_at_fork(after_in_child=_fresh.clear)


def new_id() -> str:
    """Return a fresh id for a request or a job: 32 hexadecimal digits that nobody can guess."""
    try:
        return _fresh.popleft()
    except IndexError:  # the kernel is asked for many at a time: each question costs as much as ten answers
        digits = os.urandom(16 * _AT_A_TIME).hex()
    _fresh.extend(digits[start : start + 32] for start in range(32, len(digits), 32))
    return digits[:32]


def accepted_id(offered: str | None) -> str:
    """Return the id that somebody else *offered*, or a new one where it cannot be one.

    An id comes from outside and ends in log lines and headers: at most 128 letters, digits and ``._:+/=@-``.

    Args:
        offered: What came, as in a header ``X-Request-ID``, or *None*.
    """
    if offered is not None and _ACCEPTABLE.fullmatch(offered):
        return offered
    return new_id()
