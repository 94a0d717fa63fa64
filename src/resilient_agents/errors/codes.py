"""What the error codes of services mean, as data: gRPC, AWS, language models, and what libpq says.

Sources: the status codes of gRPC (grpc.github.io/grpc/core/md_doc_statuscodes.html); the common errors of AWS
and the lists of ``botocore.retries.standard``; the error pages of OpenAI and Anthropic; the messages of libpq
and of PostgreSQL's ``auth.c``, ``postinit.c`` and ``postmaster.c``.
"""

GRPC: dict[str, str] = {
    "ABORTED": "conflict.transaction",
    "ALREADY_EXISTS": "conflict.dependency",
    "CANCELLED": "external.reset",
    "DATA_LOSS": "internal.data",
    "DEADLINE_EXCEEDED": "external.timeout",
    "FAILED_PRECONDITION": "conflict.dependency",
    "INTERNAL": "external.server_error",
    "INVALID_ARGUMENT": "validation.rejected",
    "NOT_FOUND": "not_found.dependency",
    "OUT_OF_RANGE": "validation.rejected",
    "PERMISSION_DENIED": "auth.rejected",
    "RESOURCE_EXHAUSTED": "rate_limit.throttled",
    "UNAUTHENTICATED": "auth.rejected",
    "UNAVAILABLE": "external.unavailable",
    "UNIMPLEMENTED": "validation.rejected",
    "UNKNOWN": "external.server_error",
}
"""What the name of a gRPC status code says."""

_AWS: dict[str, str] = {
    "auth.rejected": """
        AccessDenied AccessDeniedException AuthFailure ExpiredToken ExpiredTokenException
        IncompleteSignature InvalidAccessKeyId InvalidClientTokenId InvalidSignatureException
        MissingAuthenticationToken NotAuthorized OptInRequired RequestExpired SignatureDoesNotMatch
        UnauthorizedOperation UnrecognizedClientException""",
    "conflict.dependency": """
        ConditionalCheckFailed ConditionalCheckFailedException ConflictException EntityAlreadyExists
        PreconditionFailed ResourceInUseException TransactionCanceledException""",
    "conflict.transaction": "TransactionConflictException",
    "external.overloaded": "ServiceUnavailable ServiceUnavailableException",
    "external.server_error": """
        InternalError InternalFailure InternalServerError InternalServerException""",
    "external.timeout": "RequestTimeout RequestTimeoutException",
    "not_found.dependency": """
        NoSuchBucket NoSuchEntity NoSuchKey NoSuchUpload NoSuchVersion NotFound ResourceNotFound
        ResourceNotFoundException""",
    "rate_limit.quota": "ServiceQuotaExceededException",
    "rate_limit.throttled": """
        BandwidthLimitExceeded EC2ThrottledException LimitExceededException PriorRequestNotComplete
        ProvisionedThroughputExceededException RequestLimitExceeded RequestThrottled
        RequestThrottledException SlowDown ThrottledException Throttling ThrottlingException
        TooManyRequestsException TransactionInProgressException""",
    "validation.rejected": """
        InvalidAction InvalidParameterCombination InvalidParameterValue InvalidQueryParameter
        MalformedQueryString MissingAction MissingParameter ValidationError ValidationException""",
}

AWS: dict[str, str] = {name: code for code, names in _AWS.items() for name in names.split()}
"""What ``response["Error"]["Code"]`` of botocore says; for others the HTTP status beside it counts."""

QUOTAS: frozenset[str] = frozenset(
    {
        *("billing_error", "billing_hard_limit_reached", "billing_not_active", "insufficient_quota"),
        *("contract_spend_limit_reached", "enforced_spend_limit_reached"),
        *("linked_organization_billing_unavailable", "linked_organization_spend_limit_reached"),
        "storage_quota_exceeded",
    }
)
"""Codes in the body of a refusal that mean a spent quota, whatever the status: waiting does not help."""

MODELS: dict[str, str] = {
    "api_error": "external.server_error",
    "authentication_error": "auth.rejected",
    "invalid_request_error": "validation.rejected",
    "not_found_error": "validation.rejected",
    "overloaded_error": "external.overloaded",
    "permission_error": "auth.rejected",
    "rate_limit_error": "rate_limit.throttled",
    "rate_limit_exceeded": "rate_limit.throttled",
    "request_too_large": "validation.rejected",
    "server_error": "external.server_error",
    "timeout_error": "external.timeout",
}
"""What OpenAI and Anthropic say in the midst of a stream, which began with a status of 200."""

LIBPQ: tuple[tuple[str, str], ...] = (
    ("password authentication failed", "internal.credentials"),
    ("no password supplied", "internal.credentials"),
    ("no pg_hba.conf entry", "internal.credentials"),
    ("the database system is ", "external.connect"),
    ("too many clients already", "external.pool"),
    ("remaining connection slots are reserved", "external.pool"),
    ("does not exist", "internal.configuration"),
)
"""What libpq says of a connection that could not be opened: it keeps the server's SQLSTATE to itself."""
