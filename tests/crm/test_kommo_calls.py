"""The calls to Kommo and the delivery of entries, with answers fed by hand: no IO, no time."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.crm.loopback import COMPLEX

from resilient_agents._flow import run
from resilient_agents.crm.kommo import NewLead, Refused, external_id
from resilient_agents.crm.kommo.calls import PAGES, Calls
from resilient_agents.crm.kommo.target import BATCH_LIMIT, LeadTarget
from resilient_agents.crm.transport import Answer, BlockingTransport, Request, Timeouts
from resilient_agents.deadletter import Entry, Outcome, State
from resilient_agents.deadletter.settlement import provably_not_executed
from resilient_agents.errors import (
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    ReauthRequired,
    Unreachable,
    ValidationFailed,
    classify,
)
from resilient_agents.policies import RateLimiter, deadline
from resilient_agents.testing import FakeClock, FakeKommo

FIELD_ID = 77
FIELDS = "/api/v4/leads/custom_fields"
CODE = "EXTERNAL_ID"
SECRET = "eyJ-top-secret"


def said(value: Any = None, status: int = 200) -> Answer:
    """Return an answer in JSON; without a value, a 204."""
    if value is None:
        return Answer(status=204, headers={}, content=b"")
    headers = {"content-type": "application/hal+json"}
    return Answer(status=status, headers=headers, content=json.dumps(value).encode())


def fields(*codes: str | None, more: bool = False) -> Answer:
    """Return a page of custom fields, whose ids count up from `FIELD_ID`."""
    listed = [{"id": FIELD_ID + number, "code": code} for number, code in enumerate(codes)]
    return said({"_links": {"next": {}} if more else {}, "_embedded": {"custom_fields": listed}})


def found(*leads: tuple[int, str], more: bool = False, field_id: int = FIELD_ID, code: str = CODE) -> Answer:
    """Return a page of leads with their external ids."""
    listed = [
        {
            "id": lead_id,
            "custom_fields_values": [
                {"field_id": field_id, "field_code": code, "values": [{"value": value}]}
            ],
        }
        for lead_id, value in leads
    ]
    return said({"_links": {"next": {}} if more else {}, "_embedded": {"leads": listed}})


def created(*ids: int | None) -> Answer:
    """Return what ``/leads/complex`` answers; *None* leaves a lead out."""
    return said(
        [
            {"id": lead_id, "contact_id": 1, "request_id": [str(number)], "merged": False}
            for number, lead_id in enumerate(ids)
            if lead_id is not None
        ]
    )


def refused(*items: tuple[str, str], status: int = 400) -> Answer:
    """Return a refusal that names items by request id and path."""
    errors = [
        {"request_id": request_id, "errors": [{"code": "InvalidType", "path": path}]}
        for request_id, path in items
    ]
    return said({"title": "x", "detail": "x", "validation-errors": errors}, status=status)


class Script:
    """Answers requests in the order of its lines, and keeps the requests."""

    def __init__(self, lines: Sequence[Answer | Exception]) -> None:
        self.lines = list(lines)
        self.requests: list[Request] = []

    def send(self, request: Request) -> Answer:
        """Give the next answer, or raise it."""
        self.requests.append(request)
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    @property
    def asked(self) -> list[str]:
        """The requests so far, by method and path."""
        return [f"{request.method} {request.path}" for request in self.requests]


def make_calls(
    script: Script, *, token: Callable[[], Any] = lambda: SECRET, limiter: RateLimiter | None = None
) -> Calls:
    """Return the calls to an account that answers as *script* says."""
    return Calls(
        host="acme.kommo.com",
        token=token,
        send=script.send,
        turn=lambda: None,
        limiter=limiter or RateLimiter(1000),
        field_code=CODE,
    )


class Delivery:
    """A target whose account answers as it is told, for one delivery after the other."""

    def __init__(self) -> None:
        self.script = Script([fields(CODE)])
        self.calls = make_calls(self.script)
        self.target = LeadTarget(self.calls, awaiting=False, batch=BATCH_LIMIT, grace=60, patience=30)

    def deliver(self, count: int, *answers: Answer | Exception) -> list[Outcome]:
        """Deliver some leads and return what became of them."""
        self.script.lines += answers
        return list(run(self.target.deliver([entry(number) for number in range(count)])))

    @property
    def batch(self) -> int:
        """How many leads the next request would carry."""
        return self.target.traits.batch


def entry(number: int, **payload: Any) -> Entry:
    """Return a leased entry with a lead."""
    return Entry(
        id=number,
        topic="kommo",
        key=f"form-{number}",
        ordering_key=None,
        payload=payload or {"name": f"Lead {number}"},
        state=State.LEASED,
        due=0,
        created=0,
        updated=0,
    )


def names(outcomes: Sequence[Outcome]) -> list[str | None]:
    """Return what each outcome is: Kommo's id, or the class of the error."""
    return [type(it.error).__name__ if it.error else it.reference for it in outcomes]


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200))
def test_external_ids_tell_keys_apart(one: str, other: str) -> None:
    """Different keys have different external ids, and the same key the same one."""
    assert (one == other) == (external_id(one) == external_id(other))


@given(st.text(min_size=1, max_size=200))
def test_external_ids_survive_a_text_field(key: str) -> None:
    """An external id is 6 to 100 safe characters, none of them a blank, whatever the key."""
    made = external_id(key)

    assert 6 <= len(made) <= 100
    assert made.isascii()
    assert set("".join(c for c in made if not c.isalnum())) <= set("._:/-")
    assert made[0].isalnum()


@given(st.text(min_size=1, max_size=200))
def test_no_key_can_pass_for_the_fingerprint_of_another(key: str) -> None:
    """A key that looks like a fingerprint gets one of its own."""
    assert external_id(key) == key or external_id(external_id(key)) != external_id(key)


@pytest.mark.parametrize("key", ["form-8731", "2026/01/31:ann.lee", "a" * 100])
def test_a_plain_key_is_its_own_external_id(key: str) -> None:
    """People find a plain key in Kommo as it is."""
    assert key == external_id(key)


@pytest.mark.parametrize("key", ["7", "a" * 101, "form 8731", "form-8731\n", "-form-8731", "заявка-17"])
def test_another_key_is_replaced_by_its_fingerprint(key: str) -> None:
    """A key that a text field or a search might change is not sent as it is."""
    assert "key-" == external_id(key)[:4]
    assert 36 == len(external_id(key))


def test_fingerprints_never_change() -> None:
    """Leads that an older version has sent are found by a newer one."""
    assert "key-4244305c768aeb15851a6907f25e5d0c" == external_id("заявка-17")


def test_a_lead_is_created_with_its_external_id_and_named_by_its_place() -> None:
    """Ids come back by request id, whatever their order; what is not named is missing."""
    script = Script(
        [fields(None, "X", CODE), said([{"id": 9, "request_id": ["1"]}, {"id": 8, "request_id": ["0"]}])]
    )
    leads = [("form-a", NewLead(name="A")), ("form b", NewLead(name="B")), ("form-c", NewLead(name="C"))]

    assert {0: 8, 1: 9} == run(make_calls(script).create(leads))
    assert [f"GET {FIELDS}", f"POST {COMPLEX}"] == script.asked
    own = [lead["custom_fields_values"][0] for lead in script.requests[1].body]
    assert [FIELD_ID + 2] * 3 == [field["field_id"] for field in own]
    assert ["form-a", external_id("form b"), "form-c"] == [field["values"][0]["value"] for field in own]
    assert f"Bearer {SECRET}" == script.requests[1].headers["authorization"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([{"id": 5, "request_id": "10"}], {10: 5}),
        ([{"id": 5, "request_id": 10}], {10: 5}),
        ([{"id": 5, "request_id": ["0", "1"], "merged": True}], {0: 5, 1: 5}),
        ([{"id": 5}, {"request_id": ["0"]}, {"id": "x", "request_id": ["0"]}, 7], {}),
        ([{"id": 5, "request_id": ["abc", None, -1]}], {}),
        ({"_embedded": {"leads": [{"id": 5, "request_id": ["0"]}]}}, {}),
        (None, {}),
    ],
)
def test_an_odd_answer_names_only_what_it_names_for_sure(answer: Any, expected: dict[int, int]) -> None:
    """No lead is confirmed by an answer that does not clearly name it."""
    script = Script([fields(CODE), said(answer)])

    assert expected == run(make_calls(script).create([("form-a", NewLead(name="A"))]))


def test_the_field_is_looked_for_once() -> None:
    """The field's id is remembered; the next call asks for nothing but the leads."""
    script = Script([fields("X", more=True), fields(CODE.lower()), created(1), created(2)])
    calls = make_calls(script)
    for _ in range(2):
        run(calls.create([("form-a", NewLead(name="A"))]))

    assert [f"GET {FIELDS}"] * 2 + [f"POST {COMPLEX}"] * 2 == script.asked
    assert 2 == script.requests[1].query["page"]


@pytest.mark.parametrize(
    "answers",
    [
        [said(), said({"_embedded": {"custom_fields": [{"id": 5}]}}, status=201)],
        [said(), said({}, status=201), fields(CODE)],
        [said(), said({"_embedded": {"custom_fields": [{}]}}, status=201), fields(CODE)],
        [said(), refused(("0", "code")), fields(CODE)],
    ],
    ids=["created", "created without a list", "created without its id", "another process was faster"],
)
def test_a_missing_field_is_created(answers: list[Answer]) -> None:
    """Where the field is missing it is created, even while another process does the same."""
    script = Script([*answers, created(1)])

    assert {0: 1} == run(make_calls(script).create([("form-a", NewLead(name="A"))]))
    assert [{"name": "External ID", "type": "text", "code": CODE}] == script.requests[1].body


def test_no_lead_is_to_blame_for_a_field_that_kommo_refuses_to_create() -> None:
    """A refused field is an outage: its leads wait, and none of them is parked."""
    script = Script([said(), refused(("0", "type")), said()])
    with pytest.raises(PermissionDenied, match="create a text field with this code") as caught:
        run(make_calls(script).create([("form-a", NewLead(name="A"))]))

    assert classify(caught.value).outage
    assert provably_not_executed(classify(caught.value))


@pytest.mark.parametrize(
    "path",
    ["custom_fields_values.0.field_id", "custom_fields_values.0", "0.custom_fields_values.0.values.0.value"],
)
def test_no_lead_is_to_blame_for_a_field_that_was_deleted(path: str) -> None:
    """When Kommo refuses the external id itself, nothing is parked and the field is looked for again."""
    delivery = Delivery()
    with pytest.raises(OutcomeUnknown, match="EXTERNAL_ID"):
        delivery.deliver(2, refused(("0", path), ("1", path)))

    assert ["5", "6"] == names(
        delivery.deliver(2, said(), said({"_embedded": {"custom_fields": [{"id": 5}]}}), created(5, 6))
    )


def test_a_field_of_the_contact_is_the_leads_own_fault() -> None:
    """A path inside the contact is not taken for the external id's."""
    path = "_embedded.contacts.0.custom_fields_values.0.values.0.value"

    assert ["Refused"] == names(Delivery().deliver(1, refused(("0", path))))


def test_a_lead_is_found_over_pages_and_only_by_its_whole_external_id() -> None:
    """The search finds texts anywhere; only an equal external id counts, on whatever page."""
    script = Script(
        [
            fields(CODE),
            found((1, "form-87310"), (2, "FORM-8731"), more=True),
            said({"_embedded": {"leads": [{"id": 3, "custom_fields_values": None}]}, "_links": {"next": {}}}),
            found((4, "form-8731"), (5, "form-8731")),
        ]
    )

    assert 4 == run(make_calls(script).find_lead("form-8731"))
    assert [1, 2, 3] == [request.query["page"] for request in script.requests[1:]]
    assert {"form-8731"} == {request.query["query"] for request in script.requests[1:]}
    assert "asc" == script.requests[1].query["order[id]"]


@pytest.mark.parametrize("answer", [said(), found((1, "form-87310")), found()])
def test_a_lead_that_is_not_there_is_not_found(answer: Answer) -> None:
    """An empty answer and other leads mean that there is no such lead."""
    assert run(make_calls(Script([fields(CODE), answer])).find_lead("form-8731")) is None


ODD = [
    {},
    [1],
    "maintenance",
    {"status": "maintenance"},
    {"_embedded": []},
    {"_embedded": {"another": []}},
    {"_embedded": {"leads": None, "custom_fields": None}},
    {"_embedded": {"leads": {}, "custom_fields": {}}},
    {"_embedded": {"leads": [None], "custom_fields": [None]}},
]


@pytest.mark.parametrize("answer", [*ODD, {"_embedded": {"leads": [{"id": 1, "custom_fields_values": [3]}]}}])
def test_what_is_no_listing_proves_nothing(answer: Any) -> None:
    """A lead counts as missing only by a list of leads that can be read, whatever the status says."""
    with pytest.raises(OutcomeUnknown, match="no list of leads") as caught:
        run(make_calls(Script([fields(CODE), said(answer)])).find_lead("form-8731"))

    assert "external.bad_body" == caught.value.code
    assert classify(caught.value).outage


@pytest.mark.parametrize("answer", [*ODD, {"_embedded": {"custom_fields": [{"code": CODE}]}}])
def test_no_field_is_created_because_of_an_answer_that_is_no_listing(answer: Any) -> None:
    """Where the list of fields cannot be read, nothing is sent and the leads wait."""
    script = Script([said(answer)])
    with pytest.raises(Unreachable, match="no list of custom_fields"):
        run(make_calls(script).create([("form-a", NewLead(name="A"))]))

    assert [f"GET {FIELDS}"] == script.asked


def test_a_lead_is_found_by_a_twin_of_the_field() -> None:
    """Two processes that made the field at the same moment find each other's leads."""
    script = Script([fields(CODE), found((4, "form-8731"), field_id=FIELD_ID + 1, code=CODE)])

    assert 4 == run(make_calls(script).find_lead("form-8731"))


def test_a_lead_is_found_in_a_field_without_a_code() -> None:
    """The field's id is enough where an answer leaves its code out."""
    script = Script([fields(CODE), found((4, "form-8731"), code="")])

    assert 4 == run(make_calls(script).find_lead("form-8731"))


def test_a_search_without_end_proves_nothing() -> None:
    """Where too many leads are found to look at all, the lead does not count as missing."""
    script = Script([fields(CODE), *[found((1, "other-text"), more=True)] * PAGES])

    with pytest.raises(OutcomeUnknown, match="more than 5000 leads"):
        run(make_calls(script).find_lead("form-8731"))


def test_a_batch_is_delivered_in_one_request() -> None:
    """Every entry gets Kommo's id of its lead."""
    assert ["10", "11", "12"] == names(Delivery().deliver(3, created(10, 11, 12)))


def test_a_lead_that_the_answer_does_not_name_is_in_doubt() -> None:
    """The named ones are delivered; the other one is looked for before it is sent again."""
    outcomes = Delivery().deliver(3, created(10, None, 12))

    assert ["10", "OutcomeUnknown", "12"] == names(outcomes)


def test_the_leads_that_kommo_names_are_rejected_and_the_others_are_looked_for() -> None:
    """Only the named leads are to blame for a refused request, and Kommo counts as working."""
    outcomes = Delivery().deliver(4, refused(("1", "price"), ("3", "name")))
    failures = [classify(outcome.error) for outcome in outcomes if outcome.error]

    assert [True, False, True, False] == [failure.outcome_unknown for failure in failures]
    assert not any(failure.outage for failure in failures)
    assert ["OutcomeUnknown", "Refused", "OutcomeUnknown", "Refused"] == names(outcomes)


@pytest.mark.parametrize("items", [[], [("", "name")], [("99", "name")]])
def test_a_refusal_that_names_nobody_is_narrowed_down(items: list[tuple[str, str]]) -> None:
    """Nobody is blamed unnamed: the leads are looked for and then sent one by one."""
    delivery = Delivery()

    assert ["OutcomeUnknown"] * 3 == names(delivery.deliver(3, refused(*items)))
    assert 1 == delivery.batch
    assert ["Refused"] == names(delivery.deliver(1, refused(*items)))


@pytest.mark.parametrize("status", [413, 422])
def test_a_batch_that_is_too_large_goes_again_in_halves(status: int) -> None:
    """Too large a request proves that nothing was done; its leads go again, and fewer at a time."""
    delivery = Delivery()
    outcomes = delivery.deliver(50, refused(status=status))

    assert ["RateLimited"] * 50 == names(outcomes)
    failure = classify(outcomes[0].error or Exception())
    assert provably_not_executed(failure)
    assert not failure.outage
    assert BATCH_LIMIT // 2 == delivery.batch


@pytest.mark.parametrize("status", [413, 422])
def test_a_single_lead_that_is_too_large_is_rejected(status: int) -> None:
    """A lead that does not fit alone would never fit: a person must look."""
    [outcome] = Delivery().deliver(1, refused(status=status))

    assert isinstance(outcome.error, Refused)
    assert provably_not_executed(classify(outcome.error))


@pytest.mark.parametrize(
    "failure",
    [
        said({}, status=504),
        httpx.ReadTimeout(""),
        OutcomeUnknown("late", code="external.timeout", status=504),
    ],
    ids=["504", "read timeout", "total timeout"],
)
def test_a_batch_that_takes_too_long_shrinks(failure: Answer | Exception) -> None:
    """Each time-out halves the next batch, down to one lead."""
    delivery = Delivery()
    sizes = []
    for _ in range(7):
        with pytest.raises((OutcomeUnknown, httpx.ReadTimeout)):
            delivery.deliver(2, failure)
        sizes.append(delivery.batch)

    assert [25, 12, 6, 3, 1, 1, 1] == sizes


def test_a_lead_that_breaks_the_server_is_isolated() -> None:
    """Batches shrink on a server error too: one lead that Kommo chokes on must not hold up the others."""
    delivery = Delivery()
    with pytest.raises(OutcomeUnknown):
        delivery.deliver(2, said({}, status=500))

    assert BATCH_LIMIT // 2 == delivery.batch


def test_refusals_leave_the_batch_as_it_is() -> None:
    """A rate limit is not helped by smaller batches."""
    delivery = Delivery()
    with pytest.raises(RateLimited):
        delivery.deliver(2, said({"retry_after": 1}, status=429))

    assert BATCH_LIMIT == delivery.batch


def test_the_batch_grows_back() -> None:
    """Each full batch that succeeds doubles the next one, up to the limit."""
    delivery = Delivery()
    delivery.deliver(2, refused())
    sizes = []
    for _ in range(7):
        delivery.deliver(delivery.batch, created(*range(delivery.batch)))
        sizes.append(delivery.batch)

    assert [2, 4, 8, 16, 32, 50, 50] == sizes


def test_a_single_lead_does_not_undo_a_shrink() -> None:
    """What is submitted alone while Kommo chokes on batches says nothing about batches."""
    delivery = Delivery()
    sizes = []
    for _ in range(3):
        with pytest.raises(OutcomeUnknown):
            delivery.deliver(delivery.batch, said({}, status=504))
        delivery.deliver(1, created(1))
        sizes.append(delivery.batch)

    assert [25, 12, 6] == sizes


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_question_is_no_fault_of_a_lead(status: int) -> None:
    """A look-up holds nothing of the lead's: whoever refuses it is not the account that we mean."""
    calls = make_calls(Script([fields(CODE), refused(status=status)]))

    with pytest.raises(ReauthRequired, match="is this the host of your Kommo account") as raised:
        run(calls.find_lead("form-0"))
    assert classify(raised.value).outage


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("status", [400, 413, 422])
def test_no_lead_is_to_blame_for_a_page_of_a_proxy(status: int, count: int) -> None:
    """A gateway that answers in HTML costs time: nothing is rejected, and nothing was done."""
    page = Answer(status=status, headers={"content-type": "text/html"}, content=b"<h1>nginx</h1>")
    try:
        errors = [outcome.error for outcome in Delivery().deliver(count, page)]
    except Unreachable as exc:
        errors = [exc]

    for error in errors:
        assert error is not None
        assert not isinstance(error, Refused)
        assert provably_not_executed(classify(error))


def test_an_entry_without_a_lead_is_rejected_alone() -> None:
    """A payload of somebody else's or of another version does not hold up the leads beside it."""
    delivery = Delivery()
    delivery.script.lines.append(created(10, 11))
    entries = [entry(0), entry(1, nickname="Ann"), entry(2)]

    assert ["10", "Refused", "11"] == names(run(delivery.target.deliver(entries)))
    assert ["Lead 0", "Lead 2"] == [lead["name"] for lead in delivery.script.requests[1].body]


def test_nothing_is_sent_where_no_entry_holds_a_lead() -> None:
    """A batch of nothing but wrong payloads makes no request."""
    delivery = Delivery()
    [outcome] = run(delivery.target.deliver([entry(1, nickname="Ann")]))

    assert isinstance(outcome.error, Refused)
    assert "nickname" in outcome.error.detail
    assert not delivery.script.requests


def test_a_found_lead_is_a_reference() -> None:
    """The look-up of an entry returns Kommo's id as a text, or nothing."""
    delivery = Delivery()
    delivery.script.lines += [found((4, "form-1")), said()]

    assert "4" == run(delivery.target.find(entry(1)))
    assert run(delivery.target.find(entry(1))) is None


def failing() -> str:
    """Fail as a store of tokens does."""
    raise OSError(f"cannot read {SECRET}")


@pytest.mark.parametrize(
    "token",
    [failing, lambda: None, lambda: "", lambda: SECRET + "\n", lambda: SECRET.encode(), lambda: "ключ"],
)
def test_without_a_token_nothing_is_sent_and_nobody_is_to_blame(token: Callable[[], Any]) -> None:
    """A token source that fails or gives rubbish is an outage that leaks nothing and costs no lead."""
    script = Script([])
    with pytest.raises(ReauthRequired, match="no token for acme") as caught:
        run(make_calls(script, token=token).create([("form-a", NewLead(name="A"))]))

    failure = classify(caught.value)
    assert failure.outage
    assert provably_not_executed(failure)
    assert SECRET not in str(caught.value)
    assert not script.requests


def test_a_429_parks_everybody() -> None:
    """A demand to wait holds for every call of the client."""
    with FakeClock():
        limiter = RateLimiter(1000)
        script = Script([said({"retry_after": 300}, status=429)])
        with pytest.raises(RateLimited):
            run(make_calls(script, limiter=limiter).find_lead("form-a"))

        assert 300 == limiter.reserve()


def test_a_worker_that_wakes_up_too_late_sends_nothing(fake: FakeKommo) -> None:
    """A process that was stopped while it waited for its turn does not send what others have sent by then."""
    with FakeClock() as clock:
        transport = BlockingTransport(fake.url, Timeouts())
        calls = Calls(
            host="fake",
            token=lambda: fake.token,
            send=transport.send,
            turn=lambda: clock.advance(3600),
            limiter=RateLimiter(1000),
            field_code=CODE,
        )
        target = LeadTarget(calls, awaiting=False, batch=1, grace=60, patience=30)
        with pytest.raises(Unreachable) as caught:
            run(target.deliver([entry(1)]))
        transport.close()

    assert not classify(caught.value).outage
    assert provably_not_executed(classify(caught.value))
    assert not fake.requests()


def test_a_delivery_keeps_to_an_earlier_deadline() -> None:
    """The patience never lengthens the time that the caller gives."""
    script = Script([])
    with FakeClock(), deadline(0):
        calls = Calls(
            host="acme.kommo.com",
            token=lambda: SECRET,
            send=script.send,
            turn=RateLimiter(1).acquire,
            limiter=RateLimiter(1),
            field_code=CODE,
        )
        with pytest.raises(RateLimited, match="within the time given") as caught:
            run(calls.find_lead("form-a"))

    assert not classify(caught.value).outage
    assert not script.requests


def test_only_the_clients_own_field_is_reserved() -> None:
    """The field is known by its code in any case of letters and, once looked up, by its id."""
    calls = make_calls(Script([fields(CODE), said()]))

    assert [True, False, False] == [calls.is_own_field(name) for name in ("external_id", str(FIELD_ID), "X")]
    run(calls.find_lead("form-a"))
    assert calls.is_own_field(str(FIELD_ID))


def test_a_refused_entry_says_why_without_its_values() -> None:
    """The reason names the field and repeats nothing."""
    [outcome] = run(Delivery().target.deliver([entry(1, name="Ann", phone="Secret street")]))

    assert isinstance(outcome.error, ValidationFailed)
    assert "phone" in outcome.error.detail
    assert "Secret" not in outcome.error.detail
