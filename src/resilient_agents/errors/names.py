"""What the name of an exception's class says, as data.

Classes are known by their qualified names and never imported, so a library costs nothing where it is not
installed, and a fork under another name is not mistaken for the original. To teach the package another
library, add its classes to the table.
"""

_HTTPX: dict[str, str] = {
    "external.bad_body": "DecodingError",
    "external.connect": "ConnectError ProxyError",
    "external.pool": "PoolTimeout",
    "external.protocol": "ProtocolError RemoteProtocolError",
    "external.reset": "CloseError ReadError WriteError",
    "external.timeout": "ReadTimeout TimeoutException WriteTimeout",
    "external.timeout_connect": "ConnectTimeout",
    "external.unavailable": "HTTPError NetworkError RequestError TransportError",
    "internal.bug": """
        CookieConflict InvalidURL LocalProtocolError RequestNotRead ResponseNotRead StreamClosed
        StreamConsumed StreamError UnsupportedProtocol""",
    "validation.rejected": "HTTPStatusError TooManyRedirects",
}

_CLASSES: dict[str, dict[str, str]] = {
    "builtins": {
        "internal.bug": """
            ArithmeticError AssertionError AttributeError BlockingIOError BufferError ChildProcessError
            EOFError FileExistsError FileNotFoundError InterruptedError IsADirectoryError LookupError
            NameError NotADirectoryError ProcessLookupError ReferenceError RuntimeError StopAsyncIteration
            StopIteration SyntaxError SystemError TypeError ValueError Warning""",
        "internal.configuration": "ImportError PermissionError",
        "internal.data": "UnicodeError",
        "internal.resource": "MemoryError",
        "internal.unimplemented": "NotImplementedError",
        "external.connect": "ConnectionRefusedError",
        "external.reset": "BrokenPipeError ConnectionAbortedError ConnectionResetError",
        "external.timeout": "TimeoutError",
        "external.unavailable": "ConnectionError OSError",
    },
    "asyncio.exceptions": {
        "external.reset": "IncompleteReadError",
        "internal.bug": "BrokenBarrierError InvalidStateError LimitOverrunError SendfileNotAvailableError",
    },
    "asyncio.queues": {"internal.bug": "QueueEmpty QueueFull"},
    "json.decoder": {"internal.data": "JSONDecodeError"},
    "socket": {"external.dns": "gaierror herror"},
    "ssl": {
        "external.tls": "SSLCertVerificationError SSLError",
        "external.reset": "SSLEOFError SSLSyscallError SSLZeroReturnError",
        "internal.bug": "SSLWantReadError SSLWantWriteError",
    },
    "sqlite3": {
        "external.locked": "OperationalError",
        "conflict.unique": "IntegrityError",
        "validation.data": "DataError",
        "internal.query": "Error InterfaceError InternalError NotSupportedError ProgrammingError Warning",
        "internal.resource": "DatabaseError",
    },
    "httpx": _HTTPX,
    "httpx2": {**_HTTPX, "external.bad_body": "DecodingError SSEError"},
    "psycopg": {
        "external.unavailable": "DatabaseError Error OperationalError",
        "conflict.unique": "IntegrityError",
        "validation.data": "DataError",
        "internal.query": "InterfaceError InternalError NotSupportedError ProgrammingError Warning",
        "internal.bug": "Rollback",
    },
    "psycopg.errors": {
        "external.connect": "ConnectionTimeout",
        "external.timeout": "CancellationTimeout",
        "internal.query": "PipelineAborted",
    },
    "psycopg_pool": {"external.pool": "PoolTimeout TooManyRequests", "internal.bug": "PoolClosed"},
    "redis.exceptions": {
        "auth.rejected": "AuthenticationError AuthorizationError ExternalAuthProviderError NoPermissionError",
        "conflict.dependency": "LockError LockNotOwnedError",
        "conflict.transaction": "WatchError",
        "external.full": "OutOfMemoryError",
        "external.overloaded": "BusyLoadingError",
        "external.pool": "MaxConnectionsError",
        "external.protocol": "InvalidResponse",
        "external.read_only": "ReadOnlyError",
        "external.timeout": "TimeoutError",
        "external.unavailable": """
            AskError ClusterDownError ClusterError ConnectionError MasterDownError MovedError NoScriptError
            SlotNotCoveredError TryAgainError""",
        "internal.bug": """
            ChildDeadlockedError ClusterCrossSlotError CrossSlotTransactionError DataError ExecAbortError
            IncorrectPolicyType InvalidPipelineStack NoSuchFieldsetError PubSubError RedisClusterException
            RedisError ResponseError""",
        "internal.configuration": "AuthenticationWrongNumberOfArgsError ModuleError",
    },
    "pydantic_core._pydantic_core": {"internal.data": "ValidationError"},
    "tenacity": {"external.unavailable": "RetryError TryAgain"},
}

NAMES: dict[str, str] = {
    f"{module}.{name}": code
    for module, codes in _CLASSES.items()
    for code, names in codes.items()
    for name in names.split()
}
"""What a class says, by its qualified name: the class itself first, then its bases in their order."""

INNER: dict[str, str] = {
    # httpcore raises with ``from None`` while the socket's own error stays in the context.
    "httpcore.ConnectError": "__context__",
    "httpcore2.ConnectError": "__context__",
    "sqlalchemy.exc.StatementError": "orig",
    "tenacity.RetryError": "last_attempt",
}
"""Wrappers that keep what they wrap elsewhere than in ``__cause__``: the attribute that holds it."""
