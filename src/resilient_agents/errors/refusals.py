"""The exceptions with which web frameworks refuse a request, and which of their texts may be shown.

They are known by their names and read by their attributes; no framework is imported.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from resilient_agents._clock import clock
from resilient_agents.errors.exceptions import ApiError
from resilient_agents.errors.failure import Failure
from resilient_agents.errors.hints import retry_after
from resilient_agents.errors.knowledge import failure, knowledge
from resilient_agents.errors.tables import INBOUND_STATUS, VERDICTS

_HTTP: dict[str, tuple[str, str]] = {
    "starlette.exceptions.HTTPException": ("status_code", "detail"),
    "werkzeug.exceptions.HTTPException": ("code", "description"),
}
"""Where the status and the text for the caller are."""

_VALIDATION = frozenset(
    {
        "fastapi.exceptions.RequestValidationError",
        "fastapi.exceptions.WebSocketRequestValidationError",
    }
)

_PYDANTIC = "pydantic_core._pydantic_core.ValidationError"

_OF_FIELDS: tuple[str, ...] = ()
_NOTHING: Mapping[str, str] = MappingProxyType({})
_OWN_HEADERS = frozenset({"content-type", "content-length", "x-request-id"})

_UNSAFE = {
    "assertion_error": "Value is not acceptable",
    "get_attribute_error": "Attribute cannot be read",
    "iteration_error": "Value cannot be iterated over",
    "json_invalid": "Invalid JSON",
    "multiple_argument_values": "Got multiple values for an argument",
    "union_tag_invalid": "Input tag does not match any of the expected tags",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input violated strict URL syntax rules",
    "uuid_parsing": "Input should be a valid UUID",
    "value_error": "Value is not acceptable",
}
"""What is said where pydantic's own message holds input, or the text of an exception."""

_SAFE = frozenset(
    """
    arguments_type bool_parsing bool_type bytes_invalid_encoding bytes_too_long bytes_too_short
    bytes_type callable_type complex_str_parsing complex_type counter_type dataclass_exact_type
    dataclass_type date_from_datetime_inexact date_from_datetime_parsing date_future date_parsing
    date_past date_type datetime_from_date_parsing datetime_future datetime_object_invalid
    datetime_parsing datetime_past datetime_type decimal_max_digits decimal_max_places decimal_parsing
    decimal_type decimal_whole_digits default_factory_not_called deque_type dict_type enum
    extra_forbidden finite_number float_parsing float_type fraction_parsing fraction_type
    frozen_dict_type frozen_field frozen_instance frozen_set_type greater_than greater_than_equal
    int_from_float int_parsing int_parsing_size int_type invalid_key ip_any_address ip_any_interface
    ip_any_network ip_v4_address ip_v6_address is_instance_of is_subclass_of iterable_type json_type
    less_than less_than_equal list_type literal_error mapping_type missing missing_argument
    missing_keyword_only_argument missing_positional_only_argument missing_sentinel_error
    model_attributes_type model_type multiple_of named_tuple_type needs_python_object no_such_attribute
    none_required ordered_dict_type recursion_depth_exceeded recursion_loop set_item_not_hashable
    set_type string_not_ascii string_pattern_mismatch string_too_long string_too_short string_type
    string_unicode time_delta_parsing time_delta_type time_parsing time_type timezone_aware
    timezone_naive timezone_offset too_long too_short tuple_type unexpected_keyword_argument
    unexpected_positional_argument union_tag_not_found url_scheme url_too_long url_type uuid_type
    uuid_version
    """.split()  # noqa: SIM905 - a list would be a hundred lines
)
"""Kinds of pydantic's errors whose messages hold nothing but what the schema says."""

_NAME = re.compile(r"[A-Za-z_][\w.\[\]-]{0,63}", re.ASCII)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_BROKEN_WORD = re.compile(r"\d(?=[a-z]|[A-Z](?![a-z]{2}))|\d{5}|[A-Za-z]{21}")
_SHORT, _SHORTEST_WORDS = 8, 2.5


class Refusal(NamedTuple):
    """What a framework's exception wants to be answered.

    Attributes:
        failure: The decision.
        text: What its author wrote for the caller, or an empty text.
        headers: The headers that it brings, such as ``Allow`` and ``WWW-Authenticate``.
    """

    failure: Failure
    text: str
    headers: Mapping[str, str]


def refusal(exc: Exception) -> Refusal | None:
    """Return what *exc* wants to be answered, or *None* where it is not a framework's way to refuse.

    A framework's ``HTTPException`` below 400 is none: it redirects.
    """
    cls: type = type(exc)
    form = _form(cls)
    if form is None:
        return None
    known = knowledge(type(exc))
    if known.rules:  # the user knows better
        return None
    if form == _OF_FIELDS:
        return Refusal(failure(VERDICTS["validation.invalid"], known.name), "", _NOTHING)
    return _of_http(exc, known.name, *form)


@lru_cache(maxsize=1024)
def _form(cls: type) -> tuple[str, ...] | None:
    """Return where the status and the text of a framework's exception are; nothing for wrong fields."""
    for name in _names(cls):
        if name in _HTTP:
            return _HTTP[name]
        if name in _VALIDATION:
            return _OF_FIELDS
    return None


def _names(cls: type) -> list[str]:
    return [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]


def _of_http(exc: Exception, name: str, status_name: str, text_name: str) -> Refusal | None:
    status = getattr(exc, status_name, None)
    if not isinstance(status, int) or not 400 <= status <= 599:
        return None
    headers = _headers(exc)
    verdict = VERDICTS[INBOUND_STATUS.get(status) or INBOUND_STATUS[status // 100]]
    wait = retry_after(headers, None, now=clock().time()) if headers else None
    found = failure(verdict, name, fact=f"HTTP {status}", status=status, wait=wait)
    text = getattr(exc, text_name, None)
    if not isinstance(text, str) or status >= 500:  # detail=str(exc) is a habit, and no text for a caller
        text = ""
    return Refusal(found, text, headers)


def _headers(exc: Any) -> Mapping[str, str]:
    """Return the headers that an exception brings, but for those that describe its own body."""
    given: Any = getattr(exc, "headers", _NOTHING)
    if given is _NOTHING and hasattr(exc, "get_headers"):
        try:
            given = exc.get_headers()
        except Exception:
            given = None
    if not given:
        return _NOTHING
    pairs: Iterable[Any] = given.items() if isinstance(given, Mapping) else given
    return {str(name): str(value) for name, value in pairs if str(name).lower() not in _OWN_HEADERS}


def wrong_fields(exc: Exception) -> list[dict[str, Any]]:
    """Return one mapping for each wrong field, with ``loc``, ``msg`` and ``type`` and nothing that was sent.

    A message that may hold input, or the text of a validator's exception, is replaced by one that does not.
    In ``loc``, which holds the keys of what was sent, a key that does not read like the name of a field, but
    like a phrase or a token, becomes ``"…"``.
    """
    if isinstance(exc, ApiError):
        return [_field(error, trusted=True) for error in exc.errors]
    cls: type = type(exc)
    if _form(cls) == _OF_FIELDS:
        found: Any = exc.errors()  # type: ignore[attr-defined]
    elif _PYDANTIC in _names(cls):
        found = exc.errors(  # type: ignore[attr-defined]
            include_url=False, include_context=False, include_input=False
        )
    else:
        return []
    return [_field(error, trusted=False) for error in found if isinstance(error, Mapping)]


def _field(error: Mapping[str, Any], *, trusted: bool) -> dict[str, Any]:
    kind = str(error.get("type", ""))
    kind = kind if _NAME.fullmatch(kind) else "invalid"
    message = str(error.get("msg", ""))
    if not trusted and kind not in _SAFE:
        message = _UNSAFE.get(kind, "Value is not acceptable")
    return {"loc": [_place(part) for part in error.get("loc", ())], "msg": message, "type": kind}


def _place(part: object) -> str | int:
    if isinstance(part, int):
        return int(part)
    text = str(part)
    return text if _NAME.fullmatch(text) and _is_made_of_words(text) else "…"


def _is_made_of_words(name: str) -> bool:
    """Tell a name from a token, in which letters, capitals and digits take turns."""
    if len(name) <= _SHORT:
        return True
    words = _WORD.findall(name)
    return not _BROKEN_WORD.search(name) and sum(map(len, words)) >= _SHORTEST_WORDS * len(words) > 0
