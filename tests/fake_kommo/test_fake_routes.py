"""What each address of the fake does."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LEADS = "/api/v4/leads"
COMPLEX = "/api/v4/leads/complex"
FIELDS = "/api/v4/leads/custom_fields"


def phone(number: str, **named: Any) -> dict[str, Any]:
    """Return a filled phone field."""
    return {"field_code": "PHONE", "values": [{"value": number, **named}]}


def with_contact(number: str, **lead: Any) -> dict[str, Any]:
    """Return a lead whose contact has a phone number."""
    contact = {"first_name": "Ann", "last_name": "Bee", "custom_fields_values": [phone(number)]}
    return {**lead, "_embedded": {"contacts": [contact]}}


def errors_of(reply: Any) -> list[tuple[str, str, str]]:
    """Return (request id, code, path) of every validation error."""
    assert reply.status == 400
    assert reply.value["detail"] == "Request validation failed"
    return [
        (wrong["request_id"], error["code"], error["path"])
        for wrong in reply.value["validation-errors"]
        for error in wrong["errors"]
    ]


@pytest.fixture
def field(ask: Any) -> Any:
    """A text field of leads with the code EXTERNAL_ID, already created."""
    item = {"name": "External id", "type": "text", "code": "EXTERNAL_ID"}
    return ask("POST", FIELDS, [item]).value["_embedded"]["custom_fields"][0]


# ---------------------------------------------------------------- addresses


def test_unknown_addresses_are_problems(ask: Any) -> None:
    """A path that is not there is a 404 which names it."""
    reply = ask("GET", "/api/v4/deals")
    assert (404, "application/problem+json", "Cannot GET http://fake/api/v4/deals") == (
        reply.status,
        reply.content_type,
        reply.value["detail"],
    )


def test_a_wrong_method_is_a_405(ask: Any) -> None:
    """A path that is there, but not for this method, is a 405."""
    assert 405 == ask("DELETE", LEADS).status


def test_the_account_shows_itself(ask: Any) -> None:
    """The account has an id and a link to itself."""
    value = ask("GET", "/api/v4/account").value
    assert "http://fake/api/v4/account" == value["_links"]["self"]["href"]
    assert value["id"] > 0


@pytest.mark.parametrize("address", [f"{LEADS}/1", "/api/v4/contacts/1", LEADS, FIELDS, f"{LEADS}?query=x"])
def test_nothing_found_is_a_204_without_a_byte(ask: Any, address: str) -> None:
    """Unknown ids and empty lists are no errors."""
    reply = ask("GET", address)
    assert (204, "") == (reply.status, reply.value)


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize("address", [LEADS, COMPLEX, FIELDS])
@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"", 400, "Request data can not be empty"),
        ([], 400, "Request data can not be empty"),
        ({}, 400, "Request data can not be empty"),
        ({"name": "one"}, 400, "Request data should be an array of items"),
        (b"{", 400, "Request data is not valid JSON"),
        (b"\xff", 400, "Request data is not valid JSON"),
    ],
)
def test_a_body_that_is_no_batch_is_refused(
    ask: Any, address: str, body: Any, status: int, detail: str
) -> None:
    """Collections take arrays with something in them."""
    reply = ask("POST", address, body)
    assert (status, detail) == (reply.status, reply.value["detail"])


@pytest.mark.parametrize(
    ("address", "count", "status", "detail"),
    [
        (LEADS, 251, 422, "Limit 250 per page"),
        (COMPLEX, 51, 400, "Limit 50 per page"),
    ],
)
def test_a_batch_that_is_too_long_is_refused_whole(
    ask: Any, address: str, count: int, status: int, detail: str
) -> None:
    """One item too many, and nothing is stored."""
    reply = ask("POST", address, [{"name": "x"}] * count)
    assert (status, detail) == (reply.status, reply.value["detail"])
    assert [] == ask.account.leads()
    assert 200 == ask("POST", address, [{"name": "x"}] * (count - 1)).status
    assert count - 1 == len(ask.account.leads())


KEYS = st.sampled_from(
    [
        "name",
        "_embedded",
        "contacts",
        "companies",
        "tags",
        "custom_fields_values",
        "values",
        "value",
        "field_code",
        "enum_id",
        "id",
        "type",
        "enums",
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.sampled_from(["PHONE", "text", "WORK", ""])
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner))


@pytest.mark.parametrize("address", [LEADS, COMPLEX, FIELDS])
@given(items=st.lists(DOCUMENTS, max_size=3))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_document_breaks_the_fake(build: Callable[..., Any], address: str, items: Any) -> None:
    """Whatever JSON comes is stored whole or refused whole, and what is stored can be shown."""
    ask = build()
    reply = ask("POST", address, items)
    assert reply.status in (200, 201, 400)
    if address != FIELDS:
        assert (len(items) if reply.status == 200 else 0) == len(ask.account.leads())
    assert ask("GET", f"{address.removesuffix('/complex')}?with=contacts").status in (200, 204)


def test_one_bad_item_keeps_the_whole_batch_out(ask: Any) -> None:
    """The error is under the bad item's request id, and the good item is not stored."""
    reply = ask("POST", COMPLEX, [with_contact("1"), {"name": 5, "request_id": "form-9"}])
    assert [("form-9", "InvalidType", "name")] == errors_of(reply)
    assert [] == ask.account.leads()
    assert 204 == ask("GET", "/api/v4/contacts/20000001").status


BAD_LEADS: list[tuple[Any, str, str]] = [
    ("lead", "InvalidType", ""),
    ({"name": None}, "InvalidType", "name"),
    ({"price": "100"}, "InvalidType", "price"),
    ({"price": 1.5}, "InvalidType", "price"),
    ({"price": True}, "InvalidType", "price"),
    ({"status_id": [1]}, "InvalidType", "status_id"),
    ({"_embedded": []}, "InvalidType", "_embedded"),
    ({"custom_fields_values": {}}, "InvalidType", "custom_fields_values"),
    ({"custom_fields_values": [1]}, "InvalidType", "custom_fields_values.0"),
    ({"custom_fields_values": [{"values": []}]}, "FieldMissing", "custom_fields_values.0.field_id"),
    (
        {"custom_fields_values": [{"field_id": 1, "values": []}]},
        "NotSupportedChoice",
        "custom_fields_values.0.field_id",
    ),
    (
        {"custom_fields_values": [{"field_code": "NO", "values": []}]},
        "NotSupportedChoice",
        "custom_fields_values.0.field_code",
    ),
    (
        {"custom_fields_values": [{"field_code": "EXTERNAL_ID"}]},
        "InvalidType",
        "custom_fields_values.0.values",
    ),
    (
        {"custom_fields_values": [{"field_code": "EXTERNAL_ID", "values": ["x"]}]},
        "InvalidType",
        "custom_fields_values.0.values.0",
    ),
    (
        {"custom_fields_values": [{"field_code": "EXTERNAL_ID", "values": [{"value": None}]}]},
        "InvalidType",
        "custom_fields_values.0.values.0.value",
    ),
    (
        {"custom_fields_values": [{"field_code": "EXTERNAL_ID", "values": []}] * 41},
        "TooMany",
        "custom_fields_values",
    ),
    ({"_embedded": {"contacts": {"name": "x"}}}, "InvalidType", "_embedded.contacts"),
    ({"_embedded": {"contacts": [{"id": 1}]}}, "NotSupportedChoice", "_embedded.contacts.0.id"),
    ({"_embedded": {"contacts": [{"id": []}]}}, "NotSupportedChoice", "_embedded.contacts.0.id"),
    ({"_embedded": {"companies": [{"id": 1}]}}, "NotSupportedChoice", "_embedded.companies.0.id"),
    ({"_embedded": {"tags": "new"}}, "InvalidType", "_embedded.tags"),
    ({"_embedded": {"tags": [{"id": 1}]}}, "FieldMissing", "_embedded.tags.0.name"),
]


@pytest.mark.parametrize("address", [LEADS, COMPLEX])
@pytest.mark.parametrize(("lead", "code", "path"), BAD_LEADS)
@pytest.mark.usefixtures("field")
def test_bad_leads_are_refused(ask: Any, address: str, lead: Any, code: str, path: str) -> None:
    """Each fault of an item is told with its code and its path."""
    assert [("0", code, path)] == errors_of(ask("POST", address, [lead]))
    assert [] == ask.account.leads()


@pytest.mark.parametrize(
    ("contact", "code", "path"),
    [
        (1, "InvalidType", "_embedded.contacts.0"),
        ({"first_name": 1}, "InvalidType", "_embedded.contacts.0.first_name"),
        (
            {"custom_fields_values": [phone("1", enum_code="CAR")]},
            "NotSupportedChoice",
            "_embedded.contacts.0.custom_fields_values.0.values.0.enum_code",
        ),
        (
            {"custom_fields_values": [phone("1", enum_id=-1)]},
            "NotSupportedChoice",
            "_embedded.contacts.0.custom_fields_values.0.values.0.enum_id",
        ),
    ],
)
def test_bad_contacts_are_refused_with_their_path(ask: Any, contact: Any, code: str, path: str) -> None:
    """A fault inside a nested contact is told with the path to it."""
    assert [("0", code, path)] == errors_of(ask("POST", COMPLEX, [{"_embedded": {"contacts": [contact]}}]))


def test_a_complex_lead_has_one_contact_and_one_company(ask: Any) -> None:
    """A second contact or company is refused, not dropped in silence."""
    embedded = {"contacts": [{"name": "a"}] * 2, "companies": [{"name": "b"}] * 2}
    assert [("0", "TooMany", "_embedded.contacts"), ("0", "TooMany", "_embedded.companies")] == errors_of(
        ask("POST", COMPLEX, [{"_embedded": embedded}])
    )


def test_a_plain_lead_takes_only_ids_of_contacts(ask: Any) -> None:
    """What /leads/complex creates, /leads only links."""
    reply = ask("POST", LEADS, [{"_embedded": {"contacts": [{"name": "Ann"}]}}])
    assert [("0", "FieldMissing", "_embedded.contacts.0.id")] == errors_of(reply)


# ---------------------------------------------------------------- creating leads


def test_plain_leads_are_answered_thin(ask: Any) -> None:
    """The answer of /leads holds ids, request ids and links, no more."""
    reply = ask("POST", LEADS, [{"name": "A"}, {"name": "B", "request_id": "b"}])
    leads = reply.value["_embedded"]["leads"]
    assert 200 == reply.status
    assert ["0", "b"] == [lead["request_id"] for lead in leads]
    assert {"id", "request_id", "_links"} == set(leads[0])
    assert f"http://fake/api/v4/leads/{leads[0]['id']}" == leads[0]["_links"]["self"]["href"]


def test_complex_leads_are_answered_with_a_bare_array(ask: Any) -> None:
    """The answer of /leads/complex is a list whose request ids are lists."""
    company = {**with_contact("1", request_id="z")["_embedded"], "companies": [{"name": "Acme"}]}
    value = ask("POST", COMPLEX, [{"_embedded": company, "request_id": "z"}, {}]).value
    first, second = value
    assert {"id", "contact_id", "company_id", "request_id", "merged"} == set(first)
    assert (["z"], False) == (first["request_id"], first["merged"])
    assert (["1"], None, None) == (second["request_id"], second["contact_id"], second["company_id"])
    assert "Acme" == ask.account.leads()[0]["company"]["name"]


@pytest.mark.parametrize("address", [LEADS, COMPLEX])
def test_the_same_post_twice_makes_two_leads(ask: Any, address: str) -> None:
    """There is no idempotency: neither the body nor its request id is remembered."""
    for _ in range(2):
        ask("POST", address, [{"name": "Same", "request_id": "same"}])
    assert 2 == len({lead["id"] for lead in ask.account.leads()})


def test_a_lead_without_a_name_is_called_by_its_number(ask: Any) -> None:
    """The account gives a name where none came."""
    lead_id = ask("POST", LEADS, [{}]).value["_embedded"]["leads"][0]["id"]
    assert f"Lead #{lead_id}" == ask("GET", f"{LEADS}/{lead_id}").value["name"]


def test_a_lead_is_shown_as_it_was_given(ask: Any, field: Any) -> None:
    """Attributes, custom fields and tags come back; empty fields are null."""
    given_fields = [{"field_id": field["id"], "values": [{"value": "form-1"}]}]
    lead = {"name": "A", "price": 12, "created_at": 1_700_000_000, "custom_fields_values": given_fields}
    posted = [{**lead, "_embedded": {"tags": [{"name": "web"}]}}, {"custom_fields_values": None}]
    first, second = (
        ask("GET", f"{LEADS}/{thin['id']}").value
        for thin in ask("POST", LEADS, posted).value["_embedded"]["leads"]
    )
    assert ("A", 12, 1_700_000_000) == (first["name"], first["price"], first["created_at"])
    assert [
        {
            "field_id": field["id"],
            "field_name": "External id",
            "field_code": "EXTERNAL_ID",
            "field_type": "text",
            "values": [{"value": "form-1"}],
            "is_computed": False,
        }
    ] == first["custom_fields_values"]
    assert ["web"] == [tag["name"] for tag in first["_embedded"]["tags"]]
    assert second["custom_fields_values"] is None


def test_contacts_of_a_lead_are_shown_on_request(ask: Any) -> None:
    """Without with=contacts a lead hides them; with it, it shows ids only, and the phone is one read away."""
    created = ask("POST", COMPLEX, [with_contact("+1 555 010-0002")]).value[0]
    address = f"{LEADS}/{created['id']}"
    assert "contacts" not in ask("GET", address).value["_embedded"]
    (linked,) = ask("GET", f"{address}?with=contacts").value["_embedded"]["contacts"]
    assert (created["contact_id"], True) == (linked["id"], linked["is_main"])
    contact = ask("GET", f"/api/v4/contacts/{linked['id']}?with=leads").value
    assert "Ann Bee" == contact["name"]
    assert created["id"] == contact["_embedded"]["leads"][0]["id"]
    (filled,) = contact["custom_fields_values"]
    assert ("PHONE", "multitext") == (filled["field_code"], filled["field_type"])
    assert {"value": "+1 555 010-0002", "enum_id": filled["values"][0]["enum_id"], "enum_code": "WORK"} == (
        filled["values"][0]
    )


def test_a_contact_shows_its_company(ask: Any) -> None:
    """The company of its lead is the contact's company, once."""
    created = ask("POST", COMPLEX, [{"_embedded": {"contacts": [{}], "companies": [{"name": "Acme"}]}}]).value
    linked = {"contacts": [{"id": created[0]["contact_id"]}], "companies": [{"id": created[0]["company_id"]}]}
    again = ask("POST", COMPLEX, [{"_embedded": linked}]).value
    assert created[0]["company_id"] == again[0]["company_id"]
    assert 200 == ask("POST", LEADS, [{"_embedded": linked}]).status
    contact = ask("GET", f"/api/v4/contacts/{created[0]['contact_id']}").value
    assert [created[0]["company_id"]] == [company["id"] for company in contact["_embedded"]["companies"]]
    assert "leads" not in contact["_embedded"]


def test_ground_truth_is_flat(ask: Any, clock: Any, field: Any) -> None:
    """A stored lead is told with its fields by code or name, its contact and the second it was stored."""
    ask("POST", FIELDS, [{"name": "Colour", "type": "text"}])
    filled = [
        {"field_code": "EXTERNAL_ID", "values": [{"value": "form-1"}]},
        {"field_id": field["id"] + 1, "values": [{"value": "red"}, {"value": "blue"}]},
        {"field_code": "EXTERNAL_ID", "values": []},
    ]
    created = ask("POST", COMPLEX, [with_contact("+1", name="L", custom_fields_values=filled)]).value[0]
    assert [
        {
            "id": created["id"],
            "name": "L",
            "price": 0,
            "created_at": int(clock.time()),
            "stored_at": clock.time(),
            "custom_fields": {"EXTERNAL_ID": ["form-1"], "Colour": ["red", "blue"]},
            "tags": [],
            "contact": {"id": created["contact_id"], "name": "Ann Bee", "phones": ["+1"], "emails": []},
            "company": None,
        }
    ] == ask.account.leads()


# ---------------------------------------------------------------- duplicate control


def test_duplicate_control_joins_stored_contacts(build: Callable[..., Any]) -> None:
    """The same phone, however written, means the stored contact; the lead itself is new."""
    ask = build(duplicate_control=True)
    first = ask("POST", COMPLEX, [with_contact("+1 (555) 010-0002")]).value[0]
    second = ask("POST", COMPLEX, [with_contact("5550100002")]).value[0]
    assert (False, True) == (first["merged"], second["merged"])
    assert first["contact_id"] == second["contact_id"]
    assert first["id"] != second["id"]


def test_duplicate_control_does_not_look_into_the_batch(build: Callable[..., Any]) -> None:
    """Two items of one request with the same phone make two contacts."""
    ask = build(duplicate_control=True)
    first, second = ask("POST", COMPLEX, [with_contact("1"), with_contact("1")]).value
    assert not second["merged"]
    assert first["contact_id"] != second["contact_id"]


@pytest.mark.parametrize("contact", [{"first_name": "Ann"}, {"custom_fields_values": [phone("none")]}])
def test_contacts_without_a_number_are_nobodys_duplicates(build: Callable[..., Any], contact: Any) -> None:
    """A missing phone matches no other missing phone."""
    ask = build(duplicate_control=True)
    replies = [ask("POST", COMPLEX, [{"_embedded": {"contacts": [contact]}}]).value[0] for _ in range(2)]
    assert [False, False] == [reply["merged"] for reply in replies]


def test_without_duplicate_control_nothing_is_joined(ask: Any) -> None:
    """By default the same phone twice makes two contacts."""
    contacts = {ask("POST", COMPLEX, [with_contact("1")]).value[0]["contact_id"] for _ in range(2)}
    assert 2 == len(contacts)


# ---------------------------------------------------------------- lists


def names(reply: Any) -> list[str]:
    """Return the names of the leads in a list."""
    return [lead["name"] for lead in reply.value["_embedded"]["leads"]]


def test_search_looks_into_filled_fields(ask: Any, field: Any) -> None:
    """Name, price and custom field values are searched for a part of them, in whatever case."""
    filled = [{"field_id": field["id"], "values": [{"value": "Form-8731"}]}]
    ask("POST", LEADS, [{"name": "Анна", "price": 4242}, {"name": "B", "custom_fields_values": filled}])
    assert ["Анна"] == names(ask("GET", f"{LEADS}?query=анн"))
    assert ["Анна"] == names(ask("GET", f"{LEADS}?query=4242"))
    assert ["B"] == names(ask("GET", f"{LEADS}?query=form-87"))
    assert 204 == ask("GET", f"{LEADS}?query=form-9").status
    assert ["Анна", "B"] == names(ask("GET", f"{LEADS}?query="))


def test_a_new_lead_may_be_found_late(build: Callable[..., Any], clock: Any) -> None:
    """With a lookup lag a lead is readable at once and searchable only after it."""
    ask = build(lookup_lag=2.5)
    lead_id = ask("POST", LEADS, [{"name": "late"}]).value["_embedded"]["leads"][0]["id"]
    assert 204 == ask("GET", f"{LEADS}?query=late").status
    assert 200 == ask("GET", f"{LEADS}/{lead_id}").status
    assert ["late"] == names(ask("GET", LEADS))
    clock.sleep(2.5)
    assert ["late"] == names(ask("GET", f"{LEADS}?query=late"))


def test_next_is_there_only_when_there_is_more(ask: Any) -> None:
    """The link to the next page keeps the other parameters and is absent on the last page."""
    ask("POST", LEADS, [{"name": f"lead {number}"} for number in range(3)])
    first = ask("GET", f"{LEADS}?query=lead&limit=2").value
    following = first["_links"]["next"]["href"].removeprefix("http://fake")
    assert f"{LEADS}?query=lead&page=2&limit=2" == following
    second = ask("GET", following)
    assert ["lead 2"] == names(second)
    assert "next" not in second.value["_links"]
    assert 204 == ask("GET", f"{LEADS}?page=3&limit=2").status


def test_a_page_holds_at_most_250(ask: Any) -> None:
    """A greater limit is clamped, and the default is 50."""
    ask("POST", LEADS, [{}] * 250)
    ask("POST", LEADS, [{}])
    assert 250 == len(names(ask("GET", f"{LEADS}?limit=9999")))
    assert 50 == len(names(ask("GET", LEADS)))


@given(limit=st.integers(1, 12), count=st.integers(0, 30))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_following_the_links_meets_every_lead_once(build: Callable[..., Any], limit: int, count: int) -> None:
    """Whatever the page size, no lead is left out and none is met twice."""
    ask = build()
    if count:
        ask("POST", LEADS, [{"name": str(number)} for number in range(count)])
    seen: list[str] = []
    address: str | None = f"{LEADS}?limit={limit}&order[id]=asc"
    while address:
        reply = ask("GET", address)
        seen += names(reply) if reply.status == 200 else []
        links = reply.value["_links"] if reply.status == 200 else {}
        address = links["next"]["href"].removeprefix("http://fake") if "next" in links else None
    assert [str(number) for number in range(count)] == seen


def test_leads_are_filtered_and_ordered(ask: Any) -> None:
    """Ids, spans of time and orders narrow and sort the list."""
    ask("POST", LEADS, [{"name": name, "created_at": at} for name, at in (("a", 30), ("b", 10), ("c", 20))])
    ids = [lead["id"] for lead in ask.account.leads()]
    assert ["a", "c"] == names(ask("GET", f"{LEADS}?filter[id][]={ids[0]}&filter[id][]={ids[2]}"))
    assert ["b"] == names(ask("GET", f"{LEADS}?filter[id]={ids[1]}"))
    span = "filter[created_at][from]=10&filter[created_at][to]=20"
    assert ["b", "c"] == names(ask("GET", f"{LEADS}?{span}"))
    assert ["c", "b", "a"] == names(ask("GET", f"{LEADS}?order[id]=desc"))
    assert ["b", "c", "a"] == names(ask("GET", f"{LEADS}?order[updated_at]=asc"))


@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "limit=-1",
        "limit=x",
        "page=٣",
        "filter[id]=x",
        "filter[price][from]=1",
        "order[name]=asc",
        "order[id]=up",
    ],
)
def test_what_is_not_faked_is_refused(ask: Any, query: str) -> None:
    """A filter or order that the fake cannot obey is not passed over in silence."""
    assert 400 == ask("GET", f"{LEADS}?{query}").status


# ---------------------------------------------------------------- custom fields


def test_a_field_is_created_and_listed(ask: Any, field: Any) -> None:
    """Creating answers 201 with a list; the field is then in the list of its entity."""
    reply = ask(
        "POST", FIELDS, [{"name": "Size", "type": "select", "enums": [{"value": "S"}, {"value": "L"}]}]
    )
    assert 201 == reply.status
    (created,) = reply.value["_embedded"]["custom_fields"]
    listed = ask("GET", FIELDS).value
    assert 2 == listed["_total_items"]
    assert [field["id"], created["id"]] == [each["id"] for each in listed["_embedded"]["custom_fields"]]
    assert ["S", "L"] == [option["value"] for option in created["enums"]]


def test_the_code_of_a_field_is_unique(ask: Any, field: Any) -> None:
    """A code in use is refused, also when the same batch uses it first."""
    taken = {"name": "Other", "type": "text", "code": field["code"]}
    assert [("0", "NotUnique", "code")] == errors_of(ask("POST", FIELDS, [taken]))
    twice = {"name": "New", "type": "text", "code": "NEW"}
    assert [("1", "NotUnique", "code")] == errors_of(ask("POST", FIELDS, [twice, twice]))
    assert 1 == len(ask("GET", FIELDS).value["_embedded"]["custom_fields"])


@pytest.mark.parametrize(
    ("item", "code", "path"),
    [
        ("field", "InvalidType", ""),
        ({"type": "text"}, "FieldMissing", "name"),
        ({"name": "x"}, "FieldMissing", "type"),
        ({"name": 1, "type": "text"}, "InvalidType", "name"),
        ({"name": "x", "type": "colour"}, "NotSupportedChoice", "type"),
        ({"name": "x", "type": "text", "code": 1}, "InvalidType", "code"),
        ({"name": "x", "type": "select", "enums": {}}, "InvalidType", "enums"),
        ({"name": "x", "type": "select", "enums": ["S"]}, "FieldMissing", "enums.0.value"),
    ],
)
def test_bad_fields_are_refused(ask: Any, item: Any, code: str, path: str) -> None:
    """Each fault of a new field is told with its code and its path."""
    assert [("0", code, path)] == errors_of(ask("POST", FIELDS, [item]))


def test_a_field_without_a_code_has_none(ask: Any) -> None:
    """No code, and null for a code, are the same."""
    reply = ask("POST", FIELDS, [{"name": "a", "type": "text"}, {"name": "b", "type": "text", "code": None}])
    assert [None, None] == [field["code"] for field in reply.value["_embedded"]["custom_fields"]]


def test_contacts_have_fields_from_the_start(ask: Any) -> None:
    """Phone, e-mail and position are there in every account."""
    listed = ask("GET", "/api/v4/contacts/custom_fields").value["_embedded"]["custom_fields"]
    assert ["PHONE", "EMAIL", "POSITION"] == [field["code"] for field in listed]


@pytest.mark.parametrize("named", [{"value": "L"}, {"enum_code": "L"}, {"enum_id": None, "value": "L"}])
def test_an_option_may_be_named_by_its_text(ask: Any, named: Any) -> None:
    """A select field takes one of its options and shows it with its id."""
    options = [{"value": "S"}, {"value": "L"}]
    created = ask("POST", FIELDS, [{"name": "Size", "type": "select", "code": "SIZE", "enums": options}])
    option = created.value["_embedded"]["custom_fields"][0]["enums"][1]
    ask("POST", LEADS, [{"custom_fields_values": [{"field_code": "SIZE", "values": [named]}]}])
    (lead,) = ask("GET", LEADS).value["_embedded"]["leads"]
    assert [{"value": "L", "enum_id": option["id"], "enum_code": None}] == (
        lead["custom_fields_values"][0]["values"]
    )
    wrong = [{"custom_fields_values": [{"field_code": "SIZE", "values": [{"value": "XL"}]}]}]
    assert [("0", "NotSupportedChoice", "custom_fields_values.0.values.0.value")] == errors_of(
        ask("POST", LEADS, wrong)
    )
