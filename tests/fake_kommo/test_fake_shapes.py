"""The fake's bodies have the shape of real ones, where a folder of real ones is at hand.

Set ``KOMMO_SAMPLES`` to a folder with ``api/*.json`` and ``errors/*`` to run these tests.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient_agents.testing.fake_kommo.faults import Fault
from resilient_agents.testing.fake_kommo.playback import play

SAMPLES = Path(os.environ.get("KOMMO_SAMPLES", ""))
LEADS = "/api/v4/leads"

pytestmark = pytest.mark.skipif(
    not os.environ.get("KOMMO_SAMPLES"), reason="KOMMO_SAMPLES names no folder with real bodies"
)


def sample(name: str) -> Any:
    """Return a real body."""
    text = (SAMPLES / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else text


def differences(real: Any, ours: Any, path: str = "") -> set[str]:
    """Return where *ours* lacks a key of *real*, or has a value of another type; null fits every type."""
    if real is None or ours is None:
        return set()
    if isinstance(real, dict) and isinstance(ours, dict):
        lacking = {f"{path}.{key} is missing" for key in real.keys() - ours.keys()}
        pairs = ((key, real[key], ours[key]) for key in real.keys() & ours.keys())
        return lacking.union(*(differences(a, b, f"{path}.{key}") for key, a, b in pairs))
    if isinstance(real, list) and isinstance(ours, list):
        return differences(real[0], ours[0], f"{path}[]") if real and ours else set()
    return set() if type(real) is type(ours) else {f"{path} is a {type(ours).__name__}"}


@pytest.fixture
def created(ask: Any) -> Any:
    """The answer for a lead with everything: field, tag, contact, company."""
    field = {"name": "Sale", "type": "checkbox", "code": "SALE"}
    ask("POST", f"{LEADS}/custom_fields", [field])
    contact = {
        "first_name": "Ann",
        "custom_fields_values": [{"field_code": "PHONE", "values": [{"value": "1"}]}],
    }
    lead = {
        "name": "L",
        "custom_fields_values": [{"field_code": "SALE", "values": [{"value": True}]}],
        "_embedded": {"contacts": [contact], "companies": [{"name": "Acme"}], "tags": [{"name": "web"}]},
    }
    return ask("POST", f"{LEADS}/complex", [lead]).value


def test_complex_answers_are_alike(created: Any) -> None:
    """The bare array of /leads/complex has the real keys, no more and no less."""
    real = sample("api/kommo_leads_complex.json")
    assert set() == differences(real, created)
    assert set(real[0]) == set(created[0])


def test_leads_are_alike(ask: Any, created: Any) -> None:
    """A lead alone, a list of leads and a middle page have every real key."""
    ask("POST", LEADS, [{}, {}])
    lead = ask("GET", f"{LEADS}/{created[0]['id']}?with=contacts").value
    assert set() == differences(sample("api/kommo_lead_get.json"), lead)
    listed = ask("GET", f"{LEADS}?limit=250").value
    assert {"._embedded.leads[].custom_fields_values[].values[].value is a bool"} | {
        f"._embedded.leads[].custom_fields_values[].values[].{key} is missing"
        for key in ("enum_id", "enum_code")
    } == differences(sample("api/kommo_leads_list.json"), listed)


def test_thin_answers_and_fields_are_alike(ask: Any) -> None:
    """The answer of POST /leads and a new select field have every real key."""
    thin = ask("POST", LEADS, [{}, {}]).value
    assert set() == differences(sample("api/leads_add_two.json"), thin)
    item = {"name": "Size", "type": "select", "enums": [{"value": "S"}]}
    field = ask("POST", f"{LEADS}/custom_fields", [item]).value["_embedded"]["custom_fields"][0]
    assert set() == differences(sample("api/kommo_custom_field_created.json"), field)


def test_accounts_and_contacts_are_alike(ask: Any, created: Any) -> None:
    """A contact and the account have the real keys, but for ids of other services and an old name."""
    contact = ask("GET", f"/api/v4/contacts/{created[0]['contact_id']}?with=leads").value
    assert {
        ".custom_fields_values[].values[].enum is missing",
        "._embedded.customers is missing",
        "._embedded.catalog_elements is missing",
    } == differences(sample("api/contact_get.json"), contact)
    account = ask("GET", "/api/v4/account").value
    assert {".amojo_id is missing", ".mobile_feature_version is missing"} == differences(
        sample("api/real_account_with_amojo_id.json"), account
    )


@pytest.mark.parametrize(
    ("name", "switches", "value"),
    [
        ("401", {"token": "other"}, [{}]),
        ("402", {"paid": False}, [{}]),
        ("403_scope", {"scope": False}, [{}]),
        ("400_empty", {}, []),
        ("422_limit_250", {}, [{}] * 251),
    ],
)
def test_errors_are_the_same(build: Callable[..., Any], name: str, switches: Any, value: Any) -> None:
    """An error body says exactly what the vendor's says."""
    assert sample(f"errors/{name}.json") == build(**switches)("POST", LEADS, value).value


def test_validation_errors_are_alike(ask: Any) -> None:
    """A wrong item is reported with the real keys and, for an unknown field, the real words."""
    real = sample("errors/400_validation.json")
    ours = ask("POST", LEADS, [{"custom_fields_values": [{"field_id": 1, "values": []}]}]).value
    assert set() == differences(real, ours)
    assert real["validation-errors"][0]["errors"][0] == ours["validation-errors"][0]["errors"][0]


def test_gateway_pages_are_the_same(build: Callable[..., Any]) -> None:
    """The pages of the gateway are the real ones, line by line."""
    ask = build(blocked=True, rate_form="html")
    pages = {"403_block": ask("POST", LEADS, [{}]).value}
    for name, kind in (("429_gateway", "429"), ("504_gateway", "504")):
        answer = play(ask.account, Fault(kind=kind), ask.request("GET", LEADS))
        pages[name] = "" if answer is None else answer.body.decode()
    for name, text in pages.items():
        assert sample(f"errors/{name}.html").split() == text.split()
