"""What is known about other people's exceptions, as data.

A *verdict* says what one code means. The other tables lead from a piece of evidence to a code: the status of
an HTTP response, an errno, an SQLite or an SQLSTATE error code. The names of classes have a page of their
own, `names`.

Sources: RFC 9110 section 15 and the IANA registry of HTTP status codes; errno(3); the result codes of
SQLite (sqlite.org/rescode.html); appendix A of the PostgreSQL manual.
"""

from dataclasses import dataclass

from resilient_agents.errors.failure import Advice, Category, Level, Origin

_INBOUND, _DEPENDENCY, _SELF = Origin.INBOUND, Origin.DEPENDENCY, Origin.SELF
_NEVER, _SAFE, _IDEMPOTENT, _AFTER = Advice.NEVER, Advice.SAFE, Advice.IDEMPOTENT, Advice.AFTER
_INFO, _WARNING, _ERROR, _CRITICAL = Level.INFO, Level.WARNING, Level.ERROR, Level.CRITICAL


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a code means; see `Failure` for the attributes. Compared by identity, for cheap caching."""

    code: str
    origin: Origin
    status: int
    advice: Advice
    level: Level
    title: str

    @property
    def category(self) -> Category:
        """The part of the code before the dot."""
        return Category(self.code.partition(".")[0])


VERDICTS: dict[str, Verdict] = {
    verdict.code: verdict
    for verdict in (
        Verdict("validation.invalid", _INBOUND, 422, _NEVER, _INFO, "Invalid input"),
        Verdict("validation.malformed", _INBOUND, 400, _NEVER, _INFO, "Malformed request"),
        Verdict("validation.method", _INBOUND, 405, _NEVER, _INFO, "Method not allowed"),
        Verdict("validation.media_type", _INBOUND, 415, _NEVER, _INFO, "Media type not supported"),
        Verdict("validation.too_large", _INBOUND, 413, _NEVER, _INFO, "Payload too large"),
        Verdict("validation.rejected", _DEPENDENCY, 502, _NEVER, _ERROR, "A dependency rejected our request"),
        Verdict("validation.data", _DEPENDENCY, 422, _NEVER, _WARNING, "A database rejected a value"),
        Verdict("validation.constraint", _DEPENDENCY, 422, _NEVER, _WARNING, "A constraint is violated"),
        Verdict("validation.filtered", _DEPENDENCY, 422, _NEVER, _INFO, "A model refused the content"),
        Verdict(
            "validation.truncated", _DEPENDENCY, 502, _NEVER, _WARNING, "An answer was cut off at its limit"
        ),
        Verdict("validation.disconnected", _INBOUND, 400, _NEVER, _INFO, "Our caller hung up"),
        Verdict("auth.unauthenticated", _INBOUND, 401, _NEVER, _WARNING, "Not authenticated"),
        Verdict("auth.forbidden", _INBOUND, 403, _NEVER, _WARNING, "Not permitted"),
        Verdict("auth.rejected", _DEPENDENCY, 502, _NEVER, _ERROR, "A dependency refuses our credentials"),
        Verdict("not_found.missing", _INBOUND, 404, _NEVER, _INFO, "Not found"),
        Verdict("not_found.dependency", _DEPENDENCY, 404, _NEVER, _INFO, "Not found in a dependency"),
        Verdict("conflict.state", _INBOUND, 409, _NEVER, _INFO, "Conflict"),
        Verdict("conflict.dependency", _DEPENDENCY, 409, _NEVER, _INFO, "Conflict in a dependency"),
        Verdict("conflict.unique", _DEPENDENCY, 409, _NEVER, _INFO, "Already exists"),
        Verdict(
            "conflict.transaction",
            _DEPENDENCY,
            409,
            Advice.TRANSACTION,
            _INFO,
            "A transaction lost to another one",
        ),
        Verdict("rate_limit.exceeded", _INBOUND, 429, _AFTER, _WARNING, "Too many requests"),
        Verdict("rate_limit.throttled", _DEPENDENCY, 503, _AFTER, _WARNING, "A dependency limits our rate"),
        Verdict("rate_limit.quota", _DEPENDENCY, 503, _NEVER, _ERROR, "Quota exhausted"),
        Verdict("external.connect", _DEPENDENCY, 503, _SAFE, _WARNING, "A dependency cannot be reached"),
        Verdict("external.dns", _DEPENDENCY, 503, _SAFE, _WARNING, "A host name cannot be resolved"),
        Verdict("external.pool", _DEPENDENCY, 503, _SAFE, _WARNING, "No connection was free"),
        Verdict(
            "external.timeout_connect",
            _DEPENDENCY,
            504,
            _SAFE,
            _WARNING,
            "A connection took too long to open",
        ),
        Verdict(
            "external.timeout", _DEPENDENCY, 504, _IDEMPOTENT, _WARNING, "A dependency did not answer in time"
        ),
        Verdict("external.reset", _DEPENDENCY, 502, _IDEMPOTENT, _WARNING, "A connection broke"),
        Verdict("external.protocol", _DEPENDENCY, 502, _IDEMPOTENT, _WARNING, "An answer broke the protocol"),
        Verdict("external.bad_body", _DEPENDENCY, 502, _IDEMPOTENT, _WARNING, "An answer cannot be read"),
        Verdict("external.server_error", _DEPENDENCY, 502, _IDEMPOTENT, _WARNING, "A dependency failed"),
        Verdict(
            "external.unavailable", _DEPENDENCY, 503, _IDEMPOTENT, _WARNING, "A dependency is unavailable"
        ),
        Verdict("external.overloaded", _DEPENDENCY, 503, _AFTER, _WARNING, "A dependency is overloaded"),
        Verdict("external.locked", _DEPENDENCY, 503, _IDEMPOTENT, _WARNING, "A database is locked"),
        Verdict("external.read_only", _DEPENDENCY, 503, _IDEMPOTENT, _WARNING, "A database is read-only"),
        Verdict("external.full", _DEPENDENCY, 503, _NEVER, _CRITICAL, "A database is out of room"),
        Verdict("external.tls", _DEPENDENCY, 502, _NEVER, _ERROR, "A secure connection failed"),
        Verdict("internal.query", _DEPENDENCY, 500, _NEVER, _ERROR, "A database cannot run our statement"),
        Verdict(
            "internal.credentials", _DEPENDENCY, 500, _NEVER, _ERROR, "A database refuses our credentials"
        ),
        Verdict("internal.bug", _SELF, 500, _NEVER, _ERROR, "A defect in this program"),
        Verdict("internal.data", _SELF, 500, _NEVER, _ERROR, "Data cannot be decoded"),
        Verdict("internal.configuration", _SELF, 500, _NEVER, _CRITICAL, "Wrong configuration"),
        Verdict("internal.resource", _SELF, 503, _NEVER, _CRITICAL, "This machine is out of resources"),
        Verdict("internal.unimplemented", _SELF, 501, _NEVER, _ERROR, "Not implemented"),
        Verdict("internal.unexpected", _SELF, 500, _NEVER, _ERROR, "Unexpected failure"),
    )
}

UNEXPECTED = "internal.unexpected"
"""The code of an exception of which nothing is known."""

DEFAULTS: dict[Category, str] = {
    Category.VALIDATION: "validation.rejected",
    Category.AUTH: "auth.rejected",
    Category.NOT_FOUND: "not_found.dependency",
    Category.CONFLICT: "conflict.dependency",
    Category.RATE_LIMIT: "rate_limit.throttled",
    Category.EXTERNAL: "external.unavailable",
    Category.INTERNAL: UNEXPECTED,
}
"""The code whose verdict stands in where only a category is known."""

SILENT: frozenset[str] = frozenset({"internal.data", UNEXPECTED})
"""Codes that say nothing of whose failure it is: in the scope of a dependency it is the dependency's."""

VAGUE: frozenset[str] = frozenset({"external.connect", "external.unavailable", "internal.bug"})
"""Codes that say too little when only the class is known: what caused the exception may say more."""

SEEN_FROM: dict[tuple[str, Origin], str] = {
    ("internal.data", _DEPENDENCY): "external.bad_body",
    ("internal.data", _INBOUND): "validation.invalid",
}
"""Codes that become another one once it is known whose data it was."""

STATUS_FROM: dict[tuple[Category, Origin], int] = {
    (Category.VALIDATION, _INBOUND): 422,
    (Category.VALIDATION, _DEPENDENCY): 502,
    (Category.AUTH, _INBOUND): 401,
    (Category.AUTH, _DEPENDENCY): 502,
    (Category.RATE_LIMIT, _INBOUND): 429,
    (Category.RATE_LIMIT, _DEPENDENCY): 503,
}
"""The status that takes the place of a verdict's own when its origin is overridden."""

DEPENDENCY_STATUS: dict[int, str] = {
    **dict.fromkeys((400, 405, 406, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422), "validation.rejected"),
    **dict.fromkeys((424, 426, 428, 431, 451, 501, 505, 510), "validation.rejected"),
    **dict.fromkeys((401, 403, 407, 511), "auth.rejected"),
    402: "rate_limit.quota",
    **dict.fromkeys((404, 410), "not_found.dependency"),
    **dict.fromkeys((409, 423), "conflict.dependency"),
    429: "rate_limit.throttled",
    **dict.fromkeys((425, 500, 502, 506, 508, 520), "external.server_error"),
    **dict.fromkeys((503, 529), "external.overloaded"),
    **dict.fromkeys((408, 504, 522, 524, 598), "external.timeout"),
    507: "external.full",
    **dict.fromkeys((521, 523, 530), "external.unavailable"),
    **dict.fromkeys((525, 526), "external.tls"),
    499: "external.reset",
    4: "validation.rejected",
    5: "external.server_error",
}
"""What the HTTP status of a dependency's response says; 4 and 5 stand for the ones that are not listed.

499 is nginx's own, 52x and 530 are Cloudflare's; 529 and 598 are in use without being registered.
"""

INBOUND_STATUS: dict[int, str] = {
    **dict.fromkeys((400, 408, 411, 417, 418, 421, 425, 426, 505, 510), "validation.malformed"),
    405: "validation.method",
    **dict.fromkeys((406, 415), "validation.media_type"),
    **dict.fromkeys((413, 414, 431), "validation.too_large"),
    **dict.fromkeys((416, 422, 428), "validation.invalid"),
    **dict.fromkeys((401, 407, 511), "auth.unauthenticated"),
    **dict.fromkeys((402, 403, 451), "auth.forbidden"),
    **dict.fromkeys((404, 410), "not_found.missing"),
    **dict.fromkeys((409, 412, 423, 424), "conflict.state"),
    429: "rate_limit.exceeded",
    **dict.fromkeys((500, 508), "internal.bug"),
    501: "internal.unimplemented",
    502: "external.server_error",
    **dict.fromkeys((503, 529), "external.overloaded"),
    504: "external.timeout",
    506: "internal.configuration",
    507: "internal.resource",
    4: "validation.malformed",
    5: UNEXPECTED,
}
"""What the HTTP status with which we refuse our own caller says; 4 and 5 as above."""

ERRNO: dict[str, str] = {
    **dict.fromkeys(("ECONNREFUSED", "EADDRNOTAVAIL"), "external.connect"),
    # An established connection that dies reports these too, so they do not prove that nothing was sent.
    **dict.fromkeys(("EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN"), "external.unavailable"),
    "ETIMEDOUT": "external.timeout",
    **dict.fromkeys(("ECONNRESET", "ECONNABORTED", "EPIPE", "ESHUTDOWN", "ENETRESET"), "external.reset"),
    **dict.fromkeys(("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS"), "internal.resource"),
    **dict.fromkeys(("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS"), "internal.resource"),
    **dict.fromkeys(("EADDRINUSE", "EACCES", "EPERM"), "internal.configuration"),
    **dict.fromkeys(
        ("ENOENT", "EEXIST", "EISDIR", "ENOTDIR", "ENOTEMPTY", "EBADF", "EINVAL"), "internal.bug"
    ),
}
"""What the errno of a bare `OSError` says; its subclasses say as much by their names."""

SQLITE: dict[str, str] = {
    **dict.fromkeys(("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL"), "external.locked"),
    "SQLITE_READONLY": "external.read_only",
    "SQLITE_FULL": "external.full",
    "SQLITE_INTERRUPT": "external.timeout",
    **dict.fromkeys(("SQLITE_ABORT", "SQLITE_ABORT_ROLLBACK"), "conflict.transaction"),
    "SQLITE_CONSTRAINT": "validation.constraint",
    "SQLITE_CONSTRAINT_UNIQUE": "conflict.unique",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "conflict.unique",
    "SQLITE_CONSTRAINT_ROWID": "conflict.unique",
    **dict.fromkeys(("SQLITE_MISMATCH", "SQLITE_TOOBIG"), "validation.data"),
    **dict.fromkeys(("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_IOERR", "SQLITE_NOMEM"), "internal.resource"),
    **dict.fromkeys(
        ("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_NOLFS"), "internal.configuration"
    ),
    **dict.fromkeys(("SQLITE_ERROR", "SQLITE_INTERNAL", "SQLITE_SCHEMA", "SQLITE_MISUSE"), "internal.query"),
    **dict.fromkeys(("SQLITE_RANGE", "SQLITE_NOTFOUND", "SQLITE_EMPTY", "SQLITE_FORMAT"), "internal.query"),
}
"""What ``sqlite_errorname`` says; an extended code that is not listed counts as its primary one."""

SQLSTATE: dict[str, str] = {
    **dict.fromkeys(
        ("02", "03", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21"), "internal.query"
    ),
    **dict.fromkeys(
        ("24", "25", "26", "27", "2B", "2D", "2F", "34", "38", "39", "3B", "3F"), "internal.query"
    ),
    **dict.fromkeys(("42", "54", "55", "P0"), "internal.query"),
    "08": "external.unavailable",
    **dict.fromkeys(("08001", "08004"), "external.connect"),
    "08P01": "external.protocol",
    "22": "validation.data",
    **dict.fromkeys(("23", "44", "P0001"), "validation.constraint"),
    **dict.fromkeys(("23505", "23P01"), "conflict.unique"),
    "25006": "external.read_only",
    "25P03": "external.unavailable",
    "25P04": "external.timeout",
    **dict.fromkeys(("28", "42501"), "internal.credentials"),
    **dict.fromkeys(("3D", "57P04", "F0"), "internal.configuration"),
    **dict.fromkeys(("40", "72"), "conflict.transaction"),
    "40003": "external.unavailable",
    "53": "external.full",
    "53300": "external.pool",
    **dict.fromkeys(("55006", "55P03"), "external.locked"),
    "57": "external.unavailable",
    "57014": "external.timeout",
    "57P03": "external.connect",
    **dict.fromkeys(("58", "HV", "XX"), "external.server_error"),
    **dict.fromkeys(("XX001", "XX002"), "internal.resource"),
}
"""What an SQLSTATE says; one that is not listed counts as its class, the first two characters."""
