"""The body of an error as a JSON Schema, and as a part of an OpenAPI document."""

import json
from typing import Any

from resilient_agents.errors.failure import Category
from resilient_agents.errors.responses import JSON, PROBLEM

COMPONENT = "ErrorResponse"
"""What the schema and the response are called among the components of an OpenAPI document."""

_METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace", "query"})
_FASTAPI_BODY = "#/components/schemas/HTTPValidationError"


def error_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the body of an error; a new dictionary each time.

    It is valid in OpenAPI 3.0 and 3.1 too. Other members may be added, as RFC 9457 section 3.2 allows.
    """
    text = {"type": "string"}
    field = {
        "type": "object",
        "description": "A wrong field",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "msg": dict(text),
            "type": dict(text),
        },
    }
    return {
        "title": COMPONENT,
        "type": "object",
        "description": "What went wrong; also problem details (RFC 9457)",
        "required": [
            *("success", "error", "code", "timestamp", "category"),
            *("type", "title", "status", "detail", "retryable"),
        ],
        "properties": {
            "success": {"type": "boolean", "enum": [False]},
            "error": {**text, "description": "The same as detail"},
            "code": {**text, "description": "What happened, as category.reason"},
            "timestamp": {**text, "format": "date-time"},
            "category": {**text, "enum": [str(category) for category in Category]},
            "type": {**text, "format": "uri"},
            "title": {**text, "description": "The kind of failure, the same for each of this code"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": dict(text),
            "retryable": {"type": "boolean", "description": "Whether the same request may work later"},
            "instance": {**text, "format": "uri-reference", "description": "The path of the request"},
            "request_id": {**text, "description": "The same as in the header X-Request-ID"},
            "retry_after": {"type": "integer", "minimum": 0, "description": "Time in seconds"},
            "errors": {"type": "array", "items": field},
        },
    }


def error_component() -> dict[str, Any]:
    """Return the response object of OpenAPI for every error, which refers to the schema `COMPONENT`."""
    body = {"schema": {"$ref": f"#/components/schemas/{COMPONENT}"}}
    return {
        "description": "An error",
        "headers": {
            "X-Request-ID": {"schema": {"type": "string"}, "description": "The id of the request"},
            "Retry-After": {"schema": {"type": "integer"}, "description": "Time in seconds"},
        },
        "content": {JSON: body, PROBLEM: dict(body)},
    }


def document_errors(openapi: dict[str, Any]) -> dict[str, Any]:
    """Add the errors to an OpenAPI document: the component, and ``4XX`` and ``5XX`` for each operation.

    The 422 that FastAPI documents becomes ours; what you documented yourself stays.

    Args:
        openapi: The document; it is changed in place. Doing it twice is harmless.

    Returns:
        The same document.
    """
    components = openapi.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.setdefault(COMPONENT, error_schema())
    components.setdefault("responses", {}).setdefault(COMPONENT, error_component())
    ref = {"$ref": f"#/components/responses/{COMPONENT}"}
    for path in openapi.get("paths", {}).values():
        for method, operation in path.items():
            if method in _METHODS:
                responses = operation.setdefault("responses", {})
                if _FASTAPI_BODY in json.dumps(responses.get("422", {})):
                    responses["422"] = dict(ref)
                for statuses in ("4XX", "5XX"):
                    responses.setdefault(statuses, dict(ref))
    if _FASTAPI_BODY not in json.dumps(openapi):
        schemas.pop("HTTPValidationError", None)
        if '#/components/schemas/ValidationError"' not in json.dumps(openapi):
            schemas.pop("ValidationError", None)
    return openapi
