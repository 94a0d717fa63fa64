"""A labelled corpus of failures: what a person would decide about each, without looking at the tables.

Each line says the HTTP status that our caller should see, whether the same call may be made again, and of
which failures that is true. *no*: never; *tx*: only the whole transaction; *safe*: it was provably not
executed; *idem*: it may have been executed; *after*: once the other side is ready.

A failure is a class by the name under which a user imports it, or ``kind:value`` for one that is known by
what it carries.
"""

from typing import NamedTuple

_LINES = """
422 no    psycopg.errors.ForeignKeyViolation psycopg.errors.NotNullViolation psycopg.errors.CheckViolation
422 no    sqlite:SQLITE_CONSTRAINT_NOTNULL
422 no    sqlite3.DataError psycopg.errors.StringDataRightTruncation psycopg.errors.NumericValueOutOfRange
422 no    psycopg.errors.InvalidTextRepresentation sqlalchemy.exc.DataError
502 no    httpx.TooManyRedirects openai.NotFoundError openai.BadRequestError openai.UnprocessableEntityError
502 no    anthropic.BadRequestError anthropic.ContentTooLargeError anthropic.NotFoundError
502 no    anthropic.HTTPNotImplementedError http:400 http:413 http:422 http:501
502 no    grpc:INVALID_ARGUMENT grpc:OUT_OF_RANGE grpc:UNIMPLEMENTED aws:ValidationException
422 no    openai.ContentFilterFinishReasonError

400 no    werkzeug.exceptions.BadRequest werkzeug.exceptions.BadRequestKeyError starlette:400
415 no    werkzeug.exceptions.UnsupportedMediaType
405 no    werkzeug.exceptions.MethodNotAllowed starlette:405
413 no    werkzeug.exceptions.RequestEntityTooLarge starlette:413
422 no    fastapi.exceptions.RequestValidationError fastapi.exceptions.WebSocketRequestValidationError
422 no    litestar.exceptions.ValidationException werkzeug.exceptions.UnprocessableEntity
422 no    rest_framework.exceptions.ValidationError starlette:422

502 no    redis.exceptions.AuthenticationError redis.exceptions.AuthorizationError
502 no    redis.exceptions.NoPermissionError openai.AuthenticationError openai.PermissionDeniedError
502 no    openai.OAuthError anthropic.AuthenticationError anthropic.PermissionDeniedError
502 no    botocore.exceptions.CredentialRetrievalError http:401 http:403 grpc:PERMISSION_DENIED
502 no    grpc:UNAUTHENTICATED aws:AccessDenied
403 no    litestar.exceptions.PermissionDeniedException werkzeug.exceptions.Forbidden
403 no    rest_framework.exceptions.PermissionDenied starlette:403
401 no    litestar.exceptions.NotAuthorizedException werkzeug.exceptions.Unauthorized
401 no    rest_framework.exceptions.NotAuthenticated starlette:401
404 no    http:404 http:410 grpc:NOT_FOUND aws:NoSuchKey
404 no    litestar.exceptions.NotFoundException werkzeug.exceptions.NotFound sqlalchemy.exc.NoResultFound
404 no    starlette:404

409 tx    redis.exceptions.WatchError psycopg.errors.SerializationFailure psycopg.errors.DeadlockDetected
409 tx    psycopg2.errors.SerializationFailure psycopg2.errors.DeadlockDetected
409 tx    asyncpg.exceptions.SerializationError asyncpg.exceptions.DeadlockDetectedError
409 tx    sqlalchemy.orm.exc.StaleDataError grpc:ABORTED
409 no    sqlite3.IntegrityError psycopg.errors.UniqueViolation psycopg2.errors.UniqueViolation
409 no    asyncpg.exceptions.UniqueViolationError sqlalchemy.exc.IntegrityError
409 no    redis.exceptions.LockError redis.exceptions.LockNotOwnedError http:409 http:423
409 no    grpc:ALREADY_EXISTS grpc:FAILED_PRECONDITION aws:ConditionalCheckFailedException
409 no    werkzeug.exceptions.Conflict starlette:409

503 no    anthropic.PaymentRequiredError anthropic.EnforcedSpendLimitReachedError
503 no    anthropic.ContractSpendLimitReachedError http:402 openai:429:insufficient_quota
503 no    anthropic:400:enforced_spend_limit_reached
503 after openai.RateLimitError anthropic.RateLimitError anthropic.RampLimitExceededError http:429
503 after grpc:RESOURCE_EXHAUSTED aws:ThrottlingException
429 after litestar.exceptions.TooManyRequestsException werkzeug.exceptions.TooManyRequests
429 after rest_framework.exceptions.Throttled starlette:429

503 no    redis.exceptions.OutOfMemoryError psycopg.errors.DiskFull psycopg.errors.OutOfMemory
503 no    sqlite:SQLITE_FULL
503 idem  sqlite3.OperationalError psycopg.errors.LockNotAvailable sqlite:SQLITE_BUSY sqlite:SQLITE_LOCKED
503 idem  psycopg.errors.AdminShutdown psycopg.errors.CrashShutdown
503 idem  psycopg.errors.IdleInTransactionSessionTimeout asyncpg.exceptions.ConnectionDoesNotExistError
503 idem  sqlalchemy.exc.OperationalError sqlalchemy.exc.DisconnectionError sqlalchemy.exc.InterfaceError
503 safe  psycopg.errors.TooManyConnections asyncpg.exceptions.TooManyConnectionsError
503 safe  sqlalchemy.exc.TimeoutError
503 idem  redis.exceptions.ReadOnlyError redis.exceptions.ClusterDownError redis.exceptions.MasterDownError
503 idem  redis.exceptions.TryAgainError redis.exceptions.NoScriptError
503 idem  psycopg.errors.ReadOnlySqlTransaction sqlite:SQLITE_READONLY
504 idem  psycopg.errors.QueryCanceled asyncpg.exceptions.QueryCanceledError
503 safe  psycopg.errors.CannotConnectNow psycopg.errors.ConnectionTimeout
503 safe  asyncpg.exceptions.CannotConnectNowError

502 idem  openai.InternalServerError openai.ConflictError anthropic.InternalServerError
502 idem  anthropic.RetryableError botocore.exceptions.ClientError http:425 http:500 http:502
502 idem  grpc:UNKNOWN grpc:INTERNAL aws:InternalError
502 idem  httpx.DecodingError httpx2.DecodingError openai.APIResponseValidationError
502 idem  anthropic.APIResponseValidationError aiohttp.ContentTypeError requests.exceptions.JSONDecodeError
503 safe  httpx.ConnectError httpx.ProxyError httpx2.ConnectError httpx2.ProxyError ConnectionRefusedError
503 safe  botocore.exceptions.EndpointConnectionError botocore.exceptions.ProxyConnectionError
503 safe  aiohttp.ClientConnectorError errno:EHOSTUNREACH errno:ENETUNREACH
503 safe  socket.gaierror aiohttp.ClientConnectorDNSError
503 after redis.exceptions.BusyLoadingError anthropic.OverloadedError anthropic.ServiceUnavailableError
503 after http:503 http:529 starlette:503
503 safe  httpx.PoolTimeout httpx2.PoolTimeout redis.exceptions.MaxConnectionsError
502 idem  httpx.RemoteProtocolError httpx2.RemoteProtocolError redis.exceptions.InvalidResponse
502 idem  httpx.ReadError httpx.WriteError httpx.CloseError httpx2.ReadError httpx2.WriteError
502 idem  ConnectionResetError BrokenPipeError ConnectionAbortedError ssl.SSLEOFError
502 idem  asyncio.IncompleteReadError anthropic.ClientClosedRequestError
502 idem  botocore.exceptions.ConnectionClosedError botocore.exceptions.IncompleteReadError
502 idem  botocore.exceptions.ResponseStreamingError aiohttp.ServerDisconnectedError
502 idem  aiohttp.ClientPayloadError requests.exceptions.ChunkedEncodingError
504 idem  httpx.ReadTimeout httpx.WriteTimeout httpx2.ReadTimeout httpx2.WriteTimeout
504 idem  redis.exceptions.TimeoutError TimeoutError openai.APITimeoutError anthropic.APITimeoutError
504 idem  anthropic.GatewayTimeoutError anthropic.DeadlineExceededError anthropic.RequestTimeoutError
504 idem  botocore.exceptions.ReadTimeoutError botocore.exceptions.WaiterError aiohttp.SocketTimeoutError
504 idem  requests.exceptions.ReadTimeout http:408 http:504 grpc:DEADLINE_EXCEEDED
504 safe  httpx.ConnectTimeout httpx2.ConnectTimeout botocore.exceptions.ConnectTimeoutError
504 safe  aiohttp.ConnectionTimeoutError requests.exceptions.ConnectTimeout errno:ETIMEDOUT
502 no    ssl.SSLCertVerificationError ssl.SSLError botocore.exceptions.SSLError
502 no    aiohttp.ClientConnectorCertificateError requests.exceptions.SSLError
503 idem  redis.exceptions.ConnectionError openai.APIConnectionError anthropic.APIConnectionError
503 idem  requests.exceptions.ConnectionError grpc:UNAVAILABLE
502 no    openai.LengthFinishReasonError

500 no    psycopg.errors.InvalidPassword psycopg.errors.InsufficientPrivilege
500 no    sqlite3.ProgrammingError sqlite3.InterfaceError sqlite3.NotSupportedError
500 no    psycopg.errors.UndefinedTable psycopg.errors.UndefinedColumn psycopg.errors.SyntaxError
500 no    psycopg.errors.InFailedSqlTransaction asyncpg.exceptions.InterfaceError
500 no    sqlalchemy.exc.ProgrammingError sqlalchemy.exc.MultipleResultsFound
500 no    sqlalchemy.exc.PendingRollbackError sqlalchemy.exc.MissingGreenlet sqlite:SQLITE_ERROR
500 no    httpx.LocalProtocolError httpx.UnsupportedProtocol httpx.InvalidURL httpx.StreamConsumed
500 no    httpx.ResponseNotRead httpx.StreamClosed redis.exceptions.ResponseError
500 no    redis.exceptions.DataError redis.exceptions.ExecAbortError
500 no    redis.exceptions.ClusterCrossSlotError asyncio.LimitOverrunError KeyError TypeError AttributeError
500 no    ValueError AssertionError RuntimeError RecursionError FileNotFoundError orjson.JSONEncodeError
500 no    fastapi.exceptions.ResponseValidationError botocore.exceptions.ParamValidationError
500 no    aiohttp.InvalidURL requests.exceptions.InvalidURL starlette:500
500 no    redis.exceptions.AuthenticationWrongNumberOfArgsError PermissionError ImportError
500 no    pydantic_settings.SettingsError sqlalchemy.exc.NoSuchModuleError anthropic.CredentialsError
500 no    botocore.exceptions.NoCredentialsError botocore.exceptions.PartialCredentialsError
500 no    botocore.exceptions.NoRegionError errno:EADDRINUSE errno:EACCES sqlite:SQLITE_CANTOPEN
500 no    UnicodeDecodeError json.JSONDecodeError orjson.JSONDecodeError msgspec.ValidationError
500 no    msgspec.DecodeError pydantic.ValidationError grpc:DATA_LOSS
503 no    MemoryError sqlite3.DatabaseError errno:ENOSPC errno:EMFILE sqlite:SQLITE_CORRUPT
501 no    NotImplementedError
"""


class Label(NamedTuple):
    """What a person would decide about a failure."""

    failure: str
    status: int
    retry: str


CORPUS = tuple(
    Label(failure, int(status), retry)
    for status, retry, *failures in map(str.split, filter(str.strip, _LINES.splitlines()))
    for failure in failures
)
