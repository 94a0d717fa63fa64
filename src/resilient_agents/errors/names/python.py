"""Python itself, and the libraries that read data or repeat calls."""

CLASSES: dict[str, dict[str, str]] = {
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
    "concurrent.futures._base": {
        "internal.bug": "CancelledError Error InvalidStateError",
        "internal.resource": "BrokenExecutor",
    },
    "json.decoder": {"internal.data": "JSONDecodeError"},
    "socket": {"external.dns": "gaierror herror"},
    "ssl": {
        "external.tls": "SSLCertVerificationError SSLError",
        "external.reset": "SSLEOFError SSLSyscallError SSLZeroReturnError",
        "internal.bug": "SSLWantReadError SSLWantWriteError",
    },
    "msgspec": {"internal.data": "DecodeError ValidationError", "internal.bug": "EncodeError MsgspecError"},
    # orjson.JSONEncodeError is TypeError itself.
    "orjson": {"internal.data": "JSONDecodeError"},
    "pydantic.errors": {"internal.bug": "PydanticUserError PydanticUndefinedAnnotation"},
    "pydantic_core._pydantic_core": {
        "internal.bug": "PydanticOmit PydanticUseDefault SchemaError",
        "internal.data": "ValidationError",
    },
    "pydantic_settings.exceptions": {"internal.configuration": "SettingsError"},
    "tenacity": {"external.unavailable": "RetryError TryAgain"},
}

TELLING: dict[str, str] = {"builtins.OSError": "errno"}

INNER: dict[str, str] = {"tenacity.RetryError": "last_attempt"}
