"""What is wrong with a batch, in the vendor's ``validation-errors`` form."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from resilient_agents.testing.fake_kommo.answers import Refusal, Request, problem
from resilient_agents.testing.fake_kommo.store import Record, Store

Errors: TypeAlias = Iterator[dict[str, str]]

BATCH_LIMIT = 250
COMPLEX_LIMIT = 50
FIELD_VALUES_LIMIT = 40
FIELD_TYPES = frozenset(
    {
        "text",
        "textarea",
        "numeric",
        "checkbox",
        "select",
        "multiselect",
        "radiobutton",
        "date",
        "date_time",
        "birthday",
        "url",
        "streetaddress",
        "monetary",
        "tracking_data",
    }
)

_STAMPS = {"created_at": "int", "updated_at": "int", "created_by": "int", "updated_by": "int"}
_PERSONAL = {"name": "string", "responsible_user_id": "int", "custom_fields_values": "list", **_STAMPS}
_ATTRIBUTES: dict[str, dict[str, str]] = {
    "leads": {
        **_PERSONAL,
        "price": "int",
        "status_id": "int",
        "pipeline_id": "int",
        "closed_at": "int",
        "loss_reason_id": "int",
        "_embedded": "array",
    },
    "contacts": {**_PERSONAL, "first_name": "string", "last_name": "string"},
    "companies": _PERSONAL,
    "fields": {"name": "string", "type": "string", "code": "string", "sort": "int", "enums": "list"},
}

_HOLDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int": lambda value: value is None or (isinstance(value, int) and not isinstance(value, bool)),
    "list": lambda value: value is None or isinstance(value, list),
    "array": lambda value: isinstance(value, dict),
    "scalar": lambda value: isinstance(value, str | int | float),
}


def batch_of(request: Request, *, limit: int, status: int) -> list[Any]:
    """Return the items that *request* brings.

    Args:
        request: A request whose body should be a JSON array.
        limit: How many items are taken at most.
        status: What more of them are answered with.

    Raises:
        Refusal: The body is not JSON, not an array, empty, or too long.
    """
    try:
        document = json.loads(request.body) if request.body.strip() else None
    except ValueError:
        raise Refusal(problem(400, "Request data is not valid JSON")) from None
    if not document:
        raise Refusal(problem(400, "Request data can not be empty"))
    if not isinstance(document, list):
        raise Refusal(problem(400, "Request data should be an array of items"))
    if len(document) > limit:
        raise Refusal(problem(status, f"Limit {limit} per page"))
    return document


def request_id(item: Any, position: int) -> str:
    """Return what the answer calls an item: its own ``request_id``, or its position."""
    named = item.get("request_id") if isinstance(item, Mapping) else None
    return str(position) if named is None else str(named)


def verify(items: list[Any], errors_of: Callable[[Any], Errors]) -> None:
    """Refuse the whole batch if *errors_of* finds anything wrong with one of *items*.

    Raises:
        Refusal: 400 with the errors of each wrong item under its request id.
    """
    found = [
        {"request_id": request_id(item, position), "errors": errors}
        for position, item in enumerate(items)
        if (errors := list(errors_of(item)))
    ]
    if found:
        raise Refusal(problem(400, "Request validation failed", **{"validation-errors": found}))


def lead_errors(store: Store, item: Any, *, nested: bool) -> Errors:
    """Yield what is wrong with a lead.

    Args:
        store: Where its custom fields and contacts are looked up.
        item: The lead as it came.
        nested: Whether its contact and company may be given whole, as in ``/leads/complex``; otherwise
            only ids of stored ones are taken.
    """
    yield from _entity_errors(store, "leads", item, "")
    embedded = item.get("_embedded") if isinstance(item, dict) else None
    if not isinstance(embedded, dict):
        return
    for entity in ("contacts", "companies"):
        linked = embedded.get(entity) or []
        if not isinstance(linked, list):
            yield _wrong_type(f"_embedded.{entity}", "array")
            continue
        if len(linked) > 1 and (nested or entity == "companies"):
            yield _error(
                "TooMany", f"_embedded.{entity}", "This collection should contain 1 element or less."
            )
        for position, record in enumerate(linked):
            yield from _linked_errors(store, entity, record, f"_embedded.{entity}.{position}", nested=nested)
    yield from _tag_errors(embedded.get("tags") or [])


def _linked_errors(store: Store, entity: str, record: Any, path: str, *, nested: bool) -> Errors:
    if isinstance(record, dict) and "id" in record:
        if store.get(entity, record["id"] if isinstance(record["id"], int) else None) is None:
            yield _no_choice(f"{path}.id")
    elif nested:
        yield from _entity_errors(store, entity, record, f"{path}.")
    else:
        yield _missing(f"{path}.id")


def _tag_errors(tags: Any) -> Errors:
    if not isinstance(tags, list):
        yield _wrong_type("_embedded.tags", "array")
        return
    for position, tag in enumerate(tags):
        if not (isinstance(tag, dict) and isinstance(tag.get("name"), str)):
            yield _missing(f"_embedded.tags.{position}.name")


def _entity_errors(store: Store, entity: str, item: Any, prefix: str) -> Errors:
    if not isinstance(item, dict):
        yield _wrong_type(prefix.rstrip("."), "array")
        return
    yield from _attribute_errors(entity, item, prefix)
    filled = item.get("custom_fields_values")
    if not isinstance(filled, list):
        return
    path = f"{prefix}custom_fields_values"
    if len(filled) > FIELD_VALUES_LIMIT:
        yield _error(
            "TooMany", path, f"This collection should contain {FIELD_VALUES_LIMIT} elements or less."
        )
    for position, given in enumerate(filled):
        yield from _filled_errors(store, entity, given, f"{path}.{position}")


def _attribute_errors(entity: str, item: Record, prefix: str) -> Errors:
    for name, kind in _ATTRIBUTES[entity].items():
        if name in item and not _HOLDS[kind](item[name]):
            yield _wrong_type(f"{prefix}{name}", "array" if kind == "list" else kind)


def _filled_errors(store: Store, entity: str, given: Any, path: str) -> Errors:
    if not isinstance(given, dict):
        yield _wrong_type(path, "array")
        return
    key = "field_id" if given.get("field_id") is not None else "field_code"
    field = store.find_field(entity, given)
    values = given.get("values")
    if given.get(key) is None:
        yield _missing(f"{path}.field_id")
    elif field is None:
        yield _no_choice(f"{path}.{key}")
    elif not isinstance(values, list):
        yield _wrong_type(f"{path}.values", "array")
    else:
        for position, value in enumerate(values):
            yield from _value_errors(field, value, f"{path}.values.{position}")


def _value_errors(field: Record, value: Any, path: str) -> Errors:
    if not isinstance(value, dict):
        yield _wrong_type(path, "array")
        return
    option = option_of(field, value)
    if field["enums"] and option is None:
        named = next((key for key in ("enum_id", "enum_code") if value.get(key) is not None), "value")
        yield _no_choice(f"{path}.{named}")
    has_own_text = not field["enums"] or field["type"] == "multitext"
    if has_own_text and not _HOLDS["scalar"](value.get("value")):
        yield _wrong_type(f"{path}.value", "string")


def option_of(field: Record, value: Record) -> Record | None:
    """Return the option of *field* that *value* means: by id, by code, or by its text."""
    options: list[Record] = field["enums"] or []
    if value.get("enum_id") is not None:
        key, wanted = "id", value["enum_id"]
    elif value.get("enum_code") is not None:
        key, wanted = "value", value["enum_code"]
    elif field["type"] == "multitext":
        return options[0]
    else:
        key, wanted = "value", value.get("value")
    return next((option for option in options if option[key] == wanted), None)


def new_field_errors(item: Any, taken: frozenset[str]) -> Errors:
    """Yield what is wrong with a custom field that is to be created; *taken* are the codes in use."""
    if not isinstance(item, dict):
        yield _wrong_type("", "array")
        return
    yield from (_missing(name) for name in ("name", "type") if name not in item)
    given = {name: value for name, value in item.items() if value is not None or name != "code"}
    yield from _attribute_errors("fields", given, "")
    if isinstance(item.get("type"), str) and item["type"] not in FIELD_TYPES:
        yield _no_choice("type")
    if isinstance(item.get("code"), str) and item["code"] in taken:
        yield _error("NotUnique", "code", "This value is already used.")
    for position, option in enumerate(item["enums"] if isinstance(item.get("enums"), list) else []):
        if not (isinstance(option, dict) and isinstance(option.get("value"), str)):
            yield _missing(f"enums.{position}.value")


def _error(code: str, path: str, detail: str) -> dict[str, str]:
    return {"code": code, "path": path, "detail": detail}


def _wrong_type(path: str, wanted: str) -> dict[str, str]:
    return _error("InvalidType", path, f"This value should be of type {wanted}.")


def _no_choice(path: str) -> dict[str, str]:
    return _error("NotSupportedChoice", path, "The value you selected is not a valid choice.")


def _missing(path: str) -> dict[str, str]:
    return _error("FieldMissing", path, "This field is missing.")
