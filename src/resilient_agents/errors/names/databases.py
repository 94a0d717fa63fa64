"""Databases and their drivers. Most of what they raise is known by its SQLSTATE or its error name."""

_DRIVER: dict[str, str] = {
    "external.unavailable": "DatabaseError Error OperationalError",
    "conflict.unique": "IntegrityError",
    "validation.data": "DataError",
    "internal.query": "InterfaceError InternalError NotSupportedError ProgrammingError Warning",
}
"""What the classes of PEP 249 say in the drivers of PostgreSQL, where there is no SQLSTATE."""

CLASSES: dict[str, dict[str, str]] = {
    "sqlite3": {
        "external.locked": "OperationalError",
        "conflict.unique": "IntegrityError",
        "validation.data": "DataError",
        "internal.query": "Error InterfaceError InternalError NotSupportedError ProgrammingError Warning",
        "internal.resource": "DatabaseError",
    },
    "psycopg": {**_DRIVER, "internal.bug": "Rollback"},
    "psycopg.errors": {
        "external.connect": "ConnectionTimeout",
        "external.timeout": "CancellationTimeout",
        "internal.query": "PipelineAborted",
    },
    "psycopg_pool": {"external.pool": "PoolTimeout TooManyRequests", "internal.bug": "PoolClosed"},
    "psycopg2": _DRIVER,
    "psycopg2.errors": {
        "validation.constraint": "CheckViolation ForeignKeyViolation NotNullViolation RestrictViolation",
    },
    "psycopg2.extensions": {
        "conflict.transaction": "TransactionRollbackError",
        "external.timeout": "QueryCanceledError",
    },
    "psycopg2.pool": {"external.pool": "PoolError"},
    "asyncpg.exceptions._base": {
        "external.protocol": "ProtocolError",
        "external.unavailable": "PostgresError TargetServerAttributeNotMatched UnknownPostgresError",
        "internal.bug": "InternalClientError",
        "internal.configuration": "ClientConfigurationError",
        "internal.query": """
            InterfaceError InterfaceWarning OutdatedSchemaCacheError UnsupportedClientFeatureError
            UnsupportedServerFeatureError""",
    },
    "django.db.utils": {
        **_DRIVER,
        "internal.query": "InterfaceError InternalError NotSupportedError ProgrammingError",
    },
    "sqlalchemy.exc": {
        "conflict.unique": "IntegrityError",
        "external.pool": "TimeoutError",
        "external.unavailable": """
            DBAPIError DatabaseError DisconnectionError EmulatedDBAPIException InterfaceError
            OperationalError""",
        "internal.bug": "SQLAlchemyError",
        "internal.configuration": "NoDBAPILoaded NoSuchModuleError",
        "internal.query": """
            CompileError InternalError InvalidRequestError NotSupportedError ProgrammingError
            StatementError""",
        "not_found.missing": "NoResultFound",
        "validation.data": "DataError",
    },
    "sqlalchemy.orm.exc": {
        "conflict.transaction": "StaleDataError",
        "internal.query": "DetachedInstanceError FlushError ObjectDereferencedError",
        "not_found.missing": "ObjectDeletedError",
    },
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
}

TELLING: dict[str, str] = {
    "asyncpg.exceptions._base.PostgresError": "sqlstate",
    "psycopg.Error": "sqlstate",
    "psycopg2.Error": "pgcode",
    "sqlite3.Error": "sqlite_errorname",
}

INNER: dict[str, str] = {"django.db.utils.Error": "__cause__", "sqlalchemy.exc.StatementError": "orig"}
