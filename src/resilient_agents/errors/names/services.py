"""Clients of other people's services: language models, clouds, gRPC."""

_STATUSES: dict[str, str] = {
    "auth.rejected": "AuthenticationError PermissionDeniedError",
    # 409 of these two is a lock that was not to be had in time, and their own clients repeat it.
    "external.server_error": "APIStatusError ConflictError InternalServerError",
    "rate_limit.throttled": "RateLimitError",
    # 404 of these two is a model that does not exist: a setting of ours, not a thing our caller asked for.
    "validation.rejected": "BadRequestError NotFoundError UnprocessableEntityError",
    "external.bad_body": "APIResponseValidationError",
    "external.timeout": "APITimeoutError",
    "external.unavailable": "APIConnectionError",
}
"""What is the same in the two clients that one generator wrote."""

CLASSES: dict[str, dict[str, str]] = {
    "openai": {
        **_STATUSES,
        "auth.rejected": "AuthenticationError OAuthError PermissionDeniedError",
        "auth.unauthenticated": "InvalidWebhookSignatureError",
        "external.reset": "WebSocketConnectionClosedError",
        "external.server_error": "APIError APIStatusError ConflictError InternalServerError",
        "internal.bug": "WebSocketQueueFullError",
        "internal.configuration": "OpenAIError",
        "validation.filtered": "ContentFilterFinishReasonError",
        "validation.truncated": "LengthFinishReasonError",
    },
    "openai._exceptions": {"auth.rejected": "SubjectTokenProviderError"},
    "anthropic": {
        **_STATUSES,
        "auth.unauthenticated": "APIWebhookValidationError",
        "external.overloaded": "OverloadedError ServiceUnavailableError",
        "external.reset": "ClientClosedRequestError",
        "external.server_error": "APIError APIStatusError ConflictError InternalServerError RetryableError",
        "external.timeout": "APITimeoutError GatewayTimeoutError RequestTimeoutError",
        "internal.configuration": "AnthropicError CredentialsError IdentityTokenFileError",
        "rate_limit.quota": """
            ContractSpendLimitReachedError EnforcedSpendLimitReachedError
            LinkedOrganizationSpendLimitReachedError PaymentRequiredError""",
        "rate_limit.throttled": "RampLimitExceededError RateLimitError",
        "validation.rejected": """
            BadRequestError ContentTooLargeError HTTPNotImplementedError NotFoundError
            PreconditionFailedError RequestHeaderFieldsTooLargeError UnprocessableEntityError""",
    },
    "anthropic.lib.credentials._workload": {"auth.rejected": "WorkloadIdentityError"},
    "botocore.exceptions": {
        "auth.rejected": """
            CredentialRetrievalError LoginError SSOError TokenRetrievalError UnauthorizedSSOTokenError""",
        "external.bad_body": "ChecksumError FlexibleChecksumError",
        "external.connect": "ConnectionError EndpointConnectionError ProxyConnectionError",
        "external.reset": "ConnectionClosedError IncompleteReadError ResponseStreamingError",
        "external.server_error": "ClientError EventStreamError",
        "external.timeout": "ReadTimeoutError WaiterError",
        "external.timeout_connect": "ConnectTimeoutError",
        "external.tls": "SSLError",
        "external.unavailable": "CapacityNotAvailableError HTTPClientError MetadataRetrievalError",
        "internal.bug": """
            BotoCoreError MissingParametersError ParamValidationError UndefinedModelAttributeError
            ValidationError""",
        "internal.configuration": """
            BaseEndpointResolverError ConfigNotFound ConfigParseError EndpointProviderError InvalidConfigError
            InvalidRetryConfigurationError MissingDependencyException NoAuthTokenError NoCredentialsError
            NoRegionError PartialCredentialsError ProfileNotFound UnknownServiceError""",
    },
    "grpc": {
        "external.server_error": "RpcError",
        "external.timeout": "FutureTimeoutError",
        "internal.bug": "FutureCancelledError",
    },
    "grpc._cython.cygrpc": {"internal.bug": "BaseError"},
}

DECISIVE: frozenset[str] = frozenset(
    {f"{module}.{name}" for module in ("anthropic", "openai") for name in ("ConflictError", "NotFoundError")}
    | {"anthropic.ContractSpendLimitReachedError", "anthropic.EnforcedSpendLimitReachedError"}
)
