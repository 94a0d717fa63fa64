"""What each address of the API does."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from resilient_agents._clock import clock
from resilient_agents.testing.fake_kommo.answers import EMPTY, Answer, Refusal, Request, problem, success
from resilient_agents.testing.fake_kommo.entities import (
    account_body,
    contact_body,
    field_body,
    lead_body,
    make_company,
    make_contact,
    make_field,
    make_lead,
)
from resilient_agents.testing.fake_kommo.gate import Switches
from resilient_agents.testing.fake_kommo.listing import Page, page_of, search
from resilient_agents.testing.fake_kommo.store import Record, Store, phone_keys
from resilient_agents.testing.fake_kommo.validation import (
    BATCH_LIMIT,
    COMPLEX_LIMIT,
    batch_of,
    lead_errors,
    new_field_errors,
    request_id,
    verify,
)

Batch: TypeAlias = list[tuple[str, Record]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request that has passed the gate.

    Attributes:
        request: What came.
        store: Where the records are.
        switches: How the account behaves.
        named: The id in the path, or the entity whose custom fields are meant.
    """

    request: Request
    store: Store
    switches: Switches
    named: str = ""


Route: TypeAlias = Callable[[Call], Answer]


def perform(request: Request, store: Store, switches: Switches) -> Answer:
    """Find the route of *request* and take it.

    Args:
        request: A request that has passed the gate.
        store: The account's records; a refused request leaves them as they were.
        switches: How the account behaves.
    """
    for pattern, methods in _ROUTES:
        if match := pattern.fullmatch(request.path):
            route = methods.get(request.method)
            if route is None:
                return problem(405, f"Cannot {request.method} {request.origin}{request.path}")
            named = match[1] if match.re.groups else ""
            try:
                return route(Call(request=request, store=store, switches=switches, named=named))
            except Refusal as refusal:
                return refusal.answer
    return problem(404, f"Cannot {request.method} {request.origin}{request.path}")


def show_account(call: Call) -> Answer:
    """Show the account."""
    return success(account_body(call.request))


def show_lead(call: Call) -> Answer:
    """Show one lead; an unknown id is no error but an empty answer."""
    lead = call.store.get("leads", int(call.named))
    return EMPTY if lead is None else success(lead_body(call.request, lead))


def show_contact(call: Call) -> Answer:
    """Show one contact; an unknown id is no error but an empty answer."""
    contact = call.store.get("contacts", int(call.named))
    return EMPTY if contact is None else success(contact_body(call.request, call.store, contact))


def list_leads(call: Call) -> Answer:
    """Search and list leads; a search does not see leads younger than the lookup lag."""
    leads = call.store.all("leads")
    query = call.request.parameter("query")
    if query:
        leads = search(_indexed(leads, call.switches.lookup_lag), query)
    page = page_of(call.request, leads)
    return _list(page, "leads", [lead_body(call.request, lead) for lead in page.records])


def _indexed(leads: list[Record], lag: float) -> list[Record]:
    """Return the leads that are old enough to be found."""
    newest = clock().time() - lag
    return [lead for lead in leads if not lag or lead["stored_at"] <= newest]


def list_fields(call: Call) -> Answer:
    """List the custom fields of an entity."""
    fields = call.store.fields_of(call.named)
    page = page_of(call.request, fields)
    bodies = [field_body(call.request, field) for field in page.records]
    return _list(page, "custom_fields", bodies, _total_items=len(fields))


def _list(page: Page, name: str, bodies: list[Record], **members: int) -> Answer:
    if not bodies:
        return EMPTY
    return success({**members, "_page": page.number, "_links": page.links, "_embedded": {name: bodies}})


def add_fields(call: Call) -> Answer:
    """Create custom fields; a code that is in use is refused."""
    taken = {field["code"] for field in call.store.fields_of(call.named)}

    def errors_of(item: object) -> list[dict[str, str]]:
        errors = list(new_field_errors(item, frozenset(taken)))
        if isinstance(item, dict) and isinstance(item.get("code"), str):
            taken.add(item["code"])
        return errors

    items = batch_of(call.request, limit=BATCH_LIMIT, status=422)
    verify(items, lambda item: iter(errors_of(item)))
    fields = [make_field(call.store, call.named, item) for item in items]
    call.store.save([("fields", field) for field in fields])
    bodies = [
        {**field_body(call.request, field), "request_id": request_id(item, position)}
        for position, (field, item) in enumerate(zip(fields, items, strict=True))
    ]
    return success({"_total_items": len(bodies), "_embedded": {"custom_fields": bodies}}, status=201)


def add_leads(call: Call) -> Answer:
    """Create leads; the answer holds little more than their ids."""
    items = batch_of(call.request, limit=BATCH_LIMIT, status=422)
    verify(items, lambda item: lead_errors(call.store, item, nested=False))
    now = clock().time()
    leads = []
    for item in items:
        embedded = item.get("_embedded") or {}
        contact_ids = [linked["id"] for linked in embedded.get("contacts") or []]
        company_ids = [linked["id"] for linked in embedded.get("companies") or []]
        leads.append(make_lead(call.store, item, now, contact_ids, next(iter(company_ids), None)))
    call.store.save([("leads", lead) for lead in leads])
    bodies = [
        {
            "id": lead["id"],
            "request_id": request_id(item, position),
            "_links": call.request.link(f"/api/v4/leads/{lead['id']}"),
        }
        for position, (lead, item) in enumerate(zip(leads, items, strict=True))
    ]
    return success({"_links": call.request.link("/api/v4/leads"), "_embedded": {"leads": bodies}})


def add_leads_complex(call: Call) -> Answer:
    """Create leads with their contacts and companies; the answer is a bare array."""
    items = batch_of(call.request, limit=COMPLEX_LIMIT, status=400)
    verify(items, lambda item: lead_errors(call.store, item, nested=True))
    now = clock().time()
    batch: Batch = []
    bodies = [_add_complex(call, item, position, now, batch) for position, item in enumerate(items)]
    call.store.save(batch)
    return success(bodies)


def _add_complex(call: Call, item: Record, position: int, now: float, batch: Batch) -> Record:
    """Add the records of one lead to *batch* and return what is answered for it."""
    embedded = item.get("_embedded") or {}
    contact_id, merged = _contact_of(call, embedded, now, batch)
    company_id = _company_of(call, embedded, now, batch)
    lead = make_lead(call.store, item, now, [] if contact_id is None else [contact_id], company_id)
    batch.append(("leads", lead))
    return {
        "id": lead["id"],
        "contact_id": contact_id,
        "company_id": company_id,
        "request_id": [request_id(item, position)],
        "merged": merged,
    }


def _contact_of(call: Call, embedded: Record, now: float, batch: Batch) -> tuple[int | None, bool]:
    """Return the contact's id and whether a stored one took its place.

    Only contacts stored before this request are compared: duplicates within one batch stay duplicates.
    """
    given = next(iter(embedded.get("contacts") or []), None)
    if given is None:
        return None, False
    if "id" in given:
        return given["id"], False
    contact = make_contact(call.store, given, now)
    if call.switches.duplicate_control:
        stored = call.store.find_contact(phone_keys(contact))
        if stored is not None:
            return stored["id"], True
    batch.append(("contacts", contact))
    return contact["id"], False


def _company_of(call: Call, embedded: Record, now: float, batch: Batch) -> int | None:
    given = next(iter(embedded.get("companies") or []), None)
    if given is None:
        return None
    if "id" in given:
        return int(given["id"])
    company = make_company(call.store, given, now)
    batch.append(("companies", company))
    return int(company["id"])


_ROUTES: tuple[tuple[re.Pattern[str], dict[str, Route]], ...] = (
    (re.compile(r"/api/v4/account"), {"GET": show_account}),
    (re.compile(r"/api/v4/leads"), {"GET": list_leads, "POST": add_leads}),
    (re.compile(r"/api/v4/leads/complex"), {"POST": add_leads_complex}),
    (re.compile(r"/api/v4/leads/(\d{1,15})"), {"GET": show_lead}),
    (re.compile(r"/api/v4/contacts/(\d{1,15})"), {"GET": show_contact}),
    (
        re.compile(r"/api/v4/(leads|contacts|companies)/custom_fields"),
        {"GET": list_fields, "POST": add_fields},
    ),
)
