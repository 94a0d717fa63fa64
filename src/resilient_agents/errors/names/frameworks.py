"""Web frameworks. Their HTTP exceptions are known by the status that they carry."""

CLASSES: dict[str, dict[str, str]] = {
    "starlette.exceptions": {
        "internal.unexpected": "HTTPException",
        "validation.malformed": "WebSocketException",
    },
    "starlette.formparsers": {"validation.malformed": "MultiPartException"},
    "starlette.requests": {"validation.disconnected": "ClientDisconnect"},
    "starlette.websockets": {"validation.disconnected": "WebSocketDisconnect"},
    "fastapi.exceptions": {
        "internal.bug": "FastAPIError ResponseValidationError ValidationException",
        "validation.invalid": "RequestValidationError WebSocketRequestValidationError",
    },
    "werkzeug.exceptions": {"internal.unexpected": "HTTPException"},
    "werkzeug.routing.exceptions": {"internal.bug": "BuildError"},
    "rest_framework.exceptions": {
        "internal.bug": "APIException",
        "validation.invalid": "ValidationError",
    },
    "django.core.exceptions": {
        "auth.forbidden": "PermissionDenied",
        "internal.bug": """
            EmptyResultSet FieldDoesNotExist FieldError FullResultSet MiddlewareNotUsed
            MultipleObjectsReturned SynchronousOnlyOperation ViewDoesNotExist""",
        "internal.configuration": "AppRegistryNotReady ImproperlyConfigured",
        "not_found.missing": "ObjectDoesNotExist",
        "validation.disconnected": "RequestAborted",
        "validation.invalid": "ValidationError",
        "validation.malformed": "BadRequest SuspiciousOperation",
        "validation.too_large": "RequestDataTooBig",
    },
    "django.http.response": {"not_found.missing": "Http404"},
    "litestar.exceptions.base_exceptions": {
        "internal.bug": "LitestarException",
        "internal.data": "SerializationException",
    },
    "litestar.exceptions.http_exceptions": {
        "internal.bug": "HTTPException",
        "internal.configuration": "ImproperlyConfiguredException",
        "validation.invalid": "ValidationException",
    },
    "litestar.exceptions.websocket_exceptions": {
        "validation.disconnected": "WebSocketDisconnect",
        "validation.malformed": "WebSocketException",
    },
}

STATUS: dict[str, str] = {
    "litestar.exceptions.http_exceptions.HTTPException": "status_code",
    "rest_framework.exceptions.APIException": "status_code",
    "starlette.exceptions.HTTPException": "status_code",
    "werkzeug.exceptions.HTTPException": "code",
}

# The last two carry 400, for what is well formed and wrong.
DECISIVE: frozenset[str] = frozenset(
    {
        "litestar.exceptions.http_exceptions.ImproperlyConfiguredException",
        "litestar.exceptions.http_exceptions.ValidationException",
        "rest_framework.exceptions.ValidationError",
    }
)
