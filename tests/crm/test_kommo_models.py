"""`NewLead`: either a lead that Kommo takes, or a message that names the field and repeats nothing."""

import json
from pprint import pformat
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.crm.loopback import FIXTURES

from resilient_agents.crm.kommo.models import FIELDS_LIMIT, NewLead, new_lead
from resilient_agents.errors import ValidationFailed

EXTERNAL_ID = {"field_id": 7, "values": [{"value": "form-8731"}]}

SECRET = "zq7"
NUMBER = 777_333_777

names = st.sampled_from([*NewLead.model_fields, "unknown"])
texts = st.text(st.characters()).map(lambda text: SECRET + text)
scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([NUMBER, -NUMBER, 10**400, float("nan"), float("inf"), -0.5])
    | texts
    | texts.map(lambda text: text.encode("utf-8", "surrogatepass"))
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
field_values = (
    words
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
)
leads = st.builds(
    NewLead,
    name=words,
    price=st.none() | st.integers(0, 2**63 - 1),
    contact=st.none() | words,
    phone=st.none() | st.from_regex(r"\+?[0-9][0-9 ()-]{5,20}[0-9]", fullmatch=True),
    email=st.none() | st.just("ann@example.com"),
    pipeline_id=st.none() | st.integers(1, 2**31),
    status_id=st.none() | st.integers(1, 2**31),
    responsible_user_id=st.none() | st.integers(1, 2**31),
    tags=st.lists(words, max_size=3),
    custom_fields=st.dictionaries(
        st.text(min_size=1, max_size=9).filter(lambda name: name != "7"), field_values, max_size=3
    ),
)


def refusal_of(data: dict[str, Any]) -> ValidationFailed | None:
    """Return why *data* is no lead, or *None* when it is one."""
    try:
        new_lead(data)
    except ValidationFailed as exc:
        return exc
    return None


@given(st.dictionaries(names, anything, max_size=5))
def test_whatever_is_handed_in_is_a_lead_or_a_refusal_that_names_the_field(data: dict[str, Any]) -> None:
    """Any mapping becomes a lead, or a refusal that names a field of it and repeats no value."""
    refusal = refusal_of(data)

    if refusal is None:
        lead = new_lead(data)
        assert lead == new_lead(json.loads(json.dumps(lead.payload(), allow_nan=False)))
    else:
        told = refusal.detail + json.dumps(refusal.errors)
        assert refusal.errors
        assert all(error["loc"][0] in {*data, "name"} for error in refusal.errors)
        assert all(str(error["loc"][0]) in refusal.detail for error in refusal.errors)
        assert SECRET not in told
        assert str(NUMBER) not in told
        assert refusal.__context__ is None or refusal.__suppress_context__


@given(leads)
def test_a_stored_lead_is_the_same_lead(lead: NewLead) -> None:
    """What the queue stores as JSON in UTF-8 becomes the same lead again."""
    stored = json.dumps(lead.payload(), ensure_ascii=False, allow_nan=False).encode()

    assert lead == new_lead(json.loads(stored))


@given(leads)
def test_every_lead_can_be_sent(lead: NewLead) -> None:
    """The body of any lead is JSON in UTF-8, with a title, one contact and the external id first."""
    body = json.loads(
        json.dumps(lead.body(request_id="0", external_id=EXTERNAL_ID), ensure_ascii=False).encode()
    )

    assert body["name"]
    assert body["_embedded"]["contacts"][0]["first_name"]
    assert EXTERNAL_ID == body["custom_fields_values"][0]
    assert 1 + len(lead.custom_fields) == len(body["custom_fields_values"])


@pytest.mark.parametrize("value", [None, 3, "name", ["name"], {1: "x"}, {"name": "a", 2: "b"}])
def test_what_is_no_mapping_of_fields_is_refused(value: Any) -> None:
    """Only a lead or a mapping by field names is taken."""
    with pytest.raises(ValidationFailed, match=r"^lead"):
        new_lead(value)


@pytest.mark.parametrize("data", [{}, {"price": 5}, {"tags": ["vip"]}])
def test_a_lead_needs_something_to_call_it_by(data: dict[str, Any]) -> None:
    """A lead without name, contact, phone and e-mail is refused."""
    with pytest.raises(ValidationFailed, match="name, contact, phone or email is required") as caught:
        new_lead(data)
    assert ["name"] == caught.value.errors[0]["loc"]


def test_a_lead_has_no_more_fields_than_kommo_takes() -> None:
    """40 custom fields are taken, the external id included; one more is refused before it is stored."""
    most = {str(number): "x" for number in range(11, FIELDS_LIMIT + 11)}

    assert 40 == len(
        new_lead({"name": "a", "custom_fields": most}).body(request_id="0", external_id=EXTERNAL_ID)[
            "custom_fields_values"
        ]
    )
    with pytest.raises(ValidationFailed, match="custom_fields"):
        new_lead({"name": "a", "custom_fields": {**most, "FORTY": "x"}})


def test_a_whole_lead_as_kommo_takes_it() -> None:
    """Every attribute has its place in the body."""
    lead = NewLead(
        name="Roof",
        price=1000,
        contact="Ann Lee",
        phone=" +1 555 010-00-02 ",
        email="ann@example.com",
        pipeline_id=1,
        status_id=2,
        responsible_user_id=3,
        tags=("site", "vip"),
        custom_fields={"12": "red", "UTM_SOURCE": "ads"},
    )

    expected = {
        "name": "Roof",
        "price": 1000,
        "pipeline_id": 1,
        "status_id": 2,
        "responsible_user_id": 3,
        "custom_fields_values": [
            EXTERNAL_ID,
            {"field_id": 12, "values": [{"value": "red"}]},
            {"field_code": "UTM_SOURCE", "values": [{"value": "ads"}]},
        ],
        "_embedded": {
            "contacts": [
                {
                    "first_name": "Ann Lee",
                    "custom_fields_values": [
                        {
                            "field_code": "PHONE",
                            "values": [{"value": "+1 555 010-00-02", "enum_code": "WORK"}],
                        },
                        {
                            "field_code": "EMAIL",
                            "values": [{"value": "ann@example.com", "enum_code": "WORK"}],
                        },
                    ],
                }
            ],
            "tags": [{"name": "site"}, {"name": "vip"}],
        },
        "request_id": "4",
    }
    assert expected == lead.body(request_id="4", external_id=EXTERNAL_ID)


def test_a_bare_lead_says_nothing_that_was_not_given() -> None:
    """Defaults are Kommo's: what was not given is not sent and not stored."""
    lead = NewLead(phone="+15550100002")
    body = lead.body(request_id="0", external_id=EXTERNAL_ID)

    assert {"phone": "+15550100002"} == lead.payload()
    assert {"name", "custom_fields_values", "_embedded", "request_id"} == set(body)
    assert "+15550100002" == body["name"]


def test_nothing_else_gets_into_the_external_id_field() -> None:
    """A value for the field by which the lead is found again is not sent beside the external id."""
    lead = NewLead(name="a", custom_fields={"7": "mine", "8": "mine"})
    own, other = lead.body(request_id="0", external_id=EXTERNAL_ID)["custom_fields_values"]

    assert EXTERNAL_ID == own
    assert 8 == other["field_id"]


def test_a_lead_does_not_show_what_is_in_it() -> None:
    """Logs and error trackers see which fields are set, and no value, whichever way they print a lead."""
    lead = NewLead(phone="+15550100002", price=0, tags=("Ann",), custom_fields={"7": "Ann"})

    assert "NewLead(price='***', phone='***', tags='***', custom_fields='***')" == repr(lead)
    for shown in (str(lead), f"{lead}", pformat([lead]), str(lead.__repr_args__())):
        assert "phone" in shown
        assert "5550100002" not in shown
        assert "Ann" not in shown


def test_the_body_has_the_documented_shape() -> None:
    """Names and types agree with the vendor's sample of a request."""
    sample = FIXTURES / "api" / "kommo_leads_complex_request.json"
    if not sample.exists():
        pytest.skip("KOMMO_SAMPLES names no folder with real bodies")
    [documented] = json.loads(sample.read_text(encoding="utf-8"))
    lead = NewLead(name="a", price=1, phone="+15550100002", pipeline_id=1, status_id=2, responsible_user_id=3)
    body = lead.body(request_id="0", external_id=EXTERNAL_ID)
    [contact], [documented_contact] = body["_embedded"]["contacts"], documented["_embedded"]["contacts"]
    [phone], [documented_phone] = contact["custom_fields_values"], documented_contact["custom_fields_values"]

    assert {"custom_fields_values"} == set(body) - set(documented)
    assert {name: type(documented[name]) for name in body if name in documented} == {
        name: type(value) for name, value in body.items() if name in documented
    }
    assert set(contact) <= set(documented_contact)
    assert {"field_code"} == set(phone) - set(documented_phone)
    assert set(phone["values"][0]) == set(documented_phone["values"][0])
