"""A failure in plain words, for the person who is woken by it."""

from resilient_agents.errors.evidence import classify
from resilient_agents.errors.failure import Advice, Category, Failure, Origin

_WHOSE = {
    Origin.INBOUND: "our caller's: what it sent or asked for cannot be served",
    Origin.DEPENDENCY: "a dependency's",
    Origin.SELF: "our own: this program, its settings or its machine",
}

_AGAIN = {
    Advice.NEVER: "No. The same call would fail the same way.",
    Advice.SAFE: "Yes, at once if need be: nothing was executed.",
    Advice.IDEMPOTENT: (
        "Only where doing it twice is harmless, or once it is known not to have been done: it may have been."
    ),
    Advice.AFTER: "Yes, once the other side is ready for it.",
    Advice.TRANSACTION: "The whole transaction, from its beginning; not the one statement.",
}

_NOW = {
    Category.VALIDATION: "Nothing is down. Look at what was sent; the caller or our code must change it.",
    Category.AUTH: "Look at the credentials, and at what they allow.",
    Category.NOT_FOUND: "Nothing is down. If it must be there, find out who deleted it.",
    Category.CONFLICT: "Nothing is down. If it happens often, two of us work on the same thing.",
    Category.RATE_LIMIT: "Wait. If it happens often, ask less, spread it, or ask for a higher limit.",
    Category.EXTERNAL: "Look at the other side's status page and the network. It passes when they are well.",
    Category.INTERNAL: "Find it in the log with its traceback and mend the code.",
}

_NOW_BY_CODE = {
    "auth.rejected": "Renew our key or token for it. No call will work before.",
    "auth.needs_reauth": "Renew our key or token for it. No call will work before.",
    "external.bad_body": "Look at what it answered: often a proxy's error page, or a new version of its API.",
    "external.circuit_open": "Nothing: it is tried again by itself. Look at why the calls before failed.",
    "external.connect": "See whether it runs, and whether its address and port are the ones we have.",
    "external.deadline": "See which step took the time; the deadline may be too short for it.",
    "external.dns": "Check the host name for a mistake, then the resolver of this machine.",
    "external.full": "Make room on the database's disk or in its memory; writes fail until then.",
    "external.locked": "Find the transaction that holds the lock.",
    "external.pool": "Look for connections that are not given back; then make the pool larger.",
    "external.read_only": "See whether we talk to a replica, and whether a failover is under way.",
    "external.tls": "Check its certificate, its host name and whether the port speaks TLS.",
    "internal.configuration": "Correct the setting and restart; nothing else helps.",
    "internal.credentials": "Correct the user name and password for the database.",
    "internal.data": "Find out where the data came from, and what wrote it.",
    "internal.query": "See whether a migration is missing; else mend the statement.",
    "internal.resource": "Look at this machine's disk, memory and open files.",
    "internal.storage_full": "Make room on the disk; nothing is accepted until then.",
    "internal.unexpected": "Find it in the log with its traceback. If it is no defect, register() it.",
    "rate_limit.quota": "Pay, raise the limit, or wait for the next period. Waiting minutes does not help.",
}


def explain(exc: BaseException | Failure) -> str:
    """Say in plain words what a failure means and what to do now; for the person at night.

    Five lines: what it is, whose it is, whether it is tried again, what the caller sees, what to do. The text
    of an exception that this package did not make is not shown: it may hold secrets.

    Args:
        exc: The exception, or what `classify` said of it.

    Returns:
        Text of several lines, without a line end at the end.

    Raises:
        BaseException: *exc* itself, where it is no `Exception`: neither cancellation nor Ctrl-C is a failure.
    """
    failure = exc if isinstance(exc, Failure) else classify(exc)
    whose = _WHOSE[failure.origin]
    if failure.dependency:
        whose = f"that of {failure.dependency}, a dependency"
    again = _AGAIN[failure.advice]
    if failure.retry_after is not None:
        again += f" It asked for {failure.retry_after:g} seconds."
    now = _NOW_BY_CODE.get(failure.code) or _NOW[failure.category]
    return "\n".join(
        (
            f"What: {failure.detail}",
            f"Whose: {whose}.",
            f"Again: {again}",
            f"Caller: HTTP {failure.status}, code {failure.code}.",
            f"Now: {now}",
        )
    )
