"""How records are made of what clients send, and how the API shows them."""

from typing import Any
from zlib import crc32

from resilient_agents.testing.fake_kommo.answers import Request
from resilient_agents.testing.fake_kommo.store import ACCOUNT_ID, Record, Store, values_of
from resilient_agents.testing.fake_kommo.validation import option_of

USER_ID = 7_000_001
_PERSONAL: Record = {
    "responsible_user_id": USER_ID,
    "group_id": 0,
    "created_by": USER_ID,
    "updated_by": USER_ID,
    "created_at": None,
    "updated_at": None,
    "closest_task_at": None,
}
_LEAD: Record = {
    "name": "",
    "price": 0,
    "status_id": 60_000_001,
    "pipeline_id": 6_000_001,
    "loss_reason_id": None,
    "closed_at": None,
    **_PERSONAL,
}
_CONTACT: Record = {"name": "", "first_name": "", "last_name": "", **_PERSONAL}
_COMPANY: Record = {"name": "", **_PERSONAL}
_FIELD: Record = {
    "code": None,
    "sort": 500,
    "is_api_only": False,
    "enums": None,
    "group_id": None,
    "required_statuses": [],
    "is_deletable": True,
    "is_predefined": False,
    "tracking_callback": None,
    "remind": None,
    "triggers": [],
    "currency": None,
    "hidden_statuses": [],
    "chained_lists": None,
}


def make_lead(
    store: Store, item: Record, now: float, contact_ids: list[int], company_id: int | None
) -> Record:
    """Return a new lead record made of *item*, which has passed validation, at *now*."""
    record = _make(store, "leads", item, _LEAD, now)
    record["name"] = record["name"] or f"Lead #{record['id']}"
    tags = (item.get("_embedded") or {}).get("tags") or []
    record["tags"] = [{"id": crc32(tag["name"].encode()), "name": tag["name"]} for tag in tags]
    record.update(contact_ids=contact_ids, company_id=company_id, stored_at=now)
    return record


def make_contact(store: Store, item: Record, now: float) -> Record:
    """Return a new contact record made of *item*, which has passed validation, at *now*."""
    record = _make(store, "contacts", item, _CONTACT, now)
    full_name = f"{record['first_name']} {record['last_name']}".strip()
    record["name"] = record["name"] or full_name
    return record


def make_company(store: Store, item: Record, now: float) -> Record:
    """Return a new company record made of *item*, which has passed validation, at *now*."""
    return _make(store, "companies", item, _COMPANY, now)


def _make(store: Store, entity: str, item: Record, defaults: Record, now: float) -> Record:
    given = {name: item[name] for name in defaults if item.get(name) is not None}
    record = {"id": store.new_id(entity), **defaults, **given}
    record["created_at"] = record["created_at"] or int(now)
    record["updated_at"] = record["updated_at"] or record["created_at"]
    record["custom_fields_values"] = _fill(store, entity, item.get("custom_fields_values") or [])
    return record


def _fill(store: Store, entity: str, given: list[Record]) -> list[Record] | None:
    """Return the filled fields as reads show them; *None*, not an empty list, when there are none."""
    filled = []
    for named in given:
        field = store.find_field(entity, named)
        if field is not None and named["values"]:
            filled.append(
                {
                    "field_id": field["id"],
                    "field_name": field["name"],
                    "field_code": field["code"],
                    "field_type": field["type"],
                    "values": [_value(field, value) for value in named["values"]],
                    "is_computed": False,
                }
            )
    return filled or None


def _value(field: Record, value: Record) -> Record:
    option = option_of(field, value)
    if option is None:
        return {"value": value["value"]}
    if field["type"] == "multitext":
        return {"value": value["value"], "enum_id": option["id"], "enum_code": option["value"]}
    return {"value": option["value"], "enum_id": option["id"], "enum_code": None}


def make_field(store: Store, entity: str, item: Record) -> Record:
    """Return a new custom field of *entity* made of *item*, which has passed validation."""
    options = tuple(option["value"] for option in item.get("enums") or ())
    return {
        "id": store.new_id("fields"),
        "name": item["name"],
        "type": item["type"],
        "code": item.get("code"),
        "sort": item.get("sort") or _FIELD["sort"],
        "enums": store.options(options),
        "entity_type": entity,
    }


def field_body(request: Request, field: Record) -> Record:
    """Return a custom field as the API shows it."""
    path = f"/api/v4/{field['entity_type']}/custom_fields/{field['id']}"
    return {**_FIELD, **field, "account_id": ACCOUNT_ID, "_links": request.link(path)}


def lead_body(request: Request, lead: Record) -> Record:
    """Return a lead as the API shows it; its contacts only if ``with=contacts`` asks for them."""
    body = {name: lead[name] for name in ("id", *_LEAD, "custom_fields_values")}
    embedded: Record = {
        "tags": [{**tag, "color": None} for tag in lead["tags"]],
        "companies": []
        if lead["company_id"] is None
        else [_linked(request, "companies", lead["company_id"])],
    }
    if "contacts" in _wanted(request):
        embedded["contacts"] = [
            {**_linked(request, "contacts", contact_id), "is_main": position == 0}
            for position, contact_id in enumerate(lead["contact_ids"])
        ]
    return {
        **body,
        "is_deleted": False,
        "score": None,
        "account_id": ACCOUNT_ID,
        "labor_cost": None,
        "is_price_computed": False,
        "_links": request.link(f"/api/v4/leads/{lead['id']}"),
        "_embedded": embedded,
    }


def contact_body(request: Request, store: Store, contact: Record) -> Record:
    """Return a contact as the API shows it; its leads only if ``with=leads`` asks for them."""
    leads = list(store.leads_of(contact["id"]))
    companies = dict.fromkeys(lead["company_id"] for lead in leads if lead["company_id"] is not None)
    embedded: Record = {
        "tags": [],
        "companies": [_linked(request, "companies", company_id) for company_id in companies],
    }
    if "leads" in _wanted(request):
        embedded["leads"] = [_linked(request, "leads", lead["id"]) for lead in leads]
    return {
        **contact,
        "is_deleted": False,
        "is_unsorted": False,
        "account_id": ACCOUNT_ID,
        "_links": request.link(f"/api/v4/contacts/{contact['id']}"),
        "_embedded": embedded,
    }


def _linked(request: Request, entity: str, record_id: int) -> Record:
    return {"id": record_id, "_links": request.link(f"/api/v4/{entity}/{record_id}")}


def _wanted(request: Request) -> list[str]:
    return (request.parameter("with") or "").split(",")


def account_body(request: Request) -> Record:
    """Return the account as the API shows it."""
    return {
        "id": ACCOUNT_ID,
        "name": "FakeKommo",
        "subdomain": "fake",
        "created_at": 1_700_000_000,
        "created_by": 0,
        "updated_at": 1_700_000_000,
        "updated_by": 0,
        "current_user_id": USER_ID,
        "country": "US",
        "currency": "USD",
        "currency_symbol": "$",
        "customers_mode": "disabled",
        "is_unsorted_on": True,
        "is_loss_reason_enabled": True,
        "is_helpbot_enabled": False,
        "is_technical_account": True,
        "contact_name_display_order": 1,
        "_links": request.link("/api/v4/account"),
    }


def truth_of(store: Store, lead: Record) -> dict[str, Any]:
    """Return a lead as tests want to see it: flat, whole, with the second in which it was stored."""
    contact = store.get("contacts", lead["contact_ids"][0]) if lead["contact_ids"] else None
    company = store.get("companies", lead["company_id"])
    fields: dict[str, list[Any]] = {}
    for filled in lead["custom_fields_values"] or ():
        values = fields.setdefault(filled["field_code"] or filled["field_name"], [])
        values.extend(value["value"] for value in filled["values"])
    return {
        "id": lead["id"],
        "name": lead["name"],
        "price": lead["price"],
        "created_at": lead["created_at"],
        "stored_at": lead["stored_at"],
        "custom_fields": fields,
        "tags": [tag["name"] for tag in lead["tags"]],
        "contact": contact
        and {
            "id": contact["id"],
            "name": contact["name"],
            "phones": values_of(contact, "PHONE"),
            "emails": values_of(contact, "EMAIL"),
        },
        "company": company and {"id": company["id"], "name": company["name"]},
    }
